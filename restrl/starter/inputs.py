"""Candidate inputs for the tests: edge cases first, then random ones whose values lie near the family's parameters."""

from __future__ import annotations

import random
from typing import Any

from restrl.starter.operations.base import PARAMETERS, Type

# fmt: off
_WORDS = (
    "apple", "bee", "cat", "ear", "tree", "rose", "star", "note", "area", "otter", "level", "sea",
    "toast", "arrow", "error", "iris", "oasis", "test", "a", "to", "sister", "aorta", "eel",
    "radar", "bird", "moss", "sky", "tart", "noon", "orbit", "ratio", "sofa", "idea", "street",
    "assess", "it",
)
# fmt: on

_EDGES: dict[Type, tuple[Any, ...]] = {
    "numbers": ([], [0], [5], [-3], [2, 2], [1, -1], [3, 1, 2], [7, 7, 7, 7]),
    "words": ([], ["a"], ["star"], ["to", "to"], ["tree", "rose"], ["apple", "eel", "apple"]),
    "text": ("", "a", "rose", "noon", "a bee", "tree tree", "otter sea star"),
    "number": (0, 1, 2, 7, 9, 10),
    "table": ({}, {"a": 1}, {"rose": 5}, {"a": 2, "b": 2}, {"tree": 3, "it": 8}),
}


def _numbers(rng: random.Random) -> list[int]:
    low, high = rng.choice(((-9, 9), (0, 9), (-20, 30), (1, 12), (-3, 4)))
    values = [rng.randint(low, high) for _ in range(rng.randint(3, 9))]
    if rng.random() < 0.5:
        values.insert(rng.randrange(len(values)), rng.choice(values))
    if rng.random() < 0.3:
        at = rng.randrange(len(values))
        values[at:at] = [values[at]] * rng.randint(1, 2)
    return values


def _words(rng: random.Random) -> list[str]:
    pool = rng.sample(_WORDS, rng.randint(2, 8))
    words = [rng.choice(pool) for _ in range(rng.randint(2, 8))]
    if rng.random() < 0.3:
        at = rng.randrange(len(words))
        words.insert(at, words[at])
    return words


def _table(rng: random.Random) -> dict[str, int]:
    keys = rng.sample(_WORDS, rng.randint(2, 6))
    return {key: rng.randint(*rng.choice(((0, 9), (-5, 5), (1, 12)))) for key in keys}


def draw_value(rng: random.Random, kind: Type) -> Any:
    """Draws one ordinary value of a type that a program can start from."""
    if kind == "numbers":
        return _numbers(rng)
    if kind == "words":
        return _words(rng)
    if kind == "text":
        if rng.random() < 0.25:
            return "".join(rng.choice("aeiorst") for _ in range(rng.randint(2, 9)))
        return " ".join(_words(rng)[:4])
    if kind == "number":
        return rng.choice((rng.randint(0, 12), rng.randint(10, 64), rng.randint(20, 128)))
    return _table(rng)


def draw_inputs(rng: random.Random, kind: Type, k_kind: str, count: int) -> list[tuple[Any, ...]]:
    """Draws the argument tuples of ``count`` distinct candidate tests, edge cases first."""
    values = list(_EDGES[kind])
    while len(values) < count:
        value = draw_value(rng, kind)
        if value not in values:
            values.append(value)
    if not k_kind:
        return [(value,) for value in values]
    return [(value, int(rng.choice(PARAMETERS[k_kind]))) for value in values]
