"""Table 1: what single samples of the policy are worth, before and after training by each method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from restrl.reproduce import measure as measuring
from restrl.reproduce.arms import METHODS
from restrl.reproduce.measure import Results, sample_scores
from restrl.reproduce.orderings import Scores, by_another_score, judge, pool, reason, score
from restrl.reproduce.outcome import Dots, Outcome, Table, text
from restrl.reproduce.published import published
from restrl.reproduce.workspace import SHARED_FROM, Workspace

TITLE = "Table 1: single samples after training"
# In the published order.
LABELS: Mapping[str, str] = {"rest-dpo": "ReST-DPO", "grpo": "GRPO", "rest-grpo": "ReST-GRPO"}
COSTS = ("completions", "generated_tokens", "grader_calls", "optimizer_steps", "wall_s")


def measure(workspace: Workspace, seed: int) -> None:
    """Measures the base policy, and the policy of every arm after each iteration."""
    for arm in METHODS:
        if arm in LABELS:
            for iteration in range(arm != SHARED_FROM, iterations(workspace, arm) + 1):
                measure_iteration(workspace, seed, arm, iteration)


def iterations(workspace: Workspace, arm: str) -> int:
    """Returns how many iterations an arm trains."""
    return int(workspace.recipe(workspace.seeds[0], arm).to_dict()["run"]["iterations"])


def measure_iteration(workspace: Workspace, seed: int, arm: str, iteration: int) -> None:
    """Measures the policy of an arm after an iteration; 0 is the base policy."""
    name = policy_table(iteration)
    with workspace.open(seed, arm) as pipeline:
        context = pipeline.context
        if not context.run.is_done(f"measure/{name}"):
            trained = context.run.path / f"iteration-{iteration}/policy/model"
            directory = trained if iteration else context.base_policy
            measuring.measure_policy(context, workspace.scale, name, directory)


def policy_table(iteration: int) -> str:
    """Returns the name of the measurement of a policy."""
    return f"iteration-{iteration}" if iteration else "base"


def read_policy(workspace: Workspace, seed: int, arm: str, name: str) -> Results:
    """Reads the measurement of a policy."""
    return measuring.read_measurement(workspace.path(seed, arm) / f"measure/{name}.jsonl")["sample"]


def summarise(workspace: Workspace) -> Outcome:
    """Puts the seeds together."""
    rows = _rows(workspace)
    facts = published()["table1"]
    last = {name: row["scores"] for name, row in rows.items() if row["last"]}
    averages = {name: row["averages"] for name, row in rows.items() if row["last"]}
    methods = {name.partition(",")[0]: scores for name, scores in last.items()}
    found = judge(facts, methods)
    others = judge(facts, {name.partition(",")[0]: scores for name, scores in averages.items()})
    found += by_another_score(others, "test-case average")
    count = sum(len(values) for values in methods["base"].values())
    return Outcome(
        "table1",
        TITLE,
        (_score_table(workspace, rows), _cost_table(rows)),
        tuple(found),
        Dots(
            tuple((_short(name), score(row["scores"])) for name, row in rows.items()),
            {
                _short(name): tuple(facts.rows[name.partition(",")[0]].values())
                for name, row in rows.items()
                if row["last"]
            },
            "score of a single sample",
        ),
        count,
        (*_notes(rows), *reason([item for item in found if not item.where], count)),
        {"rows": {name: _plain(row) for name, row in rows.items()}},
    )


def _short(name: str) -> str:
    """The name of a row in the figure."""
    return name.replace("iteration ", "it. ")


def _rows(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """The rows: base, then every method after each iteration."""
    rows = {"base": _row(workspace, SHARED_FROM, 0, last=True)}
    for arm, label in LABELS.items():
        number = iterations(workspace, arm)
        for k in range(1, number + 1):
            rows[f"{label}, iteration {k}"] = _row(workspace, arm, k, last=k == number)
    return rows


def _row(workspace: Workspace, arm: str, iteration: int, *, last: bool) -> dict[str, Any]:
    runs = [read_policy(workspace, seed, arm, policy_table(iteration)) for seed in workspace.seeds]
    scores = [sample_scores(run) for run in runs]
    return {
        "scores": pool(scores),
        "averages": pool(sample_scores(run, "test_case_average") for run in runs),
        "by_seed": [score(item).mean for item in scores],
        "compute": compute(workspace, arm, iteration),
        "last": last,
    }


def compute(workspace: Workspace, arm: str, until: int) -> dict[str, float]:
    """Returns what an arm took until the end of an iteration, sampling stages included: means over the seeds."""
    totals: dict[str, list[float]] = {name: [] for name in (*COSTS, "sampled_before_training")}
    for seed in workspace.seeds:
        records = [
            json.loads((workspace.path(seed, arm) / f"iteration-{k}/compute.json").read_text(encoding="utf-8"))
            for k in range(1, until + 1)
        ]
        for name in COSTS:
            totals[name].append(sum(record["total"][name] for record in records))
        totals["sampled_before_training"].append(sum(record["sampling"]["completions"] for record in records))
    return {name: fmean(values) for name, values in totals.items()}


def _score_table(workspace: Workspace, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    seeds = ", ".join(map(str, workspace.seeds))
    return Table(
        "Ours",
        ("policy", "score of one sample", "test-case average", f"score by seed ({seeds})"),
        tuple(
            (
                name,
                text(score(row["scores"])),
                text(score(row["averages"])),
                ", ".join(f"{value:.3f}" for value in row["by_seed"]),
            )
            for name, row in rows.items()
        ),
    )


def _cost_table(rows: Mapping[str, Mapping[str, Any]]) -> Table:
    return Table(
        "What training took until then (mean over the seeds; completions of the sampling stage included)",
        ("policy", "completions", "of them before training", "tokens", "programs graded", "optimizer steps", "seconds"),
        tuple(
            (
                name,
                *(f"{row['compute'][key]:,.0f}" for key in ("completions", "sampled_before_training", *COSTS[1:])),
            )
            for name, row in rows.items()
            if name != "base"
        ),
    )


def _notes(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    totals = {name.partition(",")[0]: row["compute"]["completions"] for name, row in rows.items() if row["last"]}
    ours, plain = totals["ReST-GRPO"], totals["GRPO"]
    equal = abs(ours - plain) <= 0.02 * ours
    text = (
        f"ReST-GRPO and GRPO sampled the same number of completions ({ours:,.0f} and {plain:,.0f}): GRPO, which has no "
        "sampling stage, got the difference as further optimizer steps. At equal steps they are compared in "
        "training-efficiency."
        if equal
        else f"ReST-GRPO sampled {ours:,.0f} completions, GRPO {plain:,.0f}: this comparison is not at equal compute."
    )
    return [text, "ReST-DPO learns from the samples of the sampling stage alone and samples none while it trains."]


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    scores: Scores = row["scores"]
    return {
        "score": _interval(score(scores)),
        "test_case_average": _interval(score(row["averages"])),
        "score_by_seed": row["by_seed"],
        "compute": row["compute"],
    }


def _interval(value: Any) -> list[float]:
    return [value.mean, value.low, value.high]
