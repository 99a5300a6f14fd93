"""Majority by execution: sample n completions, run them, answer with what most of them do."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from restrl.decoding.choosing import choose
from restrl.decoding.config import DecodeConfig
from restrl.decoding.execution import OutputRunner
from restrl.decoding.results import Decoded
from restrl.decoding.sample import decode_sample
from restrl.grading.outputs import SandboxRunner
from restrl.types import Policy, Problem, SamplingParams, ValueModel


def decode_majority(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
    runner: OutputRunner | None = None,
) -> list[Decoded]:
    """Samples ``config.budget`` completions per problem and answers with the largest cluster of equal outputs.

    The completions are those of ``sample`` under the same seed. The value model is not used. Programs run on the inputs
    of the problem's public examples and on invented ones; hidden tests are not touched.

    Args:
        problems: What to solve.
        policy: Samples completions.
        value_model: Not used.
        config: Budget, window and number of inputs.
        seed: Seed of the draws and of the inputs.
        params: How to sample.
        on_progress: Called with the number of problems that have become done.
        runner: Runs programs; by default a sandbox of its own.

    Raises:
        EngineError: The policy answered wrongly.
        GraderError: The sandbox failed.
    """
    if runner is None:
        with contextlib.closing(SandboxRunner()) as own:
            return decode_majority(
                problems, policy, value_model, config, seed, params=params, on_progress=on_progress, runner=own
            )
    decoded = decode_sample(problems, policy, None, config, seed, params=params, on_progress=on_progress)
    return choose(problems, decoded, dataclasses.replace(config, method="majority"), seed, runner)
