"""What the experiments measure on the held-out problems: policies by plain samples, and decoders at equal budgets.

A measurement is a stage of an arm's run directory and a table ``measure/NAME.jsonl``, made chunk by chunk. All policies
of a seed answer the same problems with the same seeds. Decoders that choose among independent samples (ORM, PRM) share
the samples and their grades with the single sample: they differ in the choice and in nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restrl.artifacts import read_jsonl
from restrl.decoding import INDEPENDENT, decode
from restrl.decoding.config import DecodeConfig
from restrl.errors import ProblemError
from restrl.evaluation.evaluate import evaluate_decoded
from restrl.evaluation.results import EvaluationResult, Metric, from_records
from restrl.evaluation.suite import HEADLINES, PASS_AT_1, family_of
from restrl.pipeline.context import Context
from restrl.problems import load_problems
from restrl.reproduce.arms import Scale
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig, ProblemsConfig
from restrl.types import Completion, Grade, Grader, Policy, Problem, SampleRequest, SamplingParams

if TYPE_CHECKING:
    from restrl.value.model import TrainedValueModel

CHUNK = 30
"""Problems of a chunk that is decoded by search: what a kill can lose."""

Results = dict[str, EvaluationResult]
"""Problem set -> its evaluation."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """One decoder of a measurement.

    Attributes:
        name: Its row.
        method: A name of `restrl.decoding.DECODERS`.
        scorer: Folder of what scores its programs, below the run directory; empty = none.
    """

    name: str
    method: str
    scorer: str = ""


def test_sets(context: Context, scale: Scale, count: int = 0) -> dict[str, tuple[Problem, ...]]:
    """Returns the held-out problems by set, the first ``count`` of each (0: all).

    Raises:
        ProblemError: A set is missing, or shares a problem with the training problems.
    """
    if not scale.test_sets:
        name = context.recipe.section("problems", ProblemsConfig).test
        return {name: context.problems.held_out[: count or None]}
    known = {problem.statement.strip() for problem in context.problems.training.values()}
    found = {}
    for name in scale.test_sets:
        problems = load_problems(name, count=count or None, seed=0)
        shared = [problem.id for problem in problems if problem.statement.strip() in known]
        if shared:
            raise ProblemError(
                f"test set {name!r}: {len(shared)} problems are also in problems.train, first {shared[0]!r}; train on "
                "others"
            )
        found[name] = tuple(problems)
    return found


test_sets.__test__ = False  # type: ignore[attr-defined]


def measure_policy(context: Context, scale: Scale, name: str, directory: Path) -> Results:
    """Measures a policy by independent samples of every held-out problem."""
    budget = scale.policy_samples
    [results] = _measure(context, scale, name, directory, [Decoding("sample", "sample")], budget, 0).values()
    return results


def measure_decoders(
    context: Context, scale: Scale, name: str, directory: Path, decodings: Sequence[Decoding]
) -> dict[str, Results]:
    """Measures decoders at equal budgets on one policy; those of independent samples share them."""
    budget = context.recipe.section("evaluate", EvaluateConfig).budget
    return _measure(context, scale, name, directory, decodings, budget, scale.search_problems)


def _measure(
    context: Context,
    scale: Scale,
    name: str,
    directory: Path,
    decodings: Sequence[Decoding],
    budget: int,
    count: int,
) -> dict[str, Results]:
    stage, table = f"measure/{name}", f"measure/{name}.jsonl"
    if not context.run.is_done(stage):
        problems = [(key, item) for key, items in test_sets(context, scale, count).items() for item in items]
        with context.run.stage(stage, {"policy": directory}), context.policy(directory) as policy:
            models = {item.scorer: _scorer(context, item.scorer) for item in decodings if item.scorer}

            def make(chunk: Sequence[tuple[str, Problem]], index: int) -> list[dict[str, Any]]:
                return _decode_chunk(context, chunk, policy, models, decodings, budget)

            size = context.settings.chunk_size if budget <= scale.policy_samples else CHUNK
            context.progress.start(f"{context.recipe.name}, seed {context.seed}: measure {name}", len(problems))
            context.run.table(table, problems, size, make, context.progress.advance)
            context.progress.finish()
    return read_measurement(context.run.path / table)


def _decode_chunk(
    context: Context,
    chunk: Sequence[tuple[str, Problem]],
    policy: Policy,
    models: Mapping[str, TrainedValueModel],
    decodings: Sequence[Decoding],
    budget: int,
) -> list[dict[str, Any]]:
    problems = [problem for _, problem in chunk]
    sets = {problem.id: key for key, problem in chunk}
    engine, grader = SharedSamples(policy), SharedGrades(context.grader)
    records = []
    for item in decodings:
        config = dataclasses.replace(
            context.recipe.section("decode", DecodeConfig), method=item.method, budget=budget, public_tests=False
        )
        decoded = decode(
            item.method,
            problems,
            # A tree asks for every state once: remembering its completions would only fill memory.
            engine if item.method in INDEPENDENT else policy,
            models.get(item.scorer),
            config,
            derive_seed(context.seed, "measure"),
            params=context.params,
        )
        for record in evaluate_decoded(problems, decoded, grader).to_records():
            records.append({"row": item.name, "method": item.method, "set": sets[record["problem_id"]], **record})
    return records


def _scorer(context: Context, folder: str) -> TrainedValueModel:
    from restrl.value.model import TrainedValueModel

    config = context.policy_config
    return TrainedValueModel(
        context.run.need(f"{folder}/model", "train-value"),
        device=config.device,
        dtype=config.dtype,
        prompt_style=config.prompt_style,
    )


def read_measurement(path: Path) -> dict[str, Results]:
    """Reads a table of measurements: row -> set -> evaluation."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    methods: dict[str, str] = {}
    for record in read_jsonl(path):
        methods[record["row"]] = record["method"]
        groups.setdefault(record["row"], {}).setdefault(record["set"], []).append(record)
    return {
        row: {key: from_records(records, independent=methods[row] in INDEPENDENT) for key, records in by_set.items()}
        for row, by_set in groups.items()
    }


def scores_of(results: Results, metric: Metric | None = None, budget: int | None = None) -> dict[str, dict[str, float]]:
    """Returns one score per problem: of the answer at a budget.

    Args:
        results: By set.
        metric: None is what the paper averages over sets: the test-case average for APPS, pass@1 elsewhere.
        budget: In completions; None is all of them.
    """
    return {key: _values(result, metric or _headline(key), budget) for key, result in results.items()}


def sample_scores(results: Results, metric: Metric | None = None) -> dict[str, dict[str, float]]:
    """Returns one score per problem: what one sample is worth, the mean over all of them."""
    names: dict[str, Metric] = {"pass@1": "sample_pass@1", "test_case_average": "sample_test_case_average"}
    return {key: _values(result, names[metric or _headline(key)], None) for key, result in results.items()}


def _headline(key: str) -> Metric:
    return "test_case_average" if HEADLINES.get(family_of(key), PASS_AT_1) != PASS_AT_1 else "pass@1"


def _values(result: EvaluationResult, metric: Metric, budget: int | None) -> dict[str, float]:
    names = [problem.problem_id for problem in result.problems]
    return dict(zip(names, result.values(metric, budget).tolist(), strict=True))


class SharedSamples:
    """A policy that answers an equal request with the completions that it gave before."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._known: dict[tuple[Any, ...], list[Completion]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Returns completions; only what is new goes to the policy."""
        keys = [(request.state.problem.id, request.state.code, request.n, request.seed, params) for request in requests]
        new = [index for index, key in enumerate(keys) if key not in self._known]
        if new:
            fresh = self._policy.sample([requests[index] for index in new], params)
            self._known.update((keys[index], group) for index, group in zip(new, fresh, strict=True))
        return [self._known[key] for key in keys]


class SharedGrades:
    """A grader that runs every program of a problem once."""

    def __init__(self, grader: Grader) -> None:
        self._grader = grader
        self._known: dict[tuple[str, str], Grade] = {}

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """Returns grades; only new programs are run."""
        new = list(
            {
                (problem.id, code): (problem, code) for problem, code in pairs if (problem.id, code) not in self._known
            }.values()
        )
        if new:
            for (problem, code), grade in zip(new, self._grader.grade(new), strict=True):
                self._known[problem.id, code] = grade
        return [self._known[problem.id, code] for problem, code in pairs]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grader, name)
