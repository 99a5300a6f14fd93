"""Sums up several runs of one recipe that differ in their seed: a table with intervals over problems, in Markdown.

    for seed in 0 1 2; do restrl run starter --out runs/starter-$seed --set run.seed=$seed; done
    python benchmarks/starter_seeds.py runs/starter-0 runs/starter-1 runs/starter-2

A problem's value is its mean over the seeds; problems are resampled. The differences are paired by problem.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from restrl.artifacts import read_jsonl, read_manifest
from restrl.evaluation.results import EvaluationResult, compare, from_records
from restrl.evaluation.statistics import Interval, bootstrap_mean
from restrl.pipeline.reporting import ROWS

KS = (1, 4, 8, 16, 30)
BUDGETS = (1, 2, 5, 10, 15, 20, 25, 30)


def read_runs(runs: Sequence[Path], tag: str, method: str) -> list[EvaluationResult]:
    """Returns the evaluations of one policy and method, one per run."""
    return [
        from_records(read_jsonl(run / f"evaluate/{tag}-{method}.jsonl"), independent=method == "best_of_n")
        for run in runs
    ]


def text(interval: Interval, sign: str = "") -> str:
    """Returns ``mean [low, high]``."""
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def table(runs: Sequence[Path]) -> list[str]:
    """The rows, over all seeds and by seed."""
    base = read_runs(runs, "base", "best_of_n")
    seeds = [str(_recipe(run)["run"]["seed"]) for run in runs]
    lines = [
        f"| method | budget | pass@1, mean of {len(runs)} seeds | vs base | test-case average "
        f"| by seed ({', '.join(seeds)}) |",
        "|---|---:|---|---|---|---|",
    ]
    for name, tag, method, single in ROWS:
        results = read_runs(runs, tag, method)
        passed = "sample_pass@1" if single else "pass@1"
        average = "sample_test_case_average" if single else "test_case_average"
        values_SP = np.array([result.values(passed) for result in results])
        averages_SP = np.array([result.values(average) for result in results])
        against = "" if name == "base" else text(compare(results, base, passed, "sample_pass@1"), "+")
        by_seed = ", ".join(f"{values.mean():.3f}" for values in values_SP)
        budget = 1 if single else results[0].budget
        cells = (
            name,
            str(budget),
            text(bootstrap_mean(values_SP)),
            against,
            text(bootstrap_mean(averages_SP)),
            by_seed,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def pass_at_k_lines(runs: Sequence[Path]) -> list[str]:
    """pass@k of independent samples, before and after training: what is left for search."""
    lines = ["| policy | " + " | ".join(f"pass@{k}" for k in KS) + " |", "|---|" + "---|" * len(KS)]
    for tag in ("base", "trained"):
        results = read_runs(runs, tag, "best_of_n")
        values = [float(np.mean([result.pass_at_k(k) for result in results])) for k in KS if k <= results[0].budget]
        lines.append(f"| {tag} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return lines


def budget_lines(runs: Sequence[Path]) -> list[str]:
    """Accuracy at several budgets, from the same runs."""
    lines = ["| method | " + " | ".join(str(b) for b in BUDGETS) + " |", "|---|" + "---|" * len(BUDGETS)]
    for name, tag, method, single in ROWS:
        if not single:
            results = read_runs(runs, tag, method)
            values = [np.mean([result.values("pass@1", b).mean() for result in results]) for b in BUDGETS]
            lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return lines


def value_lines(runs: Sequence[Path]) -> list[str]:
    """The value models on validation problems of their own data."""
    names = ("validation_mse", "baseline_mse", "ece", "ranking_accuracy")
    lines = ["| value model | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for tag in ("base", "trained"):
        reports = [json.loads((run / f"values-{tag}/report.json").read_text()) for run in runs]
        cells = [" / ".join(f"{report[name]:.3f}" for report in reports) for name in names]
        lines.append(f"| {tag} | " + " | ".join(cells) + " |")
    return lines


def training_lines(runs: Sequence[Path]) -> list[str]:
    """Reward spread before and after assembly, and what GRPO did."""
    lines = [
        "| seed | mean std before | after | first reward | last reward | first entropy | last entropy |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        spread = json.loads((run / "iteration-1/spread.json").read_text())
        report = json.loads((run / "iteration-1/policy/report.json").read_text())
        keys = ("first_reward", "last_reward", "first_entropy", "last_entropy")
        figures = [spread["before"]["mean_std"], spread["after"]["mean_std"], *(report[key] for key in keys)]
        lines.append(f"| {_recipe(run)['run']['seed']} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")
    return lines


def time_lines(runs: Sequence[Path]) -> list[str]:
    """Seconds by stage."""
    manifests = [read_manifest(run) or {} for run in runs]
    lines = ["| stage | seconds |", "|---|---|"]
    for stage in manifests[0]["stages"]:
        lines.append(f"| {stage} | " + " / ".join(f"{m['stages'][stage]['seconds']:.0f}" for m in manifests) + " |")
    totals = [sum(entry["seconds"] for entry in manifest["stages"].values()) for manifest in manifests]
    return [*lines, "| **all** | " + " / ".join(f"{total:.0f}" for total in totals) + " |"]


def _recipe(run: Path) -> dict[str, dict[str, object]]:
    manifest = read_manifest(run)
    if manifest is None:
        raise SystemExit(f"{run}: no manifest.json; give run directories")
    return dict(manifest["recipe"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    runs = parser.parse_args().runs
    for title, lines in (
        ("Held-out problems", table(runs)),
        ("Accuracy at smaller budgets, from the same runs", budget_lines(runs)),
        ("pass@k of independent samples", pass_at_k_lines(runs)),
        ("Training", training_lines(runs)),
        ("Value models, on validation problems", value_lines(runs)),
        ("Seconds", time_lines(runs)),
    ):
        print("\n".join([f"## {title}", "", *lines, ""]))


if __name__ == "__main__":
    main()
