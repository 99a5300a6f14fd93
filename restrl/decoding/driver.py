"""Drives many searches at once: per round one call of the policy for all trees of a window, and their scores before it.

The trees know nothing of each other, so the result of each is the same in any company. At most ``window`` trees are
under way; when one is done the next takes its place, and trees are taken from their iterable only then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from restrl.decoding.results import Ledger
from restrl.errors import EngineError
from restrl.search.mcts import SearchTree
from restrl.search.wants import RewardWant, SampleWant, ValueWant, Want
from restrl.types import Completion, Grader, Policy, SampleRequest, SamplingParams, State, ValueModel


class Scorer(Protocol):
    """Answers the value wants or the reward wants of searches."""

    def score(self, states: Sequence[State]) -> list[float]:
        """Returns one finite number per state, in order."""
        ...


@dataclass(frozen=True, slots=True)
class RewardScorer:
    """Scores terminal states by running the problem's tests."""

    grader: Grader

    def score(self, states: Sequence[State]) -> list[float]:
        """Returns the rewards, in [0, 1]."""
        return [grade.reward for grade in self.grader.grade([(state.problem, state.program) for state in states])]


@dataclass(frozen=True, slots=True)
class ValueScorer:
    """Scores states by a value model."""

    value_model: ValueModel

    def score(self, states: Sequence[State]) -> list[float]:
        """Returns the model's values."""
        return self.value_model.score_states(states)

    def score_paths(self, states: Sequence[State]) -> list[list[tuple[int, float]]]:
        """Returns the model's values, and those of earlier lines that the same forwards give (offset, value)."""
        inner = getattr(self.value_model, "score_paths", None)
        if inner is not None:
            paths: list[list[tuple[int, float]]] = inner(states)
            return paths
        values = checked_scores(self.score, states)
        return [[(len(state.code), value)] for state, value in zip(states, values, strict=True)]


@dataclass(slots=True)
class SearchRun:
    """A search and what driving it took.

    Attributes:
        tree: The search.
        index: Its place among the trees given.
        score_calls: Scoring rounds that it took part in.
        value_tokens: Its share, by number of states, of the value model's tokens in those rounds.
        wall_s: Its share of the seconds of its rounds, by the number of its wants.
    """

    tree: SearchTree
    index: int
    score_calls: int = 0
    value_tokens: float = 0.0
    wall_s: float = 0.0
    _wants: list[Want] = field(default_factory=list)
    # Values of states that are not finished programs, by code, from forwards over programs that begin with them.
    _on_the_way: dict[str, float] = field(default_factory=dict)
    _known: int = 0

    def known_value(self, state: State) -> float | None:
        """Returns the value of a state if an earlier forward gave it on the way."""
        value = None if state.terminal else self._on_the_way.pop(state.code, None)
        self._known += value is not None
        return value

    def learn(self, state: State, path: Sequence[tuple[int, float]]) -> None:
        """Keeps what a forward over a state gave on the way."""
        for offset, value in path[1:]:
            self._on_the_way[state.code[:offset]] = value

    def ledger(self) -> Ledger:
        """Returns the cost of the search."""
        counts = self.tree.statistics()
        return Ledger(
            completions=counts.completions,
            unique_completions=counts.unique_completions,
            cut_off=counts.cut_off,
            requests=counts.requests,
            generated_tokens=counts.generated_tokens,
            prompt_tokens=counts.prompt_tokens,
            reused_prompt_tokens=counts.reused_prompt_tokens,
            cost=counts.cost,
            value_states=counts.scored_states - self._known,
            repeated_scores=counts.repeated_scores + self._known,
            value_calls=self.score_calls,
            value_tokens=self.value_tokens,
            reused_suffixes=counts.reused_suffixes,
            wall_s=self.wall_s,
        )


def run_searches(
    trees: Iterable[SearchTree],
    policy: Policy,
    scorer: Scorer,
    params: SamplingParams,
    *,
    window: int = 64,
    max_batch: int = 0,
    overlap: bool = False,
    on_progress: Callable[[int], None] | None = None,
    on_round: Callable[[Sequence[SearchRun]], None] | None = None,
) -> list[SearchRun]:
    """Runs searches to the end and returns them in the order given; see `iter_searches`."""
    runs = iter_searches(
        trees,
        policy,
        scorer,
        params,
        window=window,
        max_batch=max_batch,
        overlap=overlap,
        on_progress=on_progress,
        on_round=on_round,
    )
    return sorted(runs, key=lambda run: run.index)


def iter_searches(
    trees: Iterable[SearchTree],
    policy: Policy,
    scorer: Scorer,
    params: SamplingParams,
    *,
    window: int = 64,
    max_batch: int = 0,
    overlap: bool = False,
    on_progress: Callable[[int], None] | None = None,
    on_round: Callable[[Sequence[SearchRun]], None] | None = None,
) -> Iterator[SearchRun]:
    """Runs searches and yields each as soon as it is done.

    Args:
        trees: The searches; taken one by one as places become free.
        policy: Samples completions.
        scorer: Answers value wants (a `ValueScorer`) or reward wants (a `RewardScorer`).
        params: How to sample.
        window: Searches under way at once, >= 1.
        max_batch: Completions per policy call; 0 = no limit.
        overlap: Score in a second thread while the policy samples; half of the searches start a round later, so that
            both have something to do. The results are the same.
        on_progress: Called with the number of searches that have become done, whenever some have.
        on_round: Called after every round with the searches that took part, for watching only.

    Raises:
        EngineError: The policy or the scorer answered with the wrong number of results, or with a number that is not
            finite.
    """
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1")
    source = enumerate(trees)
    active: list[SearchRun] = []
    exhausted = False
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="restrl-score") as pool:
        while True:
            # With overlap the window fills by halves, which keeps the halves one phase apart.
            room = window if not overlap else min(window, len(active) + max(1, window // 2))
            while not exhausted and len(active) < room:
                item = next(source, None)
                exhausted = item is None
                if item is not None:
                    active.append(SearchRun(item[1], item[0]))
            if not active:
                return
            _round(active, policy, scorer, params, max_batch, pool if overlap else None)
            if on_round is not None:
                on_round(active)
            finished = [run for run in active if run.tree.done]
            for run in finished:
                run._on_the_way.clear()
            active = [run for run in active if not run.tree.done]
            if finished and on_progress is not None:
                on_progress(len(finished))
            yield from finished


def _round(
    runs: Sequence[SearchRun],
    policy: Policy,
    scorer: Scorer,
    params: SamplingParams,
    max_batch: int,
    pool: ThreadPoolExecutor | None,
) -> None:
    """Asks every search, answers all of them, and books the time.

    Scores come first: what the searches want to sample once they have them joins the round's call of the policy. With a
    second thread the searches that want scores have them made beside that call instead.
    """
    began = time.perf_counter()
    samples: list[tuple[SearchRun, SampleWant]] = []
    while scores := _ask(runs, samples):
        known = [run.known_value(want.state) if isinstance(want, ValueWant) else None for run, want in scores]
        asked = [want.state for (_, want), value in zip(scores, known, strict=True) if value is None]
        tokens_before = scored_tokens(scorer)
        if pool is not None and samples and asked:
            future = pool.submit(_scored_paths, scorer, asked)
            try:
                _answer_samples(samples, policy, params, max_batch)
            finally:
                paths = future.result()
            samples = []
        else:
            paths = _scored_paths(scorer, asked)
        tokens_per_state = (scored_tokens(scorer) - tokens_before) / max(1, len(asked))
        _tell_scores(scores, known, paths, tokens_per_state)
        if pool is not None:
            break
    if samples:
        _answer_samples(samples, policy, params, max_batch)
    total = sum(len(run._wants) for run in runs)
    elapsed = time.perf_counter() - began
    for run in runs:
        run.wall_s += elapsed * len(run._wants) / max(1, total)
        run._wants = []


def _ask(
    runs: Sequence[SearchRun], samples: list[tuple[SearchRun, SampleWant]]
) -> list[tuple[SearchRun, ValueWant | RewardWant]]:
    """Asks every search for what it has not handed out yet; returns the scores wanted, and adds the samples wanted."""
    scores: list[tuple[SearchRun, ValueWant | RewardWant]] = []
    for run in runs:
        wants = run.tree.ask()
        run._wants += wants
        for want in wants:
            if isinstance(want, SampleWant):
                samples.append((run, want))
            else:
                scores.append((run, want))
        run.score_calls += any(not isinstance(want, SampleWant) for want in wants)
    return scores


def _tell_scores(
    scores: Sequence[tuple[SearchRun, ValueWant | RewardWant]],
    known: Sequence[float | None],
    paths: Sequence[list[tuple[int, float]]],
    tokens_per_state: float,
) -> None:
    """Tells the searches their scores, those that were known and those of the others in order, and books the tokens."""
    rest = iter(paths)
    for (run, want), value in zip(scores, known, strict=True):
        if value is None:
            path = next(rest)
            run.learn(want.state, path)
            value = path[0][1]
            run.value_tokens += tokens_per_state
        if isinstance(want, ValueWant):
            run.tree.tell_values({want.id: value})
        else:
            run.tree.tell_rewards({want.id: value})


def _scored_paths(scorer: Scorer, states: Sequence[State]) -> list[list[tuple[int, float]]]:
    """Scores states, checked, with what a value model's forwards give on the way."""
    if not isinstance(scorer, ValueScorer):
        return [[(len(s.code), v)] for s, v in zip(states, checked_scores(scorer.score, states), strict=True)]
    paths = scorer.score_paths(states) if states else []
    checked_scores(lambda _: [path[0][1] for path in paths], states)
    return paths


def scored_tokens(scorer: object) -> int:
    """Returns how many tokens a scorer or value model has taken so far: `tokens`, or `stats.tokens`, or nothing."""
    source = getattr(scorer, "value_model", scorer)
    return int(getattr(source, "tokens", getattr(getattr(source, "stats", None), "tokens", 0)))


def _answer_samples(
    samples: Sequence[tuple[SearchRun, SampleWant]], policy: Policy, params: SamplingParams, max_batch: int
) -> None:
    requests = [SampleRequest(want.state, want.n, want.seed) for _, want in samples]
    for (run, want), completions in zip(samples, sample_in_batches(policy, requests, params, max_batch), strict=True):
        run.tree.tell_samples(want.id, completions)


def sample_in_batches(
    policy: Policy, requests: Sequence[SampleRequest], params: SamplingParams, max_batch: int = 0
) -> list[list[Completion]]:
    """Samples all requests in calls of at most ``max_batch`` completions (whole requests; 0 = one call).

    Raises:
        EngineError: The policy answered with the wrong number of lists or of completions.
    """
    answers: list[list[Completion]] = []
    start = 0
    while start < len(requests):
        stop, size = start + 1, requests[start].n
        while stop < len(requests) and (max_batch <= 0 or size + requests[stop].n <= max_batch):
            size += requests[stop].n
            stop += 1
        batch = policy.sample(requests[start:stop], params)
        if [len(completions) for completions in batch] != [request.n for request in requests[start:stop]]:
            raise EngineError(
                f"the policy returned {[len(completions) for completions in batch]} completions for requests of "
                f"{[request.n for request in requests[start:stop]]}; it must return exactly as many"
            )
        answers.extend(batch)
        start = stop
    return answers


def checked_scores(score: Callable[[Sequence[State]], list[float]], states: Sequence[State]) -> list[float]:
    """Scores states and checks the answer; no states, no call.

    Raises:
        EngineError: The numbers are too few, too many, or not finite.
    """
    values = score(states) if states else []
    if len(values) != len(states):
        raise EngineError(f"the scorer returned {len(values)} numbers for {len(states)} states; one each is needed")
    for state, value in zip(states, values, strict=True):
        if value is None or not math.isfinite(value):
            raise EngineError(f"the score of a state of {state.problem.id} is {value}; it must be a finite number")
    return values
