"""The selection formula of the search (ReST-RL, section 3.3), alone.

Deviation from the paper:
1. Completions that are under way count as visits, of the child and of its parent (WU-UCT, Liu et al. 2020), so that
   several leaves of one tree can be out at once without crowding; with nothing under way the formula is the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def uct_scores(
    values_C: Sequence[float],
    visits_C: Sequence[float],
    parent_visits: float,
    *,
    c: float,
    eps: float,
    in_flight_C: Sequence[float] | None = None,
    parent_in_flight: float = 0.0,
) -> NDArray[np.float64]:
    """Returns ``V + c * sqrt((1 + ln N_parent) / (eps + N))`` for each of C children.

    ``N`` is the child's visits plus its completions under way, ``N_parent`` the same of the parent, taken as 1 below 1
    (the logarithm of a parent that was never visited).

    Args:
        values_C: Values of the children, shape (C,), in the range of the reward.
        visits_C: Visits of the children, shape (C,), >= 0.
        parent_visits: Visits of the parent, >= 0.
        c: Weight of exploration, >= 0; the paper collects with 0.2 and decodes with 0.1.
        eps: > 0; the paper's 0.1.
        in_flight_C: Completions under way at or below the children, shape (C,), >= 0; none if omitted.
        parent_in_flight: Completions under way at or below the parent, >= 0.

    >>> uct_scores([0.5, 0.5], [1, 4], 5, c=0.0, eps=0.1).tolist()
    [0.5, 0.5]
    >>> bool(np.diff(uct_scores([0.5, 0.5], [1, 4], 5, c=0.2, eps=0.1))[0] < 0)
    True
    """
    count_C = np.asarray(visits_C, dtype=np.float64)
    if in_flight_C is not None:
        count_C = count_C + np.asarray(in_flight_C, dtype=np.float64)
    parent_count = max(1.0, parent_visits + parent_in_flight)
    bonus_C: NDArray[np.float64] = np.sqrt((1.0 + np.log(parent_count)) / (eps + count_C))
    return np.asarray(values_C, dtype=np.float64) + c * bonus_C
