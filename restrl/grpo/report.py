"""The summary of a training run, kept as ``report.json`` beside the trained model."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run did.

    Attributes:
        steps: Optimizer steps.
        instances: Training instances used.
        dropped: Instances left out because prompt and completion would not fit the model's context.
        completions: Completions sampled and graded, those that dynamic sampling replaced included.
        tokens: Tokens generated, likewise.
        generate_s: Seconds of sampling.
        grade_s: Seconds the grader was busy.
        grade_wait_s: Seconds waited for grades.
        update_s: Seconds of updates and overhead.
        first_reward: Mean verifier reward over the first (up to) 10 steps.
        last_reward: Mean verifier reward over the last (up to) 10 steps.
        first_entropy: Mean entropy over the first (up to) 10 steps, nats per token.
        last_entropy: Mean entropy over the last (up to) 10 steps, nats per token.
        useful_group_share: Mean share of groups whose verifier rewards differ.
    """

    steps: int
    instances: int
    dropped: int
    completions: int
    tokens: int
    generate_s: float
    grade_s: float
    grade_wait_s: float
    update_s: float
    first_reward: float
    last_reward: float
    first_entropy: float
    last_entropy: float
    useful_group_share: float

    def write(self, path: Path) -> None:
        """Writes the report atomically."""
        write_json(path, dataclasses.asdict(self))


def _mean(records: Sequence[Mapping[str, float]], key: str) -> float:
    return sum(record[key] for record in records) / len(records)


def summarize(records: Sequence[Mapping[str, float]], *, instances: int, dropped: int) -> TrainReport:
    """Summarizes the records of all steps (at least one)."""
    totals = {
        key: sum(record[key] for record in records) for key in ("generate_s", "grade_s", "grade_wait_s", "update_s")
    }
    return TrainReport(
        steps=len(records),
        instances=instances,
        dropped=dropped,
        completions=round(sum(record["sampled_completions"] for record in records)),
        tokens=round(sum(record["sampled_tokens"] for record in records)),
        first_reward=_mean(records[:10], "reward"),
        last_reward=_mean(records[-10:], "reward"),
        first_entropy=_mean(records[:10], "entropy"),
        last_entropy=_mean(records[-10:], "entropy"),
        useful_group_share=_mean(records, "useful_group_share"),
        **totals,
    )


def read_report(path: Path) -> TrainReport:
    """Reads a report."""
    return TrainReport(**json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, data: object) -> None:
    """Writes JSON atomically."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(data, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
