"""Samples from states and grades what came out: what the sampling stage and the options of the assembly share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from restrl.actions import finish
from restrl.pipeline.context import Context
from restrl.seeds import derive_seed
from restrl.types import Completion, Grade, Policy, SampleRequest, State


def sample_and_grade(
    context: Context, policy: Policy, states: Sequence[State], n: int, seeds: Sequence[int]
) -> list[list[tuple[Completion, Grade]]]:
    """Samples ``n`` completions from each state and grades ``state + completion``."""
    requests = [SampleRequest(state, n, seed) for state, seed in zip(states, seeds, strict=True)]
    completions = policy.sample(requests, context.params)
    pairs = [
        (state.problem, state.problem.initial_state + finish(state.code + completion.text))
        for state, group in zip(states, completions, strict=True)
        for completion in group
    ]
    grades = iter(context.grader.grade(pairs))
    return [[(completion, next(grades)) for completion in group] for group in completions]


def probe(
    context: Context, policy: Policy, iteration: int, name: str, states: Sequence[State], n: int
) -> list[dict[str, Any]]:
    """Samples from states to learn what they are worth; a table ``iteration-K/probes-NAME.jsonl``, made by chunks.

    Returns:
        One record per state: ``problem_id``, ``prefix``, ``rewards`` and ``num_tokens`` of all its completions.
    """

    def make(chunk: Sequence[State], index: int) -> list[dict[str, Any]]:
        seeds = [derive_seed(context.seed, "probe", iteration, name, state.problem.id, state.code) for state in chunk]
        groups = sample_and_grade(context, policy, chunk, n, seeds)
        return [
            {
                "problem_id": state.problem.id,
                "prefix": state.code,
                "rewards": [grade.reward for _, grade in group],
                "num_tokens": sum(completion.num_tokens for completion, _ in group),
            }
            for state, group in zip(chunk, groups, strict=True)
        ]

    context.progress.start(f"iteration {iteration}: sample from prefixes ({name})", len(states))
    table = f"iteration-{iteration}/probes-{name}.jsonl"
    records = context.run.table(table, states, context.settings.chunk_size, make, context.progress.advance)
    context.progress.finish()
    return records
