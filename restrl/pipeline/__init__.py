"""The whole loop: one function per stage, each reads artifacts, calls a part, writes artifacts.

Stages run in this order; one that is done is skipped, one that was interrupted continues::

    iteration-0/validate, then for K = 1..iterations:
    iteration-K/sample -> iteration-K/assemble -> iteration-K/train-policy -> iteration-K/validate
    values-base/collect -> values-base/train, values-trained/collect -> values-trained/train
    evaluate/POLICY-METHOD -> report

After the last iteration ``kept.json`` says which one's policy is the trained one (`restrl.pipeline.validation`): that
one gets a value model and is evaluated.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from restrl.artifacts import RunDirectory
from restrl.config import Recipe
from restrl.errors import ConfigError
from restrl.grpo.methods import TrainConfig
from restrl.pipeline import evaluating, reporting, training, validation, values
from restrl.pipeline.context import Context, load_problem_sets, policy_path
from restrl.pipeline.following import follow
from restrl.policy import PolicyConfig, check_policy
from restrl.progress import Progress
from restrl.tracking import check_installed
from restrl.value.kinds import ValueKind


@dataclass(frozen=True, slots=True)
class Result:
    """What a command prints: text for people, data for programs."""

    text: str
    data: dict[str, Any]


def check(recipe: Recipe) -> None:
    """Checks everything that can be checked before a model is loaded or a directory is made."""
    config = recipe.section("policy", PolicyConfig)
    if config.engine == "openai" or config.lora:
        name = "policy.engine = 'openai'" if config.engine == "openai" else f"policy.lora = {config.lora!r}"
        raise ConfigError(
            f"{name}: a run trains the policy and its value model from a model directory; use it with restrl evaluate "
            "--policy or restrl solve, and name a directory here"
        )
    check_installed(recipe.section("train", TrainConfig).report_to)
    check_policy(dataclasses.replace(config, model=str(policy_path(config))))
    load_problem_sets(recipe)


class Pipeline:
    """Runs stages on a run directory; a context manager, so that the grader's processes end with it."""

    def __init__(self, run: RunDirectory, recipe: Recipe, progress: Progress) -> None:
        check_installed(recipe.section("train", TrainConfig).report_to)
        self.context = Context(run, recipe, progress)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.close()

    def run(self, stage: str | None = None, kind: ValueKind = "vm") -> Result:
        """Runs one kind of stage (for every iteration or policy that it has), or the whole loop.

        Args:
            stage: A stage's name; None is the whole loop.
            kind: What stage ``train-value`` trains; see `restrl.value.kinds`.
        """
        context = self.context
        self._iterate(stage)
        tags = values.tags(context)
        for tag in tags:
            if stage in (None, "collect-values"):
                values.collect(context, tag)
            if stage in (None, "train-value"):
                values.train(context, tag, kind)
        if stage in (None, "evaluate"):
            evaluating.evaluate(context)
        if stage in (None, "report"):
            return Result(*reporting.report(context))
        if stage == "validate":
            return Result(*reporting.iterations(context))
        return Result(f"{stage}: done; see {context.run.path}", {"stage": stage, "out": str(context.run.path)})

    def _iterate(self, stage: str | None) -> None:
        """Trains the policy, iteration by iteration, with evaluation after each; a stage alone does the next one."""
        context = self.context
        if stage in (None, "validate"):
            validation.validate(context, 0)
        for iteration in range(1, context.settings.iterations + 1):
            was_trained = context.run.is_done(f"iteration-{iteration}/train-policy")
            if stage in (None, "sample"):
                training.sample(context, iteration)
            if stage in (None, "assemble"):
                training.assemble_instances(context, iteration)
                if iteration == 1:
                    training.measure_spread(context, iteration)
            if stage in (None, "train-policy"):
                training.train(context, iteration)
            if not (was_trained or stage is None):
                # A later iteration starts from the policy that this one has, or still has to train.
                return
            if stage in (None, "validate"):
                validation.validate(context, iteration)
        if stage in (None, "validate"):
            validation.choose(context)


__all__ = ["Pipeline", "Result", "check", "follow"]
