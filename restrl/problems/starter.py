"""The embedded family as problem sets."""

from __future__ import annotations

from restrl.problems.problem_set import Generator
from restrl.starter.composition import SPLITS, Band, Split
from restrl.starter.generator import generate
from restrl.types import Problem

DEFAULT_COUNTS: dict[Split, int] = {"train": 400, "validation": 100, "test": 100}
"""How many problems of each split are loaded where the caller names no number."""


def of_split(split: Split, band: Band | None = None) -> Generator:
    """Returns what loads the first problems of a split, of all usual bands or of one."""

    def load(count: int | None, seed: int) -> list[Problem]:
        return generate(split, DEFAULT_COUNTS[split] if count is None else count, seed, band=band)

    return load


def load_all(count: int | None, seed: int) -> list[Problem]:
    """Loads problems of all three splits, taking turns; all the usual ones if ``count`` is None."""
    if count is None:
        return [problem for split in SPLITS for problem in of_split(split)(None, seed)]
    each = -(-count // 3)
    thirds = zip(*(of_split(split)(each, seed) for split in SPLITS), strict=True)
    return [problem for third in thirds for problem in third][:count]
