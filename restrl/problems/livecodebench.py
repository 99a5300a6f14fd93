"""LiveCodeBench (arXiv 2403.07974), code generation: contest problems with public and private tests; pass or fail.

Prompts are those of its harness: the generic one for chat models; its base-model layout with a solved example before
it (see `livecodebench_example`).
Private tests may be base64(zlib(pickle(JSON text))): `decode_tests` reads them with a list of allowed pickle opcodes,
none of which can import or call, and with caps on every size.

Records in the layout of the hub's ``livecodebench/code_generation_lite``, or of SandboxFusion (whole question in
``content``; ``labels``; all tests in ``test``).
"""

from __future__ import annotations

import base64
import binascii
import datetime
import io
import json
import keyword
import pickle
import pickletools
import re
import statistics
import zlib
from collections.abc import Mapping
from typing import Any

from restrl.errors import ProblemError
from restrl.problems.convert import as_text, parse_json
from restrl.problems.livecodebench_example import layout, with_example
from restrl.problems.problem_set import HubSource, ProblemSet, Refusal, field
from restrl.types import Case, Limits, Problem, Tests

MAX_TEXT_BYTES = 1 << 28
"""Longest decoded text of tests, bytes; nothing larger is ever unpacked."""
CPU_S = 6.0
"""CPU seconds per test, as in the harness."""

# The slow ones by name, so that the grader can leave out what a program does not use.
_STARS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("string", ()),
    ("re", ()),
    ("datetime", tuple(datetime.__all__)),
    ("collections", ()),
    ("heapq", ()),
    ("bisect", ()),
    ("copy", ()),
    ("math", ()),
    ("random", ()),
    ("statistics", tuple(statistics.__all__)),
    ("itertools", ()),
    ("functools", ()),
    ("operator", ()),
    ("io", ()),
    ("sys", ()),
    ("json", tuple(json.__all__)),
    ("builtins", ()),
    ("typing", ()),
)
PRELUDE = (
    "".join(f"from {module} import {', '.join(names) or '*'}\n" for module, names in _STARS)
    + "".join(f"import {module}\n" for module, _ in _STARS if module not in ("builtins", "typing"))
    + "sys.setrecursionlimit(50000)\n"
)
"""What the harness imports before every program: everything in these modules, then the modules themselves."""
STOPS = ("\n### ", "```")
_SYSTEM = (
    "You are an expert Python programmer. You will be given a question (problem specification) and will generate a "
    "correct Python program that matches the specification and passes all tests. You will NOT return anything except "
    "for the program."
)
_WITH_STARTER = (
    "You will use the following starter code to write the solution to the problem and enclose your code within "
    "delimiters."
)
_WITHOUT_STARTER = (
    "Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on the sample "
    "inputs). Enclose your code within delimiters as follows."
)
_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    )
)
"""What a pickle of strings is made of: nothing here imports, calls or refers."""


def to_problem(record: Mapping[str, Any], where: str) -> Problem | Refusal:
    """Turns a record into a problem; ``metadata["public_tests"]`` has the ids of the tests that a solver may see.

    Raises:
        ProblemError: The record is malformed.
    """
    if "question_content" not in record and "content" in record:
        return _from_sandbox_fusion(record, where)
    question = field(record, "question_content", str, where)
    starter = field(record, "starter_code", (str, type(None)), where, "") or ""
    details = parse_json(field(record, "metadata", str, where, "{}") or "{}", "'metadata'", where)
    if not isinstance(details, dict):
        raise ProblemError(f"{where}: 'metadata' must be an object in JSON, got {type(details).__name__}")
    function = field(details, "func_name", (str, type(None)), where, None) or ""
    public = _read_tests(field(record, "public_test_cases", (str, list), where), "'public_test_cases'", where)
    private = _read_tests(field(record, "private_test_cases", (str, list), where), "'private_test_cases'", where)
    platform = field(record, "platform", (str, type(None)), where, "") or ""
    details = {key: field(record, key, (str, type(None)), where, "") or "" for key in ("question_title", "contest_id")}
    # What reads JSON for the hub takes dates for dates.
    day = field(record, "contest_date", (str, datetime.date, type(None)), where, "") or ""
    details["contest_date"] = day if isinstance(day, str) else day.isoformat()
    return _problem(
        name=f"livecodebench/{field(record, 'question_id', str, where)}",
        question=question,
        starter=starter,
        tests=[*public, *private],
        num_public=len(public),
        function=function,
        band=field(record, "difficulty", (str, type(None)), where, "") or "",
        metadata={"platform": platform, **details},
        where=where,
    )


def decode_tests(text: str, where: str) -> str:
    """Returns the JSON text inside base64(zlib(pickle(text))), or inside a dictionary ``{"input_output": text}``.

    Raises:
        ProblemError: It is something else, holds anything but strings, or unpacks to more than `MAX_TEXT_BYTES`.
    """
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProblemError(f"{where}: the private tests are neither JSON nor base64: {error}") from error
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed, MAX_TEXT_BYTES)
    except zlib.error as error:
        raise ProblemError(f"{where}: the private tests are not packed by zlib: {error}") from error
    if not unpacker.eof:
        short = "are cut off" if not unpacker.unconsumed_tail else f"unpack to more than {MAX_TEXT_BYTES} bytes"
        raise ProblemError(f"{where}: the private tests {short}")
    value = _load_strings(raw, where)
    if isinstance(value, dict) and set(value) == {"input_output"}:
        value = value["input_output"]
    if type(value) is not str:
        raise ProblemError(f"{where}: the private tests hold a {type(value).__name__}; allowed: a string")
    return value


class _Strings(pickle.Unpickler):
    """Has no classes. The opcodes are checked before; this is the second lock."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        raise pickle.UnpicklingError("classes are not allowed")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("references are not allowed")


def _load_strings(raw: bytes, where: str) -> Any:
    """Unpickles strings and dictionaries of strings; any opcode that could do more is refused unread."""
    try:
        for opcode, _, _ in pickletools.genops(raw):
            if opcode.name not in _OPCODES:
                raise ProblemError(f"{where}: the private tests use the pickle opcode {opcode.name}; allowed: strings")
        return _Strings(io.BytesIO(raw)).load()
    except ProblemError:
        raise
    except Exception as error:  # damaged pickles raise nearly every class there is
        raise ProblemError(f"{where}: the private tests are a damaged pickle ({type(error).__name__})") from error


def _read_tests(value: Any, what: str, where: str) -> list[dict[str, Any]]:
    """Returns the tests of a field: an array, its JSON text, or the packed form of that text."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return []
        value = parse_json(text if text[0] in "[{" else decode_tests(text, where), what, where)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ProblemError(f"{where}: {what} must be an array of objects")
    return value


def _problem(
    *,
    name: str,
    question: str,
    starter: str,
    tests: list[dict[str, Any]],
    num_public: int,
    function: str,
    band: str,
    metadata: dict[str, Any],
    where: str,
) -> Problem | Refusal:
    if not tests:
        return Refusal("without tests")
    kinds = {field(test, "testtype", str, where) for test in tests}
    if kinds not in ({"stdin"}, {"functional"}):
        raise ProblemError(
            f"{where}: the tests' types are {sorted(kinds)!a}; allowed: all stdin, or all functional"[:400]
        )
    functional = kinds == {"functional"}
    if functional and (not function.isidentifier() or keyword.iskeyword(function)):
        raise ProblemError(f"{where}: functional tests need 'func_name' in 'metadata', got {function[:60]!a}")
    cases = tuple(_case(test, number, functional, where) for number, test in enumerate(tests))
    form, given = (_WITH_STARTER, starter) if starter else (_WITHOUT_STARTER, "# YOUR CODE HERE")
    return Problem(
        id=name,
        statement=question,
        initial_state="",
        entry_point=f"Solution.{function}|{function}" if functional else "",
        tests=Tests(
            "call" if functional else "stdio",
            cases,
            all_or_nothing=True,
            checker="json" if functional else "",
            prelude=PRELUDE,
        ),
        preamble=layout(question, starter),
        stop_strings=STOPS,
        limits=Limits(cpu_s=CPU_S),
        split="test",
        band=band,
        metadata={**metadata, "starter": bool(starter), "public_tests": [case.id for case in cases[:num_public]]},
        chat_message=(
            f"{_SYSTEM}\n### Question:\n{question}\n\n### Format: {form}\n```python\n{given}\n```\n\n"
            "### Answer: (use the provided format with backticks)\n\n"
        ),
    )


def _case(test: Mapping[str, Any], number: int, functional: bool, where: str) -> Case:
    name = f"test_{number}"
    given, wanted = field(test, "input", str, where), field(test, "output", str, where)
    if not functional:
        return Case(name, stdin=as_text(given, "input", where), expected=as_text(wanted, "output", where))
    lines = given.split("\n") if given else []
    args = tuple(parse_json(line, f"line {i + 1} of the input of {name}", where) for i, line in enumerate(lines))
    return Case(name, args=args, expected=parse_json(wanted, f"the output of {name}", where))


def _from_sandbox_fusion(record: Mapping[str, Any], where: str) -> Problem | Refusal:
    content = field(record, "content", str, where)
    labels = parse_json(field(record, "labels", str, where, "{}"), "'labels'", where)
    if not isinstance(labels, dict):
        raise ProblemError(f"{where}: 'labels' must be an object in JSON, got {type(labels).__name__}")
    pairs = parse_json(decode_tests(field(record, "test", str, where), where), "'test'", where)
    if not isinstance(pairs, dict):
        raise ProblemError(f"{where}: 'test' must hold an object, got {type(pairs).__name__}")
    inputs, outputs = field(pairs, "inputs", list, where), field(pairs, "outputs", list, where)
    if len(inputs) != len(outputs):
        return Refusal("whose inputs and outputs differ in number")
    function = field(pairs, "fn_name", (str, type(None)), where, None) or ""
    kind = "functional" if function else "stdin"
    tests = [{"input": a, "output": b, "testtype": kind} for a, b in zip(inputs, outputs, strict=True)]
    question, starter = _parts_of_prompt(content)
    return _problem(
        name=f"livecodebench/{field(labels, 'task_id', str, where)}",
        question=question,
        starter=starter if function else "",
        tests=tests,
        num_public=0,
        function=function,
        band=field(labels, "difficulty", (str, type(None)), where, "") or "",
        metadata={"platform": field(labels, "category", (str, type(None)), where, "") or ""},
        where=where,
    )


def _parts_of_prompt(content: str) -> tuple[str, str]:
    """Takes the question and the starter code out of a whole prompt of the harness."""
    text = content.split("### Question:\n", 1)[-1]
    question, _, rest = text.partition("\n### Format: ")
    fenced = re.search(r"```python\n(.*?)\n```", rest, re.DOTALL)
    starter = fenced.group(1) if fenced is not None else ""
    return question.removesuffix("\n"), starter


LIVECODEBENCH = ProblemSet(
    "LiveCodeBench: contest problems, all versions",
    to_problem=to_problem,
    arrange=with_example,
    files={"test": ("livecodebench/test*.jsonl*", "livecodebench/*.parquet")},
    hub=HubSource("livecodebench/code_generation_lite", {"test": "test"}, data_files={"test": "test*.jsonl"}),
    splits=("test",),
    licence="statements belong to LeetCode, AtCoder and Codeforces",
    url="https://huggingface.co/datasets/livecodebench/code_generation_lite",
)
SAMPLE = ProblemSet(
    "LiveCodeBench: problems of a sample file",
    to_problem=to_problem,
    arrange=with_example,
    files={"": ("livecodebench/lcb_*sample*",)},
    licence="statements belong to LeetCode, AtCoder and Codeforces",
    url="https://github.com/bytedance/SandboxFusion",
)
