"""MBPP (arXiv 2108.07732): 974 functions described in a sentence, three asserts each; the sanitized 427 too.

Splits go by the task's number: 1-10 are the few-shot prompt, 11-510 the test split, 511-600 validation, 601-974 train.
The usual prompt is EvalPlus's: a docstring with the sentence and the first assert. The paper's prompt with three solved
tasks (2, 3 and 4, of the data) is a set of its own.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from restrl.errors import ProblemError
from restrl.problems import humaneval
from restrl.problems.problem_set import HubSource, ProblemSet, field, strings
from restrl.problems.source_code import imported, parse, third_party
from restrl.types import Case, Limits, Problem, Tests

STOPS = ('\n"""', "\nassert", "\nif __name__", "\ndef main(", "\nprint(")
SHOTS = ("Mbpp/2", "Mbpp/3", "Mbpp/4")
CPU_S = 10.0
"""CPU seconds per test: the slowest of the data's own solutions (Mbpp/123) takes half of it."""
_SPLITS = (("prompt", 10), ("test", 510), ("validation", 600), ("train", 974))
_IN_PROCESS_ENTRY = "left_side"


def normalise(code: str) -> str:
    """Returns code with one kind of line end, without blank lines at its ends."""
    return code.replace("\r\n", "\n").replace("\r", "\n").strip("\n") + "\n"


def split_of(number: int) -> str:
    """Returns the split of a task's number; empty for a number that MBPP does not have."""
    return next((name for name, last in _SPLITS if 1 <= number <= last), "")


def to_problem(record: Mapping[str, Any], where: str) -> Problem:
    """Turns a record of MBPP or of sanitized MBPP into a problem.

    Raises:
        ProblemError: The record is malformed.
    """
    return _problem(record, where, strings(record, "test_list", where))


def with_challenge(record: Mapping[str, Any], where: str) -> Problem | None:
    """The same with the challenge tests after the usual ones; None for a record that has none."""
    more = strings(record, "challenge_test_list", where, [])
    return _problem(record, where, strings(record, "test_list", where) + more) if more else None


def program_to_problem(record: Mapping[str, Any], where: str) -> Problem:
    """Turns a record of MBPP+ as the hub has it (all tests in one program) into a problem.

    Raises:
        ProblemError: The record is malformed.
    """
    problem = _problem(record, where, strings(record, "test_list", where))
    test = normalise(field(record, "test", str, where))
    packages = third_party(parse(test, where))
    tests = Tests("asserts", (Case("plus", code=test),), all_or_nothing=True, packages=packages)
    return dataclasses.replace(problem, tests=tests, split="test")


def _problem(record: Mapping[str, Any], where: str, asserts: Sequence[str]) -> Problem:
    number = field(record, "task_id", int, where)
    text = field(record, "text" if "text" in record else "prompt", str, where).strip()
    code = normalise(field(record, "code", str, where))
    setup = [*strings(record, "test_imports", where, []), field(record, "test_setup_code", str, where, "")]
    if not asserts:
        raise ProblemError(f"{where}: the task {number} has no tests")
    name, tests = _tests(code, [normalise(item) for item in asserts], _joined(setup), where)
    prompt = f'"""\n{text}\n{asserts[0].strip()}\n"""\n'
    return Problem(
        id=f"Mbpp/{number}",
        statement=_statement(text, asserts),
        initial_state="",
        entry_point=name,
        tests=tests,
        preamble=prompt,
        stop_strings=STOPS,
        limits=Limits(cpu_s=CPU_S),
        canonical_solution=code,
        split=split_of(number),
        metadata={"text": text, "asserts": [item.strip() for item in asserts]},
        chat_message=humaneval.chat_message(prompt),
        chat_opening=humaneval.CHAT_OPENING,
        chat_stop_strings=humaneval.CHAT_STOPS,
    )


def _statement(text: str, asserts: Sequence[str]) -> str:
    return f"{text}\nYour code should pass these tests:\n" + "\n".join(item.strip() for item in asserts)


def _joined(parts: Sequence[str]) -> str:
    return "".join(normalise(part) for part in dict.fromkeys(parts) if part.strip())


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _tests(code: str, asserts: list[str], setup: str, where: str) -> tuple[str, Tests]:
    """Returns (the function that the tests call, the tests).

    The tests run apart from the program, which they reach through that function alone. Where they use another name that
    the solution defines (a class of their arguments), or pass a type, only the values of their left sides leave the
    program's process.
    """
    tree, test = parse(code, where), parse(setup + "".join(asserts), where)
    used = _names(test)
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in used]
    if not functions:
        raise ProblemError(f"{where}: the tests call no function that the record's code defines")
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name in used]
    if len(functions) > 1 or classes or _passes_builtins(test):
        return _beside(asserts, setup, where)
    needed = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = "".join(ast.unparse(node) + "\n" for node in needed if used & set(imported(node)))
    cases = [Case(f"assert_{number}", code=lines + setup + item) for number, item in enumerate(asserts)]
    return functions[0], Tests("asserts", tuple(cases))


def _passes_builtins(tree: ast.AST) -> bool:
    """Is a built-in type or function an argument? It is no plain data."""
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    return any(hasattr(builtins, node.id) for node in names)


def _beside(asserts: list[str], setup: str, where: str) -> tuple[str, Tests]:
    """Tests ``assert LEFT == LITERAL`` as calls of a function that evaluates the left sides beside the program."""
    branches, cases = [], []
    for number, item in enumerate(asserts):
        test = parse(item, where).body[0]
        compare = test.test if isinstance(test, ast.Assert) else None
        if not (isinstance(compare, ast.Compare) and len(compare.ops) == 1 and isinstance(compare.ops[0], ast.Eq)):
            raise ProblemError(f"{where}: the test {item.strip()!r} is not of the form 'assert LEFT == VALUE'")
        try:
            expected = ast.literal_eval(compare.comparators[0])
        except ValueError:
            raise ProblemError(f"{where}: the right side of the test {item.strip()!r} is not a literal") from None
        body = "".join(f"        {line}\n" for line in setup.splitlines())
        branches.append(f"    if number == {number}:\n{body}        return {ast.unparse(compare.left)}\n")
        cases.append(Case(f"assert_{number}", args=(number,), expected=expected))
    prelude = f"def {_IN_PROCESS_ENTRY}(number):\n" + "".join(branches)
    return _IN_PROCESS_ENTRY, Tests("call", tuple(cases), checker="evalplus", prelude=prelude)


def three_shot(problems: Iterator[Problem]) -> Iterator[Problem]:
    """Puts the paper's prompt, with three solved tasks of the data, before every problem.

    Raises:
        ProblemError: The data lack one of the three.
    """
    everything = list(problems)
    by_id = {problem.id: problem for problem in everything}
    missing = [name for name in SHOTS if name not in by_id]
    if missing:
        raise ProblemError(f"the data lack {', '.join(missing)}, of which the prompt is made; use the whole file")
    shots = "".join(f"{_task(by_id[name])}{by_id[name].canonical_solution}[DONE]\n\n" for name in SHOTS)
    for problem in everything:
        preamble = shots + _task(problem)
        yield dataclasses.replace(problem, preamble=preamble, stop_strings=("[DONE]",), chat_stop_strings=("[DONE]",))


def _task(problem: Problem) -> str:
    text, asserts = problem.metadata["text"], problem.metadata["asserts"]
    return (
        f"You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n"
        + "\n".join(asserts)
        + "\n[BEGIN]\n"
    )


MBPP = ProblemSet(
    "MBPP: 974 functions from a sentence and an assert; three asserts each",
    to_problem=to_problem,
    files={"": ("mbpp/mbpp.jsonl.gz", "mbpp/mbpp.jsonl")},
    hub=HubSource(
        "google-research-datasets/mbpp",
        {"prompt": "prompt", "test": "test", "validation": "validation", "train": "train"},
        config="full",
    ),
    splits=tuple(name for name, _ in _SPLITS),
    licence="CC-BY-4.0, github.com/google-research/google-research mbpp/",
    url="https://huggingface.co/datasets/google-research-datasets/mbpp",
)
MBPP_THREE_SHOT = dataclasses.replace(
    MBPP, summary="MBPP with the paper's prompt of three solved tasks", arrange=three_shot, variant_of="mbpp"
)
MBPP_CHALLENGE = dataclasses.replace(
    MBPP, summary="the tasks of MBPP that have challenge tests, with them", to_problem=with_challenge
)
MBPP_SANITIZED = dataclasses.replace(
    MBPP,
    summary="the 427 tasks of MBPP that its authors checked by hand",
    files={"": ("mbpp/mbpp_sanitized.jsonl.gz", "mbpp/mbpp_sanitized.jsonl", "mbpp/sanitized-mbpp.json")},
    hub=HubSource("google-research-datasets/mbpp", MBPP.hub.splits if MBPP.hub else {}, config="sanitized"),
)
