"""The evaluation stage: decodes the held-out problems by every method and grades the candidates (paper, section 4).

One sample per problem is measured with the independent samples of best-of-n: the same draws serve both rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from restrl.artifacts import read_jsonl
from restrl.decoding import INDEPENDENT, decode
from restrl.decoding.config import DecodeConfig
from restrl.evaluation.evaluate import evaluate_decoded
from restrl.evaluation.results import EvaluationResult, from_records
from restrl.pipeline.context import Context
from restrl.pipeline.values import tags
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig
from restrl.types import Problem

if TYPE_CHECKING:
    from restrl.value.model import TrainedValueModel

METHOD_NAMES = {"sample": "sample", "best_of_n": "best-of-n", "vm_mcts": "VM-MCTS"}


def jobs(context: Context) -> list[tuple[str, str]]:
    """Returns (policy, method) pairs: what is decoded, in order."""
    policies = ("base", "trained") if context.settings.iterations else ("base",)
    with_values = tags(context)
    return [
        (tag, method)
        for tag in policies
        for method in (("best_of_n", "vm_mcts") if tag in with_values else ("sample",))
    ]


def evaluate(context: Context) -> None:
    """Decodes and grades; one table per policy and method."""
    for tag, method in jobs(context):
        _evaluate(context, tag, method)


def _evaluate(context: Context, tag: str, method: str) -> None:
    name = f"evaluate/{tag}-{method}"
    if context.run.is_done(name):
        return
    problems = context.problems.held_out
    config = dataclasses.replace(
        context.recipe.section("decode", DecodeConfig), budget=context.recipe.section("evaluate", EvaluateConfig).budget
    )
    directory = context.policy_dir(tag)
    with (
        context.run.stage(name, {"policy": directory}),
        context.policy(directory) as policy,
        _value_model(context, tag, method) as value_model,
    ):

        def make(chunk: Sequence[Problem], index: int) -> list[dict[str, Any]]:
            seed = derive_seed(context.seed, "evaluate", tag)
            decoded = decode(method, chunk, policy, value_model, config, seed, params=context.params)
            return evaluate_decoded(chunk, decoded, context.grader).to_records()

        context.progress.start(f"{tag} policy: decode by {METHOD_NAMES[method]}", len(problems))
        context.run.table(f"{name}.jsonl", problems, context.settings.chunk_size, make, context.progress.advance)
        context.progress.finish()


@contextmanager
def _value_model(context: Context, tag: str, method: str) -> Iterator[TrainedValueModel | None]:
    if method == "sample":
        yield None
        return
    from restrl.value.model import TrainedValueModel

    config = context.policy_config
    yield TrainedValueModel(
        context.run.need(f"values-{tag}/model", "train-value"),
        device=config.device,
        dtype=config.dtype,
        prompt_style=config.prompt_style,
    )


def read_evaluations(context: Context) -> dict[tuple[str, str], EvaluationResult]:
    """Reads every evaluation that the run has.

    Raises:
        ArtifactError: There is none yet.
    """
    config = context.recipe.section("evaluate", EvaluateConfig)
    results = {}
    for tag, method in jobs(context):
        path = context.run.path / f"evaluate/{tag}-{method}.jsonl"
        if not path.exists() and (tag, method) != jobs(context)[0]:
            continue
        context.run.need(f"evaluate/{tag}-{method}.jsonl", "evaluate")
        results[tag, method] = from_records(
            read_jsonl(path),
            independent=method in INDEPENDENT,
            seed=derive_seed(context.seed, "bootstrap") % (1 << 31),
            num_resamples=config.resamples,
            confidence=config.confidence,
        )
    return results
