"""The named problem sets, and the one function that loads problems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from restrl.errors import ProblemError
from restrl.problems import starter
from restrl.problems.jsonl import read_problems
from restrl.types import Problem

Loader = Callable[[int | None, int], list[Problem]]
"""(count or None for the set's usual number, seed) -> problems."""


@dataclass(frozen=True, slots=True)
class ProblemSet:
    """A named set of problems: what it is, in a line, and how to load it."""

    summary: str
    load: Loader


PROBLEM_SETS: dict[str, ProblemSet] = {
    "starter": ProblemSet("all three splits of the embedded family, 1:1:1", starter.load_all),
    "starter/train": ProblemSet("embedded family, training split (endless)", starter.load_train),
    "starter/validation": ProblemSet("embedded family, validation split (endless)", starter.load_validation),
    "starter/test": ProblemSet("embedded family, test split (endless)", starter.load_test),
}


def load_problems(spec: str, *, count: int | None = None, seed: int = 0) -> list[Problem]:
    """Loads problems.

    Args:
        spec: A name in `PROBLEM_SETS`, or the path of a ``.jsonl`` file.
        count: The first ``count`` problems; None takes a file's every problem, or a set's usual number.
        seed: For the sets that are generated.

    Raises:
        ProblemError: The set is unknown, the file is missing or wrong, or holds fewer problems than asked for.
    """
    if count is not None and count < 1:
        raise ProblemError(f"count is {count}: ask for at least 1 problem")
    if spec in PROBLEM_SETS:
        problems = PROBLEM_SETS[spec].load(count, seed)
    elif spec.endswith(".jsonl"):
        problems = read_problems(Path(spec))
    else:
        names = ", ".join(PROBLEM_SETS)
        raise ProblemError(f"unknown problem set {spec!r}: use one of {names}, or the path of a .jsonl file")
    if count is None:
        return problems
    if len(problems) < count:
        raise ProblemError(f"{spec} has {len(problems)} problems, {count} were asked for: lower the count")
    return problems[:count]
