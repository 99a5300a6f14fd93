"""What an iteration of training took, so that methods are compared at equal compute: ``iteration-K/compute.json``.

Completions of the sampling stage count like those that training samples itself, and so do groups that dynamic sampling
replaced. Work that a kill destroyed and a resumed run did again is in the seconds, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from restrl.artifacts import dump_json, read_jsonl, write_atomic
from restrl.grpo.methods import METHODS, TrainConfig
from restrl.pipeline.context import Context
from restrl.report.data import ComputeRow


@dataclass(frozen=True, slots=True)
class Compute:
    """What a part of training took.

    Attributes:
        completions: Completions sampled.
        generated_tokens: Their tokens, end-of-sequence tokens included.
        grader_calls: Programs handed to the grader.
        optimizer_steps: Updates of the policy.
        wall_s: Seconds by the clock, over all interruptions.
    """

    completions: int = 0
    generated_tokens: int = 0
    grader_calls: int = 0
    optimizer_steps: int = 0
    wall_s: float = 0.0

    def __add__(self, other: Compute) -> Compute:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(Compute)}
        return Compute(**{**sums, "wall_s": round(sums["wall_s"], 3)})


def record_compute(context: Context, iteration: int) -> None:
    """Writes ``compute.json`` of a trained iteration, once."""
    path = context.run.path / f"iteration-{iteration}/compute.json"
    if path.exists():
        return
    sampling, training = _sampling(context, iteration), _training(context, iteration)
    parts = {"sampling": sampling, "training": training, "total": sampling + training}
    record: dict[str, Any] = {"method": context.recipe.section("train", TrainConfig).method}
    write_atomic(path, dump_json(record | {name: dataclasses.asdict(part) for name, part in parts.items()}))


def _seconds(context: Context, iteration: int, stage: str) -> float:
    return float(context.run.manifest["stages"].get(f"iteration-{iteration}/{stage}", {}).get("seconds", 0.0))


def _sampling(context: Context, iteration: int) -> Compute:
    path = context.run.path / f"iteration-{iteration}/samples.jsonl"
    samples = [item for record in read_jsonl(path) for item in record["samples"]] if path.exists() else []
    # Options of the assembly sample from prefixes.
    probes = [record for table in sorted(path.parent.glob("probes-*.jsonl")) for record in read_jsonl(table)]
    completions = len(samples) + sum(len(record["rewards"]) for record in probes)
    return Compute(
        completions=completions,
        generated_tokens=sum(item["num_tokens"] for item in (*samples, *probes)),
        grader_calls=completions,
        wall_s=round(_seconds(context, iteration, "sample") + _seconds(context, iteration, "assemble"), 3),
    )


def _training(context: Context, iteration: int) -> Compute:
    report = json.loads((context.run.path / f"iteration-{iteration}/policy/report.json").read_text(encoding="utf-8"))
    # Methods that learn from stored samples report no completions: they sample none.
    completions = report.get("completions", 0)
    return Compute(
        completions=completions,
        generated_tokens=report.get("tokens", 0),
        grader_calls=completions,
        optimizer_steps=report["steps"],
        wall_s=_seconds(context, iteration, "train-policy"),
    )


def read_compute(context: Context) -> list[dict[str, Any]]:
    """Returns the records of the iterations that have one, with the iteration's number."""
    records = []
    for index in range(1, context.settings.iterations + 1):
        path = context.run.path / f"iteration-{index}/compute.json"
        if path.exists():
            records.append({"iteration": index, **json.loads(path.read_text(encoding="utf-8"))})
    return records


def total_compute(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the sum over iterations, in the shape of one record: ``sampling``, ``training`` and ``total``."""
    return {
        part: dataclasses.asdict(sum((Compute(**record.get(part, {})) for record in records), Compute()))
        for part in ("sampling", "training", "total")
    }


def compute_rows(records: Sequence[dict[str, Any]]) -> list[ComputeRow]:
    """Returns the rows of the table over iterations, and of two or more their sum."""
    rows = [_row(f"iteration {record['iteration']}", record) for record in records]
    return rows if len(rows) < 2 else [*rows, _row("total", total_compute(records))]


def _row(name: str, record: dict[str, Any]) -> ComputeRow:
    return ComputeRow(name=name, before_training=record["sampling"]["completions"], **record["total"])


def compute_notes(records: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what training took, in words: one line, over all iterations."""
    if not records:
        return []
    sums = total_compute(records)
    sampling, total = Compute(**sums["sampling"]), Compute(**sums["total"])
    iterations = f"{len(records)} iterations" if len(records) > 1 else "1 iteration"
    return [
        f"Training by {METHODS[records[0]['method']].label}, {iterations}: {total.completions:,} completions sampled "
        f"({sampling.completions:,} of them before training), {total.generated_tokens:,} tokens generated, "
        f"{total.grader_calls:,} programs graded, {total.optimizer_steps:,} optimizer steps, {total.wall_s:,.0f} s."
    ]
