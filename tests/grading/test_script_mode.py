"""Tests of kind script: a benchmark's own test program runs the text of the solution, in one process."""

# ruff: noqa: E501
from __future__ import annotations

import dataclasses
import gzip
import json
import os
from pathlib import Path

import leftovers
import pytest

from restrl.errors import ProblemError
from restrl.grading import GradingConfig, SandboxGrader
from restrl.grading.places import missing_packages
from restrl.types import Case, Limits, Problem, Tests

CONTEXT = '''
import copy

def generate_test_case(test_case_id):
    data = {1: [3, 1, 2], 2: [5, 5, 4, 9]}[test_case_id]
    return data, sorted(copy.deepcopy(data))

def exec_test(result, ans):
    try:
        assert result == ans
        return 1
    except:
        return 0

exec_context = r"""
data = test_input
[insert]
"""

def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for i in range(2):
        test_input, expected_result = generate_test_case(i + 1)
        test_env = {"test_input": test_input}
        exec(code, test_env)
        assert exec_test(test_env["result"], expected_result)
'''
STRING = """
def test_string(solution: str):
    assert "for" not in solution.split()
"""


def problem(context=CONTEXT + STRING, profile="lab", packages=(), **limits) -> Problem:
    tests = Tests("script", (Case("test", code=context),), all_or_nothing=True, profile=profile, packages=packages)
    return Problem("s", "", "", "", tests, limits=Limits(**{"cpu_s": 3.0, **limits}))


GOOD = "result = sorted(data)\n"


def test_execution_and_string_both_count(grader):
    looped = "out = list(data)\nfor _ in out : out.sort()\nresult = out\n"
    right, loops, wrong = grader.grade([(problem(), source) for source in (GOOD, looped, "result = data\n")])
    assert right.reward == 1.0 and right.assurance == "in_process" and right.tampering == ()
    assert loops.reward == 0.0 and loops.verdicts[0].verdict == "wrong"
    assert wrong.reward == 0.0 and wrong.verdicts[0].verdict == "wrong"
    assert grader.grade([(problem(CONTEXT), looped), (problem(profile="strict"), GOOD)])[0].reward == 1.0


# (name, snippet, detectors of which one must fire, or none)
HOSTILE: list[tuple[str, str, tuple[str, ...]]] = [
    ("nothing", "pass", ()),
    ("always equal", "class E:\n    def __eq__(s, o): return True\n    __hash__ = None\nresult = E()", ("agrees with anything",)),
    ("always equal list", "class E(list):\n    def __eq__(s, o): return True\n    __hash__ = None\nresult = E()", ("agrees with anything",)),
    ("steals the answer by frames", "import sys\nresult = sys._getframe(1).f_locals['expected_result']", ("reads frames",)),
    ("steals the answer by a traceback", "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    result = e.__traceback__.tb_frame.f_back.f_locals['expected_result']", ("reads frames",)),
    ("steals the answer by gc", "import gc\nresult = [o for o in gc.get_objects() if isinstance(o, list)][-1]", ("searches memory",)),
    ("steals the answer by inspect", "import inspect\nresult = inspect.currentframe().f_back.f_locals['expected_result']", ("reads frames",)),
    ("steals the answer by a generator", "def g():\n    yield it.gi_frame.f_back.f_back\nit = g()\nresult = next(it).f_locals['expected_result']", ("reads frames",)),
    ("steals the answer by the interpreter", "import ctypes\nget = ctypes.pythonapi.PyEval_GetFrame\nget.restype = ctypes.py_object\nresult = get().f_back.f_locals['expected_result']", ("reads memory",)),
    ("equal to every list", "class E(list):\n    def __eq__(s, o): return type(o) is list\n    __hash__ = None\nresult = E()", ("agrees with anything",)),
    ("calls what knows the answer", "import __main__\nresult = __main__.generate_test_case(1 if len(data) == 3 else 2)[1]", ()),
    ("finds what knows the answer", "import sys\nfound = [m for m in list(sys.modules.values()) if hasattr(m, 'generate_test_case')]\nresult = found[0].generate_test_case(1 if len(data) == 3 else 2)[1]", ()),
    ("replaces exec_test", "import __main__\n__main__.exec_test = lambda *a: 1\nresult = None", ()),
    ("replaces generate_test_case", "import sys\nm = sys.modules['__main__']\nm.generate_test_case = lambda n: (None, None)\nm.exec_context = 'result = None'\nresult = sorted(data) if len(data) == 3 else None", ()),
    ("patches sorted", "import builtins\nbuiltins.sorted = lambda x: x\nresult = data", ("patches what the tests use",)),
    ("patches copy", "import copy\ncopy.deepcopy = lambda x: x\nresult = data", ("patches what the tests use",)),
    ("os._exit", "import os\nos._exit(0)", ("ends the process early",)),
    ("sys.exit", "import sys\nsys.exit(0)", ()),
    ("SystemExit", "raise SystemExit", ()),
    ("SkipTest", "import unittest\nraise unittest.SkipTest", ()),
    ("prints success", "print('passed')\nresult = None", ()),
    ("atexit", "import atexit, os\natexit.register(os._exit, 0)\nresult = None", ()),
    ("own test_execution", "def test_execution(s): return 1\ndef exec_test(*a): return 1\nresult = None", ()),
    ("forges a verdict", "import os, struct\nfor fd in range(64):\n    try: os.write(fd, struct.pack('<IcId', 16, b'Q', 0, 0.0) + b't' * 16)\n    except OSError: pass\nos._exit(0)", ("forges claims",)),
    ("settrace", "import sys\nsys.settrace(lambda *a: None)\nresult = None", ("traces",)),
    ("endless", "while True: pass", ()),
    ("daemon", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    open('/tmp/restrl_hostile', 'w').close()\n    time.sleep(1000)\nresult = None", ()),
    ("tries answers in forked processes", "import os\nr, w = os.pipe()\nif os.fork() == 0:\n    for fd in range(3, 40):\n        if fd not in (r, w):\n            try: os.fstat(fd); os.dup2(w, fd)\n            except OSError: pass\n    result = sorted(data)\nelse:\n    os.close(w)\n    said = b''.join(iter(lambda: os.read(r, 65536), b''))\n    for fd in range(3, 40):\n        try: os.write(fd, said)\n        except OSError: pass\n    os._exit(0)", ("ends the process early",)),
    ("breaks out of the program's text", 'result = 1\n"""\nimport os\nos._exit(0)\nr"""', ("ends the process early", "")),
    ("closes the channel", "import os\nos.closerange(3, 256)\nresult = None", ()),
]  # fmt: skip


def test_pandas_is_no_way_to_the_frames_of_the_tests(grader):
    task = problem(packages=("pandas",))
    if missing_packages(task, GradingConfig()):
        pytest.skip("pandas is not installed")
    peek = "import pandas\nresult = pandas.eval('expected_result', level=1)\n"
    query = "import pandas\nk = 1\npandas.DataFrame({'a': [1]}).query('a == @k')\nresult = sorted(data)\n"
    hostile, honest = grader.grade([(task, peek), (task, query)])
    assert hostile.reward == 0.0 and honest.reward == 1.0 and honest.tampering == ()


@pytest.fixture(scope="module")
def hostile_grades(grader: SandboxGrader):
    task = problem(cpu_s=1.0)
    return dict(zip([row[0] for row in HOSTILE], grader.grade([(task, row[1]) for row in HOSTILE]), strict=True))


@pytest.mark.parametrize("row", HOSTILE, ids=[row[0].replace(" ", "_") for row in HOSTILE])
def test_hostile_snippets_earn_nothing(hostile_grades, row):
    grade = hostile_grades[row[0]]
    assert grade.reward == 0.0 and grade.verdicts[0].verdict != "pass", grade
    assert not row[2] or "" in row[2] or set(row[2]) & set(grade.tampering), grade


def test_the_grader_is_healthy_after_all_of_them(hostile_grades, grader):
    assert hostile_grades
    assert grader.grade([(problem(), GOOD + "# after the storm\n")])[0].reward == 1.0
    assert not leftovers.stray_files()


@pytest.mark.parametrize(("context", "message"), [("def f(", "not Python"), ("x = 1", "defines no test_execution")])
def test_wrong_test_programs_are_refused(grader, context, message):
    with pytest.raises(ProblemError, match=message):
        grader.grade([(problem(context), GOOD)])


ROOT = Path(os.environ.get("RESTRL_BENCHMARKS", Path(__file__).parents[3] / "shared" / "benchmarks"))
LIGHT = {"numpy", "scipy", "pandas"}
KNOWN_FAILURES = {353, 475, 726, 727, 775, 794, 795, 796}  # interfaces that numpy and scipy have removed since


def _records(path: str):
    if not (ROOT / path).exists():
        pytest.skip(f"the benchmark data is not there: {ROOT / path}")
    with gzip.open(ROOT / path, "rt") as file:
        return [json.loads(line) for line in file]


def _light(problems):
    """Those whose packages are light and installed, with a limit that suits a test, grouped by packages."""
    config = GradingConfig()
    chosen = [p for p in problems if set(p.tests.packages) <= LIGHT and not missing_packages(p, config)]
    if not chosen:
        pytest.skip("numpy, scipy and pandas are not installed")
    limits = dataclasses.replace(chosen[0].limits, cpu_s=10.0)
    return sorted((dataclasses.replace(p, limits=limits) for p in chosen), key=lambda p: p.tests.packages)


@pytest.mark.benchmarks
@pytest.mark.slow
def test_the_references_of_ds1000_pass_and_wrong_snippets_do_not(grader):
    from restrl.problems.ds1000 import to_problem

    records = _records("ds1000/ds1000.jsonl.gz")
    problems = [to_problem(record, f"ds1000:{n}") for n, record in enumerate(records, 1)]
    scientific = [p for p in _light(problems) if set(p.tests.packages) <= {"numpy", "scipy"}]
    grades = grader.grade([(p, str(p.canonical_solution)) for p in scientific])
    failed = {int(grade.problem_id.split("/")[1]) for grade in grades if not grade.passed}
    assert len(scientific) >= 190 and failed <= KNOWN_FAILURES, failed
    assert not [grade.problem_id for grade in grades if grade.tampering]
    some = scientific[::8]
    for wrong in ("result = None\n", "pass\n", "result = test_input\n"):
        assert not [g.problem_id for g in grader.grade([(p, wrong) for p in some]) if g.passed]


@pytest.mark.benchmarks
@pytest.mark.slow
def test_the_solutions_of_bigcodebench_pass_and_empty_ones_do_not(grader):
    from restrl.problems.bigcodebench import to_problem

    records = _records("bigcodebench/bigcodebench_hard.jsonl.gz")
    found = [to_problem(record, f"hard:{n}", "complete") for n, record in enumerate(records, 1)]
    slow = {"BigCodeBench/1040"}  # sleeps for ten seconds a test
    problems = [p for p in _light([p for p in found if isinstance(p, Problem)]) if p.id not in slow]
    plain = [p for p in problems if set(p.tests.packages) <= {"numpy", "scipy"}]
    grades = grader.grade([(p, str(p.canonical_solution)) for p in plain])
    assert [(g.problem_id, g.reward) for g in grades if not g.passed] == []
    assert len(plain) >= 33 and not [g.problem_id for g in grades if g.tampering]
    empty = grader.grade([(p, p.initial_state + "    return None\n") for p in plain])
    assert not [grade.problem_id for grade in empty if grade.passed]
