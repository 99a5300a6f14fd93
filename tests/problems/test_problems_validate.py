import dataclasses
import json
from pathlib import Path

import pytest
from validating import ABSENT, call_problem, validated

from restrl.cli import main
from restrl.errors import NotGradable, ProblemError
from restrl.grading.each import grade_each
from restrl.problems import checks, probes, validate_problems
from restrl.problems.checks import normalise_statement
from restrl.problems.jsonl import read_problems, write_problems
from restrl.problems.template import template
from restrl.types import TEST_KINDS, Case, CaseVerdict, Grade, Problem, Tests

FILE = (
    call_problem("good", "def f(x):\n    return x + 1\n", ((1,), 2), ((5,), 6)),
    call_problem("wrong", "def f(x):\n    return x - 1\n", ((1,), 2)),
    call_problem("lazy", "def f(x):\n    return x if x > 2 else x\n", ((1,), 1), ((5,), 5)),
    call_problem("twice", "def f(x):\n    return x + 1\n", ((1,), 2), ((1,), 2), ((7,), 8)),
    call_problem("contradiction", None, ((1,), 2), ((1,), 3)),
    Problem(
        "idle",
        "Do idle.",
        "",
        "f",
        Tests("asserts", (Case("real", code="assert f(3) == 9"), Case("nothing", code="g = f"))),
        canonical_solution="def f(x):\n    return x * x\n",
    ),
    Problem("broken", "Do broken.", "", "f", Tests("asserts", (Case("syntax", code="assert f(3 ==\n"),))),
    Problem(
        "absent",
        "Do absent.",
        "",
        "f",
        Tests("call", (Case("t", (1,), expected=1),), packages=(ABSENT,)),
        canonical_solution=f"import {ABSENT}\ndef f(x):\n    return x\n",
    ),
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with one fault of each sort."""
    path = tmp_path_factory.mktemp("planted") / "mine.jsonl"
    write_problems(path, FILE)
    with path.open("a") as file:
        file.write(
            '{"id": "good", "statement": "", "tests": {"kind": "script", "cases": [{"code": "1"}]}}\n'
            '{"id": 3}\nnot json\n'
        )
    return path


def test_every_planted_fault_is_found_with_its_line(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = validated(capsys, str(planted))
    assert code == 1 and result["ok"] is False
    (found,) = result["sets"]
    where = [(item["kind"], item["problem_id"], item["line"]) for item in found["findings"]]
    assert sorted(where) == sorted(
        [
            ("schema", "", 9),
            ("schema", "", 10),
            ("schema", "", 10),
            ("schema", "", 10),
            ("schema", "", 11),
            ("trivial program", "lazy", 3),
            ("duplicate test", "twice", 4),
            ("contradiction", "contradiction", 5),
            ("idle test", "idle", 6),
            ("test code", "broken", 7),
        ]
    )
    texts = {item["problem_id"]: item["text"] for item in found["findings"]}
    assert texts["twice"] == "t1 is the same as t0"
    assert "returns its first argument passes every test" in texts["lazy"]
    assert texts["idle"].startswith("nothing passes for each of")
    assert [(item["problem_id"], item["reward"]) for item in found["failures"]] == [("wrong", 0.0)]
    assert list(found["not_gradable"]) == ["absent"] and ABSENT in found["not_gradable"]["absent"]
    assert (found["num_problems"], found["num_gradable"], found["num_checked"], found["num_passed"]) == (8, 7, 5, 4)
    assert found["without_solution"] == ["contradiction", "broken"]


def test_the_text_names_file_line_and_what_is_missing(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "validate", str(planted), "--quiet"]) == 1
    out = capsys.readouterr().out
    assert f"{planted}:10: statement is missing; allowed: a string" in out
    assert f"{planted}:4: twice: duplicate test: t1 is the same as t0" in out
    assert f"{planted}:2: wrong: canonical solution: reward 0.000, t0 wrong" in out
    assert f"{planted}: 1 problems not gradable: " in out and ABSENT in out
    assert f"{planted}: 2 problems without a canonical solution, first 'contradiction'" in out


@pytest.mark.parametrize("kind", TEST_KINDS)
def test_templates_validate_clean(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"{kind}.jsonl"
    assert main(["problems", "template", kind, "--out", str(path)]) == 0
    capsys.readouterr()
    code, result = validated(capsys, str(path))
    (found,) = result["sets"]
    assert code == 0, found
    assert found["num_passed"] == found["num_checked"] == found["num_problems"] >= 1
    assert path.read_text() == template(kind)
    assert main(["problems", "template", kind]) == 0
    assert capsys.readouterr().out == template(kind)


def test_a_template_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["problems", "template", "call", "--out", str(tmp_path / "file" / "mine.jsonl")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_files_in_other_formats_and_slips_are_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("id,statement\n1,Add.\n")
    for argv, says in (
        ([str(table)], "a file of your own problems is JSON lines and its name ends in .jsonl"),
        (["humanevl"], "did you mean humaneval"),
        (["starter/tests"], "did you mean starter/test"),
    ):
        assert main(["problems", "validate", *argv, "--quiet"]) == 2
        error = capsys.readouterr().err.strip()
        assert says in error and "\n" not in error


def test_text_that_is_not_utf8_is_a_fault_of_its_line_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(template("call").encode() + b'{"id": "\xff"}\n{"id": 3}\n')
    number = template("call").count("\n")
    code, result = validated(capsys, str(path))
    lines = [item["line"] for item in result["sets"][0]["findings"]]
    assert code == 1 and lines[0] == number + 1 and set(lines[1:]) == {number + 2}
    assert result["sets"][0]["num_passed"] == number


def test_templates_overwrite_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("mine")
    assert main(["problems", "template", "call", "--out", str(path)]) == 2
    assert path.read_text() == "mine" and "there is such a file" in capsys.readouterr().err


def test_statements_of_another_set_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solution = "def f(x):\n    return x + 1\n"
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    write_problems(train, [call_problem("a", solution, ((1,), 2), statement="Add `one`\nto x.")])
    write_problems(
        test, [call_problem(n, solution, ((1,), 2), statement=s) for n, s in [("b", "add ONE to x"), ("c", "Add 1.")]]
    )
    code, result = validated(capsys, str(test), "--against", str(train), "--no-probes")
    assert code == 1
    assert [(f["kind"], f["problem_id"], f["line"]) for f in result["sets"][0]["findings"]] == [("overlap", "b", 1)]
    assert validated(capsys, str(test), "--against", "starter/test", "--no-probes", "--count", "2")[0] == 0


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl"),
        ([], "nothing to validate"),
        (["starter/test", "--mutants", "-1"], "--mutants -1"),
        (["starter/test", "--against", "no.jsonl"], "no.jsonl"),
        (["humaneval@nowhere.jsonl"], "nowhere.jsonl"),
        (["starter/test", "--python", "mbpp=python3"], "--python mbpp=python3: allowed: EXE for all sets, or NAME=EXE"),
        (["starter/test", "--python", "starter="], "--python starter=: allowed"),
        (["starter/test", "--count", "1", "--python", "/no/such/python"], "cannot run the grader's interpreter"),
    ],
)
def test_input_that_cannot_be_read_is_exit_code_2(
    argv: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["problems", "validate", *argv, "--quiet"]) == 2
    line = capsys.readouterr().err.strip()
    assert says in line and "\n" not in line


def test_overlaps_are_printed_and_may_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(template("call"))
    second.write_text(template("call").replace("call/", "other/").replace("Return x, or", "Return  X or"))
    assert main(["problems", "overlap", str(first), "starter/test", "--count", "2", "--fail", "--quiet"]) == 0
    assert "none" in capsys.readouterr().out
    assert main(["problems", "overlap", str(first), str(second), "--quiet"]) == 0
    assert "1.000  statement  call/clamp  other/clamp" in capsys.readouterr().out
    assert main(["problems", "overlap", str(first), str(second), "--fail", "--json", "--quiet"]) == 1
    pairs = json.loads(capsys.readouterr().out)["overlaps"]
    assert {(p["aspect"], p["first"], p["second"]) for p in pairs} == {
        (aspect, f"call/{name}", f"other/{name}")
        for aspect in ("statement", "tests", "solution")
        for name in ("clamp", "mean")
    }
    assert main(["problems", "overlap", str(first), str(second), "--threshold", "2", "--quiet"]) == 2


class Refusing:
    """Passes everything, and cannot grade problems whose name says so."""

    def __init__(self) -> None:
        self.calls = 0

    def grade(self, pairs: list[tuple[Problem, str]]) -> list[Grade]:
        self.calls += 1
        for problem, _ in pairs:
            if problem.id.startswith("absent"):
                raise NotGradable(f"problem {problem.id} is not gradable: needs faker")
            if problem.id.startswith("odd"):
                raise ProblemError("odd tests")
        return [Grade(problem.id, 1.0, True, (CaseVerdict("t0", "pass"),)) for problem, _ in pairs]


def test_what_cannot_be_graded_spoils_no_batch() -> None:
    problems = [call_problem(name, "pass", ((1,), 2)) for name in ("a", "absent", "b", "odd", "absent2", "c")]
    results = grade_each(Refusing(), [(problem, "") for problem in problems])
    assert [getattr(result, "passed", type(result).__name__) for result in results] == [
        True,
        "NotGradable",
        True,
        "ProblemError",
        "NotGradable",
        True,
    ]
    report = validate_problems(problems, Refusing())
    assert (report.num_problems, report.num_gradable, report.num_checked, report.num_passed) == (6, 4, 4, 3)
    assert set(report.not_gradable) == {"absent", "absent2"}
    assert [(finding.kind, finding.problem_id) for finding in report.findings] == [("test code", "odd")]
    assert not report.ok


def test_problems_of_the_same_packages_are_graded_together_and_reported_in_their_order() -> None:
    class Noting(Refusing):
        def grade(self, pairs: list[tuple[Problem, str]]) -> list[Grade]:
            graded.extend(problem.id for problem, _ in pairs)
            return [Grade(problem.id, 0.0, False, (CaseVerdict("t0", "wrong"),)) for problem, _ in pairs]

    graded: list[str] = []
    problems = []
    for number in range(40):
        problem = call_problem(f"p{number}", "pass", ((1,), 2))
        packages = (("numpy",), ("pandas",), ())[number % 3]
        problems.append(dataclasses.replace(problem, tests=dataclasses.replace(problem.tests, packages=packages)))
    report = validate_problems(problems, Noting())
    assert graded == [f"p{number}" for rest in (2, 0, 1) for number in range(rest, 40, 3)]
    assert [failure.problem_id for failure in report.failures] == [problem.id for problem in problems]


def test_a_batch_without_trouble_is_one_call() -> None:
    grader = Refusing()
    assert len(grade_each(grader, [(call_problem("a", None, ((1,), 2)), "")] * 5)) == 5 and grader.calls == 1


def test_several_solutions_are_all_run() -> None:
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader

    problem = call_problem("a", "def f(x):\n    return 2\n", ((1,), 2))
    several = ["def f(x):\n    return x + 1\n", "return 2\n", "def f(x):\n    return 2 * x\n"]
    with SandboxGrader(GradingConfig()) as grader:
        report = validate_problems([problem], grader, solutions={"a": several})
    assert (report.num_solutions, report.num_solutions_passed, report.num_passed, report.num_checked) == (3, 2, 0, 1)
    assert [(failure.problem_id, failure.solution) for failure in report.failures] == [("a", 1)]


def test_mutants_differ_from_the_solution_and_are_spread_over_it() -> None:
    source = (
        "def f(xs, k):\n    total = 0\n    for x in xs:\n        if x > k and x % 2 == 1:\n"
        "            total += x - 1\n    return total\n"
    )
    every = probes.mutants(source, 100)
    programs = [probe.program for probe in every]
    assert len(set(programs)) == len(programs) >= 9
    assert source not in programs and all(not probe.trivial for probe in every)
    assert any("x >= k" in program for program in programs) and any("x <= k" not in program for program in programs)
    assert any("total -= x - 1" in program for program in programs)
    few = [probe.name for probe in probes.mutants(source, 3)]
    assert len(few) == 3 and few == [probe.name for probe in probes.mutants(source, 3)]
    assert probes.mutants("def f(:", 3) == probes.mutants("pass\n", 3) == probes.mutants(None, 3) == []


def test_trivial_programs_keep_the_signature_and_fit_the_entry_point() -> None:
    solution = "import math\nclass Solution:\n    def f(self, n):\n        return math.sqrt(n)\n"
    problem = Problem(
        "p", "", "", "Solution.f|f", Tests("call", (Case("t", (1,), expected=1),)), canonical_solution=solution
    )
    for candidate in (problem, Problem("p", "", "", "Solution.f|f", problem.tests)):
        namespace: dict[str, object] = {}
        identity = next(probe for probe in probes.trivial_programs(candidate) if "first argument" in probe.name)
        exec(identity.program, namespace)
        assert namespace["Solution"]().f(7) == 7  # type: ignore[operator]
    assert {probe.name for probe in probes.trivial_programs(Problem("p", "", "", "", Tests("stdio", ())))} == {
        "prints nothing",
        "prints its input",
    }


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("Return  the SUM.", "return the sum", True),
        ("Return `x`!", "return x", True),
        ("ﬁne", "fine", True),
        ("x > 1", "x < 1", False),
        ("add 1", "add 2", False),
    ],
)
def test_normalised_statements(first: str, second: str, same: bool) -> None:
    assert (normalise_statement(first) == normalise_statement(second)) is same


def test_empty_statements_are_no_overlap() -> None:
    problem = Problem("a", " . ", "", "f", Tests("call", (Case("t", (1,), expected=1),)))
    assert checks.shared_statements([problem], [problem], "itself") == []


def test_methods_of_one_test_class_are_different_tests(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(template("unittest"))
    (problem,) = read_problems(path)
    assert [case.code != "" for case in problem.tests.cases] == [True, False, False]
    assert checks.check_tests(problem) == []
