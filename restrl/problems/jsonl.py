"""Problems as JSON lines: one object a line. docs/problems.md describes every field; `restrl.problems.schema` has them.

An example::

    {"id": "double", "statement": "Return twice n.", "initial_state": "def f(n):\\n", "entry_point": "f",
     "tests": {"kind": "call", "cases": [{"args": [2], "expected": 4}, {"args": [-1], "expected": -2}]}}

Values (``args``, ``expected``, ``metadata``) are plain data in the encoding of `restrl.problems.encoding`.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restrl.errors import ProblemError
from restrl.problems.encoding import encode_value
from restrl.problems.schema import NEEDED_BY_KIND, RecordError, problem_from_record
from restrl.types import Case, Limits, Problem, Tests


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line of a file: the line's number, from 1, and the fault in one line."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file of problems as far as it is good.

    Attributes:
        path: The file.
        problems: The good records, in order.
        lines: The line of each problem, from 1.
        faults: Every fault of every other line, in order.
    """

    path: Path
    problems: tuple[Problem, ...]
    lines: tuple[int, ...]
    faults: tuple[Fault, ...]


def scan_problems(path: Path) -> ScannedFile:
    """Reads a file of problems and notes every fault instead of stopping at the first.

    Raises:
        ProblemError: The file cannot be read, is not text, or holds no record at all.
    """
    problems: list[Problem] = []
    lines: list[int] = []
    faults: list[Fault] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(_lines(path), 1):
        if not raw.strip():
            continue
        try:
            problem = problem_from_line(_text(raw))
        except RecordError as error:
            faults += [Fault(number, text) for text in error.faults]
            continue
        if problem.id in seen:
            text = f"id is {problem.id!a}, which line {seen[problem.id]} has already; allowed: an id of its own"
            faults.append(Fault(number, text))
            continue
        seen[problem.id] = number
        problems.append(problem)
        lines.append(number)
    if not problems and not faults:
        raise ProblemError(f"{path} holds no problems: write one JSON object a line")
    return ScannedFile(path, tuple(problems), tuple(lines), tuple(faults))


def read_problems(path: Path) -> list[Problem]:
    """Reads a file of problems, in order.

    Raises:
        ProblemError: The file is missing or empty, or a record is wrong; the message begins with ``file:line``.
    """
    scanned = scan_problems(path)
    if scanned.faults:
        first, others = scanned.faults[0], len(scanned.faults) - 1
        more = f" ({others} more faults: restrl problems validate {path})" if others else ""
        raise ProblemError(f"{path}:{first.line}: {first.text}{more}")
    return list(scanned.problems)


def _lines(path: Path) -> list[bytes]:
    try:
        # Only these end a line, as in `wc` and editors.
        return path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n")
    except OSError as error:
        raise ProblemError(
            f"cannot read the problem file {path}: {error.strerror}; give a .jsonl file (restrl problems template call "
            "prints one to start from) or a named set (restrl problems list)"
        ) from error


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        text = (
            f"byte {error.start + 1} of the line is {line[error.start]:#04x}, which is not UTF-8; allowed: UTF-8 text"
        )
        raise RecordError([text]) from error


def problem_from_line(line: str) -> Problem:
    """Returns the problem of a line of JSON.

    Raises:
        RecordError: The line is not strict JSON, or its record is wrong.
    """
    try:
        record = json.loads(line, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_no_twins)
        return problem_from_record(record)
    except RecordError:
        raise
    except json.JSONDecodeError as error:
        text = f"the line is not JSON: {error.msg} at column {error.colno}; allowed: one JSON object a line"
        raise RecordError([text]) from error
    except RecursionError:
        raise RecordError(
            ["the record is nested too deeply; allowed: what Python can parse, some hundred levels"]
        ) from (None)
    except ValueError as error:
        raise RecordError([str(error)]) from error


def _no_constant(name: str) -> float:
    tag = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}[name]
    raise ValueError(f'a value is {name}, which is not JSON; allowed: {{"$float": "{tag}"}}')


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f'a number is {text[:40]}, beyond a float; allowed: up to 1.8e308, or {{"$float": "inf"}}')
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin!a} is there {names.count(twin)} times in one object; allowed: once")
    return record


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Writes a file of problems, atomically; `read_problems` gives equal ones back.

    Raises:
        ProblemError: A problem holds something that is not plain data.
    """
    text = "".join(line_of(problem) + "\n" for problem in problems)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def line_of(problem: Problem) -> str:
    """Returns a problem as one line of JSON, without the newline."""
    line = json.dumps(record_of(problem), ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:  # a test's value has a lone surrogate
        return json.dumps(record_of(problem))
    return line


def record_of(problem: Problem) -> dict[str, Any]:
    """Returns the JSON object of a problem; fields at their defaults are left out."""
    try:
        record = _changed(problem, ("id", "statement"), ("limits", "metadata", "tests"))
        if problem.limits != Limits():
            record["limits"] = dataclasses.asdict(problem.limits)
        if problem.metadata:
            record["metadata"] = {key: encode_value(value) for key, value in problem.metadata.items()}
        record["tests"] = _changed(problem.tests, ("kind",), ("cases",))
        record["tests"]["cases"] = [_case_record(case, problem.tests.kind) for case in problem.tests.cases]
    except (TypeError, RecursionError) as error:
        raise ProblemError(f"problem {problem.id!r} cannot be written as JSON: {error}") from error
    return record


def _changed(item: Problem | Tests | Case, needed: tuple[str, ...], left_out: tuple[str, ...]) -> dict[str, Any]:
    """Returns the fields that are needed or differ from their defaults, as JSON."""
    record: dict[str, Any] = {}
    for field in dataclasses.fields(item):
        value = getattr(item, field.name)
        if field.name in left_out or (field.name not in needed and value == field.default):
            continue
        record[field.name] = list(value) if isinstance(value, tuple) else value
    return record


def _case_record(case: Case, kind: str) -> dict[str, Any]:
    needed = NEEDED_BY_KIND[kind]
    record = _changed(case, ("id", *needed), ("args", "expected"))
    if case.args or "args" in needed:
        record["args"] = [encode_value(item) for item in case.args]
    if case.expected is not None or "expected" in needed:
        record["expected"] = encode_value(case.expected)
    return record
