"""Seconds of a GRPO step beside TRL's own `GRPOTrainer`, and what grading adds to a step.

    python benchmarks/training_step.py [--part trl,update,grading] [--steps 2] [--repeats 3] [--threads 2] [--clock cpu]

Three comparisons on the embedded policy, each side in turn in one process, every turn a fresh trainer whose first step
is not counted; medians over the steps of all turns, the median ratio of a step to the other side's, and its 95%
bootstrap interval over turns:

- ``trl``: whole steps with a free reward, this package (its own sampler) against TRL (its sampler, `model.generate`),
  as each would run. Their samplers draw other texts: tokens per step are given beside the seconds;
- ``update``: the same without sampling: both get the very same completions, recorded once;
- ``grading``: whole steps of this package with the sandboxed grader, against a free reward, on the same completions
  (the learning rate is next to nothing, so that the texts stay what they are). With the processor shared between
  sampling and the graded programs, as here, this is the worst case: on a GPU machine the grader has the processor.

On a busy machine `--clock cpu` counts the seconds of processor that this process used, not those that went by; it says
nothing about grading, which other processes do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("trl", "update", "grading")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", default=",".join(PARTS), help="which comparisons, separated by commas")
    parser.add_argument("--steps", type=int, default=2, help="steps of a turn that count")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each side")
    parser.add_argument("--prompts", type=int, default=16, help="instances of a step")
    parser.add_argument("--group", type=int, default=8, help="completions of an instance")
    parser.add_argument("--micro-batch", type=int, default=16)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--chunks", type=int, default=4, help="parts that a step is sampled in (grpo.rollout_chunks)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    args = parser.parse_args()
    unknown = set(args.part.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    return args


ARGS = parse() if __name__ == "__main__" else argparse.Namespace(threads=1, clock="wall")
for _name, _value in {"OMP_NUM_THREADS": str(ARGS.threads), "OMP_WAIT_POLICY": "PASSIVE"}.items():
    os.environ.setdefault(_name, _value)

from datasets import Dataset  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from transformers.trainer_callback import PrinterCallback  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402

from restrl.grading.config import GradingConfig  # noqa: E402
from restrl.grading.grader import SandboxGrader  # noqa: E402
from restrl.grpo import trainer as ours  # noqa: E402
from restrl.grpo.config import GRPOConfig  # noqa: E402
from restrl.grpo.engine import engine_config  # noqa: E402
from restrl.grpo.rollout import EngineRollout, TrainingSet  # noqa: E402
from restrl.grpo.session import global_rng_kept, load_model, quiet  # noqa: E402
from restrl.policy.model_dir import load_tokenizer  # noqa: E402
from restrl.policy.prompting import build_prompt  # noqa: E402
from restrl.problems import load_problems  # noqa: E402
from restrl.starter import POLICY_DIR  # noqa: E402
from restrl.types import Grade, Problem, State  # noqa: E402


def free_reward(text: str) -> float:
    """A number in [0, 1] that costs nothing and differs between texts."""
    return sum(text.encode()) % 7 / 6


class FreeGrader:
    """Rewards at no cost."""

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [Grade(problem.id, free_reward(code), False, ()) for problem, code in pairs]

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.grade(pairs)


class Clock(TrainerCallback):
    """Seconds of every step, sampling and update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begin = 0.0
        self._now = time.process_time if ARGS.clock == "cpu" else time.perf_counter

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._begin = self._now()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(self._now() - self._begin)


class Setting:
    """The batch that both sides train on."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.tokenizer = load_tokenizer(POLICY_DIR)
        self.steps = args.steps + 1
        rows = self.steps * args.prompts
        self.states = [State(problem) for problem in load_problems("starter/train", count=rows)]
        self.data = TrainingSet(self.states, list(range(rows)), self.tokenizer, "auto", 0)
        self.config = GRPOConfig(
            num_generations=args.group,
            prompts_per_step=args.prompts,
            micro_batch=args.micro_batch,
            max_new_tokens=args.max_new_tokens,
            rollout_chunks=args.chunks,
            learning_rate=1e-12,
            device="cpu",
            save_every=10**6,
        )
        self.engine_args = engine_config(self.config, self.data, folder, self.steps)
        self.engine_args.save_strategy = "no"

    def ours(self, rollout: Any) -> Any:
        clock = Clock()
        trainer = ours._build_trainer(POLICY_DIR, self.data, self.config, self.engine_args, rollout, clock)
        return trainer, clock

    def theirs(self, rollout: Callable[..., Any] | None) -> Any:
        """TRL's trainer as its documentation builds it, with the same arguments."""
        clock = Clock()

        def reward(completions: list[str], **columns: Any) -> list[float]:
            return [free_reward(text) for text in completions]

        names = [str(row) for row in range(len(self.states))]
        texts = [build_prompt(state, self.tokenizer, "auto") for state in self.states]
        trainer = GRPOTrainer(
            model=load_model(POLICY_DIR, "float32"),
            args=self.engine_args,
            reward_funcs=[ours.take_rewards if rollout else reward],
            rollout_func=rollout,
            train_dataset=Dataset.from_dict({"prompt": names if rollout else texts}),
            processing_class=self.tokenizer,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        return trainer, clock


class Replay:
    """Gives both sides the completions of one recorded pass, step by step, at no cost."""

    def __init__(self, recorded: list[dict[str, Any]]) -> None:
        self._recorded = recorded
        self._next = 0

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        output = self._recorded[self._next]
        self._next += 1
        return dict(output)


class ReplayedRollout(EngineRollout):
    """Ours, with what it would sample recorded before."""

    replay: Replay

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        return self.replay(prompts, trainer)


class Recorder(EngineRollout):
    """Keeps what every step sampled."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.recorded: list[dict[str, Any]] = []
        self.tokens: list[int] = []
        self.waits: list[float] = []
        self.busy: list[float] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        output = super().__call__(prompts, trainer)
        self.recorded.append(dict(output))
        assert self.last is not None
        self.tokens.append(sum(self.last.num_tokens))
        self.waits.append(self.last.grade_wait_s)
        self.busy.append(self.last.grade_s)
        return output


def run(trainer: Any, clock: Clock) -> list[float]:
    """Trains and returns the seconds of every step but the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    return clock.seconds[1:]


def compare(first: list[list[float]], second: list[list[float]]) -> dict[str, Any]:
    """Medians of both sides, the median ratio of a step to the same step of the other side, and its interval.

    Both sides do the same steps in the same order, and a turn of one is next to a turn of the other: a pair shares the
    prompts, and mostly what slows the machine. The interval draws turns, with all their pairs.
    """
    draw = np.random.default_rng(0)
    one, other = np.array(first), np.array(second)
    ratios = one / other
    count = len(ratios)
    drawn = sorted(float(np.median(ratios[draw.integers(0, count, count)])) for _ in range(2000))
    return {
        "seconds": [round(float(np.median(side)), 4) for side in (one, other)],
        "ratio": round(float(np.median(ratios)), 4),
        "interval": [round(drawn[50], 4), round(drawn[1949], 4)],
        "steps": int(one.size),
    }


def in_turn(repeats: int, sides: Sequence[Callable[[], list[float]]]) -> list[list[list[float]]]:
    """Runs the sides in turn, the order reversed every other time; returns the seconds by side and turn."""
    found: list[list[list[float]]] = [[] for _ in sides]
    for turn in range(repeats):
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for index in order:
            found[index].append(sides[index]())
    return found


def part_trl(setting: Setting) -> dict[str, Any]:
    tokens: dict[str, list[float]] = {"ours": [], "trl": []}

    def mine() -> list[float]:
        rollout = Recorder(setting.data, FreeGrader(), setting.config)
        seconds = run(*setting.ours(rollout))
        tokens["ours"] += rollout.tokens[1:]
        rollout.close()
        return seconds

    def theirs() -> list[float]:
        trainer, clock = setting.theirs(None)
        seconds = run(trainer, clock)
        size = setting.config.completions_per_step
        lengths = [
            log["completions/mean_length"] for log in trainer.state.log_history if "completions/mean_length" in log
        ]
        tokens["trl"] += [length * size for length in lengths[1:]]
        return seconds

    first, second = in_turn(setting.args.repeats, (mine, theirs))
    return compare(first, second) | {"tokens_per_step": {name: round(float(np.mean(n))) for name, n in tokens.items()}}


def part_update(setting: Setting) -> dict[str, Any]:
    recorder = Recorder(setting.data, FreeGrader(), setting.config)
    run(*setting.ours(recorder))
    recorder.close()

    def mine() -> list[float]:
        rollout = ReplayedRollout(setting.data, FreeGrader(), setting.config)
        rollout.replay = Replay(recorder.recorded)
        seconds = run(*setting.ours(rollout))
        rollout.close()
        return seconds

    def theirs() -> list[float]:
        return run(*setting.theirs(Replay(recorder.recorded)))

    return compare(*in_turn(setting.args.repeats, (mine, theirs)))


def part_grading(setting: Setting) -> dict[str, Any]:
    waits: list[float] = []
    busy: list[float] = []

    def step(grader: Any) -> list[float]:
        rollout = Recorder(setting.data, grader, setting.config)
        seconds = run(*setting.ours(rollout))
        if not isinstance(grader, FreeGrader):
            waits.extend(rollout.waits[1:])
            busy.extend(rollout.busy[1:])
        rollout.close()
        return seconds

    def real() -> list[float]:
        # A grader of its own: it remembers programs, and every turn samples the same ones.
        with SandboxGrader(GradingConfig()) as sandbox:
            return step(sandbox)

    found = in_turn(setting.args.repeats, (real, lambda: step(FreeGrader())))
    return compare(*found) | {
        "grade_s": round(float(np.median(busy)), 4),
        "grade_wait_s": round(float(np.median(waits)), 4),
    }


def main() -> None:
    args = ARGS
    chosen = args.part.split(",")
    result: dict[str, Any] = {"arguments": vars(args), "cpus": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder, global_rng_kept(), quiet():
        setting = Setting(args, Path(folder))
        for name, part in (("trl", part_trl), ("update", part_update), ("grading", part_grading)):
            if name in chosen:
                result[name] = part(setting)
                print(name, json.dumps(result[name]), flush=True)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
