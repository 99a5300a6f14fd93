"""The final choice among a problem's candidates, where it takes more than their scores: running them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from restrl.decoding.clusters import cluster_numbers, majority_answers, weighted_answers
from restrl.decoding.config import DecodeConfig
from restrl.decoding.execution import OutputRunner, behaviours_of
from restrl.decoding.public import PublicExamples
from restrl.decoding.results import Decoded, best_answers
from restrl.types import Problem


def choose(
    problems: Sequence[Problem],
    decoded: Sequence[Decoded],
    config: DecodeConfig,
    seed: int,
    runner: OutputRunner,
    examples: PublicExamples | None = None,
) -> list[Decoded]:
    """Answers anew, at every budget, from what the candidates do.

    Args:
        problems: The decoded problems.
        decoded: Their results, in the same order.
        config: ``method`` (``majority`` takes the largest cluster of equal outputs), ``selection`` (``clusters``
            weights them by value) and ``num_inputs``.
        seed: Seed of the inputs.
        runner: Runs programs for their outputs.
        examples: The public examples, in that regime.

    Returns:
        The results with their candidates' clusters and share of public examples passed, where either is used.

    Raises:
        EngineError: The runner answered wrongly.
        GraderError: The sandbox failed.
    """
    if examples is not None:
        pairs = zip(problems, decoded, strict=True)
        examples.run([(problem, c.code) for problem, item in pairs for c in item.candidates if c.finished])
        decoded = [_with_examples(item, examples) for item in decoded]
    if config.method != "majority" and config.selection != "clusters":
        return [dataclasses.replace(item, answers=best_answers(item.candidates)) for item in decoded]
    choice = majority_answers if config.method == "majority" else weighted_answers
    results = []
    for item, known in zip(decoded, behaviours_of(problems, decoded, runner, config, seed), strict=True):
        numbers = cluster_numbers(item.candidates, known)
        candidates = tuple(
            dataclasses.replace(candidate, cluster=number)
            for candidate, number in zip(item.candidates, numbers, strict=True)
        )
        results.append(dataclasses.replace(item, candidates=candidates, answers=choice(candidates, known)))
    return results


def _with_examples(item: Decoded, examples: PublicExamples) -> Decoded:
    candidates = tuple(
        dataclasses.replace(candidate, public=examples.rewards.get((item.problem_id, candidate.code)))
        if candidate.finished
        else candidate
        for candidate in item.candidates
    )
    return dataclasses.replace(item, candidates=candidates, public_tests=examples.count(item.problem_id))
