"""Options of the assembly that ask the policy again: re-filtering prefixes, and prefixes of adapted length. Pure.

Each is off by default and is not part of ReST-RL:

- *Re-filter*: ReST-RL filters problems by the spread of their rewards but not the prefixes cut from them; from a long
  prefix of a solution everything may succeed. Completions are sampled from each prefix, and one whose rewards have a
  standard deviation below ``sigma_0`` is dropped.
- *Adaptive length* (after AdaBack, arXiv 2506.18110): of each problem's valuable trajectory, the shortest prefix from
  which the mean reward reaches a target, found by bisection. AdaBack narrows the interval by the rewards of training
  steps; here it is narrowed before training, by samples of the current policy.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restrl.rest.assembly import Instance

_ROUNDING = 1e-12


def refilter(
    instances: Sequence[Instance], rewards: Mapping[tuple[str, str], Sequence[float]], sigma_0: float
) -> tuple[Instance, ...]:
    """Drops prefixes without spread.

    Args:
        instances: Assembled instances.
        rewards: Verifier rewards of completions, by problem id and prefix. An instance without an entry stays: the
            problem itself was filtered by its own samples.
        sigma_0: Least population standard deviation.
    """
    kept = []
    for instance in instances:
        found = rewards.get((instance.problem_id, instance.prefix))
        if found is None or statistics.pstdev(found) >= sigma_0 - _ROUNDING:
            kept.append(instance)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class LengthSearch:
    """Bisection for the shortest prefix that is easy enough; the mean reward is taken to grow with the length.

    Attributes:
        low: Longest length known to be too hard; 0 is the problem itself.
        high: Shortest length known, or at the start assumed, to be easy enough.
    """

    low: int
    high: int

    @property
    def probe(self) -> int | None:
        """The length to sample from next, or None where the search is over."""
        return (self.low + self.high) // 2 if self.high - self.low > 1 else None

    def told(self, mean_reward: float, target: float) -> LengthSearch:
        """Returns the search after the mean reward at `probe` is known."""
        length = self.probe
        if length is None:
            raise ValueError("the search is over")
        return LengthSearch(self.low, length) if mean_reward >= target else LengthSearch(length, self.high)


def start_search(mean_reward: float, target: float, longest: int) -> LengthSearch | None:
    """Returns the search of a problem, or None where it needs no prefix or has none.

    Args:
        mean_reward: Of the problem's own samples.
        target: Mean reward that is easy enough.
        longest: The longest prefix that may be used.

    >>> start_search(0.2, 0.5, 6)
    LengthSearch(low=0, high=6)
    >>> start_search(0.6, 0.5, 6) is None
    True
    """
    return None if mean_reward >= target or longest < 1 else LengthSearch(0, longest)
