"""Difficulty bands for problems that have none of their own: by how often the sampling stage solved them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from restrl.artifacts import read_jsonl
from restrl.types import State


def band_of(solved: int, total: int) -> str:
    """Returns the band of a problem.

    >>> [band_of(solved, 8) for solved in (0, 1, 3, 4, 7, 8)]
    ['solved 0', 'solved 1-49', 'solved 1-49', 'solved 50-99', 'solved 50-99', 'solved 100']
    """
    if solved in (0, total):
        return "solved 100" if solved else "solved 0"
    return "solved 1-49" if 2 * solved < total else "solved 50-99"


def with_bands(states: Sequence[State], samples: Path) -> list[State]:
    """Returns the states with bands, for display alone, where their problems have none and were sampled.

    Args:
        states: What is trained on.
        samples: The table of the sampling stage; it need not exist.
    """
    if not samples.exists() or all(state.problem.band for state in states):
        return list(states)
    bands = {
        record["problem_id"]: band_of(sum(item["passed"] for item in record["samples"]), len(record["samples"]))
        for record in read_jsonl(samples)
    }
    problems = {state.problem.id: state.problem for state in states}
    for name, problem in problems.items():
        if not problem.band:
            problems[name] = dataclasses.replace(problem, band=bands.get(name, ""))
    return [dataclasses.replace(state, problem=problems[state.problem.id]) for state in states]
