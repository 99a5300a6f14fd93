"""Outputs of programs in the sandbox: canonical outcomes, failures of their own kind, hostile programs, batches."""

import itertools
from collections import deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ProblemError
from restrl.grading.compare import values_equal
from restrl.grading.config import GradingConfig
from restrl.grading.outputs import SandboxRunner, outcome
from restrl.types import Case, Limits, Problem, Tests


@pytest.fixture(scope="module")
def runner():
    with SandboxRunner(GradingConfig(workers=2)) as shared:
        yield shared


def calls(*args, entry="f", **limits):
    cases = tuple(Case(str(i), args=(value,), expected="never looked at") for i, value in enumerate(args))
    return Problem("p", "", "", entry, Tests("call", cases), limits=Limits(**({"cpu_s": 0.3} | limits)))


def test_values_and_failures_of_many_programs_in_one_batch(runner):
    problem = calls(1, 2)
    programs = {
        "def f(x): return x + 1": ("=2", "=3"),
        "def f(x): return float(x + 1)": ("=2", "=3"),
        "def f(x): return [x]": ("=[1]", "=[2]"),
        "def f(x): return 1 // (x - 1)": ("!error:ZeroDivisionError", "=1"),
        "def f(x): return (i for i in [x])": ("!error:not plain data",) * 2,
        "def f(x: return x": ("!error:SyntaxError",) * 2,
        "def g(x): return x": ("!error:KeyError",) * 2,
        "def f(x):\n while x > 1: pass\n return 0": ("=0", "!timeout:CPU or wall time limit"),
    }
    rows = runner.outputs([(problem, program) for program in programs])
    assert dict(zip(programs, rows, strict=True)) == programs


def test_standard_output_is_compared_by_its_words(runner):
    cases = (Case("a", stdin="3\n", expected=""), Case("b", stdin="x\n", expected=""))
    problem = Problem("s", "", "", "", Tests("stdio", cases), limits=Limits(cpu_s=1.0))
    one, other, wrong = runner.outputs(
        [
            (problem, "print(int(input()) * 2, 'end ')\nprint()"),
            (problem, "n = int(input())\nprint(f'{n + n}  end')"),
            (problem, "print(input())"),
        ]
    )
    assert one == other == ("='6 end'", "!error:ValueError") and wrong == ("='3'", "='x'")


def test_hostile_programs_claim_no_more_than_a_value(runner):
    problem = calls(5, output_bytes=1 << 12, memory_bytes=256 << 20)
    attacks = {
        "class E:\n def __eq__(s, o): return True\ndef f(x): return E()": "!error:not plain data",
        "class E(int):\n def __repr__(s): return 'forged'\n def __eq__(s, o): return True\ndef f(x): return E(7)": "=7",
        "def f(x): return 'a' * 10**6": "!output:the result is too large",
        "import os\ndef f(x): os._exit(0)": "!error:the process ended with status 0",
        "def f(x):\n a = []\n a.append(a)\n return a": "!output:the result is too large",
        "def f(x): return f(x)": "!error:RecursionError",
        "import os\ndef f(x):\n for fd in range(3, 64):\n  try: os.write(fd, b'x' * 64)\n  except OSError: pass\n"
        " return 5": "!output:the result is too large",
        "def f(x): open('/etc/passwd').read(); return 5": "!error:PermissionError",
    }
    rows = runner.outputs([(problem, program) for program in attacks])
    assert [row[0] for row in rows] == list(attacks.values())


def test_equal_programs_run_once_and_other_kinds_are_refused(runner, monkeypatch):
    problem, counted = calls(1), []
    judge = runner._judge(problem)
    original = type(judge).grade
    monkeypatch.setattr(type(judge), "grade", lambda *args, **keys: counted.append(args[2]) or original(*args, **keys))
    assert runner.outputs([(problem, "def f(x): return 9")] * 3) == [("=9",)] * 3
    assert len(counted) == 1
    script = Problem("x", "", "", "", Tests("script", (Case("t", code="pass"),)))
    with pytest.raises(ProblemError, match="'script' cannot be taken"):
        runner.outputs([(script, "")])


VALUES = [
    None, True, False, 0, 1, 1.0, -0.0, 2.5, Fraction(5, 2), Decimal("2.5"), complex(1, 0), complex(1, 2), float("nan"),
    float("inf"), 10**20, "", "1", b"1", bytearray(b"1"), [], [1], [1.0], (1,), (), deque([1]), {1, 2},
    frozenset({2, 1}), set(), {}, {1: 2}, {1.0: 2}, {"a": [1, {2}], "b": ()}, {"b": (), "a": [1.0, {2.0}]},
    [[1], [2]], [[1, 2]],
]  # fmt: skip


def test_outcomes_are_equal_exactly_where_the_grader_says_equal():
    for one, other in itertools.product(VALUES, repeat=2):
        assert (outcome(one) == outcome(other)) == values_equal(one, other), (one, other)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([0.5, 2.0, "a", "b", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(plain, plain)
@settings(deadline=None, max_examples=150)
def test_outcomes_agree_with_the_comparison(one, other):
    assert (outcome(one) == outcome(other)) == values_equal(one, other)


def test_roundings_agree_and_long_values_are_short():
    assert outcome(0.1 + 0.2) == outcome(0.3) and outcome(0.3) != outcome(0.3001)
    long = outcome(list(range(10**4)))
    assert len(long) < 100 and long != outcome([*range(10**4 - 1), -1])
