"""What a report shows, as plain frozen data: no models, no files, no clock.

The same `ReportData` always gives the same bytes. Optional parts may be missing: a run without a value model still has
a report, and the page says what is not there yet.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restrl.evaluation.results import EvaluationResult, Metric, compare, compare_budgets
from restrl.evaluation.statistics import Interval


@dataclass(frozen=True, slots=True)
class Row:
    """One method of the table.

    Attributes:
        name: For example ``base`` or ``VM-MCTS``.
        pass_at_1: Share of problems whose answer passes every test.
        test_case_average: Mean share of tests passed.
        budget: Sampled completions per problem that the answer is chosen from.
        diff: pass@1 minus the base's, paired by problem; None for the base itself.
        completions: Completions sampled, all problems together.
        tokens: Tokens generated, all problems together.
        wall_s: Wall-clock seconds of decoding; None where it was not measured.
        bands: pass@1 by difficulty band.
    """

    name: str
    pass_at_1: Interval
    test_case_average: Interval
    budget: int = 1
    diff: Interval | None = None
    completions: int = 0
    tokens: int = 0
    wall_s: float | None = None
    bands: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of the rewards in a group: where it is 0, GRPO has nothing to learn from.

    Attributes:
        sampled: One per training problem: of the rewards of the policy's own samples.
        assembled: One per training group after filtering and assembly.
        sigma_0: The filter's threshold, if any.
    """

    sampled: tuple[float, ...]
    assembled: tuple[float, ...]
    sigma_0: float | None = None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """States of similar predicted value: mean prediction, mean observed reward, and how many states."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class DepthError:
    """Squared error of the value model, and of a constant, on states after ``depth`` actions."""

    depth: int
    mse: float
    baseline_mse: float
    count: int = 0


@dataclass(frozen=True, slots=True)
class BestOf:
    """Mean reward of the program that the value model, an oracle or chance picks from ``n`` finished ones."""

    n: int
    picked: float
    oracle: float
    chance: float


@dataclass(frozen=True, slots=True)
class ValueReport:
    """How good the value model is on validation problems.

    Attributes:
        mse: Mean squared error on validation states.
        baseline_mse: The error of predicting the training mean everywhere: what a useful model has to beat.
        bins: Reliability bins, by ascending prediction.
        depths: Error by number of actions.
        ranking_accuracy: How often the better of two programs of one problem has the higher value; None if unknown.
        best_of: What picking by value gives on validation programs, by ascending n.
    """

    mse: float
    baseline_mse: float
    bins: tuple[CalibrationBin, ...] = ()
    depths: tuple[DepthError, ...] = ()
    ranking_accuracy: float | None = None
    best_of: tuple[BestOf, ...] = ()


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a budget curve: completions per problem, mean and interval."""

    budget: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class BudgetCurve:
    """Accuracy of one method against its budget; ``oracle`` is that of always choosing right among its candidates."""

    method: str
    points: tuple[CurvePoint, ...]
    oracle: tuple[CurvePoint, ...] = ()


@dataclass(frozen=True, slots=True)
class BudgetDifference:
    """Paired difference in accuracy, ``method`` minus ``other``, at every budget that both have."""

    method: str
    other: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What decoding all problems by one method took.

    Attributes:
        name: Of the method.
        num_problems: Problems decoded.
        totals: Sums over problems by the names of the ledger.
        wall_s: Wall-clock seconds with grading; None where they were not measured.
    """

    name: str
    num_problems: int
    totals: Mapping[str, float]
    wall_s: float | None = None

    @property
    def prompt_reuse(self) -> float:
        """Share of the prompt tokens that took no forward, in [0, 1]."""
        return self._share("reused_prompt_tokens", "prompt_tokens")

    @property
    def score_reuse(self) -> float:
        """Share of the wanted scores that the cache had, in [0, 1]."""
        return self._share("repeated_scores", "value_states")

    def _share(self, reused: str, paid: str) -> float:
        saved = self.totals.get(reused, 0.0)
        return saved / max(1.0, saved + self.totals.get(paid, 0.0))


@dataclass(frozen=True, slots=True)
class IterationRow:
    """The policy after an iteration, on validation problems.

    Attributes:
        name: ``base``, or the iteration.
        num_problems: Validation problems.
        num_samples: Samples of each.
        pass_at_1: Mean share of samples that pass every test.
        mean_reward: Mean share of tests passed by a sample.
        pass_at_k: By k, ascending.
        vs_base: pass@1 minus the base's, paired by problem; None for the base itself.
        vs_previous: The same against the policy that the iteration started from.
        kept: Its policy is the trained one; where the base is kept, there is none.
    """

    name: str
    num_problems: int
    num_samples: int
    pass_at_1: Interval
    mean_reward: Interval
    pass_at_k: Mapping[int, Interval] = field(default_factory=dict)
    vs_base: Interval | None = None
    vs_previous: Interval | None = None
    kept: bool = False


@dataclass(frozen=True, slots=True)
class ComputeRow:
    """What training took in one iteration, or in all: counts, and seconds by the clock.

    Attributes:
        name: The iteration, or ``total``.
        completions: Sampled, those of the sampling stage included.
        before_training: Completions of the sampling stage alone.
        generated_tokens: Tokens of the completions.
        grader_calls: Programs handed to the grader.
        optimizer_steps: Updates of the policy.
        wall_s: Over all interruptions.
    """

    name: str
    completions: int
    before_training: int
    generated_tokens: int
    grader_calls: int
    optimizer_steps: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class Example:
    """A program that some method answered with.

    Attributes:
        problem_id: The problem.
        statement: What was asked.
        program: The whole program, initial state included. Untrusted text.
        reward: In [0, 1].
        passed: Every test passed.
        method: Whose answer it is.
    """

    problem_id: str
    statement: str
    program: str
    reward: float
    passed: bool
    method: str = ""


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that a report shows.

    Attributes:
        title: Of the page.
        recipe: The resolved recipe, as text.
        rows: The table; the first is the base.
        num_problems: Held-out problems of the evaluation.
        confidence: Of every interval.
        spread: Reward spread before and after assembly.
        training: One mapping per logged step: ``step`` and any of the training metrics of ``docs/metrics.md``.
        value: The value model's report.
        curves: Budget curves.
        differences: Paired differences between methods at every budget.
        costs: What every method took.
        iterations: The policies of the run on validation problems, the base first.
        compute: What training took: one row per iteration, and their sum.
        environment: Versions, hardware, seeds, by name.
        timings: Wall-clock seconds by stage, in order.
        examples: Programs to show.
        notes: Sentences that a reader must know: limits, warnings.
    """

    title: str
    recipe: str
    rows: tuple[Row, ...]
    num_problems: int = 0
    confidence: float = 0.95
    spread: Spread | None = None
    training: tuple[Mapping[str, float], ...] = ()
    value: ValueReport | None = None
    curves: tuple[BudgetCurve, ...] = ()
    differences: tuple[BudgetDifference, ...] = ()
    costs: tuple[Cost, ...] = ()
    iterations: tuple[IterationRow, ...] = ()
    compute: tuple[ComputeRow, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()


def row_from(
    name: str,
    result: EvaluationResult,
    base: EvaluationResult | None = None,
    *,
    single: bool = False,
    base_single: bool = True,
    wall_s: float | None = None,
) -> Row:
    """Returns the table row of an evaluation.

    Args:
        name: Of the method.
        result: Its evaluation.
        base: The base's evaluation on the same problems; None for the base itself.
        single: The row is of one sample per problem: its metrics are means over all independent candidates, the exact
            expectation of a random one, instead of the first candidate's alone; its budget is 1 and its costs are those
            of one sample.
        base_single: The same for the base.
        wall_s: Wall-clock seconds, where the records were stored without timing.
    """
    passed: Metric = "sample_pass@1" if single else "pass@1"
    reward: Metric = "sample_test_case_average" if single else "test_case_average"
    base_passed: Metric = "sample_pass@1" if base_single else "pass@1"
    share = len(result.problems) / max(1, sum(len(p.candidates) for p in result.problems)) if single else 1.0
    costs = {key: value * share for key, value in result.ledger().items()}
    return Row(
        name=name,
        pass_at_1=result.interval(passed),
        test_case_average=result.interval(reward),
        budget=1 if single else result.budget,
        diff=None if base is None else compare(result, base, passed, base_passed),
        completions=round(costs.get("completions", 0)),
        tokens=round(costs.get("generated_tokens", 0)),
        wall_s=wall_s if wall_s is not None else costs.get("wall_s"),
        bands={band: part.interval(passed) for band, part in result.bands().items() if band},
    )


def curve_from(method: str, result: EvaluationResult, budgets: Sequence[int] | None = None) -> BudgetCurve:
    """Returns the budget curve of an evaluation, at every budget unless told."""
    points = result.curve(budgets)
    return BudgetCurve(
        method,
        tuple(CurvePoint(p.budget, p.accuracy.mean, p.accuracy.low, p.accuracy.high) for p in points),
        tuple(CurvePoint(p.budget, p.oracle.mean, p.oracle.low, p.oracle.high) for p in points),
    )


def difference_from(method: str, a: EvaluationResult, other: str, b: EvaluationResult) -> BudgetDifference:
    """Returns the paired difference of two evaluations of the same problems at every budget."""
    points = compare_budgets(a, b)
    return BudgetDifference(method, other, tuple(CurvePoint(at, x.mean, x.low, x.high) for at, x in points))


def cost_from(name: str, result: EvaluationResult, wall_s: float | None = None) -> Cost:
    """Returns what an evaluation's decoding took."""
    return Cost(name, len(result.problems), result.ledger(), wall_s)


def to_plain(data: ReportData) -> dict[str, Any]:
    """Returns the report as JSON-serialisable data; numbers that are not finite become None."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(data))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
