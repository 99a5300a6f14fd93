"""The report stage: reads every artifact of a run and writes the table, the figures and the page."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restrl.artifacts import file_digest, read_jsonl
from restrl.decoding.config import DecodeConfig
from restrl.evaluation.results import EvaluationResult
from restrl.evaluation.statistics import Interval
from restrl.grpo.methods import METHODS, TrainConfig
from restrl.pipeline.compute import compute_notes, compute_rows, read_compute
from restrl.pipeline.context import Context
from restrl.pipeline.evaluating import method_name, read_evaluations
from restrl.pipeline.validation import policy_name, read_validations
from restrl.report.data import (
    BestOf,
    BudgetCurve,
    BudgetDifference,
    CalibrationBin,
    Cost,
    DepthError,
    Example,
    IterationRow,
    ReportData,
    Row,
    Spread,
    ValueReport,
    cost_from,
    curve_from,
    difference_from,
    row_from,
)
from restrl.report.iteration_tables import text_tables
from restrl.report.tables import console_table
from restrl.report.write import write_report
from restrl.rest.assembly import RestConfig
from restrl.stages import EvaluateConfig, SampleConfig

# (row, policy, method, one sample): one sample per problem is measured with all independent samples of best-of-n.
Table = tuple[tuple[str, str, str, bool], ...]
ROWS: Table = (
    ("base", "base", "best_of_n", True),
    ("ReST-GRPO", "trained", "best_of_n", True),
    ("best-of-n", "base", "best_of_n", False),
    ("VM-MCTS", "base", "vm_mcts", False),
    ("ReST-GRPO + best-of-n", "trained", "best_of_n", False),
    ("ReST-RL", "trained", "vm_mcts", False),
)
# What is compared at every budget: search with best-of-n on the same policy, and the whole method with search alone.
COMPARED = (
    (("base", "vm_mcts"), ("base", "best_of_n")),
    (("trained", "vm_mcts"), ("trained", "best_of_n")),
    (("trained", "vm_mcts"), ("base", "vm_mcts")),
)
NUM_EXAMPLES = 3


def rows_of(method: str) -> Table:
    """Returns the rows of a run, with the names that its training method gives them.

    >>> [row[0] for row in rows_of("dapo")][3:]
    ['VM-MCTS', 'DAPO + best-of-n', 'DAPO + VM-MCTS']
    """
    label = METHODS[method].label
    names = {"ReST-RL": "ReST-RL" if method == "rest-grpo" else f"{label} + VM-MCTS"}
    return tuple((names.get(name, name.replace("ReST-GRPO", label)), *rest) for name, *rest in ROWS)  # type: ignore[misc]


def report(context: Context) -> tuple[str, dict[str, Any]]:
    """Writes ``report/`` and returns the table as text and the results as data."""
    data = collect(context)
    out = context.run.path / "report"
    with context.run.stage("report"):
        write_report(data, out)
    text = "\n".join([console_table(data), text_tables(data), *data.notes, f"report: {out / 'report.html'}"])
    return text, json.loads((out / "results.json").read_text())


def iterations(context: Context) -> tuple[str, dict[str, Any]]:
    """Returns the policies so far on validation problems, as a table and as data, and which one is kept, if any yet."""
    confidence = context.recipe.section("evaluate", EvaluateConfig).confidence
    table = text_tables(ReportData("", "", (), confidence=confidence, iterations=iteration_rows(context)))
    kept = context.run.manifest.get("kept")
    said = kept["reason"] if kept else "Which policy is kept is decided after the last iteration."
    return f"{table}{said}", {"iterations": read_validations(context), "kept": kept}


def collect(context: Context) -> ReportData:
    """Reads a run's artifacts into plain report data."""
    evaluations = read_evaluations(context)
    settings = context.recipe.section("evaluate", EvaluateConfig)
    stages: Mapping[str, Any] = context.run.manifest["stages"]
    table = rows_of(context.recipe.section("train", TrainConfig).method)
    return ReportData(
        title=f"ReST-RL: {context.recipe.name}",
        recipe=context.recipe.to_toml(),
        rows=tuple(_rows(table, evaluations, stages)),
        num_problems=len(next(iter(evaluations.values())).problems),
        confidence=settings.confidence,
        spread=_spread(context),
        training=tuple(_training(context)),
        value=_value(context),
        curves=tuple(_curves(table, evaluations)),
        differences=tuple(_differences(table, evaluations)),
        costs=tuple(_costs(table, evaluations, stages)),
        iterations=iteration_rows(context),
        compute=tuple(compute_rows(read_compute(context))),
        environment=_environment(context),
        timings={name: entry["seconds"] for name, entry in stages.items() if name != "report"},
        examples=tuple(_examples(context, evaluations)),
        notes=tuple(_notes(context)),
    )


def iteration_rows(context: Context) -> tuple[IterationRow, ...]:
    """Returns the policies of the run on validation problems, as far as it is."""

    def read(record: Mapping[str, Any] | None) -> Interval | None:
        return None if record is None else Interval(**record)

    kept = context.run.manifest.get("kept", {}).get("iteration")
    return tuple(
        IterationRow(
            name=policy_name(record["iteration"]),
            num_problems=record["num_problems"],
            num_samples=record["num_samples"],
            pass_at_1=Interval(**record["pass@1"]),
            mean_reward=Interval(**record["mean_reward"]),
            pass_at_k={int(k): Interval(**item) for k, item in record["pass@k"].items()},
            vs_base=read(record["vs_base"]),
            vs_previous=read(record["vs_previous"]),
            kept=record["iteration"] == kept,
        )
        for record in read_validations(context)
    )


def _rows(
    table: Table, evaluations: Mapping[tuple[str, str], EvaluationResult], stages: Mapping[str, Any]
) -> list[Row]:
    base = evaluations.get(("base", "best_of_n")) or evaluations.get(("base", "sample"))
    rows = []
    for name, tag, method, single in table:
        result = evaluations.get((tag, method)) or (evaluations.get((tag, "sample")) if single else None)
        if result is not None:
            # One sample is measured with all samples of best-of-n, so the time of that decoding is not its own.
            seconds = None if single else stages.get(f"evaluate/{tag}-{method}", {}).get("seconds")
            rows.append(row_from(name, result, None if name == "base" else base, single=single, wall_s=seconds))
    return rows


def _curves(table: Table, evaluations: Mapping[tuple[str, str], EvaluationResult]) -> list[BudgetCurve]:
    return [
        curve_from(name, evaluations[tag, method])
        for name, tag, method, single in table
        if not single and (tag, method) in evaluations
    ]


def _differences(table: Table, evaluations: Mapping[tuple[str, str], EvaluationResult]) -> list[BudgetDifference]:
    names = {(tag, method): name for name, tag, method, single in table if not single}
    return [
        difference_from(names[one], evaluations[one], names[other], evaluations[other])
        for one, other in COMPARED
        if one in evaluations and other in evaluations
    ]


def _costs(
    table: Table, evaluations: Mapping[tuple[str, str], EvaluationResult], stages: Mapping[str, Any]
) -> list[Cost]:
    return [
        cost_from(name, evaluations[tag, method], stages.get(f"evaluate/{tag}-{method}", {}).get("seconds"))
        for name, tag, method, single in table
        if not single and (tag, method) in evaluations
    ]


def _spread(context: Context) -> Spread | None:
    path = context.run.path / "iteration-1/spread.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    sigma_0 = context.recipe.section("rest", RestConfig).sigma_0
    return Spread(tuple(record["before"]["std"]), tuple(record["after"]["std"]), sigma_0)


def _training(context: Context) -> list[dict[str, float]]:
    records: list[dict[str, float]] = []
    for iteration in range(1, context.settings.iterations + 1):
        path = context.run.path / f"iteration-{iteration}/policy/metrics.jsonl"
        if path.exists():
            offset = records[-1]["step"] if records else 0
            records += [{**record, "step": record["step"] + offset} for record in read_jsonl(path)]
    return records


def _value(context: Context) -> ValueReport | None:
    for tag in ("trained", "base"):
        path = context.run.path / f"values-{tag}/report.json"
        if path.exists():
            return _value_report(json.loads(path.read_text()))
    return None


def _value_report(record: Mapping[str, Any]) -> ValueReport:
    return ValueReport(
        mse=record["validation_mse"],
        baseline_mse=record["baseline_mse"],
        bins=tuple(
            CalibrationBin(item["predicted"], item["observed"], item["count"]) for item in record["calibration"]
        ),
        depths=tuple(
            DepthError(item["depth"], item["mse"], item["baseline_mse"], item["count"]) for item in record["depths"]
        ),
        ranking_accuracy=record["ranking_accuracy"],
        best_of=tuple(BestOf(**item) for item in record["best_of_n"]),
    )


def _environment(context: Context) -> dict[str, str]:
    manifest = context.run.manifest
    return {
        **{f"{name} version": version for name, version in manifest["versions"].items()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "device": context.policy_config.device,
        "seed": str(context.seed),
        "training samples per problem": str(context.recipe.section("sample", SampleConfig).num_samples),
        "base policy (sha256)": file_digest(context.base_policy)[:16],
    }


def _examples(context: Context, evaluations: Mapping[tuple[str, str], EvaluationResult]) -> list[Example]:
    """One problem that changes hands between the methods says more than three that do not."""
    problems = {problem.id: problem for problem in context.problems.held_out}
    shown = [key for key in (("base", "best_of_n"), ("base", "vm_mcts"), ("trained", "vm_mcts")) if key in evaluations]
    if not shown:
        return []
    by_problem: dict[str, list[Example]] = {}
    for tag, method in shown:
        for result in evaluations[tag, method].problems:
            answer = result.answer(result.budget)
            if answer is None:
                continue
            problem = problems[result.problem_id]
            program = problem.initial_state + answer.code
            name = f"{method_name(context, method)}, {tag} policy"
            example = Example(problem.id, problem.statement, program, answer.reward, answer.passed, name)
            by_problem.setdefault(problem.id, []).append(example)
    telling = [group for group in by_problem.values() if len({example.passed for example in group}) > 1]
    chosen = (telling or list(by_problem.values()))[:NUM_EXAMPLES]
    return [example for group in chosen for example in group]


def _notes(context: Context) -> list[str]:
    notes = compute_notes(read_compute(context))
    kept = context.run.manifest.get("kept")
    # With one iteration and no choice there is nothing to say.
    if kept and (kept["rule"] == "best" or context.settings.iterations > 1):
        notes.append(kept["reason"])
    layers = context.run.manifest.get("grading_layers")
    if layers is not None:
        notes.append("Programs were graded under these isolation layers: " + (", ".join(layers) or "none") + ".")
    weight = context.recipe.section("decode", DecodeConfig).likelihood_weight
    if weight:
        notes.append(
            f"Decoders score a program by its value plus {weight:g} times the policy's mean log-probability "
            "per token. The published method has the value alone: decode.likelihood_weight = 0."
        )
    if context.recipe.section("decode", DecodeConfig).public_tests:
        notes.append(
            "Public tests used: the examples that the problems show ranked the candidates of best-of-n and of the "
            "search. These numbers do not compare with results without them."
        )
    if context.recipe.section("evaluate", EvaluateConfig).split == "validation":
        notes.append("These numbers are of the validation split: use them to choose settings, not as a final result.")
    for tag in ("base", "trained"):
        path = context.run.path / f"values-{tag}/report.json"
        search = json.loads(path.read_text()).get("search") if path.exists() else None
        if search:
            notes.append(f"Value model of the {tag} policy, on validation problems: {search['verdict']}")
    return notes


def value_model_dir(context: Context, tag: str) -> Path:
    """Directory of the value model of a policy."""
    return context.run.need(f"values-{tag}/model", "train-value")
