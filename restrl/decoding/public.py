"""Public example tests inside decoding: another information regime than the paper's, off by default, and labelled.

Programs run on the examples that their problem shows (`restrl.problems.public`), never on hidden tests: what the grader
is given holds nothing else. Two things come of it:

- candidates that pass more of the examples rank above those that pass fewer, before any score is looked at;
- inside a search, with ``R`` the share of examples passed and ``w`` = ``public_weight``,

      V'(S) = (1 - w) V(S) + w R(S),

  where ``R(S)`` of a finished program is its own, and of any other state the mean over the finished completions of the
  search that pass through it; ``V`` alone where none has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from restrl.decoding.driver import checked_scores, scored_tokens
from restrl.errors import GraderError
from restrl.problems.public import public_problem
from restrl.search.asking import SearchLike
from restrl.search.tree import Draw, Node, TreeStatistics
from restrl.search.wants import ValueWant, Want
from restrl.types import Completion, Grader, Problem, State, ValueModel

Rewards = dict[tuple[str, str], float]
"""From (problem's id, finished code) to the share of public examples passed."""


class PublicExamples:
    """Runs programs on public examples, each once.

    Args:
        problems: What `restrl.problems.public.public_problem` makes of problems, by their ids.
        grader: Runs the programs.

    Attributes:
        rewards: What is known so far.
    """

    def __init__(self, problems: Mapping[str, Problem], grader: Grader) -> None:
        self._problems, self._grader = problems, grader
        self.rewards: Rewards = {}

    @classmethod
    def of(cls, problems: Sequence[Problem], grader: Grader) -> PublicExamples:
        """Returns the examples that problems show; those that show none have none."""
        found = {problem.id: public_problem(problem) for problem in problems}
        return cls({name: problem for name, problem in found.items() if problem is not None}, grader)

    def count(self, problem_id: str) -> int:
        """Returns how many examples a problem has."""
        return len(self._problems[problem_id].tests.cases) if problem_id in self._problems else 0

    def run(self, programs: Sequence[tuple[Problem, str]]) -> None:
        """Adds the rewards of (problem, finished code) pairs; in one batch.

        Raises:
            GraderError: The grader failed.
        """
        keys = dict.fromkeys(
            (problem.id, code)
            for problem, code in programs
            if problem.id in self._problems and (problem.id, code) not in self.rewards
        )
        pairs = [(self._problems[name], self._problems[name].initial_state + code) for name, code in keys]
        grades = self._grader.grade(pairs) if pairs else []
        if len(grades) != len(pairs):
            raise GraderError(f"the grader returned {len(grades)} grades for {len(pairs)} programs: one each is needed")
        for key, grade in zip(keys, grades, strict=True):
            passed = sum(verdict.verdict == "pass" for verdict in grade.verdicts)
            self.rewards[key] = passed / max(1, len(grade.verdicts))


class WatchedPrograms:
    """A value model that runs the finished programs it is asked about on the public examples; values are unchanged."""

    def __init__(self, value_model: ValueModel, examples: PublicExamples) -> None:
        self._value_model, self._examples = value_model, examples

    @property
    def tokens(self) -> int:
        """Tokens that the value model took."""
        return scored_tokens(self._value_model)

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns the value model's values."""
        values = checked_scores(self._value_model.score_states, states)
        self._examples.run([(state.problem, state.code) for state in states if state.terminal])
        return values


class PublicSearch:
    """A search whose values are mixed with the rewards of public examples.

    Answers are held back until a round's scores are all in, so that the mixture does not depend on their order.

    Args:
        search: The search.
        rewards: What is known of programs; it must know a program by the time that its value is told.
        weight: ``w``, in [0, 1].
    """

    def __init__(self, search: SearchLike, rewards: Rewards, weight: float) -> None:
        self.search = search
        self._rewards, self._weight = rewards, weight
        self._queue: list[Want] = []
        self._states: dict[int, State] = {}
        self._held: dict[int, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.search, name)

    @property
    def root(self) -> Node:
        """Where it starts."""
        return self.search.root

    @property
    def draws(self) -> Sequence[Draw]:
        """The completions in the order of sampling."""
        return self.search.draws

    @property
    def done(self) -> bool:
        """The budget is spent and every answer is in."""
        return self.search.done

    def ask(self, limit: int | None = None) -> list[Want]:
        """Returns up to ``limit`` wants that were not handed out before."""
        fresh = self.search.ask()
        self._queue += fresh
        self._states.update((want.id, want.state) for want in fresh if isinstance(want, ValueWant))
        taken = self._queue[:limit]
        del self._queue[: len(taken)]
        return taken

    def tell_samples(self, want_id: int, completions: Sequence[Completion]) -> None:
        """Answers a `SampleWant`."""
        self.search.tell_samples(want_id, completions)

    def tell_values(self, values: Mapping[int, float]) -> None:
        """Answers `ValueWant` s by id.

        Raises:
            ValueError: No such want is waiting for an answer.
        """
        for want_id in values:
            if want_id not in self._states or want_id in self._held:
                raise ValueError(f"want {want_id} is not a ValueWant that waits for an answer")
        self._held.update(values)
        if len(self._held) == len(self._states):
            mixed = {want_id: self._mixed(state, self._held[want_id]) for want_id, state in self._states.items()}
            self._states, self._held = {}, {}
            self.search.tell_values(mixed)

    def tell_rewards(self, rewards: Mapping[int, float]) -> None:
        """Answers `RewardWant` s by id."""
        self.search.tell_rewards(rewards)

    def statistics(self) -> TreeStatistics:
        """Returns what the search has done so far."""
        return self.search.statistics()

    def _mixed(self, state: State, value: float) -> float:
        name = state.problem.id
        if state.terminal:
            programs = [state.code]
        else:
            programs = [draw.program for draw in self.draws if draw.finished and draw.code.startswith(state.code)]
        known = [reward for code in programs if (reward := self._rewards.get((name, code))) is not None]
        if not known:
            return value
        return (1 - self._weight) * value + self._weight * math.fsum(known) / len(known)
