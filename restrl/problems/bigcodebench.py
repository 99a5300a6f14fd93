"""BigCodeBench (arXiv 2406.15877): functions that use many libraries, tested by the methods of a unittest class.

Two prompts for one set of tests: ``complete`` gives imports, signature and docstring; ``instruct`` gives words, and the
solution starts with imports and signature (``code_prompt``), as in ReST-RL. The reward is the share of test methods
passed; the benchmark itself asks for all of them (`Grade.passed`).

Records in the layout of the hub's ``bigcode/bigcodebench`` and ``bigcode/bigcodebench-hard``, or of SandboxFusion (the
``complete`` prompt in ``content``).
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from restrl.errors import ProblemError
from restrl.grading.unittests import declared_tests
from restrl.problems.convert import imported_packages, parse_json, parse_python, third_party
from restrl.problems.problem_set import HubSource, ProblemSet, Refusal, field
from restrl.types import Case, Limits, Problem, Tests

Variant = Literal["complete", "instruct"]
LIMITS = Limits(cpu_s=30.0, memory_bytes=8 << 30, output_bytes=16 << 20)
"""Per test method; importing some of the libraries takes seconds, and gigabytes of address space."""
NO_INSTRUCTION = "without an instruct prompt"
_END = ("\nif __name__", "\ndef main(", "\nprint(")
STOPS = (*_END, "\ndef ", "\nclass ", "\nimport ", "\nfrom ", "\nassert ")
"""The harness's for a model that completes code; for a chat model, only the first three."""
_REQUEST = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
_OPENING = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
)


def to_problem(record: Mapping[str, Any], where: str, variant: Variant = "instruct") -> Problem | Refusal:
    """Turns a record into a problem.

    Args:
        record: The record.
        where: ``file:line``.
        variant: Which prompt.

    Raises:
        ProblemError: The record is malformed.
    """
    record = _as_on_the_hub(record, where) if "complete_prompt" not in record and "content" in record else record
    name, entry = field(record, "task_id", str, where), field(record, "entry_point", str, where)
    if not name.strip():
        raise ProblemError(f"{where}: 'task_id' is empty; give the problem a name")
    if not entry.isidentifier() or keyword.iskeyword(entry):
        raise ProblemError(f"{where}: 'entry_point' is {entry[:60]!a}; allowed: the name of a function")
    complete, test = field(record, "complete_prompt", str, where), field(record, "test", str, where)
    body = field(record, "canonical_solution", (str, type(None)), where, None)
    code = field(record, "code_prompt", (str, type(None)), where, None)
    if variant == "instruct" and ("instruct_prompt" not in record or code is None):
        return Refusal(NO_INSTRUCTION)
    state = _line_end(complete if variant == "complete" else code or "")
    statement = complete if variant == "complete" else field(record, "instruct_prompt", str, where)
    asked = f"```\n{complete.strip()}\n```" if variant == "complete" else statement.strip()
    sources = (test, complete, state + body if body else state)
    return Problem(
        id=name,
        statement=statement,
        initial_state=state,
        entry_point=entry,
        tests=Tests("unittest", _cases(test, where), profile="lab", packages=_packages(record, sources, where)),
        preamble="" if variant == "complete" else _comment(statement),
        stop_strings=STOPS,
        limits=LIMITS,
        canonical_solution=state + body if body else None,
        split="test",
        metadata={"variant": variant},
        chat_message=f"{_REQUEST}\n{asked}\n",
        chat_opening=_OPENING,
        chat_stop_strings=_END,
    )


def _line_end(code: str) -> str:
    return code if not code or code.endswith("\n") else code + "\n"


def _comment(text: str) -> str:
    """An instruction in front of code, for a model without a chat template: the harness has none for this."""
    return '"""\n' + text.strip() + '\n"""\n'


def _cases(test: str, where: str) -> tuple[Case, ...]:
    """One case per test method; all carry the whole test code."""
    tree = parse_python(test)
    if tree is None:
        raise ProblemError(f"{where}: 'test' is not Python")
    if not any(isinstance(node, ast.ClassDef) and node.name == "TestCases" for node in tree.body):
        raise ProblemError(f"{where}: 'test' has no class TestCases")
    try:
        names = declared_tests(test)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise ProblemError(f"{where}: 'test' cannot be read: {type(error).__name__}") from error
    if not names:
        raise ProblemError(f"{where}: the class TestCases of 'test' has no test methods")
    return tuple(Case(name, code=test) for name in names)


def _packages(record: Mapping[str, Any], sources: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Third-party packages that the tests, the prompt or the solution import, or that the record lists."""
    listed = field(record, "libs", (str, list, type(None)), where, None) or []
    if isinstance(listed, str):
        try:
            listed = ast.literal_eval(listed)
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise ProblemError(f"{where}: 'libs' is not a list of names: {listed[:60]!a}") from error
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise ProblemError(f"{where}: 'libs' must be a list of names")
    names = {name.split(".")[0] for name in listed} | imported_packages(sources)
    # pandas imports what it reads and writes Excel files with by itself, and only then.
    if any(call in source for source in sources for call in ("read_excel", "to_excel", "ExcelWriter")):
        names.add("openpyxl")
    odd = next((name for name in names if not name.isidentifier()), None)
    if odd is not None:
        raise ProblemError(f"{where}: 'libs' has {odd[:60]!a}; allowed: names of imports")
    return third_party(names)


def _as_on_the_hub(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A record of SandboxFusion's layout with the hub's names."""
    labels = parse_json(field(record, "labels", str, where, "{}"), "'labels'", where)
    if not isinstance(labels, dict):
        raise ProblemError(f"{where}: 'labels' must be an object in JSON, got {type(labels).__name__}")
    names = {"id": "task_id", "content": "complete_prompt"}
    renamed = {names.get(key, key): value for key, value in record.items() if key != "labels"}
    return {**renamed, **({"entry_point": labels["entry_point"]} if "entry_point" in labels else {})}


def _set(summary: str, variant: Variant, hub: str, files: tuple[str, ...], variant_of: str = "") -> ProblemSet:
    converter: Callable[[Mapping[str, Any], str], Problem | Refusal] = partial(to_problem, variant=variant)
    return ProblemSet(
        summary,
        to_problem=converter,
        files={"": files},
        hub=HubSource(hub, {"": HUB_SPLIT}) if hub else None,
        variant_of=variant_of,
        licence="Apache-2.0, github.com/bigcode-project/bigcodebench",
        url=f"https://huggingface.co/datasets/{hub or 'bigcode/bigcodebench'}",
    )


HUB_SPLIT = "v0.1.4"
"""The hub has a split for each release of the benchmark."""
_FULL = ("bigcodebench/bigcodebench.jsonl*", "bigcodebench/v0*.parquet", "bigcodebench/BigCodeBench-v*.jsonl*")
_HARD = ("bigcodebench/bigcodebench_hard.jsonl*", "bigcodebench/BigCodeBench-Hard-v*.jsonl*")
INSTRUCT = _set("BigCodeBench: 1140 functions from words", "instruct", "bigcode/bigcodebench", _FULL)
COMPLETE = _set(
    "BigCodeBench: 1140 functions from a docstring", "complete", "bigcode/bigcodebench", _FULL, "bigcodebench"
)
HARD = _set("BigCodeBench-Hard: 148 functions from words", "instruct", "bigcode/bigcodebench-hard", _HARD)
HARD_COMPLETE = _set(
    "BigCodeBench-Hard: 148 functions from a docstring",
    "complete",
    "bigcode/bigcodebench-hard",
    _HARD,
    "bigcodebench/hard",
)
SAMPLE = _set(
    "BigCodeBench: functions of a sample file, from a docstring", "complete", "", ("bigcodebench/bigcodebench_sample*",)
)
