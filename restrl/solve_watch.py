"""What `restrl solve` sees of a search while it runs: every completion and score, on their way to the decoder."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from restrl.types import Completion, Policy, Problem, SampleRequest, SamplingParams, State, ValueModel

if TYPE_CHECKING:
    from restrl.decoding.driver import SearchRun
    from restrl.decoding.results import Candidate, Decoded


class Watch:
    """Stands between the decoder and its models and remembers what they said, to show it and to survive a stop.

    Attributes:
        candidates: Every completion so far, in the order of sampling.
        tokens: Generated tokens.
        num_scored: States that were scored.
        search: The search under way, where the decoder has one.
        stopped: The user has stopped it.
        began: When it began, on the monotonic clock.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.tokens = self.num_scored = 0
        self.search: Any = None
        self.stopped = False
        self.began = time.monotonic()
        self.on_change: Callable[[], None] = lambda: None
        self._completions: list[tuple[str, Completion]] = []
        self._scores: dict[str, float] = {}

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every completion so far, with the score of its program if it has one by now."""
        from restrl.decoding.results import candidate_of

        found = [candidate_of(code, completion, None, i) for i, (code, completion) in enumerate(self._completions)]
        return tuple(dataclasses.replace(c, score=self._scores.get(c.code) if c.finished else None) for c in found)

    @property
    def num_completions(self) -> int:
        """Completions so far."""
        return len(self._completions)

    def layer(self, policy: Policy, value_model: ValueModel | None) -> tuple[Policy, ValueModel | None]:
        """Returns the models that the decoder sees."""
        return _Watched(policy, self), None if value_model is None else _Watched(value_model, self)

    def on_round(self, runs: Sequence[SearchRun]) -> None:
        """Takes note of the search."""
        self.search = runs[0].tree
        self.on_change()

    def saw_samples(self, requests: Sequence[SampleRequest], answers: Sequence[Sequence[Completion]]) -> None:
        """Takes note of completions."""
        for request, completions in zip(requests, answers, strict=True):
            self._completions += [(request.state.code, completion) for completion in completions]
            self.tokens += sum(completion.num_tokens for completion in completions)
        self.on_change()

    def saw_scores(self, states: Sequence[State], scores: Sequence[float]) -> None:
        """Takes note of values."""
        self.num_scored += len(states)
        self._scores.update((s.code, score) for s, score in zip(states, scores, strict=True) if s.terminal)
        self.on_change()

    def result(self) -> Decoded | None:
        """Returns the best of what there is so far; None without a completion."""
        from restrl.decoding.results import Decoded, Ledger, best_answers

        candidates = self.candidates
        if not candidates:
            return None
        completions = [completion for _, completion in self._completions]
        ledger = Ledger(
            completions=len(candidates),
            unique_completions=len({(c.code, c.finished) for c in candidates}),
            cut_off=sum(not c.finished for c in candidates),
            generated_tokens=self.tokens,
            prompt_tokens=sum(c.prompt_tokens - c.reused_prompt_tokens for c in completions),
            reused_prompt_tokens=sum(c.reused_prompt_tokens for c in completions),
            cost=sum(c.cost for c in completions),
            value_states=self.num_scored,
            wall_s=time.monotonic() - self.began,
        )
        return Decoded(self.problem.id, candidates, best_answers(candidates), ledger)


class _Watched:
    """A model whose answers are seen on the way; everything else is the model's own."""

    def __init__(self, model: Any, watch: Watch) -> None:
        self._model, self._watch = model, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        answers: list[list[Completion]] = self._model.sample(requests, params)
        self._watch.saw_samples(requests, answers)
        return answers

    def score_states(self, states: Sequence[State]) -> list[float]:
        scores: list[float] = self._model.score_states(states)
        self._watch.saw_scores(states, scores)
        return scores

    @property
    def score_paths(self) -> Any:
        """What the model's method gives, seen; None where it has none."""
        inner = getattr(self._model, "score_paths", None)
        return None if inner is None else partial(self._watched_paths, inner)

    def _watched_paths(self, inner: Any, states: Sequence[State]) -> list[list[tuple[int, float]]]:
        paths: list[list[tuple[int, float]]] = inner(states)
        self._watch.saw_scores(states, [path[0][1] for path in paths])
        return paths
