"""``restrl problems validate --all``: every set at hand, in its own interpreter, with its known failures named."""

import dataclasses
import json
import os
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from validating import ABSENT, call_problem, validated

from restrl.cli import main
from restrl.errors import GraderError
from restrl.problems import PROBLEM_SETS, known, survey
from restrl.problems.jsonl import write_problems
from restrl.problems.problem_set import HubSource, ProblemSet, Refusal
from restrl.types import Problem


def toy_set(**fields: object) -> ProblemSet:
    def to_problem(record: Mapping[str, Any], where: str) -> Problem | Refusal:
        if record["id"] == "useless":
            return Refusal("without tests")
        problem = call_problem(record["id"], record["solutions"][0], ((1,), 2), ((2,), 3))
        return dataclasses.replace(
            problem, tests=dataclasses.replace(problem.tests, packages=tuple(record["packages"]))
        )

    return ProblemSet("a toy", to_problem=to_problem, solutions=lambda record, where: record["solutions"], **fields)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two benchmarks, one of which has data, and a known failure in that."""
    right, wrong = "def f(x):\n    return x + 1\n", "def f(x):\n    return 2\n"
    rows = [
        {"id": "toy/1", "solutions": [right], "packages": []},
        {"id": "toy/2", "solutions": [right, wrong, right], "packages": []},
        {"id": "toy/3", "solutions": [f"import {ABSENT}\n{right}"], "packages": [ABSENT]},
        {"id": "useless", "solutions": [right], "packages": []},
    ]
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("RESTRL_BENCHMARKS", str(tmp_path))
    for name in list(PROBLEM_SETS):
        monkeypatch.delitem(PROBLEM_SETS, name)
    monkeypatch.setitem(PROBLEM_SETS, "toy", toy_set(files={"": ("toy/toy.jsonl",)}))
    monkeypatch.setitem(
        PROBLEM_SETS, "elsewhere", toy_set(files={"": ("elsewhere/*.jsonl",)}, hub=HubSource("a/b", {"": "x"}))
    )
    monkeypatch.setitem(known.KNOWN_FAILURES, "toy/2#1", "the answer is wrong")
    return tmp_path


def test_all_takes_the_sets_at_hand_and_names_the_known_failures(
    toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = validated(capsys, "--all")
    assert (code, result["ok"], result["absent"]) == (0, True, ["elsewhere"])
    (found,) = result["sets"]
    assert (found["set"], found["num_problems"], found["num_gradable"], found["num_checked"]) == ("toy", 3, 2, 2)
    assert (found["num_passed"], found["num_solutions"], found["num_solutions_passed"]) == (1, 4, 3)
    assert [(item["problem_id"], item["solution"]) for item in found["known_failures"]] == [("toy/2", 1)]
    assert (found["refusals"], found["failures"], found["num_mutants"]) == ({"without tests": 1}, [], 0)
    assert main(["problems", "validate", "--all", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "toy: known to fail: toy/2 (solution 1): the answer is wrong" in out
    assert f"toy: 1 problems not gradable: needs {ABSENT} (1); pip install" in out
    assert "toy: 1 records refused: without tests" in out and "no data at hand: elsewhere" in out
    cells = [cell.strip() for line in out.splitlines() if "│ toy" in line for cell in line.strip("│").split("│")]
    assert cells[:8] == ["toy", "3", "2", "2 (4 solutions)", "1 (3)", "1", "0", "0"]


def test_a_failure_that_is_not_known_is_exit_code_1(
    toys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(known.KNOWN_FAILURES, "toy/2#1")
    code, result = validated(capsys, "toy")
    assert (code, [item["solution"] for item in result["sets"][0]["failures"]]) == (1, [1])


def test_several_solutions_are_counted_by_problem(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "validate", "toy", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "toy: toy/1: 1 of 1 solutions pass" in out and "toy: toy/2: 2 of 3 solutions pass" in out
    # The third problem needs a package; the others need none.
    assert "toy: 1 of the 2 gradable problems that need no package beyond numpy and scipy pass" in out
    _, result = validated(capsys, "toy")
    assert result["sets"][0]["solved"] == {"toy/1": [1, 1], "toy/2": [2, 3]} and result["sets"][0]["light"] == [1, 2]


def test_the_solutions_of_another_set_run_on_these_tests(
    toys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named by hand, and for the sets that `--all` compares; what is known of the own solutions does not count here."""
    other = toys / "first.jsonl"
    right, wrong = "def f(x):\n    return x + 1\n", "def f(x):\n    return 9\n"
    rows = [
        {"id": "toy/1", "solutions": [wrong], "packages": []},
        {"id": "toy/2", "solutions": [right], "packages": []},
    ]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, result = validated(capsys, "toy", "--solutions", f"elsewhere@{other}")
    (found,) = result["sets"]
    assert (code, found["set"], found["solved"]) == (
        1,
        f"toy<elsewhere@{other}",
        {"toy/1": [0, 1], "toy/2": [1, 1]},
    )
    assert [item["problem_id"] for item in found["failures"]] == ["toy/1"] and found["known_failures"] == []

    (toys / "elsewhere").mkdir()
    other.rename(toys / "elsewhere" / "first.jsonl")
    monkeypatch.setitem(known.CROSS_CHECKS, "toy", "elsewhere")
    monkeypatch.setitem(known.KNOWN_FAILURES, "elsewhere:toy/1", "wrong at home")
    monkeypatch.setitem(known.KNOWN_FAILURES, "toy<elsewhere:toy/1", "wrong here too")
    code, result = validated(capsys, "--all")
    assert [item["set"] for item in result["sets"]] == ["toy", "toy<elsewhere", "elsewhere"]
    assert [[known["cause"] for known in item["known_failures"]] for item in result["sets"]] == [
        ["the answer is wrong"],
        ["wrong here too"],
        ["wrong at home"],
    ]
    assert code == 0


def test_solutions_of_a_set_of_other_problems_are_refused(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = toys / "other.jsonl"
    write_problems(other, [call_problem("another", "def f(x):\n    return x + 1\n", ((1,), 2))])
    assert main(["problems", "validate", "toy", "--solutions", str(other), "--quiet"]) == 2
    assert f"no problem of toy has a solution in {other}; name a set of the same problems" in capsys.readouterr().err


def test_a_path_gives_a_set_its_data(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = validated(capsys, "--all", f"elsewhere@{toys / 'toy' / 'toy.jsonl'}")
    assert (code, result["absent"], [item["num_problems"] for item in result["sets"]]) == (0, [], [3, 3])


def test_sets_run_in_interpreters_of_their_own(
    toys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter of one set has the package that its third problem needs; the other set's has it not."""
    lab = tmp_path / "lab"
    venv.create(lab, with_pip=False)
    (site,) = lab.glob("lib/python*/site-packages")
    (site / f"{ABSENT}.py").write_text("VALUE = 2\n")
    path = f"elsewhere@{toys / 'toy' / 'toy.jsonl'}"
    code, result = validated(capsys, "toy", path, "--python", f"elsewhere={lab / 'bin' / 'python'}")
    assert (code, [item["num_gradable"] for item in result["sets"]]) == (0, [2, 3])
    assert result["sets"][1]["not_gradable"] == {} and result["sets"][1]["num_passed"] == 2
    monkeypatch.chdir(tmp_path)
    code, result = validated(capsys, "toy", path, "--python", f"toy={sys.executable}", "--python", "lab/bin/python")
    assert [(item["num_gradable"], item["num_passed"]) for item in result["sets"]] == [(2, 1), (3, 2)]


def test_no_data_at_all_is_said(
    toys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTRL_BENCHMARKS", str(toys / "nothing"))
    assert main(["problems", "validate", "--all"]) == 2
    assert "RESTRL_BENCHMARKS" in capsys.readouterr().err


def test_a_grader_that_gives_up_on_one_set_leaves_the_others(
    toys: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = survey.survey

    def failing(spec: str, *rest: Any) -> survey.SetSurvey:
        if spec.startswith("elsewhere"):
            raise GraderError("the machine is too loaded")
        return genuine(spec, *rest)

    monkeypatch.setattr(survey, "survey", failing)
    path = f"elsewhere@{toys / 'toy' / 'toy.jsonl'}"
    code, result = validated(capsys, path, "toy")
    assert (code, result["ok"], [item["set"] for item in result["sets"]]) == (1, False, ["toy"])
    assert result["stopped"] == [f"{path}: the machine is too loaded"]
    assert main(["problems", "validate", path, "--quiet"]) == 1
    assert "too loaded" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.benchmarks
def test_benchmarks_come_out_as_expected(capsys: pytest.CaptureFixture[str]) -> None:
    if not os.environ.get("RESTRL_BENCHMARKS"):
        pytest.skip("no benchmark data: RESTRL_BENCHMARKS is not set")
    code, result = validated(capsys, "humaneval", "mbpp-challenge", "apps/sample")
    assert code == 0, result
    figures = {
        found["set"]: (found["num_checked"], found["num_passed"], found["num_solutions"], found["num_solutions_passed"])
        for found in result["sets"]
    }
    assert figures == {
        "humaneval": (164, 164, 164, 164),
        "mbpp-challenge": (11, 11, 11, 11),
        "apps/sample": (5, 4, 101, 98),
    }
