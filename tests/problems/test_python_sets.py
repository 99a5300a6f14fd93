"""HumanEval, MBPP, HumanEval+ and MBPP+ on records of our own: prompts, tests, verdicts, errors."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from python_records import HUMANEVAL, MBPP, MBPP_PLUS, PLUS

from restrl.errors import ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.grading.reference import Answer
from restrl.grading.samples import grade_record, pass_at_1, read_samples
from restrl.problems import expected as expected_outputs
from restrl.problems import load_problems
from restrl.problems.evalplus import humaneval_plus, mbpp_plus, with_expected
from restrl.problems.humaneval import to_problem as humaneval
from restrl.problems.mbpp import program_to_problem, split_of, three_shot, with_challenge
from restrl.problems.mbpp import to_problem as mbpp
from restrl.problems.mbpp_inputs import restore_inputs
from restrl.types import Problem


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTRL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def grader() -> Iterator[SandboxGrader]:
    with SandboxGrader(GradingConfig(workers=1)) as made:
        yield made


def verdicts(grader: SandboxGrader, problem: Problem, program: str | None = None) -> list[str]:
    (grade,) = grader.grade([(problem, program if program is not None else problem.canonical_solution or "")])
    return [verdict.verdict for verdict in grade.verdicts]


def test_humaneval(grader: SandboxGrader) -> None:
    problem = humaneval(HUMANEVAL, "f:1")
    assert problem.id == "HumanEval/900" and problem.entry_point == "halve" and problem.split == "test"
    assert problem.initial_state.startswith("def halve") and problem.initial_state.endswith('"""\n')
    assert problem.preamble == "" and "\ndef " in problem.stop_strings
    assert problem.chat_message.startswith("Please provide a self-contained Python script")
    assert problem.statement in problem.chat_message and problem.chat_opening.endswith(":\n")
    assert "\ndef " not in (problem.chat_stop_strings or ())
    assert verdicts(grader, problem) == ["pass"]
    assert verdicts(grader, problem, problem.initial_state + "    return n // 2\n") == ["wrong"]
    assert verdicts(grader, problem, problem.initial_state + "    return m\n") == ["error"]
    (grade,) = grader.grade([(problem, problem.initial_state + "    return 1.5\n")])
    assert grade.reward == 0.0  # one of two asserts holds: pass or fail


def test_humaneval_plus(grader: SandboxGrader) -> None:
    bare = humaneval_plus(PLUS, "f:1")
    (problem,) = with_expected([bare])
    assert [(case.id, case.args, case.expected) for case in problem.tests.cases] == [
        ("base_0", (3,), 1.5),
        ("base_1", (0,), 0.0),
        ("plus_0", (7,), 3.5),
        ("plus_1", (-1,), -0.5),
        ("plus_2", (10**20,), 5e19),
    ]
    assert problem.metadata["groups"] == {"base": 2, "plus": 3} and problem.metadata["contract"]
    assert {case.cpu_s for case in problem.tests.cases} == {1.0} and {case.atol for case in problem.tests.cases} == {
        1e-6
    }
    assert problem.limits.total_cpu_s == 2 + 2.0 + 3 + 2.0
    assert verdicts(grader, problem) == ["pass"] * 5
    assert verdicts(grader, problem, problem.initial_state + "    return n / 2 + 1e-7\n") == ["pass"] * 5
    assert verdicts(grader, problem, problem.initial_state + "    return n / 2 if n < 5 else 0\n")[2:] == [
        "wrong",
        "pass",
        "wrong",
    ]


def test_expected_outputs_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = [humaneval_plus(PLUS, "f:1"), mbpp_plus(MBPP_PLUS, "f:2")]
    first = with_expected(bare)

    def never(*_: object) -> None:
        raise AssertionError("run again")

    real = expected_outputs.run_references
    monkeypatch.setattr(expected_outputs, "run_references", never)
    assert with_expected(bare) == first
    changed = PLUS | {"plus_input": [[9]]}
    with pytest.raises(AssertionError, match="run again"):
        with_expected([humaneval_plus(changed, "f:1")])
    for path in expected_outputs.cache_folder().rglob("*.bin"):
        path.write_bytes(path.read_bytes()[:-7])
    monkeypatch.setattr(expected_outputs, "run_references", real)
    again = with_expected(bare)
    assert [p.tests.cases[0].expected for p in again] == [p.tests.cases[0].expected for p in first]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("    return n[0]\n", r"of HumanEval/900 fails in test base_0: TypeError"),
        ("    return 1 / n\n", r"of HumanEval/900 fails in test base_1: ZeroDivisionError"),
        ("    return )\n", r"of HumanEval/900 fails in its definition: SyntaxError"),
        ("    import os; os._exit(3)\n", r"of HumanEval/900 fails in test base_0: the process ended with status 3"),
    ],
)
def test_a_canonical_solution_that_fails_is_named(body: str, reason: str) -> None:
    with pytest.raises(ProblemError, match=reason):
        with_expected([humaneval_plus(PLUS | {"canonical_solution": body}, "f:1")])


def test_a_canonical_solution_that_fails_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "plus.jsonl"
    rows = [PLUS, PLUS | {"task_id": "HumanEval/901", "canonical_solution": "    return 1 / n\n"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ProblemError) as caught:
        load_problems(f"humaneval+@{path}")
    assert str(caught.value).startswith(f"{path}:2: the canonical solution of HumanEval/901 fails in test base_1: Zero")


def test_a_slow_canonical_solution_is_given_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mbpp/599 needs 16 s: four times that for the input, a minute for all inputs of a group."""
    problem = mbpp_plus(MBPP_PLUS | {"assertion": "assert isclose(add([], ()), ())"}, "f:1")
    answers = [Answer((9, 10, 5), 16.0), Answer((), 0.001), Answer((2.5, 1), 0.4)]
    monkeypatch.setattr(expected_outputs, "run_references", lambda *_: [answers])
    (complete,) = with_expected([problem])
    assert [case.cpu_s for case in complete.tests.cases] == [64.0, 1.0, 1.6]
    assert complete.limits.total_cpu_s == 60.0 + 2.0 + 2.6 + 2.0
    # The record's `assertion` (Mbpp/120's lacks an import) is no test.
    assert not any(case.code for case in complete.tests.cases)


def special(
    entry: str, body: str, inputs: list[Any], atol: float = 0, make: Callable[..., Problem] = mbpp_plus
) -> Problem:
    record = MBPP_PLUS | {
        "task_id": "Mbpp/1",
        "entry_point": entry,
        "canonical_solution": f"import re\ndef {entry}(*a):\n    {body}\n",
        "base_input": inputs,
        "plus_input": [],
        "atol": atol,
        "prompt": "",
    }
    return with_expected([make(record, "f:1")])[0]


@pytest.mark.parametrize(
    ("entry", "canonical", "inputs", "atol", "right", "wrong"),
    [
        ("similar_elements", "return (1, 2)", [[1]], 0, ["return [2, 1, 1]", "return {1, 2}"], ["return [1]"]),
        ("similar_elements", "return (1, 2)", [[1]], 0, ["return {1: 0, 2: 0}"], ["return 3", "return [[1], [2]]"]),
        (
            "check_str",
            "return re.search('a', a[0])",
            [["a"], ["b"]],
            0,
            ["return re.search('a', a[0])", "return a[0] == 'a'", "return 'x' if a[0] == 'a' else None"],
            ["return True", "return 1"],
        ),
        ("are_equivalent", "return True", [[1, 2]], 0, ["return False", "return re", "return None"], ["return 1 / 0"]),
        ("sum_div", "return 7", [[8]], 0, ["return 7", "return 0", "return 7.0"], ["return 1"]),
        ("surface_Area", "return 33", [[3, 4]], 0, ["return 33", "return round(9 + 6 * 18.25 ** .5)"], ["return 34"]),
        ("surface_Area", "return 33", [[3, 4]], 0, ["return 33.0"], ["return 'x'", "return None"]),
        ("digit_distance_nums", "return 1", [[1, 2]], 0, ["return 1"], ["return 2"]),
        ("digit_distance_nums", "return 9", [[123, 56]], 0, ["return 9", "return 1 + 3 + 3"], ["return 0"]),
        ("halve", "return 1", [[1]], 0, ["return 1", "return True", "return 1.0"], ["return [1]", "return 1 + 1e-9"]),
        ("halve", "return [1]", [[1]], 0, ["return [True]"], ["return (1,)", "return a", "return re"]),
        ("halve", "return [0.1]", [[1]], 0, ["return [0.1 + 1e-9]"], ["return (0.1 + 1e-9,)", "return [0.1, 0.1]"]),
        ("halve", "return 2.0", [[1]], 0, ["return 2", "return 2.0 + 1e-7"], ["return 3", "return 2.00001"]),
        ("halve", "return {'a': 1.0}", [[1]], 0.5, ["return {'a': 1}"], ["return {'a': 1.1}", "return 1.0"]),
        ("halve", "return [[1.0, 2.0]]", [[1]], 0.5, ["return [[1.1, 2.1]]"], ["return [[1.1], [2]]", "return [1.0]"]),
        ("halve", "return None", [[1]], 0, ["pass"], ["return 0", "return ''"]),
    ],
)  # fmt: skip
def test_oracles(
    grader: SandboxGrader,
    entry: str,
    canonical: str,
    inputs: list[Any],
    atol: float,
    right: list[str],
    wrong: list[str],
) -> None:
    problem = special(entry, canonical, inputs, atol)
    for body in right:
        assert set(verdicts(grader, problem, f"import re\ndef {entry}(*a):\n    {body}\n")) == {"pass"}, body
    for body in wrong:
        assert set(verdicts(grader, problem, f"import re\ndef {entry}(*a):\n    {body}\n")) != {"pass"}, body


def test_any_root_of_a_polynomial_passes(grader: SandboxGrader) -> None:
    problem = special("find_zero", "return 1.0", [[[-1, 0, 1]]], 1e-4, humaneval_plus)
    program = "def find_zero(*a):\n    return {}\n"
    for root in ("1", "-1.0", "True", "1.00001"):
        assert verdicts(grader, problem, program.format(root)) == ["pass"], root
    for other in ("0", "1.1", "None", "'1'", "find_zero", "1e300"):
        assert verdicts(grader, problem, program.format(other)) != ["pass"], other


def test_a_tolerance_holds_from_the_first_float_on() -> None:
    problem = special("halve", "return a[0]", [[1], [0.5], [2]])
    assert [case.atol for case in problem.tests.cases] == [0.0, 1e-6, 1e-6]


def test_limits_follow_the_reference(grader: SandboxGrader) -> None:
    problem = special(
        "spin",
        "import time\n    end = time.process_time() + a[0]\n    while time.process_time() < end: pass",
        [[0.5], [0]],
    )
    slow, quick = problem.tests.cases
    assert 1.9 <= slow.cpu_s <= 3.0 and quick.cpu_s == 1.0
    program = (
        "import time\ndef spin(*a):\n    end = time.process_time() + {}\n    while time.process_time() < end: pass\n"
    )
    assert verdicts(grader, problem, program.format("1.3 * (a[0] > 0)")) == ["pass", "pass"]
    assert verdicts(grader, problem, program.format("1.3 * (a[0] == 0)")) == ["pass", "timeout"]


def test_mbpp_plus(grader: SandboxGrader) -> None:
    (problem,) = with_expected([mbpp_plus(MBPP_PLUS, "f:1")])
    assert problem.initial_state == "" and problem.preamble == MBPP_PLUS["prompt"]
    assert problem.statement.startswith("Write a function to add") and not problem.statement.endswith('"')
    assert [case.args for case in problem.tests.cases] == [([5], (9, 10)), ([], ()), ([1], (2.5,))]
    assert verdicts(grader, problem) == ["pass"] * 3


@pytest.mark.parametrize(
    ("task", "row", "restored"),
    [
        (2, [[1], [2]], [(1,), (2,)]),
        (63, [[[1, 2], [3, 4]]], [[(1, 2), (3, 4)]]),
        (75, [[[1, 2]], 3], [[(1, 2)], 3]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1, 2], [], 3]], [[{1, 2}, {}, {}]]),
        (124, [1, "2j"], [1.0, 2j]),
        (250, [[1, [2]], 3], [(1, [2]), 3]),
        (252, ["1+2j"], [1 + 2j]),
        (259, [[[1], [2]], [[3]]], [((1,), (2,)), ((3,),)]),
        (278, [[1, [2, 3]]], [(1, (2, 3))]),
        (307, [[1, []], 2, 3], [(1, []), 2, 3]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
        (722, [{"a": [1, 2]}, 3, 4], [{"a": (1, 2)}, 3, 4]),
        (3, [[1]], [[1]]),
    ],
)
def test_arguments_are_restored(task: int, row: list[Any], restored: list[Any]) -> None:
    (found,) = restore_inputs(f"Mbpp/{task}", [row], "f:1")
    assert list(found) == restored and [type(item) for item in found] == [type(item) for item in restored]


def test_arguments_of_another_shape_are_named() -> None:
    with pytest.raises(
        ProblemError, match="f:7: input 1 of Mbpp/2 does not fit its function: a list is needed, got int"
    ):
        restore_inputs("Mbpp/2", [[[1], [2]], [3, 4]], "f:7")
    with pytest.raises(ProblemError, match="f:7: input 0 of Mbpp/124"):
        restore_inputs("Mbpp/124", [[1]], "f:7")


def test_mbpp(grader: SandboxGrader) -> None:
    problem = mbpp(MBPP, "f:1")
    assert (problem.id, problem.split, problem.entry_point, problem.initial_state) == ("Mbpp/12", "test", "order", "")
    assert problem.preamble == '"""\nWrite a function to sort a list.\nassert order([2, 1]) == [1, 2]\n"""\n'
    assert all(item.strip() in problem.statement for item in MBPP["test_list"])
    assert problem.stop_strings[:2] == ('\n"""', "\nassert") and "\r" not in (problem.canonical_solution or "")
    assert verdicts(grader, problem) == ["pass"] * 3
    assert verdicts(grader, problem, "def order(xs):\n    return sorted(xs)\n") == ["pass"] * 3
    assert verdicts(grader, problem, "def order(xs):\n    return xs\n") == ["wrong", "pass", "pass"]
    harder = with_challenge(MBPP, "f:1")
    assert harder is not None and verdicts(grader, harder) == ["pass"] * 4
    assert with_challenge(MBPP | {"challenge_test_list": []}, "f:1") is None


def test_splits_of_mbpp() -> None:
    assert [split_of(n) for n in (1, 10, 11, 510, 511, 600, 601, 974)] == [
        *("prompt", "prompt", "test", "test", "validation", "validation", "train", "train")
    ]
    assert split_of(0) == split_of(975) == ""


@pytest.mark.parametrize(
    ("code", "setup", "tests"),
    [
        (
            "class Pair:\n  def __init__(self, a): self.a = a\ndef total(ps): return sum(p.a for p in ps)",
            "",
            ["assert total([Pair(1), Pair(2)]) == 3", "assert total([]) == 0"],
        ),
        (
            "class Node:\n  def __init__(self, v): self.v = v\ndef value(n): return n.v",
            "root = Node(3)\r\nroot.v += 1",
            ["assert (value(root)) == 4"],
        ),
        (
            "def drop(xs, kind): return [x for x in xs if type(x) is not kind]",
            "",
            ["assert drop([1, 'a'], int) == ['a']"],
        ),
    ],
)
def test_tests_that_use_the_solutions_own_names(grader: SandboxGrader, code: str, setup: str, tests: list[str]) -> None:
    problem = mbpp(MBPP | {"code": code, "test_setup_code": setup, "test_list": tests}, "f:1")
    assert problem.tests.kind == "call"
    assert set(verdicts(grader, problem)) == {"pass"}
    name = code.rsplit("def ", 1)[1].split("(")[0]
    assert set(verdicts(grader, problem, code + f"\n{name} = lambda *a: ()")) == {"wrong"}


def test_the_three_shot_prompt() -> None:
    records = [MBPP | {"task_id": number, "text": f"Task {number}."} for number in (1, 2, 3, 4, 50)]
    made = list(three_shot(iter([mbpp(record, "f:1") for record in records])))
    last = made[-1]
    assert last.preamble.count("[BEGIN]\n") == 4 and last.preamble.count("[DONE]") == 3
    assert last.preamble.endswith("\n[BEGIN]\n") and last.stop_strings == ("[DONE]",)
    assert last.preamble.startswith(
        "You are an expert Python programmer, and here is your task: Task 2. Your code should"
    )
    assert last.preamble.index("Task 4.") < last.preamble.index("Task 50.") and "Task 1." not in last.preamble
    with pytest.raises(ProblemError, match="lack Mbpp/3"):
        list(three_shot(iter([mbpp(record, "f:1") for record in records if record["task_id"] != 3])))


def test_the_hubs_layout_of_mbpp_plus(grader: SandboxGrader) -> None:
    record = {
        "task_id": 13,
        "code": "def twice(n):\n  return 2 * n\n",
        "prompt": "Write a function to double a number.",
        "test_imports": [],
        "test_list": ["assert twice(2) == 4"],
        "test": "inputs = [[1], [2]]\nresults = [2, 4]\nfor i, r in zip(inputs, results):\n    assert twice(*i) == r\n",
    }
    for problem in (program_to_problem(record, "f:1"), mbpp_plus(record, "f:1")):
        assert problem.split == "test" and [case.id for case in problem.tests.cases] == ["plus"]
        assert verdicts(grader, problem) == ["pass"]
        assert verdicts(grader, problem, "def twice(n):\n    return 4\n") == ["wrong"]
    assert program_to_problem(record | {"test": "import numpy as np\n" + record["test"]}, "f:1").tests.packages == (
        "numpy",
    )


def test_a_samples_file_tells_base_and_plus_apart(grader: SandboxGrader, tmp_path: Path) -> None:
    data = tmp_path / "plus.jsonl"
    data.write_text(json.dumps(PLUS) + "\n")
    (problem,) = load_problems(f"humaneval+@{data}")
    samples = tmp_path / "samples.jsonl"
    bodies = ["    return n / 2\n", "    return n / 2 if n < 5 else 0\n", "    return 0\n"]
    samples.write_text(
        "".join(json.dumps({"task_id": problem.id, "completion": body}) + "\n" for body in bodies)
        + json.dumps({"task_id": problem.id, "solution": PLUS["prompt"] + bodies[0]})
    )
    read = read_samples(samples, [problem])
    grades = grader.grade([(item.problem, item.program) for item in read])
    records = [grade_record(item, grade) for item, grade in zip(read, grades, strict=True)]
    assert [record["groups"] for record in records] == [
        {"base": True, "plus": True},
        {"base": True, "plus": False},
        {"base": False, "plus": False},
        {"base": True, "plus": True},
    ]
    assert pass_at_1(records) == {"base": 0.75, "base + plus": 0.5}
    plain = [
        {"problem_id": "a", "passed": True},
        {"problem_id": "b", "passed": False},
        {"problem_id": "b", "passed": True},
    ]
    assert pass_at_1(plain) == {"all": 0.75}
