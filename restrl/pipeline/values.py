"""Stage 2, the value model (paper, section 3.3): collect values by tree search with real rewards, train on them."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from restrl.artifacts import read_jsonl
from restrl.grpo.methods import TrainConfig
from restrl.pipeline.context import Context
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig
from restrl.types import Problem
from restrl.value.collect import CollectConfig, collect_values
from restrl.value.config import ValueConfig
from restrl.value.kinds import LONG_NAMES, ValueKind
from restrl.value.run_log import ValueLog
from restrl.value.targets import Trajectory


def tags(context: Context) -> tuple[str, ...]:
    """Which policies get a value model of their own: a value belongs to a policy (V^pi)."""
    wanted = context.recipe.section("evaluate", EvaluateConfig).values_for
    if context.kept == 0:
        return ("base",)
    return ("base", "trained") if wanted == "both" else (wanted,)


def collect(context: Context, tag: str) -> None:
    """Searches training problems with real rewards and writes one trajectory of value targets per program."""
    name = f"values-{tag}/collect"
    if context.run.is_done(name):
        return
    problems = context.problems.value
    directory = context.policy_dir(tag)
    config = context.recipe.section("collect", CollectConfig)
    with context.run.stage(name, {"policy": directory}), context.policy(directory) as policy:

        def make(chunk: Sequence[Problem], index: int) -> list[dict[str, Any]]:
            seed = derive_seed(context.seed, "collect", tag)
            trees = collect_values(chunk, policy, context.grader, config, seed, params=context.params)
            return [trajectory.to_json() for tree in trees for trajectory in tree.trajectories]

        context.progress.start(f"{tag} policy: collect values", len(problems))
        context.run.table(
            f"values-{tag}/trajectories.jsonl", problems, context.settings.chunk_size, make, context.progress.advance
        )
        context.progress.finish()


def folder(tag: str, kind: ValueKind = "vm") -> str:
    """Returns the folder of a scorer of programs, below the run directory."""
    return f"values-{tag}" if kind == "vm" else f"values-{tag}-{kind}"


def train(context: Context, tag: str, kind: ValueKind = "vm") -> None:
    """Trains the value model of a policy, starting from the policy's own weights.

    Args:
        context: The run.
        tag: Which policy.
        kind: Another kind learns from the same collected programs, into a folder of its own.
    """
    name = f"{folder(tag, kind)}/train"
    if not context.run.is_done(name):
        _train(context, tag, kind, name)
    # Only now is nothing of them needed; a kill before this line leaves them to the next run.
    shutil.rmtree(context.run.path / folder(tag, kind) / "checkpoints", ignore_errors=True)


def _train(context: Context, tag: str, kind: ValueKind, name: str) -> None:
    path = context.run.need(f"values-{tag}/trajectories.jsonl", "collect-values")
    from restrl.value.train import train_value_model

    directory = context.policy_dir(tag)
    trajectories = [Trajectory.from_json(record) for record in read_jsonl(path)]
    config = context.recipe.section("value", ValueConfig)
    report_to = context.recipe.section("train", TrainConfig).report_to
    log = ValueLog(context.run.path / folder(tag, kind), report_to, dataclasses.asdict(config))
    done = 0

    def on_log(metrics: Mapping[str, float]) -> None:
        nonlocal done
        log.add(metrics)
        if "total_steps" in metrics:
            context.progress.start(f"{tag} policy: train the {LONG_NAMES[kind]}", int(metrics["total_steps"]))
        elif "loss" in metrics:
            context.progress.advance(int(metrics["step"]) - done, loss=metrics["loss"])
            done = int(metrics["step"])

    with context.run.stage(name, {"policy": directory, "trajectories": path}), log:
        report = train_value_model(
            directory,
            trajectories,
            context.problems.training,
            config,
            context.run.path / folder(tag, kind),
            derive_seed(context.seed, "value", tag) % (1 << 31),
            context.policy_config.prompt_style,
            on_log,
            kind=kind,
        )
        context.progress.finish()
        context.progress.note(
            f"{tag} policy: {LONG_NAMES[kind]}'s validation error {report.validation_mse:.4f}, "
            f"{report.baseline_mse:.4f} for the mean alone"
        )
        if report.search is not None:
            context.progress.note(f"{tag} policy, {LONG_NAMES[kind]}: {report.search.verdict}")
