"""Graders and runs that the trainer's tests share; also run as a program by the test that kills it."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from tiny_models import make_problem
from transformers import AutoTokenizer

from restrl.grpo.config import GRPOConfig
from restrl.grpo.report import TrainReport
from restrl.types import Completion, Grade, Problem, SampleRequest, SamplingParams, State

if TYPE_CHECKING:
    import torch

    from restrl.grpo.rollout import EngineRollout, TrainingSet
    from restrl.grpo.trainer import StateTrainer

RESUME = GRPOConfig(
    num_generations=4,
    prompts_per_step=2,
    epochs=2,
    learning_rate=1e-3,
    max_new_tokens=12,
    save_every=2,
    micro_batch=4,
    grader_patience_s=0.0,
)


SMALL = GRPOConfig(
    num_generations=4,
    prompts_per_step=2,
    learning_rate=1e-3,
    lr_scheduler="constant",
    max_new_tokens=12,
    device="cpu",
    grader_patience_s=0.0,
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


class RecordingPolicy:
    """The project's sampler, keeping what it was asked and what it gave."""

    def __init__(self, model: Any, tokenizer: Any, config: GRPOConfig, style: str) -> None:
        from restrl.grpo.rollout import engine_policy

        self.inner = engine_policy(model, tokenizer, config, style)
        self.asked: list[SampleRequest] = []
        self.given: list[Completion] = []

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        groups = self.inner.sample(requests, params)
        self.asked += requests
        self.given += [completion for group in groups for completion in group]
        return groups


@dataclasses.dataclass
class Bench:
    trainer: StateTrainer
    rollout: EngineRollout
    policies: list[RecordingPolicy]
    data: TrainingSet


def build_bench(
    model_dir: Path,
    tmp_path: Path,
    config: GRPOConfig,
    states: Sequence[State],
    grader: Any = None,
    make_policy: Any = None,
    plan: Sequence[int] | None = None,
) -> Bench:
    """A trainer that was not started."""
    from restrl.grpo import engine as engine_module
    from restrl.grpo import trainer as trainer_module
    from restrl.grpo.patience import PatientGrader
    from restrl.grpo.rollout import EngineRollout, TrainingSet
    from restrl.grpo.session import global_rng_kept, quiet

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    data = TrainingSet(states, plan or list(range(len(states))), tokenizer, "auto", 0)
    policies: list[RecordingPolicy] = []

    def factory(*args: Any) -> RecordingPolicy:
        policies.append((make_policy or RecordingPolicy)(*args))
        return policies[-1]

    patient = PatientGrader(grader or CharGrader(), 0.0)
    rollout = EngineRollout(data, patient, config, factory)
    args = engine_module.engine_config(config, data, tmp_path, 1)
    with quiet(), global_rng_kept():
        trainer = trainer_module._build_trainer(
            model_dir, data, config, args, rollout, trainer_module._StepLog(rollout, patient, config, None)
        )
    return Bench(trainer, rollout, policies, data)


def padded(prompts: list[list[int]], completions: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """Left-padded prompts and right-padded completions, as the engine builds them."""
    import torch

    width, height = max(map(len, prompts)), max(map(len, completions))
    return {
        "prompt_ids": torch.tensor([[pad] * (width - len(p)) + p for p in prompts]),
        "prompt_mask": torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": torch.tensor([c + [pad] * (height - len(c)) for c in completions]),
        "completion_mask": torch.tensor([[1] * len(c) + [0] * (height - len(c)) for c in completions]),
    }


if __name__ == "__main__":
    resume_run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))


class Stop(Exception):
    """Stands for anything that ends a run."""
