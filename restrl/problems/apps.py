"""APPS (arXiv 2105.09938): programs for standard input and output, or functions to call; partial credit.

The prompt is the one of the benchmark's own generator. What a program finds imported is what its harness imports
(`PRELUDE`), except numpy. Records in the layouts of the hub's ``codeparrot/apps`` and of its JSON-lines files.

Deviations from the benchmark's harness, all towards exactness (docs/problems.md): a program runs as a program, not as
the body of a function; output is compared by exact tokens and decimal numbers, not by sets of tokens and
``numpy.allclose``; ``True`` is not 1; a list is not met by its first item alone.
"""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Mapping
from functools import partial
from typing import Any

from restrl.errors import ProblemError
from restrl.problems.convert import as_text, is_program, parse_json
from restrl.problems.problem_set import HubSource, ProblemSet, Refusal, field
from restrl.types import Case, Limits, Problem, Tests

NO_TESTS = "without tests"
UNEVEN = "whose inputs and outputs differ in number"
NO_ARGUMENTS = "whose arguments are not lists"
CPU_S = 4.0
"""CPU seconds per test: the harness's, and the paper's."""
PRELUDE = """\
import sys
import time
import itertools
from itertools import accumulate, product, permutations, combinations
import collections
from collections import Counter, OrderedDict, deque, defaultdict, ChainMap
from functools import lru_cache
import math
from math import sqrt, sin, cos, tan, ceil, fabs, floor, gcd, exp, log, log2
import fractions
from typing import List, Tuple
import random
import heapq
from heapq import *
"""
"""What the harness imports before every program, without numpy."""
STOPS = ("\nQUESTION:", "\nANSWER:", "```")
_FORMATS = {"stdio": "Standard Input format", "call": "Call-Based format"}
_CHAT_OPENING = (
    "Below is a self-contained Python script that solves the problem and realizes requested functionalities:\n"
)
SUBSET_STEP = 10
"""``apps/test-500`` has the test problems whose number this divides."""


def to_problem(record: Mapping[str, Any], where: str, split: str = "train") -> Problem | Refusal:
    """Turns a record into a problem.

    Args:
        record: The record.
        where: ``file:line``.
        split: Becomes a part of the problem's id: train and test number their problems alike.

    Raises:
        ProblemError: The record is malformed.
    """
    number = _number(record, where)
    question = field(record, "question", str, where)
    starter = field(record, "starter_code", (str, type(None)), where, "") or ""
    tests = _tests(record, where)
    if isinstance(tests, Refusal):
        return tests
    entry = tests.pop("entry_point")
    form = _FORMATS[tests["kind"]]
    task = f"{question}\n{starter}" if starter else question
    known = solutions(record, where)
    return Problem(
        id=f"apps/{split}/{number}",
        statement=task,
        initial_state="",
        entry_point=entry,
        tests=Tests(**tests, prelude=PRELUDE),
        preamble=f"\nQUESTION:\n{task}\nUse {form}\nANSWER:\n",
        stop_strings=STOPS,
        limits=Limits(cpu_s=CPU_S),
        canonical_solution=next(filter(is_program, known), None),
        split=split,
        band=field(record, "difficulty", (str, type(None)), where, "") or "",
        metadata={"url": field(record, "url", (str, type(None)), where, "") or "", "solutions": len(known)},
        chat_message=(
            f"Please provide a self-contained Python script using {form} that solves the following problem in a "
            f"markdown code block.\nProblem: {task}"
        ),
        chat_opening=_CHAT_OPENING,
    )


def to_problem_of_subset(record: Mapping[str, Any], where: str) -> Problem | Refusal | None:
    """Turns a test record into a problem, or None if it is not in the 500-problem subset.

    Its numbers are 0, 10, 20, ... 4990: evenly over the numbers and so over the difficulties, which APPS numbers in
    blocks (300 interview, 100 competition, 100 introductory).
    """
    return to_problem(record, where, "test") if _number(record, where) % SUBSET_STEP == 0 else None


def solutions(record: Mapping[str, Any], where: str) -> list[str]:
    """Returns the solutions of a record, as they are; none where it has none.

    Raises:
        ProblemError: They are not a JSON array of strings.
    """
    text = field(record, "solutions", (str, type(None)), where, "") or ""
    if not text.strip():
        return []
    found = parse_json(text, "'solutions'", where)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ProblemError(f"{where}: 'solutions' must be an array of strings in JSON")
    return found


def _number(record: Mapping[str, Any], where: str) -> int:
    number = field(record, "problem_id" if "problem_id" in record else "id", int, where)
    if not 0 <= number < 10**9:
        raise ProblemError(f"{where}: the problem's number is out of range; allowed: 0 to 999999999")
    return int(number)


def _tests(record: Mapping[str, Any], where: str) -> dict[str, Any] | Refusal:
    """Returns the arguments of `Tests`, and the entry point."""
    text = field(record, "input_output", (str, type(None)), where, "") or ""
    if not text.strip():
        return Refusal(NO_TESTS)
    pairs = parse_json(text, "'input_output'", where)
    if not isinstance(pairs, dict):
        raise ProblemError(f"{where}: 'input_output' must be an object in JSON, got {type(pairs).__name__}")
    inputs = field(pairs, "inputs", list, where, [])
    outputs = field(pairs, "outputs", list, where, [])
    name = field(pairs, "fn_name", (str, type(None)), where, None) or ""
    if not inputs and not outputs:
        return Refusal(NO_TESTS)
    if len(inputs) != len(outputs):
        return Refusal(UNEVEN)
    if not name:
        cases = tuple(
            Case(f"test_{i}", stdin=as_text(a, f"inputs[{i}]", where), expected=as_text(b, f"outputs[{i}]", where))
            for i, (a, b) in enumerate(zip(inputs, outputs, strict=True))
        )
        return {"kind": "stdio", "cases": cases, "entry_point": ""}
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ProblemError(f"{where}: 'fn_name' is {name[:60]!r}; allowed: the name of a function")
    if not all(isinstance(item, list) for item in inputs):
        return Refusal(NO_ARGUMENTS)
    cases = tuple(
        Case(f"test_{i}", args=tuple(_first_by_integer(a)), expected=_by_integer(_first_by_integer(b)))
        for i, (a, b) in enumerate(zip(inputs, outputs, strict=True))
    )
    # The class of LeetCode's problems, or a function of the module: solutions of both kinds are in the set.
    return {"kind": "call", "cases": cases, "entry_point": f"Solution.{name}|{name}", "checker": "apps"}


def _first_by_integer(items: Any) -> Any:
    """Undoes what JSON did to the keys of a dictionary that comes first in a list."""
    return [_by_integer(items[0]), *items[1:]] if isinstance(items, list) and items else items


def _by_integer(value: Any) -> Any:
    """Returns a dictionary with integers for keys, if every key is one; JSON knows only strings.

    >>> _by_integer({"1": "a", "-2": "b"}), _by_integer({"1": 0, "x": 0}), _by_integer({})
    ({1: 'a', -2: 'b'}, {'1': 0, 'x': 0}, {})
    """
    if not isinstance(value, dict):
        return value
    try:
        return {int(key): item for key, item in value.items()}
    except ValueError:
        return value


def _apps_set(summary: str, split: str, converter: Any, files: tuple[str, ...]) -> ProblemSet:
    return ProblemSet(
        summary,
        to_problem=converter,
        files={split: files},
        default_split=split,
        hub=HubSource("codeparrot/apps", {split: split}, data_files={split: f"{split}.jsonl"}) if split else None,
        solutions=solutions,
        licence="MIT, github.com/hendrycks/apps",
        url="https://huggingface.co/datasets/codeparrot/apps",
    )


_TEST_FILES = ("apps/test.jsonl*", "apps/test*.parquet", "apps/apps_test.jsonl*")
TRAIN = _apps_set(
    "APPS: 5000 training problems",
    "train",
    partial(to_problem, split="train"),
    ("apps/train.jsonl*", "apps/train*.parquet", "apps/apps_train.jsonl*"),
)
TEST = _apps_set("APPS: 5000 test problems", "test", partial(to_problem, split="test"), _TEST_FILES)
TEST_500 = dataclasses.replace(
    _apps_set("APPS: every tenth test problem", "test", to_problem_of_subset, _TEST_FILES), variant_of="apps/test"
)
SAMPLE = _apps_set(
    "APPS: training problems of a sample file", "", partial(to_problem, split="train"), ("apps/apps_train_sample*",)
)
