"""The ask/tell protocol of searches: what a driver needs of one (`SearchLike`), and keeping its wants (`Asking`).

A search works in rounds: it wants completions and scores, is told them in any order, and goes on when all are in. So
it depends on its seed, its settings and the answers, never on their timing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from restrl.errors import EngineError
from restrl.search.tree import Draw, Node, TreeStatistics
from restrl.search.wants import RewardWant, SampleWant, ValueWant, Want
from restrl.types import Completion, State


class SearchLike(Protocol):
    """Any search that a driver can run."""

    @property
    def root(self) -> Node:
        """Where it starts."""
        ...

    @property
    def draws(self) -> Sequence[Draw]:
        """The completions in the order of sampling."""
        ...

    @property
    def done(self) -> bool:
        """The budget is spent and every answer is in."""
        ...

    def ask(self, limit: int | None = None) -> list[Want]:
        """Returns up to ``limit`` wants that were not handed out before; see `SearchTree.ask`."""
        ...

    def tell_samples(self, want_id: int, completions: Sequence[Completion]) -> None:
        """Answers a `SampleWant`."""
        ...

    def tell_values(self, values: Mapping[int, float]) -> None:
        """Answers `ValueWant` s by id."""
        ...

    def tell_rewards(self, rewards: Mapping[int, float]) -> None:
        """Answers `RewardWant` s by id."""
        ...

    def statistics(self) -> TreeStatistics:
        """Returns what the search has done so far; changes nothing."""
        ...


class Asking(ABC):
    """Keeps the wants of a search and their answers; `_advance` is called whenever all answers are in."""

    def __init__(self) -> None:
        self._next_id = 0
        self._queue: list[Want] = []
        self._outstanding: dict[int, Want] = {}
        self._samples: dict[int, list[Completion]] = {}
        self._values: dict[int, float] = {}

    @property
    def done(self) -> bool:
        """The budget is spent and every answer is in."""
        return not self._queue and not self._outstanding

    def ask(self, limit: int | None = None) -> list[Want]:
        """Returns up to ``limit`` wants that were not handed out before (all that the round has, by default).

        An empty list means: done, or waiting for answers.
        """
        taken = self._queue[:limit]
        del self._queue[: len(taken)]
        self._outstanding.update((want.id, want) for want in taken)
        return taken

    def tell_samples(self, want_id: int, completions: Sequence[Completion]) -> None:
        """Answers a `SampleWant`.

        Raises:
            EngineError: The number of completions is not what was asked for.
            ValueError: No such want is waiting for an answer.
        """
        want = self._outstanding.get(want_id)
        if not isinstance(want, SampleWant):
            raise ValueError(f"want {want_id} is not a sample want that waits for an answer")
        if len(completions) != want.n:
            raise EngineError(
                f"the policy returned {len(completions)} completions for {want.state.problem.id}, {want.n} were asked "
                "for; a policy must return exactly request.n completions"
            )
        self._samples[want_id] = list(completions)
        self._settle(want_id)

    def tell_values(self, values: Mapping[int, float]) -> None:
        """Answers `ValueWant` s by id.

        Raises:
            EngineError: A value is missing or not finite.
            ValueError: No such want is waiting for an answer.
        """
        self._tell_scores(values, ValueWant, -math.inf, math.inf)

    def tell_rewards(self, rewards: Mapping[int, float]) -> None:
        """Answers `RewardWant` s by id.

        Raises:
            EngineError: A reward is missing or not in [0, 1].
            ValueError: No such want is waiting for an answer.
        """
        self._tell_scores(rewards, RewardWant, 0.0, 1.0)

    def _tell_scores(
        self, scores: Mapping[int, float], kind: type[ValueWant] | type[RewardWant], low: float, high: float
    ) -> None:
        for want_id, score in scores.items():
            want = self._outstanding.get(want_id)
            if not isinstance(want, kind):
                raise ValueError(f"want {want_id} is not a {kind.__name__} that waits for an answer")
            if score is None or not math.isfinite(score) or not low <= score <= high:
                raise EngineError(
                    f"the score of a state of {want.state.problem.id} is {score}; it must be a finite number"
                    + (f" in [{low:g}, {high:g}]" if math.isfinite(low) else "")
                )
        for want_id, score in scores.items():
            self._values[want_id] = float(score)
            self._settle(want_id)

    def _want_samples(self, state: State, n: int, seed: int) -> int:
        self._queue.append(SampleWant(self._next_id, state, n, seed))
        self._next_id += 1
        return self._next_id - 1

    def _want_score(self, state: State, kind: type[ValueWant] | type[RewardWant]) -> int:
        self._queue.append(kind(self._next_id, state))
        self._next_id += 1
        return self._next_id - 1

    def _settle(self, want_id: int) -> None:
        del self._outstanding[want_id]
        if self.done:
            self._advance()

    @abstractmethod
    def _advance(self) -> None:
        """Takes the answers in `_samples` and `_values` and goes on until something is wanted, or all is done."""
