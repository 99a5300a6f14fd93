"""Evaluation results as plain data: per problem, and summed up with intervals (ReST-RL, section 4).

Results are stored one record per problem and put together again from any number of chunks with `from_records`. Shape
legend: ``_P`` problems, ``_B`` budgets. Every number is defined in ``docs/metrics.md``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from restrl.errors import ArtifactError
from restrl.evaluation.statistics import (
    Floats,
    Interval,
    bootstrap_mean,
    bootstrap_means,
    mean_pass_at_k,
    paired_bootstrap,
    ranking_accuracy,
    strict_accuracy,
)

# The first two are of the chosen answer; the `sample_` ones are the mean over all candidates: what one sample, drawn at
# random, is worth, measured with all of them instead of with the first alone.
Metric = Literal["pass@1", "test_case_average", "sample_pass@1", "sample_test_case_average"]


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """One candidate and its grade.

    Attributes:
        code: The solution after the initial state.
        finished: False where the token limit cut it off.
        reward: Fraction of the declared tests that passed, in [0, 1].
        passed: Every declared test passed.
        score: What the decoder thought of it, if it scores; tests had no part in it.
    """

    code: str
    finished: bool
    reward: float
    passed: bool
    score: float | None = None


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """One problem: its candidates, and the answer at every budget.

    Attributes:
        problem_id: The problem.
        band: Its difficulty band.
        candidates: In the order sampled.
        answers: Index of the answer at budgets 1..N; None scores 0.
        ledger: What the decoder spent, by name.
    """

    problem_id: str
    band: str
    candidates: tuple[CandidateResult, ...]
    answers: tuple[int | None, ...]
    ledger: Mapping[str, float] = field(default_factory=dict)

    @property
    def budget(self) -> int:
        """Completions that the last answer was chosen from."""
        return len(self.answers)

    def answer(self, budget: int) -> CandidateResult | None:
        """Returns the answer at ``budget`` (>= 1); beyond this problem's own budget, its last answer."""
        index = self.answers[min(budget, len(self.answers)) - 1]
        return None if index is None else self.candidates[index]

    def reward(self, budget: int) -> float:
        """Returns the reward of the answer at ``budget``, in [0, 1]; 0 without an answer."""
        answer = self.answer(budget)
        return 0.0 if answer is None else answer.reward

    def passed(self, budget: int) -> bool:
        """Returns whether the answer at ``budget`` passes every test."""
        answer = self.answer(budget)
        return answer is not None and answer.passed

    def oracle(self, budget: int) -> bool:
        """Returns whether any of the first ``budget`` candidates passes."""
        return any(candidate.passed for candidate in self.candidates[:budget])

    def to_record(self, *, timing: bool = False) -> dict[str, Any]:
        """Returns plain data for a JSONL line; `from_record` gives the result back.

        Without ``timing`` the wall-clock seconds stay out, so that equal results are equal data.
        """
        return {
            "problem_id": self.problem_id,
            "band": self.band,
            "reward": self.reward(self.budget),
            "passed": self.passed(self.budget),
            "answers": list(self.answers),
            "candidates": [dataclasses.asdict(candidate) for candidate in self.candidates],
            "ledger": {name: value for name, value in self.ledger.items() if timing or name != "wall_s"},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ProblemResult:
        """Reads `to_record`'s data.

        Raises:
            ArtifactError: A field is missing or of the wrong type.
        """
        try:
            candidates = tuple(CandidateResult(**candidate) for candidate in record["candidates"])
            return cls(
                record["problem_id"], record["band"], candidates, tuple(record["answers"]), dict(record["ledger"])
            )
        except (KeyError, TypeError) as error:
            raise ArtifactError(
                f"evaluation record of problem {record.get('problem_id', '?')!r} does not fit ({error}): "
                "it was written by another version; run `restrl evaluate` again"
            ) from error


@dataclass(frozen=True, slots=True)
class BudgetPoint:
    """Accuracy of the answers at one budget, with its interval and the oracle's."""

    budget: int
    accuracy: Interval
    oracle: Interval


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """All problems of one method; every number of it is defined in ``docs/metrics.md``.

    Attributes:
        problems: One result per problem, in the order evaluated.
        independent: The candidates are independent samples, so that pass@k is defined over them.
        seed: Seed of the bootstrap.
        num_resamples: Resamples of the bootstrap.
        confidence: Of the intervals.
    """

    problems: tuple[ProblemResult, ...]
    independent: bool = False
    seed: int = 0
    num_resamples: int = 10_000
    confidence: float = 0.95

    @property
    def budget(self) -> int:
        """The largest budget N."""
        return max(problem.budget for problem in self.problems)

    def values(self, metric: Metric, budget: int | None = None) -> Floats:
        """Returns one value per problem in [0, 1], shape (P,).

        Args:
            metric: ``pass@1``: the answer passed (0 or 1); ``test_case_average``: its reward; ``sample_pass@1`` and
                ``sample_test_case_average``: the mean of the same over the first ``budget`` candidates.
            budget: In completions, >= 1; the full budget unless told.
        """
        at = self.budget if budget is None else budget
        if metric == "pass@1":
            return np.array([float(problem.passed(at)) for problem in self.problems])
        if metric == "test_case_average":
            return np.array([problem.reward(at) for problem in self.problems])
        if metric == "sample_pass@1":
            return np.array([_mean([float(c.passed) for c in p.candidates[:at]]) for p in self.problems])
        return np.array([_mean([c.reward for c in p.candidates[:at]]) for p in self.problems])

    def interval(self, metric: Metric, budget: int | None = None) -> Interval:
        """Returns the mean of a metric over problems, with its bootstrap interval; full budget unless told."""
        return self._bootstrap(self.values(metric, budget))

    def pass_at_k(self, k: int) -> float:
        """Returns the mean unbiased pass@k over the candidates.

        Raises:
            ConfigError: Fewer than ``k`` candidates.
            ValueError: The candidates are not independent samples, so the estimator does not apply.
        """
        if not self.independent:
            raise ValueError("pass@k is defined over independent samples: evaluate the `sample` decoder for it")
        counts = [(len(problem.candidates), sum(c.passed for c in problem.candidates)) for problem in self.problems]
        return mean_pass_at_k(counts, k)

    def curve(self, budgets: Sequence[int] | None = None) -> list[BudgetPoint]:
        """Returns the budget curve: accuracy and oracle at the given budgets, by default every one of 1..N."""
        chosen = list(budgets or range(1, self.budget + 1))
        accuracy_BP = [self.values("pass@1", budget) for budget in chosen]
        oracle_BP = [[float(problem.oracle(budget)) for problem in self.problems] for budget in chosen]
        arguments = (self.num_resamples, self.seed, self.confidence)
        accuracies = bootstrap_means(np.array(accuracy_BP), *arguments)
        oracles = bootstrap_means(np.array(oracle_BP), *arguments)
        return [BudgetPoint(*point) for point in zip(chosen, accuracies, oracles, strict=True)]

    def ledger(self) -> dict[str, float]:
        """Returns what the decoder spent on all problems together, by name."""
        names = dict.fromkeys(name for problem in self.problems for name in problem.ledger)
        return {name: math.fsum(problem.ledger.get(name, 0.0) for problem in self.problems) for name in names}

    def bands(self) -> dict[str, EvaluationResult]:
        """Returns the result of every difficulty band, by name in order."""
        names = sorted({problem.band for problem in self.problems})
        return {
            name: dataclasses.replace(self, problems=tuple(p for p in self.problems if p.band == name))
            for name in names
        }

    def ranking_accuracy(self) -> float | None:
        """Returns `statistics.ranking_accuracy`, mean over the problems where it is defined; None where none is."""
        found = [
            ranking_accuracy([c.score for c in scored if c.score is not None], [c.passed for c in scored])
            for problem in self.problems
            if (scored := [c for c in problem.candidates if c.finished and c.score is not None])
        ]
        values = [value for value in found if value is not None]
        return math.fsum(values) / len(values) if values else None

    def to_records(self, *, timing: bool = False) -> list[dict[str, Any]]:
        """Returns one JSON-serialisable record per problem (`ProblemResult.to_record`)."""
        return [problem.to_record(timing=timing) for problem in self.problems]

    def summary(self) -> dict[str, Any]:
        """Returns the aggregated metrics as plain data; the names are those of ``docs/metrics.md``."""
        budget = self.budget
        rewards = self.values("test_case_average").tolist()
        candidates = [candidate for problem in self.problems for candidate in problem.candidates]
        answers = [problem.answer(budget) for problem in self.problems]
        result: dict[str, Any] = {
            "num_problems": len(self.problems),
            "budget": budget,
            "num_short": sum(problem.budget < budget for problem in self.problems),
            "confidence": self.confidence,
            "pass@1": dataclasses.asdict(self.interval("pass@1")),
            "test_case_average": dataclasses.asdict(self.interval("test_case_average")),
            "strict_accuracy": strict_accuracy(rewards),
            "oracle": dataclasses.asdict(self.curve([budget])[0].oracle),
            "unfinished_share": sum(not c.finished for c in candidates) / max(1, len(candidates)),
            "unfinished_answers": sum(a is None or not a.finished for a in answers) / len(answers),
            "distinct_share": self._distinct_share(),
            "ranking_accuracy": self.ranking_accuracy(),
            "budget_curve": [dataclasses.asdict(point) for point in self.curve()],
            "by_band": {
                name: {
                    "num_problems": len(part.problems),
                    "pass@1": dataclasses.asdict(part.interval("pass@1")),
                    "test_case_average": dataclasses.asdict(part.interval("test_case_average")),
                }
                for name, part in self.bands().items()
            },
            "ledger": self.ledger(),
        }
        if self.independent:
            most = min(len(problem.candidates) for problem in self.problems)
            powers = sorted({2**i for i in range(most.bit_length())} | {most} - {0})
            result["pass@k"] = {str(k): self.pass_at_k(k) for k in powers}
            for name in ("sample_pass@1", "sample_test_case_average"):
                result[name] = dataclasses.asdict(self.interval(name))
        return result

    def _bootstrap(self, values: Floats) -> Interval:
        return bootstrap_mean(values, self.num_resamples, self.seed, self.confidence)

    def _distinct_share(self) -> float:
        distinct = sum(len({candidate.code for candidate in problem.candidates}) for problem in self.problems)
        return distinct / max(1, sum(len(problem.candidates) for problem in self.problems))


def from_records(
    records: Iterable[Mapping[str, Any]],
    *,
    independent: bool = False,
    seed: int = 0,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> EvaluationResult:
    """Returns the evaluation whose `EvaluationResult.to_records` were stored, possibly in several chunks.

    Raises:
        ArtifactError: No record, or one that does not fit.
    """
    results = tuple(ProblemResult.from_record(record) for record in records)
    if not results:
        raise ArtifactError("there is no evaluation record: run `restrl evaluate` first")
    return EvaluationResult(results, independent, seed, num_resamples, confidence)


def compare(
    a: EvaluationResult | Sequence[EvaluationResult],
    b: EvaluationResult | Sequence[EvaluationResult],
    metric: Metric = "pass@1",
    metric_b: Metric | None = None,
) -> Interval:
    """Returns the mean of ``a - b`` over the same problems, each at its full budget, with the paired interval.

    Args:
        a: One evaluation, or several runs (seeds) of one method.
        b: What it is compared with, on the same problems in any order.
        metric: What is compared (`EvaluationResult.values`).
        metric_b: The metric of ``b`` where it differs: a decoder's ``pass@1`` against the base's ``sample_pass@1``.

    Raises:
        ValueError: The two were not evaluated on the same problems.
    """
    runs_a = [a] if isinstance(a, EvaluationResult) else list(a)
    runs_b = [b] if isinstance(b, EvaluationResult) else list(b)
    names = [problem.problem_id for problem in runs_a[0].problems]
    first = runs_a[0]
    return paired_bootstrap(
        [_ordered(run, names, metric) for run in runs_a],
        [_ordered(run, names, metric_b or metric) for run in runs_b],
        first.num_resamples,
        first.seed,
        first.confidence,
    )


def compare_budgets(a: EvaluationResult, b: EvaluationResult) -> list[tuple[int, Interval]]:
    """Returns the paired difference in pass@1, ``a - b``, at every budget that both have, with its interval.

    All budgets share the same draws of problems, so the intervals of neighbouring budgets move together.

    Raises:
        ValueError: The two were not evaluated on the same problems.
    """
    names = [problem.problem_id for problem in a.problems]
    budgets = range(1, min(a.budget, b.budget) + 1)
    differences_BP = [
        np.array(_ordered(a, names, "pass@1", at)) - np.array(_ordered(b, names, "pass@1", at)) for at in budgets
    ]
    found = bootstrap_means(np.array(differences_BP), a.num_resamples, a.seed, a.confidence)
    return list(zip(budgets, found, strict=True))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _ordered(run: EvaluationResult, names: Sequence[str], metric: Metric, budget: int | None = None) -> list[float]:
    values = dict(zip((p.problem_id for p in run.problems), run.values(metric, budget).tolist(), strict=True))
    if values.keys() != set(names):
        missing = sorted(values.keys() ^ set(names))
        raise ValueError(
            f"cannot compare evaluations of different problems: {len(missing)} are in only one of the two, "
            f"for example {missing[0]!r}; evaluate both on the same problems"
        )
    return [values[name] for name in names]
