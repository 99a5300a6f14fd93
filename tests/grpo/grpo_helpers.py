"""Graders and runs that the trainer's tests share; also run as a program by the test that kills it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tiny_models import make_problem

from restrl.grpo.config import GRPOConfig
from restrl.grpo.report import TrainReport
from restrl.types import Grade, Problem, State

RESUME = GRPOConfig(
    num_generations=4,
    prompts_per_step=2,
    epochs=2,
    learning_rate=1e-3,
    max_new_tokens=12,
    save_every=2,
    micro_batch=4,
)


class CharGrader:
    """Rewards programs that hold a character: the fraction of ``goal`` occurrences reached in the completion's part."""

    def __init__(self, char: str = "a", goal: int = 6, base: int = 0) -> None:
        self.char, self.goal, self.base = char, goal, base

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        grades = []
        for problem, program in pairs:
            body = program.removeprefix(problem.initial_state)
            reward = min(1.0, body.count(self.char) / self.goal)
            grades.append(Grade(problem.id, reward, reward == 1.0, ()))
        return grades

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.grade(pairs)


def make_states(count: int = 5) -> list[State]:
    """States with prefixes of 0, 1 and 2 actions."""
    return [State(make_problem(f"p/{i}"), "    x = 1\n" * (i % 3)) for i in range(count)]


def resume_run(model: Path, output_dir: Path, kill_at: int = 0) -> TrainReport:
    """Trains with `RESUME`; with ``kill_at``, the process kills itself after that step."""
    from restrl.grpo.trainer import train_policy

    def on_log(record: dict[str, float]) -> None:
        if record["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return train_policy(model, make_states(), CharGrader(), RESUME, output_dir, 3, "auto", on_log)


if __name__ == "__main__":
    resume_run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
