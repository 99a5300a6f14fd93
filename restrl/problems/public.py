"""What a problem itself shows of its tests: the examples in its text, and tests that the data set declares public.

Only what a solver may see is read: the prompt's text (the preamble and the initial state, the chat message or the
statement) and the tests whose ids are in ``metadata["public_tests"]``. No other test is looked at.
"""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
from typing import Any

from restrl.types import Case, Problem, Tests

MAX_EXAMPLES = 20
PUBLIC = "public_tests"
_ATOL = 1e-6
_ARROW = re.compile(r"\s*(?:==?>|->|➞|→|==|=|#\s*=>|(?:#\s*)?returns?|should return|evaluates to|gives|is)\s*:?\s*")
_HEAD = re.compile(r"^\W*(?:sample|example)?s?\W*(input|output)\s*#?\d*\W*$", re.IGNORECASE)
_END = re.compile(r"^\W*(note|notes|explanation|constraints|hint|task|examples?|sample|scoring)\b.*$", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]{2,}")


def public_examples(problem: Problem) -> tuple[Case, ...]:
    """Returns the examples of a problem, input and expected answer, as cases of kind ``call`` or ``stdio``.

    Tests that are declared public come first; if there are any, the text is not searched. In the text: calls of the
    entry point with literal arguments and a literal result (doctests, ``f(1) == 2``, ``f(1) -> 2``), or sections of
    sample input and output. None for problems whose programs are neither called nor read standard input.
    """
    declared = problem.metadata.get(PUBLIC) or ()
    if declared:
        names = set(declared)
        found = [case for case in problem.tests.cases if case.id in names]
        return tuple(dataclasses.replace(case, id=f"public_{i}") for i, case in enumerate(found[:MAX_EXAMPLES]))
    if problem.tests.kind == "stdio":
        pairs = _samples(visible_text(problem))
        cases = [Case(f"example_{i}", stdin=given, expected=wanted) for i, (given, wanted) in enumerate(pairs)]
    elif problem.tests.kind in ("call", "asserts") and problem.entry_point:
        names = {name.rpartition(".")[2] for name in problem.entry_point.split("|")}
        calls = _calls(visible_text(problem), names)
        cases = [Case(f"example_{i}", args=args, expected=wanted) for i, (args, wanted) in enumerate(calls)]
    else:
        cases = []
    return tuple(cases[:MAX_EXAMPLES])


def visible_text(problem: Problem) -> str:
    """Returns what a solver reads of a problem: the plain prompt, and the chat message or else the statement."""
    return f"{problem.preamble}\n{problem.initial_state}\n{problem.chat_message or problem.statement}"


def with_cases(problem: Problem, cases: tuple[Case, ...]) -> Problem:
    """Returns a problem with other cases in the place of its tests, and nothing left of those.

    The kind becomes ``call`` or ``stdio``; what programs may do and import stays. Solution and metadata are dropped.
    """
    tests = problem.tests
    kind = "stdio" if tests.kind == "stdio" else "call"
    return dataclasses.replace(
        problem,
        tests=Tests(
            "stdio" if kind == "stdio" else "call",
            cases,
            atol=tests.atol or (_ATOL if kind == "call" else 0.0),
            profile=tests.profile,
            packages=tests.packages,
            checker=tests.checker if tests.kind == "call" else "",
            prelude=tests.prelude,
        ),
        canonical_solution=None,
        metadata={},
    )


def public_problem(problem: Problem) -> Problem | None:
    """Returns the problem with its public examples as its only tests, or None where it shows none."""
    cases = public_examples(problem)
    return with_cases(problem, cases) if cases else None


def _calls(text: str, names: set[str]) -> list[tuple[tuple[Any, ...], Any]]:
    """Returns the (arguments, result) of every call in a text whose arguments and result are literals, each once."""
    found: dict[str, tuple[tuple[Any, ...], Any]] = {}
    lines = text.splitlines()
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(names))) + r")\(")
    for number, line in enumerate(lines):
        for match in pattern.finditer(line):
            if line[: match.start()].rstrip().endswith("def"):
                continue
            call = _balanced(line[match.start() :])
            args = _arguments(call)
            if args is None:
                continue
            rest = line[match.start() + len(call) :]
            is_doctest = line.lstrip().startswith(">>>") and not rest.strip()
            following = lines[number + 1] if is_doctest and number + 1 < len(lines) else ""
            result = _literal(following.strip()) if is_doctest else _result(rest)
            if result is not None:
                found.setdefault(repr(args), (args, result[0]))
    return list(found.values())


def _balanced(text: str) -> str:
    """Returns the beginning of a text up to the bracket that closes its first; all of it where none does."""
    depth, quote, previous = 0, "", ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote and previous != "\\" else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return text[: position + 1]
        previous = character
    return text


def _arguments(call: str) -> tuple[Any, ...] | None:
    try:
        node = ast.parse(call, mode="eval").body
        if not isinstance(node, ast.Call) or node.keywords:
            return None
        return tuple(ast.literal_eval(argument) for argument in node.args)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _result(rest: str) -> tuple[Any] | None:
    match = _ARROW.match(rest)
    if match is None or match.end() == 0:
        return None
    return _literal(rest[match.end() :])


def _literal(text: str) -> tuple[Any] | None:
    """Returns the literal that a text begins with, wrapped; None if it begins with none."""
    text = text.split('"""')[0].strip()
    # Where words follow, the literal ends before them; an operator would go on with it.
    pieces = (re.split(end, text)[0] for end in ("  ", " #", "; ", " and ", " or ", r" \(", ", ", r" (?=[A-Za-z]{2})"))
    for candidate in (text, _balanced(text), *pieces):
        try:
            return (ast.literal_eval(candidate.strip().rstrip(".,;`")),)
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
            continue
    return None


def _samples(text: str) -> list[tuple[str, str]]:
    """Returns the (input, output) pairs of the sample sections of a contest's statement."""
    sections: list[tuple[str, list[str]]] = []
    current: list[str] | None = None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            current = []
            sections.append((head.group(1).lower(), current))
        elif _END.match(line) and not line[:1].isspace():
            current = None
        elif current is not None:
            current.append(line)
    pairs: list[tuple[str, str]] = []
    for (kind, given), (other, wanted) in itertools.pairwise(sections):
        if kind == "input" and other == "output":
            pair = _block(given), _block(wanted)
            if pair[0] and pair[1] and pair not in pairs and _is_data(pair[0]) and _is_data(pair[1]):
                pairs.append(pair)
    return pairs


def _block(lines: list[str]) -> str:
    text = "\n".join(line for line in lines if not line.strip().startswith("```")).strip("\n")
    return text.split("\n\n\n")[0].strip("\n") + "\n" if text.strip() else ""


def _is_data(text: str) -> bool:
    """Whether a section is an example and not a description in words: no long line that ends like a sentence."""
    return not any(
        len(_WORD.findall(line)) >= 3 and line.rstrip().endswith((".", ":", ";")) for line in text.splitlines()
    )
