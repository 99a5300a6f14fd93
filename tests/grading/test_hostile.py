"""A wrong program never earns credit, a correct one never loses it, and neither leaves anything behind."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from restrl.grading import SandboxGrader

HERE = Path(__file__).parent


def _load(name):
    spec = importlib.util.spec_from_file_location(f"grading_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


programs = _load("hostile_programs")
problems = _load("conftest")

CALL = problems.call_problem(cpu_s=0.3, memory_bytes=1 << 28)
STDIO = problems.stdio_problem(cpu_s=0.3, memory_bytes=1 << 28)
GENEROUS_CALL = problems.call_problem(cpu_s=4.0)
GENEROUS_STDIO = problems.stdio_problem(cpu_s=4.0)


@pytest.fixture(scope="module")
def hostile_grades(grader: SandboxGrader):
    """All hostile programs in one batch, so that the workers share the waiting."""
    pairs = [(CALL, row[1]) for row in programs.CALL] + [(STDIO, row[1]) for row in programs.STDIO]
    names = [("call", row[0]) for row in programs.CALL] + [("stdio", row[0]) for row in programs.STDIO]
    return dict(zip(names, grader.grade(pairs), strict=True))


def test_the_table_is_large_enough_and_its_names_are_unique():
    for table in (programs.CALL, programs.STDIO, programs.CORRECT_CALL, programs.CORRECT_STDIO):
        assert len({row[0] for row in table}) == len(table)
    assert len(programs.CALL) + len(programs.STDIO) >= 60


@pytest.mark.parametrize(
    ("mode", "row"),
    [("call", row) for row in programs.CALL] + [("stdio", row) for row in programs.STDIO],
    ids=lambda value: value if isinstance(value, str) else value[0].replace(" ", "_"),
)
def test_hostile_programs_earn_nothing_undeserved(hostile_grades, mode, row):
    name, _, credit, allowed = row
    grade = hostile_grades[mode, name]
    assert grade.reward == pytest.approx(credit), grade
    assert {v.verdict for v in grade.verdicts} <= {"pass", *allowed}, grade


def test_the_grader_is_healthy_after_all_of_them(hostile_grades, grader: SandboxGrader):
    assert hostile_grades
    fresh = "def f(x): return x * x + 7  # after the storm"
    for _ in range(2):
        assert grader.grade([(GENEROUS_CALL, fresh)])[0].reward == 1.0
    for path in ("/tmp/restrl_hostile", "/dev/shm/restrl_hostile"):
        assert not Path(path).exists()


@pytest.fixture(scope="module")
def correct_grades(grader: SandboxGrader):
    rows = programs.CORRECT_CALL + programs.CORRECT_STDIO
    problem = [GENEROUS_CALL] * len(programs.CORRECT_CALL) + [GENEROUS_STDIO] * len(programs.CORRECT_STDIO)
    return grader.grade([(p, row[1]) for p, row in zip(problem, rows, strict=True)])


@pytest.mark.parametrize(
    ("index", "name"),
    list(enumerate(row[0].replace(" ", "_") for row in programs.CORRECT_CALL + programs.CORRECT_STDIO)),
)
def test_correct_programs_lose_nothing(correct_grades, index, name):
    assert correct_grades[index].reward == 1.0, correct_grades[index]
