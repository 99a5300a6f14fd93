"""Public examples and invented inputs: what is read, and that nothing hidden is."""

import ast
import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.problems import load_set
from restrl.problems.invented import argument_shapes, generate_inputs, probe_problem, shape_of
from restrl.problems.public import public_examples, public_problem, with_cases
from restrl.starter.generator import problem_at
from restrl.types import Case, Problem, Tests


class Hidden(tuple):
    """Tests that nobody may look at."""

    def _refuse(self, *_):
        raise AssertionError("hidden tests were touched")

    __iter__ = __len__ = __getitem__ = __contains__ = __bool__ = __hash__ = __eq__ = _refuse


def function(text, signature="def f(x, y=0):", kind="call", entry="f", **more):
    state = f'{signature}\n    """{text}"""\n'
    return Problem("p", text, state, entry, Tests(kind, Hidden()), **more)


def pairs(problem):
    return [(case.args, case.expected) for case in public_examples(problem)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (">>> f([1, 2], 'a)')\n    (3, 'x')\n    ", [(([1, 2], "a)"), (3, "x"))]),
        ("for f(3) == 9 and f(4, -1) == 2.5.", [((3,), 9), ((4, -1), 2.5)]),
        (
            "f('a') ➞ True\n    f('b') => False  # because\n    f('c') -> []",
            [(("a",), True), (("b",), False), (("c",), [])],
        ),
        ("f(1) # returns 4\n    f(2) should return {'a': 1}.", [((1,), 4), ((2,), {"a": 1})]),
        ("assert f(2) == None", [((2,), None)]),
        ("f(1) == 1, f(1) == 1", [((1,), 1)]),
        ("f(1) == 2", [((1,), 2)]),
        ("f(19) -> 19 - 5 - 6 = 8, f(2) -> 3 because it is odd", [((2,), 3)]),
        ("f(n) == 3, g(1) == 2, f(x=1) == 2, f(open('a')) == 3, calls f(1) twice, if(1) == 2", []),
        (">>> f(1)\n    Traceback (most recent call last):\n    >>> f(2)\n    5", [((2,), 5)]),
    ],
)
def test_examples_in_a_docstring(text, expected):
    assert pairs(function(text)) == expected


def test_what_only_the_statement_says_is_not_shown_where_a_chat_message_takes_its_place():
    shown = function("f(1) == 2")
    hidden = dataclasses.replace(shown, initial_state="def f(x):\n", chat_message="Write f.")
    assert pairs(dataclasses.replace(shown, initial_state="def f(x):\n")) == [((1,), 2)] and pairs(hidden) == []


CONTEST = """Add the numbers.
-----Input-----
The first line contains n. The second line contains n numbers.

-----Output-----
Print the sum.

-----Examples-----
Input
3
1 2 3

Output
6

Input
1
-4
Output
-4

-----Note-----
In the first sample the sum is 6.
"""


def test_examples_of_a_contest():
    problem = Problem("c", CONTEST, "", "", Tests("stdio", Hidden()))
    examples = public_examples(problem)
    assert [(case.stdin, case.expected) for case in examples] == [("3\n1 2 3\n", "6\n"), ("1\n-4\n", "-4\n")]
    for case in generate_inputs(problem, 0, 5):
        lines = case.stdin.splitlines()
        assert lines[0] in ("3", "1") and len(lines[1].split()) == int(lines[0]) and case.stdin != "3\n1 2 3\n"


def test_declared_tests_are_shown_and_no_other():
    cases = tuple(Case(name, stdin=name, expected="1") for name in ("public_0", "private_0", "public_1"))
    tests = Tests("stdio", cases, all_or_nothing=True)
    problem = Problem("c", CONTEST, "", "", tests, metadata={"public_tests": ["public_0", "public_1"]})
    shown = public_problem(problem)
    assert [case.stdin for case in shown.tests.cases] == ["public_0", "public_1"]
    assert "private_0" not in repr(shown) and "private_0" not in repr(probe_problem(problem, 0))


def test_nothing_of_the_tests_is_left():
    problem = function("f(1) == 2", canonical_solution="def f(x): return 2\n", metadata={"solutions": 3})
    stripped = public_problem(problem)
    assert stripped.tests.kind == "call" and stripped.canonical_solution is None and stripped.metadata == {}
    asserts = with_cases(function("", kind="asserts"), (Case("a", (1,), expected=1),))
    assert asserts.tests.kind == "call" and asserts.tests.atol > 0
    assert public_problem(function("nothing here")) is None
    for kind in ("script", "unittest"):
        assert public_problem(function("f(1) == 2", kind=kind)) is None
        assert probe_problem(function("f(1) == 2", kind=kind), 0) is None


@pytest.mark.parametrize(
    ("signature", "text", "shapes"),
    [
        ("def f(a: int, b: List[str], c: 'dict[str, float]'):", "", ["int", "list[str]", "dict[str,float]"]),
        ("def f(a: Optional[Tuple[int, ...]], b: int | None = 3):", "", ["list[int]"]),
        ("def f(xs, k):", "", ["list[int]", "int"]),
        ("def f(words, s, d):", "", ["list[str]", "str", "dict[str,int]"]),
        ("def f(xs, k):", "f('ab', [[2.5]]) == 1", ["str", "list[list[float]]"]),
        ("def f(self, grid) -> int:", "", ["list[list[int]]"]),
    ],
)
def test_types_come_from_annotations_then_examples_then_names(signature, text, shapes):
    problem = function(text, signature)
    found = argument_shapes(problem, [case.args for case in public_examples(problem)])
    assert [written(options[0]) for options in found] == shapes


def written(shape):
    return shape[0] + (f"[{','.join(map(written, shape[1:]))}]" if len(shape) > 1 else "")


def test_inputs_fit_the_starters_programs():
    """A program that is right on its own inputs fails on none of the invented ones: checked by running it."""
    for number in range(12):
        problem = problem_at("validation", number)
        inputs = generate_inputs(problem, 3, 12)
        names = {}
        exec(compile(problem.canonical_solution, "solution", "exec"), names)
        assert len(inputs) == 12 and len({repr(case.args) for case in inputs}) == 12
        assert len({repr(names["solve"](*ast.literal_eval(repr(case.args)))) for case in inputs}) > 1


@given(st.integers(0, 2**40), st.integers(0, 15))
@settings(deadline=None, max_examples=20)
def test_inputs_depend_on_the_seed_alone(seed, count):
    problem = function("f([1], {'a': (2, 'x')}, 1.5, {3}) == 1", "def f(a, b, c, e):")
    one, other = generate_inputs(problem, seed, count), generate_inputs(problem, seed, count)
    assert one == other and len(one) == count
    for case in one:
        assert [written(shape_of(value))[:4] for value in case.args] == ["list", "dict", "floa", "set["]


def test_examples_come_first_and_then_invented_inputs():
    problem = function("f([1, 2]) == 3", "def f(xs):")
    probe = probe_problem(problem, 0, 4)
    assert [case.id for case in probe.tests.cases] == ["example_0", "input_0", "input_1", "input_2"]
    assert [case.expected for case in probe.tests.cases] == [None] * 4 and probe.limits.cpu_s <= 1.0
    no_signature = Problem("p", "Do something.", "", "f", Tests("asserts", Hidden()))
    assert probe_problem(no_signature, 0) is None


WRONG_IN_THE_DATA = {"HumanEval/47", "HumanEval/116", "HumanEval/130", "HumanEval/148"}


@pytest.mark.benchmarks
@pytest.mark.skipif(
    not Path(os.environ.get("RESTRL_BENCHMARKS", ""), "humaneval").is_dir(),
    reason="no benchmark data: name their folder in RESTRL_BENCHMARKS",
)
def test_the_examples_of_humaneval_are_those_that_its_solutions_meet():
    from restrl.grading.grader import SandboxGrader

    problems = [(problem, public_problem(problem)) for problem in load_set("humaneval").problems]
    shown = [(public, problem.canonical_solution) for problem, public in problems if public is not None]
    with SandboxGrader() as grader:
        grades = grader.grade(shown)
    assert len(shown) > 130 and {grade.problem_id for grade in grades if not grade.passed} == WRONG_IN_THE_DATA
