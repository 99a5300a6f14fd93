"""Tests of kind asserts: test code and program in two processes, and nothing but plain data between them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from restrl.errors import ProblemError
from restrl.types import Case, Limits, Problem, Tests

CHECK = """
def check(candidate):
    assert candidate(2) == 11, "two"
    assert abs(candidate(3) - 16) < 1e-9
    assert helper(candidate(0)) == 8
    assert f(x=1) == 8
check(f)
"""
PRELUDE = 'def helper(n):\n    return n + 1\n\ndef f(x):\n    """Square plus seven."""\n'
GOOD = PRELUDE + "    return x * x + 7\n"


def problem(code=CHECK, **limits):
    return Problem("a", "", PRELUDE, "f", Tests("asserts", (Case("check", code=code),)), limits=Limits(**limits))


def verdict(grader, program, **kwargs):
    (only,) = grader.grade([(problem(**kwargs), program)])[0].verdicts
    return only.verdict


def test_a_correct_program_passes(grader):
    assert verdict(grader, GOOD) == "pass"


def test_many_calls_that_are_too_slow_together_are_a_timeout(grader):
    """None of them is over the limit; the process's own net ends the program."""
    slow = (
        "import time\n"
        + PRELUDE
        + ("    end = time.process_time() + 0.3\n    while time.process_time() < end: pass\n    return x * x + 7\n")
    )
    many = "def check(candidate):\n    for x in range(20):\n        candidate(x)\ncheck(f)\n"
    assert verdict(grader, slow, code=many, cpu_s=0.5) == "timeout"


LIAR = """
class E:
    def __eq__(s, o): return True
    def __sub__(s, o): return s
    def __abs__(s): return s
    def __lt__(s, o): return True
    def __add__(s, o): return 8
"""


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (PRELUDE + "    return x\n", {"wrong"}),
        (LIAR + "def f(x): return E()\n", {"wrong"}),
        ("import os\ndef f(x): os._exit(0)\n", {"error"}),
        ("import sys\nsys.exit(0)\n", {"error"}),
        ("def f(x): raise SystemExit(0)\n", {"error"}),
        ("def check(c): pass\ndef f(x): return None\n", {"wrong", "error"}),
        ("import builtins\nbuiltins.abs = lambda v: 0\ndef f(x): return 0\n", {"wrong"}),
        ("def f(x):\n while True: pass\n", {"timeout"}),
        ("while True: pass\n", {"timeout"}),
        ("def f(x): return 'x' * (64 << 20)\n", {"output"}),
        (
            "import os\ndef f(x):\n for n in range(3, 64):\n  try: os.write(n, b'P' * 99)\n  except OSError: pass\n",
            {"error", "wrong", "output", "timeout"},
        ),
        ("def f(x): return float('nan')\n", {"wrong"}),
        ("def g(x): return 1\n", {"error"}),
    ],
)
def test_a_wrong_program_does_not(grader, program, expected):
    assert verdict(grader, program, cpu_s=0.5) in expected
    assert verdict(grader, GOOD) == "pass"


def test_expected_exceptions_cross_by_name(grader):
    code = "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False\n"
    assert verdict(grader, "def f(x): raise ValueError('no')\n", code=code) == "pass"
    assert verdict(grader, "def f(x): raise KeyError('no')\n", code=code) == "error"
    assert (
        verdict(grader, "def f(x): raise AssertionError\n", code="try:\n f(1)\nexcept AssertionError: pass") == "error"
    )


def test_of_a_match_object_the_truth_value_crosses(grader):
    program = "import re\ndef f(x): return re.search('a', x)\n"
    assert verdict(grader, program, code="assert f('cat')\nassert not f('dog')\nassert f('cat') != 'a'") == "pass"
    assert verdict(grader, program, code="assert f('dog')") == "wrong"
    assert verdict(grader, program, code="assert f('cat') == 'a'") == "wrong"
    false = "class N:\n def __bool__(s): return False\n def __eq__(s, o): return True\ndef f(x): return N()\n"
    assert verdict(grader, false, code="assert f(1) is None") == "wrong"
    assert verdict(grader, false, code="assert f(1) == None") == "wrong"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("assert f(3) == range(3) and len(f(3)) == 3 and f(10 ** 12)[-1] == 10 ** 12 - 1", "range(x)"),
        ("assert list(f(3)) == [0, 1, 2]", "map(int, range(x))"),
        ("assert sorted(f(3)) == [0, 1, 2]", "(n for n in range(x))"),
        ("assert next(f(3)) == (1, 2)", "zip([1], [2])"),
        ("assert set(f(3)) == {0, 1, 2} and f(3) == {0, 1, 2}", "dict.fromkeys(range(x)).keys()"),
        ("assert list(f(2)) == [None, None]", "dict.fromkeys(range(x)).values()"),
        ("assert sorted(f(2)) == [(0, 0), (1, 0)]", "dict.fromkeys(range(x), 0).items()"),
        ("assert list(f(3)) == [[1, 2, 3]]", "__import__('itertools').chain([[1, 2, 3]])"),
        ("assert list(f(3)) == [2, 1, 0]", "reversed(range(x))"),
    ],
)
def test_what_tests_go_through_crosses_by_what_it_yields(grader, code, result):
    assert verdict(grader, f"def f(x): return {result}\n", code=code) == "pass"
    assert verdict(grader, "def f(x): return iter([object()])\n", code=code) != "pass"
    assert verdict(grader, "def f(x): return iter(['wrong'])\n", code=code) != "pass"


def test_iterators_are_no_lists_and_may_be_endless(grader):
    assert verdict(grader, "def f(x): return iter([1, 2])\n", code="assert f(1) == [1, 2]") == "wrong"
    endless = "import itertools\ndef f(x): return itertools.count()\n"
    assert verdict(grader, endless, code="assert f(1)") == "pass"
    assert verdict(grader, endless, code="assert list(f(1)) == [0]") == "error"
    equal = "class E:\n def __iter__(s): return s\n def __next__(s): return s\n def __eq__(s, o): return True\n"
    assert verdict(grader, f"{equal}def f(x): return E()\n", code="assert f(1) == [0]") == "wrong"


def test_every_case_counts(grader):
    cases = (
        Case("a", code="assert f(1) == 8"),
        Case("b", code="assert f(2) == 0"),
        Case("c", code="assert f(3) == 16"),
    )
    grade = grader.grade([(Problem("a", "", PRELUDE, "f", Tests("asserts", cases)), GOOD)])[0]
    assert [v.verdict for v in grade.verdicts] == ["pass", "wrong", "pass"] and grade.reward == pytest.approx(2 / 3)
    assert grade.assurance == "isolated" and grade.cpu_s > 0


def test_broken_test_code_is_refused(grader):
    with pytest.raises(ProblemError, match="not Python"):
        grader.grade([(problem(code="assert ("), GOOD)])


@pytest.mark.benchmarks
@pytest.mark.slow
def test_every_canonical_solution_of_humaneval_passes(grader):
    root = os.environ.get("RESTRL_BENCHMARKS")
    if not root:
        pytest.skip("RESTRL_BENCHMARKS names no folder")
    with gzip.open(Path(root) / "humaneval" / "HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    pairs = []
    for row in rows:
        code = row["test"] + f"\ncheck({row['entry_point']})\n"
        tests = Tests("asserts", (Case("check", code=code),))
        pairs.append((Problem(row["task_id"], "", row["prompt"], row["entry_point"], tests), row))
    right = grader.grade([(p, row["prompt"] + row["canonical_solution"]) for p, row in pairs])
    assert [g.problem_id for g in right if not g.passed] == []
    wrong = grader.grade([(p, row["prompt"] + "    return None\n") for p, row in pairs])
    assert [g.problem_id for g in wrong if g.passed] == []
