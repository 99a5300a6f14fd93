"""What a search asks for: completions, the value of a state, the reward of a finished program.

Every want is answered by its ``id``, with the method of `restrl.search.mcts.SearchTree` that it names.
"""

from __future__ import annotations

from dataclasses import dataclass

from restrl.types import State


@dataclass(frozen=True, slots=True)
class SampleWant:
    """``n`` completions from ``state``, sampled under ``seed``: answer with `SearchTree.tell_samples`."""

    id: int
    state: State
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class ValueWant:
    """The value model's value of ``state``: answer with `SearchTree.tell_values`."""

    id: int
    state: State


@dataclass(frozen=True, slots=True)
class RewardWant:
    """The reward of the terminal ``state``: answer with `SearchTree.tell_rewards`."""

    id: int
    state: State


Want = SampleWant | ValueWant | RewardWant
