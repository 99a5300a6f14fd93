"""Training on stored samples: which samples a method learns from, and the run of its trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restrl.artifacts import dump_jsonl, read_jsonl, write_atomic
from restrl.grpo.methods import METHODS, TrainConfig
from restrl.grpo.offline_config import OfflineConfig
from restrl.grpo.schedule import num_steps
from restrl.pipeline.context import Context
from restrl.rest.assembly import RestConfig, Sample
from restrl.rest.preference import Demonstration, Pair, select_demonstrations, select_pairs
from restrl.seeds import derive_seed

if TYPE_CHECKING:
    from restrl.grpo.offline_data import Example


def _settings(context: Context) -> OfflineConfig:
    train = context.recipe.section("train", TrainConfig)
    offline = context.recipe.section("offline", OfflineConfig)
    return dataclasses.replace(offline, method=train.method, report_to=train.report_to)


def _table(context: Context, iteration: int) -> Path:
    """The method's table of examples: ``pairs.jsonl`` or ``demonstrations.jsonl``."""
    return context.run.path / f"iteration-{iteration}/{METHODS[_settings(context).method].data}.jsonl"


def choose_examples(context: Context, iteration: int, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Writes the pairs of ReST-DPO, or the demonstrations of rejection sampling."""
    config = _settings(context)
    chosen: tuple[Pair, ...] | tuple[Demonstration, ...]
    if config.method == "rest-dpo":
        chosen = select_pairs(samples)
    else:
        chosen = select_demonstrations(samples, context.recipe.section("rest", RestConfig).r_0, config.per_problem)
    path = _table(context, iteration)
    write_atomic(path, dump_jsonl([dataclasses.asdict(item) for item in chosen]))
    problems = len({item.problem_id for item in chosen})
    context.progress.note(f"iteration {iteration}: {len(chosen)} {path.stem} of {problems} of {len(samples)} problems")


def read_examples(context: Context, iteration: int) -> list[Example]:
    """Returns what the method learns from."""
    from restrl.grpo.offline_data import Example

    path = context.run.need(str(_table(context, iteration).relative_to(context.run.path)), "assemble")
    problems = context.problems.training
    return [
        Example(
            problems[record["problem_id"]],
            (record["chosen"], record["rejected"]) if "chosen" in record else (record["code"],),
        )
        for record in read_jsonl(path)
    ]


def train_on_examples(context: Context, iteration: int, stage: str, policy: Path) -> None:
    """Trains the policy on stored samples (stage ``iteration-K/train-policy``)."""
    examples = read_examples(context, iteration)
    from restrl.grpo.offline import train_offline

    config = _settings(context)
    done = 0

    def on_log(metrics: Mapping[str, float]) -> None:
        nonlocal done
        context.progress.advance(int(metrics["step"]) - done, loss=metrics["loss"])
        done = int(metrics["step"])

    total = num_steps(len(examples), config.batch_size, config.epochs, config.max_steps)
    context.progress.start(f"iteration {iteration}: {METHODS[config.method].label}", total)
    with context.run.stage(stage, {"policy": policy, "examples": _table(context, iteration)}):
        train_offline(
            policy,
            examples,
            config,
            context.run.path / f"iteration-{iteration}/policy",
            derive_seed(context.seed, config.method, iteration) % (1 << 31),
            context.policy_config.prompt_style,
            on_log,
        )
        context.progress.finish()
