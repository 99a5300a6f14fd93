"""The embedded family as problem sets."""

from __future__ import annotations

from restrl.starter.composition import Split
from restrl.starter.generator import generate
from restrl.types import Problem

DEFAULT_COUNTS: dict[Split, int] = {"train": 400, "validation": 100, "test": 100}
"""How many problems of each split are loaded where the caller names no number."""


def _load(split: Split, count: int | None, seed: int) -> list[Problem]:
    return generate(split, DEFAULT_COUNTS[split] if count is None else count, seed)


def load_train(count: int | None, seed: int) -> list[Problem]:
    """Loads the first training problems."""
    return _load("train", count, seed)


def load_validation(count: int | None, seed: int) -> list[Problem]:
    """Loads the first validation problems."""
    return _load("validation", count, seed)


def load_test(count: int | None, seed: int) -> list[Problem]:
    """Loads the first test problems."""
    return _load("test", count, seed)


def load_all(count: int | None, seed: int) -> list[Problem]:
    """Loads problems of all three splits, taking turns; all the usual ones if ``count`` is None."""
    if count is None:
        return load_train(None, seed) + load_validation(None, seed) + load_test(None, seed)
    each = -(-count // 3)
    thirds = zip(load_train(each, seed), load_validation(each, seed), load_test(each, seed), strict=True)
    return [problem for third in thirds for problem in third][:count]
