"""Table 2 and the budget figure: verification and search at equal budgets, on the base policy and after ReST-GRPO."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from restrl.evaluation.results import Metric
from restrl.evaluation.statistics import Interval
from restrl.reproduce import measure as measuring
from restrl.reproduce.measure import Decoding, Results, sample_scores, scores_of
from restrl.reproduce.orderings import (
    Ordering,
    Scores,
    by_another_score,
    difference,
    judge,
    ordering,
    pool,
    reason,
    score,
)
from restrl.reproduce.outcome import Curves, Dots, Line, Outcome, Panel, Table, text
from restrl.reproduce.published import Published, published
from restrl.reproduce.workspace import SHARED_FROM, Workspace

TITLE = "Table 2: verification and search at an equal budget"
BUDGET_TITLE = "Accuracy against the number of samples"
BUDGETS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100)

# One measurement each: what chooses among independent samples shares them.
MEASUREMENTS: Mapping[str, tuple[str, tuple[Decoding, ...]]] = {
    "base-choosing": (
        "base",
        (
            Decoding("base", "sample"),
            Decoding("ORM", "best_of_n", "values-base-orm"),
            Decoding("PRM", "best_of_n_prm", "values-base-prm"),
        ),
    ),
    "base-orm-mcts": ("base", (Decoding("ORM-MCTS", "orm_mcts", "values-base-orm"),)),
    "base-vm-mcts": ("base", (Decoding("VM-MCTS", "vm_mcts", "values-base"),)),
    "trained-vm-mcts": ("trained", (Decoding("ReST-RL", "vm_mcts", "values-trained"),)),
}


def measure(workspace: Workspace, seed: int) -> None:
    """Decodes the held-out problems by every method."""
    with workspace.open(seed, SHARED_FROM) as pipeline:
        context = pipeline.context
        for name, (policy, decodings) in MEASUREMENTS.items():
            if not context.run.is_done(f"measure/{name}"):
                directory = context.policy_dir(policy)
                measuring.measure_decoders(context, workspace.scale, name, directory, decodings)


def _read(workspace: Workspace) -> dict[str, list[Results]]:
    """The evaluations of every row, one per seed."""
    rows: dict[str, list[Results]] = {}
    for seed in workspace.seeds:
        folder = workspace.path(seed, SHARED_FROM) / "measure"
        for name in MEASUREMENTS:
            for row, results in measuring.read_measurement(folder / f"{name}.jsonl").items():
                rows.setdefault(row, []).append(results)
    return rows


def _budget(rows: Mapping[str, Sequence[Results]]) -> int:
    return max(result.budget for runs in rows.values() for run in runs for result in run.values())


def summarise(workspace: Workspace) -> Outcome:
    """Puts the seeds together, at the full budget."""
    rows, facts = _read(workspace), published()["table2"]
    budget = _budget(rows)
    by_seed = {row: [_full(row, run) for run in runs] for row, runs in rows.items()}
    methods = {row: pool(runs) for row, runs in by_seed.items()}
    averages = {row: pool(_full(row, run, "test_case_average") for run in runs) for row, runs in rows.items()}
    found = [*judge(facts, methods), *by_another_score(judge(facts, averages), "test-case average")]
    count = sum(len(values) for values in methods["base"].values())
    data = {
        row: {
            "score": _triple(score(methods[row])),
            "test_case_average": _triple(score(averages[row])),
            "score_by_seed": [score(run).mean for run in by_seed[row]],
            "candidates_hold_a_pass": _candidates_hold(rows[row]),
            "generated_tokens_per_problem": _tokens(rows[row]),
        }
        for row in rows
    }
    return Outcome(
        "table2",
        TITLE,
        (_score_table(workspace, data, budget), scorer_table(workspace)),
        tuple(found),
        Dots(
            tuple((row, score(methods[row])) for row in rows),
            {row: tuple(facts.rows[row].values()) for row in rows},
            f"score of the answer from {budget} samples",
        ),
        count,
        (
            f"Every method but base samples exactly {budget} completions a problem; base, ORM and PRM share theirs. "
            "VM, ORM and PRM learn from the same collected programs; ReST-RL has a value model of its own policy.",
            *reason([item for item in found if not item.where], count),
        ),
        {"budget": budget, "rows": data},
    )


def _full(row: str, run: Results, metric: Metric | None = None) -> Scores:
    """The scores at the full budget; a single sample is worth the mean of all of them."""
    return sample_scores(run, metric) if row == "base" else scores_of(run, metric)


def scorer_table(workspace: Workspace) -> Table:
    """Returns how well each scorer tells programs apart, on validation problems of its own training data, by seed."""
    names = {
        "values-base": "VM, base policy",
        "values-base-orm": "ORM, base policy",
        "values-base-prm": "PRM, base policy",
        "values-trained": "VM, ReST-GRPO policy",
    }
    lines = []
    for folder, name in names.items():
        reports = [
            json.loads((workspace.path(seed, SHARED_FROM) / folder / "report.json").read_text(encoding="utf-8"))
            for seed in workspace.seeds
        ]
        cells = [[report[key] for report in reports] for key in ("ranking_accuracy", "validation_mse", "baseline_mse")]
        lines.append((name, *(" / ".join("" if value is None else f"{value:.3f}" for value in cell) for cell in cells)))
    header = ("scorer", "ranks pairs of programs right", "squared error", "that of the mean alone")
    return Table("The scorers, on validation problems of their training data (by seed)", header, tuple(lines))


def _score_table(workspace: Workspace, data: Mapping[str, Mapping[str, Any]], budget: int) -> Table:
    seeds = ", ".join(map(str, workspace.seeds))
    header = (
        "method",
        "budget",
        "score",
        "test-case average",
        f"score by seed ({seeds})",
        "candidates hold a pass",
        "generated tokens a problem",
    )
    lines = tuple(
        (
            row,
            "1" if row == "base" else str(budget),
            text(Interval(*facts["score"])),
            text(Interval(*facts["test_case_average"])),
            ", ".join(f"{value:.3f}" for value in facts["score_by_seed"]),
            f"{facts['candidates_hold_a_pass']:.3f}",
            f"{facts['generated_tokens_per_problem']:,.0f}",
        )
        for row, facts in data.items()
    )
    return Table("Ours", header, lines)


def _candidates_hold(runs: Sequence[Results]) -> float:
    found = [float(p.oracle(p.budget)) for run in runs for result in run.values() for p in result.problems]
    return sum(found) / len(found)


def _tokens(runs: Sequence[Results]) -> float:
    results = [result for run in runs for result in run.values()]
    return sum(r.ledger().get("generated_tokens", 0.0) for r in results) / sum(len(r.problems) for r in results)


def summarise_budget(workspace: Workspace) -> Outcome:
    """Puts the seeds together, at every budget."""
    rows, facts = _read(workspace), published()["budget"]
    budgets = [budget for budget in BUDGETS if budget <= _budget(rows)]
    tables: list[Table] = []
    data: dict[str, Any] = {}
    labels: dict[Metric, str] = {"test_case_average": "test-case average", "pass@1": "pass@1"}
    for metric, label in labels.items():
        curves = {row: {b: _at(runs, row, metric, b) for b in budgets} for row, runs in rows.items()}
        tables.append(_curve_table(curves, label, budgets))
        data[metric] = {row: [_triple(score(curve[b])) for b in budgets] for row, curve in curves.items()}
        if metric == "test_case_average":
            chosen = curves
    found = _budget_orderings(facts, chosen, budgets[-1])
    count = sum(len(values) for values in chosen["base"][1].values())
    lines = tuple(
        Line(row, tuple(map(float, budgets)), tuple(score(curve[b]) for b in budgets)) for row, curve in chosen.items()
    )
    ours = Panel("ours", "sampled completions per problem", "test-case average", lines, log=True)
    return Outcome(
        "budget",
        BUDGET_TITLE,
        tuple(tables),
        tuple(found),
        Curves((ours, _published_panel(facts))),
        count,
        (
            "All budgets of a method are answers of one run, from its first samples. Base is the mean of all samples: "
            "it does not choose.",
            *reason(found, count),
        ),
        {"budgets": budgets, **data},
    )


def _at(runs: Sequence[Results], row: str, metric: Metric, budget: int) -> dict[str, dict[str, float]]:
    return pool(sample_scores(run, metric) if row == "base" else scores_of(run, metric, budget) for run in runs)


def _budget_orderings(facts: Published, curves: Mapping[str, Mapping[int, Scores]], budget: int) -> list[Ordering]:
    found = judge(facts, {row: curve[budget] for row, curve in curves.items()}, f"with {budget} samples")
    if "VM-MCTS" in curves:
        change = difference(curves["VM-MCTS"][budget], curves["VM-MCTS"][1])
        first, last = facts.curves["VM-MCTS"]
        made = ordering(f"VM-MCTS with {budget} samples", "with 1", change, facts)
        found.append(Ordering(made.better, made.worse, (last - first, 1, 1), made.difference, made.mark))
    return found


def _curve_table(curves: Mapping[str, Mapping[int, Scores]], label: str, budgets: Sequence[int]) -> Table:
    return Table(
        f"Ours, {label} by budget",
        ("method", *map(str, budgets)),
        tuple((row, *(f"{score(curve[b]).mean:.3f}" for b in budgets)) for row, curve in curves.items()),
    )


def _published_panel(facts: Published) -> Panel:
    lines = [
        Line(name, tuple(map(float, facts.axis)), tuple(Interval(value, value, value) for value in ends))
        for name, ends in facts.curves.items()
    ]
    if facts.others_at_most is not None:
        top = Interval(facts.others_at_most, facts.others_at_most, facts.others_at_most)
        lines.append(Line("others, at most", tuple(map(float, facts.axis)), (top, top)))
    return Panel("published, first and last value", "samples", "test-case average", tuple(lines), log=True)


def _triple(value: Interval) -> list[float]:
    return [value.mean, value.low, value.high]
