"""PUCT: selection by value and by the probability of a line (Silver et al. 2017; Rosin 2011), and that probability.

Not in the paper, which selects by UCT. The prior ``P(a | S)`` of a line ``a`` among the known children of a state:

- ``uniform``: one over their number;
- ``frequency``: the line's share of the completions that were turned into children there. They are samples of the
  policy from that state, so the share estimates the policy's probability of the line;
- ``logprob``: the exponential of the line's log-probability (the sum over its tokens), normalised over the children.
  Where the policy does not say which token is in which line, the mean log-probability per token of the completion.

This module is pure: the standard library and numpy.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from restrl.types import Completion


def puct_scores(
    values_C: Sequence[float],
    visits_C: Sequence[float],
    priors_C: Sequence[float],
    parent_visits: float,
    *,
    c: float,
    in_flight_C: Sequence[float] | None = None,
    parent_in_flight: float = 0.0,
) -> NDArray[np.float64]:
    """Returns ``V + c * P * sqrt(N_parent) / (1 + N)`` for each of C children.

    Completions under way count as visits, as in `restrl.search.uct.uct_scores`; ``N_parent`` is at least 1, so that the
    priors decide where nothing was visited.

    Args:
        values_C: Values of the children, shape (C,).
        visits_C: Visits of the children, shape (C,), >= 0.
        priors_C: Prior probabilities of the children, shape (C,), in [0, 1].
        parent_visits: Visits of the parent, >= 0.
        c: Weight of exploration, >= 0.
        in_flight_C: Completions under way at or below the children, shape (C,), >= 0; none if omitted.
        parent_in_flight: Completions under way at or below the parent, >= 0.

    >>> puct_scores([0.5, 0.5], [3, 3], [0.8, 0.2], 16, c=1.0).tolist()
    [1.3, 0.7]
    """
    count_C = np.asarray(visits_C, dtype=np.float64)
    if in_flight_C is not None:
        count_C = count_C + np.asarray(in_flight_C, dtype=np.float64)
    parent_count = max(1.0, parent_visits + parent_in_flight)
    bonus_C: NDArray[np.float64] = np.asarray(priors_C, dtype=np.float64) * math.sqrt(parent_count) / (1.0 + count_C)
    return np.asarray(values_C, dtype=np.float64) + c * bonus_C


def shares(weights_C: Sequence[float]) -> list[float]:
    """Returns weights, >= 0, as shares of their sum; equal shares where all are 0.

    >>> shares([3, 1])
    [0.75, 0.25]
    >>> shares([0, 0])
    [0.5, 0.5]
    """
    total = math.fsum(weights_C)
    return [weight / total if total > 0 else 1.0 / len(weights_C) for weight in weights_C]


def softmax(logprobs_C: Sequence[float]) -> list[float]:
    """Returns ``exp(l) / sum(exp(l))``; the largest is taken out first, so that long lines do not all become 0.

    >>> softmax([-1000.0, -1000.0])
    [0.5, 0.5]
    """
    top = max(logprobs_C, default=0.0)
    return shares([math.exp(logprob - top) for logprob in logprobs_C])


def unseen_mass(arrivals_C: Sequence[int]) -> float:
    """Returns the estimated probability that the policy's next line is none of the known ones, in (0, 1].

    Good and Turing's share of the completions whose line came once, with one such completion added, so that the
    estimate is never 0.

    >>> unseen_mass([5]), unseen_mass([1, 1, 2])
    (0.16666666666666666, 0.6)
    """
    return (1 + sum(count == 1 for count in arrivals_C)) / (1 + sum(arrivals_C))


@dataclass(frozen=True, slots=True)
class TextLogprob:
    """How likely the policy finds its own completion.

    Attributes:
        mean: Mean log-probability per token.
        starts: Characters of the text that stand before each token, ascending; empty where that is not known.
        sums: Sum of the log-probabilities of the tokens before each token, and of all, one more than ``starts``.
    """

    mean: float
    starts: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()

    @classmethod
    def of(cls, completion: Completion) -> TextLogprob | None:
        """Returns what the completion says of itself; None if it says nothing."""
        logprobs, ends = completion.token_logprobs, completion.token_ends
        if logprobs and ends and len(logprobs) == len(ends):
            sums = [0.0]
            for logprob in logprobs:
                sums.append(sums[-1] + logprob)
            return cls(sums[-1] / len(logprobs), (0, *ends[:-1]), tuple(sums))
        if logprobs:
            return cls(math.fsum(logprobs) / len(logprobs))
        if completion.logprob is not None:
            return cls(completion.logprob / max(1, completion.num_tokens))
        return None

    def between(self, start: int, end: int | None) -> float | None:
        """Returns the log-probability of the tokens that begin in ``[start, end)``; None where their place is unknown.

        Args:
            start: Characters of the text before the piece.
            end: Characters up to its end; None: all that follows, the end-of-sequence token included.
        """
        if not self.starts:
            return None
        first = bisect.bisect_left(self.starts, start)
        last = len(self.starts) if end is None else bisect.bisect_left(self.starts, end)
        return self.sums[last] - self.sums[first] if last > first else 0.0
