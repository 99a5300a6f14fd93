"""Compositions of operations, and the splits that keep them apart.

The *composition* of a problem is the sequence of its operations' names. A hash of it decides the split, so that no
composition of the validation or test problems ever appears in training or in the pre-training corpus; every single
operation appears in all splits.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from restrl.starter.operations import OPERATIONS
from restrl.starter.operations.base import PARAMETERS, SYMBOLIC, Operation, Type

Split = Literal["train", "validation", "test"]
Band = Literal["easy", "medium", "hard", "long"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BANDS: dict[Band, tuple[int, ...]] = {"easy": (2,), "medium": (3,), "hard": (4, 5), "long": (6,)}
"""The numbers of operations of each band; the embedded policy has never seen a long one."""
_WITH_RARE: tuple[Band, ...] = ("hard", "long")

_OPENING: tuple[tuple[Type, float], ...] = (
    ("numbers", 0.36),
    ("words", 0.28),
    ("text", 0.18),
    ("number", 0.1),
    ("table", 0.08),
)
_SYMBOLIC_SHARE = 0.25
_CHANGE_TYPE_WEIGHT = 1.6
_FOLDS = frozenset({"sum", "largest", "smallest", "count", "spread", "total", "size", "largest_value", "count_values"})
_ORDERS = frozenset(
    {"sort_up", "sort_down", "reverse", "sort_by_size", "sort_by_last_digit", "rotate", "sort_by_length"}
)


@dataclass(frozen=True, slots=True)
class Step:
    """One operation with its parameter's value: a literal, the argument ``k``, or empty."""

    operation: Operation
    value: str


@dataclass(frozen=True, slots=True)
class Composition:
    """A sequence of steps whose types fit; ``k_kind`` is the kind of the argument ``k``, empty if there is none."""

    steps: tuple[Step, ...]
    band: Band
    k_kind: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the operations: what decides the split."""
        return tuple(step.operation.name for step in self.steps)

    @property
    def split(self) -> Split:
        """The split that the composition belongs to."""
        return split_of(self.names)


def split_of(names: Sequence[str]) -> Split:
    """Returns the split of a composition: 80% train, 10% validation, 10% test, by a hash of the names.

    >>> split_of(("numbers.keep_even", "numbers.sum")) == split_of(["numbers.keep_even", "numbers.sum"])
    True
    """
    digest = hashlib.blake2b(" ".join(names).encode(), digest_size=4, person=b"restrl starter").digest()
    bucket = int.from_bytes(digest, "little") % 10
    return "train" if bucket < 8 else "validation" if bucket == 8 else "test"


def _by_source() -> dict[Type, tuple[Operation, ...]]:
    grouped: dict[Type, list[Operation]] = {}
    for operation in OPERATIONS.values():
        grouped.setdefault(operation.source, []).append(operation)
    return {source: tuple(operations) for source, operations in grouped.items()}


_BY_SOURCE = _by_source()
_SHORT = {name: name.split(".")[1] for name in OPERATIONS}


def _fits(operation: Operation, position: int, length: int, chosen: Sequence[Operation], band: Band) -> bool:
    """Whether an operation may come next; a name's second part (``sort_up``) appears once in a composition."""
    last = position == length - 1
    if operation.rare and band not in _WITH_RARE:
        return False
    if operation.guard and (last or any(other.guard for other in chosen)):
        return False
    if (operation.first_only and position > 0) or (operation.target == "truth" and not last):
        return False
    if not chosen:
        return True
    short = _SHORT[operation.name]
    if any(_SHORT[other.name] == short for other in chosen):
        return False
    return _SHORT[chosen[-1].name] not in _ORDERS or not (short in _FOLDS or short in _ORDERS)


def _weight(operation: Operation) -> float:
    weight = 1.0
    if operation.guard:
        weight *= 1.5
    if operation.target == "truth":
        weight *= 0.4
    return weight * (_CHANGE_TYPE_WEIGHT if operation.source != operation.target else 1.0)


_WEIGHTS = {operation.name: _weight(operation) for operation in OPERATIONS.values()}


def draw_composition(rng: random.Random, band: Band) -> Composition:
    """Draws a composition of any split."""
    while True:
        length = rng.choice(BANDS[band])
        current = rng.choices([t for t, _ in _OPENING], [w for _, w in _OPENING])[0]
        chosen: list[Operation] = []
        for position in range(length):
            options = [o for o in _BY_SOURCE[current] if _fits(o, position, length, chosen, band)]
            if not options:
                break
            operation = rng.choices(options, [_WEIGHTS[o.name] for o in options])[0]
            chosen.append(operation)
            current = operation.target
            if current == "truth":
                break
        if len(chosen) == length:
            return _with_parameters(rng, chosen, band)


def _with_parameters(rng: random.Random, chosen: Sequence[Operation], band: Band) -> Composition:
    candidates = [i for i, o in enumerate(chosen) if o.parameter in SYMBOLIC]
    symbolic = rng.choice(candidates) if candidates and rng.random() < _SYMBOLIC_SHARE else -1
    steps = []
    for i, operation in enumerate(chosen):
        if operation.parameter and i != symbolic:
            steps.append(Step(operation, rng.choice(PARAMETERS[operation.parameter])))
        else:
            steps.append(Step(operation, "k" if i == symbolic else ""))
    return Composition(tuple(steps), band, chosen[symbolic].parameter if symbolic >= 0 else "")


def draw_from_split(rng: random.Random, split: Split, shares: Mapping[Band, float]) -> Composition:
    """Draws a composition of one split, its band by the given shares."""
    band = rng.choices(list(shares), list(shares.values()))[0]
    while True:
        composition = draw_composition(rng, band)
        if composition.split == split:
            return composition
