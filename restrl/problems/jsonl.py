"""Problems as JSON lines: one object a line.

Required: ``id`` (string), ``statement`` (string), ``tests`` (object). Optional, with defaults: ``initial_state`` (""),
``entry_point`` (""), ``preamble`` (""), ``stop_strings`` ([]), ``limits`` (``cpu_s``, ``memory_bytes``,
``output_bytes``), ``canonical_solution`` (null), ``split`` (""), ``band`` (""), ``metadata`` ({}).

``tests`` is ``{"kind": "call" | "stdio" | "asserts" | "unittest" | "script", "cases": [...]}`` with optional ``atol``
(0) and ``all_or_nothing`` (false). A case has an ``id`` (default: its number) and, by kind:

* ``call``: ``args`` (array) and ``expected``;
* ``stdio``: ``stdin`` (string) and ``expected`` (string);
* ``asserts``, ``unittest``, ``script``: ``code`` (string), for some also ``expected``.

``args``, ``expected`` and ``metadata`` hold plain data in the encoding of `restrl.problems.encoding`. An example::

    {"id": "double", "statement": "Return twice n.", "initial_state": "def f(n):\\n", "entry_point": "f",
     "tests": {"kind": "call", "cases": [{"args": [2], "expected": 4}, {"args": [-1], "expected": -2}]}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from restrl.errors import ProblemError
from restrl.problems.encoding import decode_value, encode_value
from restrl.types import TEST_KINDS, Case, Limits, Problem, Tests

_PROBLEM_KEYS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "statement": str,
    "tests": dict,
    "initial_state": str,
    "entry_point": str,
    "preamble": str,
    "stop_strings": list,
    "limits": dict,
    "canonical_solution": (str, type(None)),
    "split": str,
    "band": str,
    "metadata": dict,
}
_TESTS_KEYS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "cases": list,
    "atol": (int, float),
    "all_or_nothing": bool,
}
_CASE_KEYS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "args": list,
    "stdin": str,
    "expected": object,
    "code": str,
}
_LIMIT_KEYS: dict[str, type | tuple[type, ...]] = {"cpu_s": (int, float), "memory_bytes": int, "output_bytes": int}
_NEEDED = {
    "call": ("args", "expected"),
    "stdio": ("stdin", "expected"),
    "asserts": ("code",),
    "unittest": ("code",),
    "script": ("code",),
}


def read_problems(path: Path) -> list[Problem]:
    """Reads a file of problems, in order.

    Raises:
        ProblemError: The file is missing or empty, or a record is wrong; the message begins with ``file:line``.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ProblemError(f"cannot read the problem file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            problem = problem_from_record(_parse(line))
        except ValueError as error:
            raise ProblemError(f"{path}:{number}: {error}") from error
        if problem.id in seen:
            first = seen[problem.id]
            raise ProblemError(f"{path}:{number}: id {problem.id!r} is already used on line {first}; ids are unique")
        seen[problem.id] = number
        problems.append(problem)
    if not problems:
        raise ProblemError(f"{path} holds no problems: write one JSON object a line")
    return problems


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Writes a file of problems, atomically; `read_problems` gives equal ones back.

    Raises:
        ProblemError: A problem holds something that is not plain data.
    """
    text = "".join(json.dumps(record_of(problem), ensure_ascii=False) + "\n" for problem in problems)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def record_of(problem: Problem) -> dict[str, Any]:
    """Returns the JSON object of a problem; fields at their defaults are left out."""
    try:
        record: dict[str, Any] = {"id": problem.id, "statement": problem.statement}
        for key in ("initial_state", "entry_point", "preamble", "split", "band"):
            if getattr(problem, key):
                record[key] = getattr(problem, key)
        if problem.stop_strings:
            record["stop_strings"] = list(problem.stop_strings)
        if problem.limits != Limits():
            record["limits"] = {key: getattr(problem.limits, key) for key in _LIMIT_KEYS}
        if problem.canonical_solution is not None:
            record["canonical_solution"] = problem.canonical_solution
        if problem.metadata:
            record["metadata"] = {key: encode_value(value) for key, value in problem.metadata.items()}
        record["tests"] = _tests_record(problem.tests)
    except TypeError as error:
        raise ProblemError(f"problem {problem.id!r} cannot be written as JSON: {error}") from error
    return record


def _tests_record(tests: Tests) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": tests.kind}
    if tests.atol:
        record["atol"] = tests.atol
    if tests.all_or_nothing:
        record["all_or_nothing"] = True
    record["cases"] = [_case_record(case, tests.kind) for case in tests.cases]
    return record


def _case_record(case: Case, kind: str) -> dict[str, Any]:
    record: dict[str, Any] = {"id": case.id}
    needed = _NEEDED[kind]
    if case.args or "args" in needed:
        record["args"] = [encode_value(value) for value in case.args]
    if case.stdin or "stdin" in needed:
        record["stdin"] = case.stdin
    if case.code or "code" in needed:
        record["code"] = case.code
    if case.expected is not None or "expected" in needed:
        record["expected"] = encode_value(case.expected)
    return record


def _parse(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(record, dict):
        raise ValueError(f"a problem is a JSON object, got {_kind(record)}")
    return record


def problem_from_record(record: Mapping[str, Any]) -> Problem:
    """Returns the problem of a JSON object.

    Raises:
        ValueError: Something is missing, unknown, or of the wrong type; one line says what and what is allowed.
    """
    _check(record, _PROBLEM_KEYS, ("id", "statement", "tests"), "the problem")
    if not record["id"]:
        raise ValueError("id is empty: give the problem a name")
    stops = record.get("stop_strings", [])
    if not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError("stop_strings must be non-empty strings")
    initial = record.get("initial_state", "")
    if initial and not initial.endswith("\n"):
        raise ValueError("initial_state must end in a newline")
    tests = _tests_of(record["tests"])
    if tests.kind == "call" and not record.get("entry_point"):
        raise ValueError("tests of kind 'call' need entry_point: the name of the function to call")
    return Problem(
        id=record["id"],
        statement=record["statement"],
        initial_state=initial,
        entry_point=record.get("entry_point", ""),
        tests=tests,
        preamble=record.get("preamble", ""),
        stop_strings=tuple(stops),
        limits=_limits_of(record.get("limits", {})),
        canonical_solution=record.get("canonical_solution"),
        split=record.get("split", ""),
        band=record.get("band", ""),
        metadata={key: decode_value(value) for key, value in record.get("metadata", {}).items()},
    )


def _tests_of(record: Mapping[str, Any]) -> Tests:
    _check(record, _TESTS_KEYS, ("kind", "cases"), "tests")
    kind = record["kind"]
    if kind not in TEST_KINDS:
        raise ValueError(f"tests.kind is {kind!r}: use one of {', '.join(TEST_KINDS)}")
    if not record["cases"]:
        raise ValueError("tests.cases is empty: a problem needs at least one test")
    atol = float(record.get("atol", 0.0))
    if not 0.0 <= atol < float("inf"):
        raise ValueError(f"tests.atol is {atol}: use a finite number >= 0")
    cases = []
    for number, item in enumerate(record["cases"]):
        where = f"tests.cases[{number}]"
        if not isinstance(item, dict):
            raise ValueError(f"{where} must be an object, got {_kind(item)}")
        _check(item, _CASE_KEYS, _NEEDED[kind], where)
        if kind == "stdio" and not isinstance(item["expected"], str):
            raise ValueError(f"{where}.expected must be a string, got {_kind(item['expected'])}")
        cases.append(_case_of(item, number, where))
    ids = [case.id for case in cases]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"tests.cases has the id {twice!r} twice; ids are unique within a problem")
    return Tests(kind, tuple(cases), atol, record.get("all_or_nothing", False))


def _case_of(item: Mapping[str, Any], number: int, where: str) -> Case:
    try:
        return Case(
            id=item.get("id", f"test_{number}"),
            args=tuple(decode_value(value) for value in item.get("args", [])),
            stdin=item.get("stdin", ""),
            expected=decode_value(item.get("expected")),
            code=item.get("code", ""),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _limits_of(record: Mapping[str, Any]) -> Limits:
    _check(record, _LIMIT_KEYS, (), "limits")
    for key, value in record.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"limits.{key} is {value}: use a finite number > 0")
    return Limits(**record)


def _check(
    record: Mapping[str, Any], keys: Mapping[str, type | tuple[type, ...]], needed: Iterable[str], where: str
) -> None:
    for key in record:
        if key not in keys:
            raise ValueError(f"unknown key {key!r} in {where}: allowed are {', '.join(keys)}")
    for key in needed:
        if key not in record:
            raise ValueError(f"{where} has no {key!r}: add it")
    for key, value in record.items():
        allowed = keys[key]
        boolean = isinstance(value, bool) and allowed not in (bool, object)
        if boolean or not isinstance(value, allowed):
            names = " or ".join(_NAMES[t] for t in (allowed if isinstance(allowed, tuple) else (allowed,)))
            raise ValueError(f"{key!r} in {where} must be {names}, got {_kind(value)}")


_NAMES: dict[type, str] = {
    str: "a string",
    list: "an array",
    dict: "an object",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
