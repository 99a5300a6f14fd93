"""Options of the order: the reverse curriculum, and skipping instances that are likely to have no spread. Pure.

Each is off by default and is not part of ReST-RL:

- *Reverse curriculum* (after R3, arXiv 2402.05808): instances near the end of a solution first, the whole problem last.
- *Skipping* (after GRESO, arXiv 2506.02177): an instance whose last ``z`` groups had no spread is left out before
  anything is sampled, with probability ``1 - p^z``. GRESO adapts ``p`` to a wanted share of groups without spread, for
  easy and hard prompts apart; here it is fixed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from restrl.rest.assembly import Instance
from restrl.seeds import derive_seed


def reverse_curriculum(instances: Sequence[Instance], seed: int) -> tuple[Instance, ...]:
    """Orders instances by the actions left to write, fewest first; problems without a prefix last.

    Args:
        instances: Assembled instances.
        seed: Shuffles equals.
    """
    order = list(instances)
    random.Random(derive_seed(seed, "curriculum")).shuffle(order)
    return tuple(sorted(order, key=lambda item: (item.num_actions == 0, item.total_actions - item.num_actions)))


def skip_probability(misses: int, explore: float) -> float:
    """Probability of leaving an instance out: ``1 - explore^misses``.

    Args:
        misses: How many of its groups had no spread since the last one that had.
        explore: Probability of sampling an instance that had one group without spread, in (0, 1].

    >>> [skip_probability(z, 0.5) for z in range(3)]
    [0.0, 0.5, 0.75]
    """
    return 1.0 - explore**misses


class Misses:
    """Counts, for every instance, its groups without spread since the last one that had spread."""

    def __init__(self) -> None:
        self._count: dict[int, int] = {}

    def __getitem__(self, instance: int) -> int:
        return self._count.get(instance, 0)

    def note(self, instance: int, spread: bool) -> None:
        """Takes a group into account."""
        self._count[instance] = 0 if spread else self[instance] + 1

    def skips(self, instance: int, explore: float, seed: int) -> bool:
        """Whether to leave an instance out, drawn from a seed."""
        return random.Random(seed).random() < skip_probability(self[instance], explore)
