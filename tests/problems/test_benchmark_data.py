"""The benchmarks' real data, where they are at hand: how many problems, and that their own solutions pass."""

import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from restrl.grading.grader import SandboxGrader
from restrl.problems import apps, load_problems
from restrl.problems.registry import load_set
from restrl.problems.sources import read_records
from restrl.types import Problem

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("RESTRL_BENCHMARKS", ""))
pytestmark = [
    pytest.mark.benchmarks,
    pytest.mark.skipif(
        not (FOLDER / "humaneval").is_dir(), reason="no benchmark data: name their folder in RESTRL_BENCHMARKS"
    ),
]


@pytest.fixture(scope="module")
def grader() -> Iterator[SandboxGrader]:
    with SandboxGrader() as made:
        yield made


def failing(grader: SandboxGrader, spec: str, solutions: dict[str, str] | None = None) -> tuple[int, list[str]]:
    """How many problems a set has, and those whose solution does not pass."""
    problems = load_problems(spec)
    programs = [(solutions or {}).get(problem.id) or problem.canonical_solution or "" for problem in problems]
    grades = grader.grade(list(zip(problems, programs, strict=True)))
    return len(problems), [grade.problem_id for grade in grades if not grade.passed]


@pytest.mark.parametrize(("spec", "count"), [("humaneval", 164), ("mbpp-challenge", None), ("mbpp+", 25)])
def test_every_solution_passes(grader: SandboxGrader, spec: str, count: int | None) -> None:
    found, failed = failing(grader, spec)
    assert not failed and count in (None, found)


def test_the_hubs_layout_of_mbpp_plus_passes(grader: SandboxGrader) -> None:
    assert failing(grader, "mbpp+/one-program") == (25, [])


def test_apps_solutions_pass_problem_by_problem(grader: SandboxGrader) -> None:
    loaded = load_set("apps/sample", references=True)
    pairs = [(problem, program) for problem in loaded.problems for program in loaded.solutions[problem.id]]
    passed = Counter(grade.problem_id.rpartition("/")[2] for grade in grader.grade(pairs) if grade.passed)
    assert passed == {"1": 24, "111": 1, "2287": 7, "2404": 58, "4184": 8}
    assert len(pairs) == 101


def test_the_example_tests_of_apps_are_read_or_refused() -> None:
    """Of 5000 test problems: no question is there, so a record is made around the tests."""
    refused, read = Counter[str](), 0
    for where, record in read_records(FOLDER / "apps" / "apps_test_example_tests.jsonl.gz"):
        pairs = record["example_input_output"]
        made = {"problem_id": record["id"], "question": "?", "input_output": json.dumps(pairs) if pairs else ""}
        found = apps.to_problem(made, where, "test")
        if isinstance(found, Problem):
            read += len(found.tests.cases) > 0
        else:
            refused[found.reason] += 1
    assert (read, refused) == (4937, {apps.NO_TESTS: 63})


def test_livecodebench_is_decoded_and_run(grader: SandboxGrader, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no solutions: a right and a wrong program of our own for each problem."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("grader_stability", ROOT / "benchmarks" / "grader_stability.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "grader_stability", module)
    spec.loader.exec_module(module)
    problems = load_problems("livecodebench/sample")
    assert {problem.id for problem in problems} == set(module.OWN)
    for number, passes in ((0, True), (1, False)):
        grades = grader.grade([(problem, module.OWN[problem.id][number]) for problem in problems])
        assert [grade.passed for grade in grades] == [passes] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "count"), [("mbpp", 974), ("mbpp-sanitized", 427), ("humaneval+", 164)])
def test_every_solution_of_a_large_set_passes(grader: SandboxGrader, spec: str, count: int) -> None:
    assert failing(grader, spec) == (count, [])


ONE_PROGRAM = "humaneval+/one-program"


@pytest.mark.slow
def test_the_first_solutions_of_humaneval_fail_twenty_plus_tests(grader: SandboxGrader) -> None:
    """144 of 164 with time for them; two more are right but slower than EvalPlus's limits of each input allow."""
    originals = {problem.id: problem.canonical_solution or "" for problem in load_problems("humaneval")}
    count, failed = failing(grader, ONE_PROGRAM, originals)
    assert (count, len(failed)) == (164, 20)
    count, limited = failing(grader, "humaneval+", originals)
    assert count == 164 and set(limited) == {*failed, "HumanEval/31", "HumanEval/39"}


@pytest.mark.slow
def test_the_one_program_layout_is_wrong_upstream_for_one_task(grader: SandboxGrader) -> None:
    assert failing(grader, ONE_PROGRAM) == (164, ["HumanEval/32"])
