"""Training efficiency: the score of a single sample against optimizer steps, and against completions sampled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from restrl.artifacts import read_jsonl
from restrl.evaluation.statistics import Interval
from restrl.reproduce import measure as measuring
from restrl.reproduce.experiments.table1 import iterations, measure_iteration, policy_table, read_policy
from restrl.reproduce.measure import sample_scores
from restrl.reproduce.orderings import Ordering, Scores, difference, ordering, pool, reason, score
from restrl.reproduce.outcome import Curves, Line, Outcome, Panel, Table, text
from restrl.reproduce.published import Published, published
from restrl.reproduce.workspace import SHARED_FROM, Workspace

TITLE = "Training efficiency: score against optimizer steps"
LABELS: Mapping[str, str] = {"rest-grpo": "ReST-GRPO", "dapo": "DAPO", "grpo": "GRPO"}


@dataclass(frozen=True, slots=True)
class Point:
    """A policy on the way.

    Attributes:
        steps: Optimizer steps so far, over all iterations.
        completions: Completions sampled so far, sampling stages included; mean over the seeds.
        scores: What a sample is worth.
    """

    steps: int
    completions: float
    scores: Scores


def measure(workspace: Workspace, seed: int) -> None:
    """Measures every checkpoint of the three arms."""
    measure_iteration(workspace, seed, SHARED_FROM, 0)
    for arm in LABELS:
        for iteration in range(1, iterations(workspace, arm) + 1):
            measure_iteration(workspace, seed, arm, iteration)
            _measure_checkpoints(workspace, seed, arm, iteration)


def _measure_checkpoints(workspace: Workspace, seed: int, arm: str, iteration: int) -> None:
    with workspace.open(seed, arm) as pipeline:
        context = pipeline.context
        for step in checkpoint_steps(context.run.path, iteration):
            name = checkpoint_table(iteration, step)
            if not context.run.is_done(f"measure/{name}"):
                directory = context.run.need(
                    f"iteration-{iteration}/policy/checkpoints/checkpoint-{step}", "reproduce training-efficiency"
                )
                measuring.measure_policy(context, workspace.scale, name, directory)


def checkpoint_steps(run: Path, iteration: int) -> list[int]:
    """Returns the steps of an iteration that have a checkpoint, without the last step, which is the policy itself."""
    recipe = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["recipe"]["grpo"]
    return list(range(recipe["save_every"], _report(run, iteration)["steps"], recipe["save_every"]))


def checkpoint_table(iteration: int, step: int) -> str:
    """Returns the name of the measurement of a checkpoint."""
    return f"iteration-{iteration}-step-{step}"


def _report(run: Path, iteration: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / f"iteration-{iteration}/policy/report.json").read_text(encoding="utf-8"))
    return found


def points(workspace: Workspace, arm: str) -> list[Point]:
    """Returns the curve of an arm, from the base policy on."""
    names = [(0, 0, SHARED_FROM, policy_table(0))]
    first = workspace.path(workspace.seeds[0], arm)
    for iteration in range(1, iterations(workspace, arm) + 1):
        steps = checkpoint_steps(first, iteration)
        names += [(iteration, step, arm, checkpoint_table(iteration, step)) for step in steps]
        names.append((iteration, _report(first, iteration)["steps"], arm, policy_table(iteration)))
    found = []
    for iteration, step, owner, name in names:
        before = sum(_report(first, k)["steps"] for k in range(1, iteration))
        taken = [completions(workspace.path(seed, arm), iteration, step) for seed in workspace.seeds]
        runs = [sample_scores(read_policy(workspace, seed, owner, name)) for seed in workspace.seeds]
        found.append(Point(before + step, fmean(taken), pool(runs)))
    return found


def completions(run: Path, iteration: int, step: int) -> int:
    """Returns how many completions an arm had sampled at a step of an iteration, for sampling and training."""
    total = 0
    for k in range(1, iteration + 1):
        record = json.loads((run / f"iteration-{k}/compute.json").read_text(encoding="utf-8"))
        total += record["sampling"]["completions"]
        logged = read_jsonl(run / f"iteration-{k}/policy/metrics.jsonl")
        total += sum(round(line["sampled_completions"]) for line in logged if k < iteration or line["step"] <= step)
    return total


def summarise(workspace: Workspace) -> Outcome:
    """Puts the seeds together."""
    facts = published()["training-efficiency"]
    curves = {label: points(workspace, arm) for arm, label in LABELS.items()}
    found = [*at_equal_steps(facts, curves), *at_equal_completions(facts, curves)]
    count = sum(len(values) for values in curves["GRPO"][0].scores.values())
    return Outcome(
        "training-efficiency",
        TITLE,
        (_table(curves),),
        tuple(found),
        Curves((_panel(curves, "steps"), _panel(curves, "completions"), _published_panel(facts))),
        count,
        (
            "Steps and completions of the iterations follow one another; DAPO, which has no sampling stage, trains in "
            "one.",
            *reason(found, count),
        ),
        {
            "curves": {
                name: [
                    {"steps": p.steps, "completions": p.completions, "score": _triple(score(p.scores))} for p in curve
                ]
                for name, curve in curves.items()
            }
        },
    )


def at_equal_steps(facts: Published, curves: Mapping[str, Sequence[Point]]) -> list[Ordering]:
    """Compares at every number of steps that all arms have a checkpoint of; the published difference is of the last."""
    at = {name: {point.steps: point.scores for point in curve} for name, curve in curves.items()}
    shared = sorted(set.intersection(*(set(curve) for curve in at.values())) - {0})
    found = [
        ordering(a, b, difference(at[a][steps], at[b][steps]), facts, f"both after {steps} steps")
        for steps in shared
        for a, b in facts.orderings
    ]
    last = len(found) - len(facts.orderings)
    return [replace(item, published=None) if place < last else item for place, item in enumerate(found)]


def at_equal_completions(facts: Published, curves: Mapping[str, Sequence[Point]]) -> list[Ordering]:
    """Compares each pair at the end of the one that sampled less, with the last checkpoint of the other before it."""
    found = []
    for better, worse in facts.orderings:
        limit = min(curves[better][-1].completions, curves[worse][-1].completions) * 1.001
        a, b = (
            max((p for p in curves[name] if p.completions <= limit), key=lambda p: p.completions)
            for name in (better, worse)
        )
        where = f"{a.completions:,.0f} and {b.completions:,.0f} completions"
        found.append(ordering(better, worse, difference(a.scores, b.scores), facts, where))
    return found


def _table(curves: Mapping[str, Sequence[Point]]) -> Table:
    rows = [
        (name, str(point.steps), f"{point.completions:,.0f}", text(score(point.scores)))
        for name, curve in curves.items()
        for point in curve
    ]
    return Table("Ours", ("method", "optimizer steps", "completions sampled", "score of one sample"), tuple(rows))


def _panel(curves: Mapping[str, Sequence[Point]], axis: str) -> Panel:
    titles = {"steps": "optimizer steps", "completions": "completions sampled"}
    lines = tuple(
        Line(name, tuple(float(getattr(p, axis)) for p in curve), tuple(score(p.scores) for p in curve))
        for name, curve in curves.items()
    )
    return Panel(f"ours, by {axis}", titles[axis], "score of one sample", lines)


def _published_panel(facts: Published) -> Panel:
    names: dict[tuple[float, float], list[str]] = {}
    for name, ends in facts.curves.items():
        names.setdefault(ends, []).append(name)
    # Equal curves would hide each other.
    lines = tuple(
        Line(", ".join(found), tuple(map(float, facts.axis)), tuple(Interval(value, value, value) for value in ends))
        for ends, found in names.items()
    )
    return Panel("published, first and last value", "optimizer steps", "average score", lines)


def _triple(value: Interval) -> list[float]:
    return [value.mean, value.low, value.high]
