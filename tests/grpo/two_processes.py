"""Run by every process of a launch: trains in one go, trains with an interruption, then runs stages by the command.

Usage: two_processes.py MODEL FOLDER RUN
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import RESUME, CharGrader, RecordingPolicy, make_states

from restrl.cli import main
from restrl.errors import GraderError
from restrl.types import Grade, Problem

# The token-level loss: what a process divides by depends on the others.
CONFIG = dataclasses.replace(RESUME, loss_type="dapo", micro_batch=0, max_steps=3, epochs=1, save_every=1)
GRADER = CharGrader("e", 3)


class Outage(CharGrader):
    """Fails in the second step; every process grades its part of a step in one call."""

    calls = 0

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        self.calls += 1
        if self.calls == 2:
            raise GraderError("out of order")
        return GRADER.grade(pairs)


def train(model: Path, output_dir: Path, grader: CharGrader = GRADER) -> list[list[Any]]:
    """Trains and returns what was sampled: (problem, seed of the request, completions)."""
    from restrl.grpo.trainer import train_policy

    policies: list[RecordingPolicy] = []

    def factory(*args: Any) -> RecordingPolicy:
        policies.append(RecordingPolicy(*args))
        return policies[-1]

    train_policy(model, make_states(), grader, CONFIG, output_dir, 3, policy_factory=factory)
    asked = [request for policy in policies for request in policy.asked]
    given = iter([completion.text for policy in policies for completion in policy.given])
    return [[r.state.problem.id, r.seed, [next(given) for _ in range(r.n)]] for r in asked]


def launched(model: Path, folder: Path, run: Path) -> None:
    rank = os.environ["RANK"]
    sampled = train(model, folder / "whole")
    (folder / f"sampled-{rank}.json").write_text(json.dumps(sampled))
    try:
        train(model, folder / "cut", Outage())
    except GraderError:
        kept = sorted(path.name for path in (folder / "cut" / "checkpoints").iterdir())
        (folder / f"kept-{rank}.json").write_text(json.dumps(kept))
    train(model, folder / "cut")
    for stage in ("train-policy", "collect-values", "train-value"):
        code = main([stage, "--out", str(run), "--quiet"])
        assert code == 0, f"{stage} ended with {code}"
    (folder / f"done-{rank}").touch()


if __name__ == "__main__":
    launched(*map(Path, sys.argv[1:]))
