"""LiveCodeBench: records of our own in its layouts, hostile pickles, the real sample where it is."""

from __future__ import annotations

import ast
import base64
import dataclasses
import gzip
import json
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed_records import WHERE, check, malformed

from restrl.errors import ProblemError
from restrl.grading import SandboxGrader
from restrl.problems import livecodebench, load_problems
from restrl.problems.livecodebench import decode_tests, to_problem
from restrl.problems.livecodebench_example import OWN_FUNCTION, OWN_PROGRAM, with_example
from restrl.problems.problem_set import Refusal
from restrl.problems.registry import PROBLEM_SETS


def pack(value, **options) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value, **options))).decode()


def cases_of(kind: str, *pairs) -> str:
    return json.dumps([{"input": given, "output": wanted, "testtype": kind} for given, wanted in pairs])


STDIN = {
    "question_title": "Twice",
    "question_content": "Print twice the number.",
    "platform": "atcoder",
    "question_id": "abc000_a",
    "contest_id": "abc000",
    "contest_date": "2024-01-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": cases_of("stdin", ("3\n", "6\n")),
    "private_test_cases": pack(cases_of("stdin", ("4\n", "8\n"), ("0\n", "0\n"))),
    "metadata": "{}",
}
FUNCTIONAL = {
    **STDIN,
    "question_id": "9999",
    "platform": "leetcode",
    "starter_code": "class Solution:\n    def pair(self, xs: List[int], k: int) -> List[int]:\n        ",
    "public_test_cases": cases_of("functional", ("[1, 2]\n1", "[2, 1]")),
    "private_test_cases": cases_of("functional", ("[]\n-5", "[0, -5]")),
    "metadata": '{"func_name": "pair"}',
}
PAIR = "class Solution:\n    def pair(self, xs: List[int], k: int):\n        return (len(xs), k)\n"


@pytest.fixture(scope="module")
def grader():
    with SandboxGrader() as shared:
        yield shared


def test_a_stdin_record(grader) -> None:
    problem = to_problem(STDIN, WHERE)
    assert (problem.id, problem.band, problem.split) == ("livecodebench/abc000_a", "easy", "test")
    assert [c.stdin for c in problem.tests.cases] == ["3\n", "4\n", "0\n"]
    assert problem.metadata["public_tests"] == ["test_0"] and problem.metadata["platform"] == "atcoder"
    assert problem.tests.all_or_nothing and problem.limits.cpu_s == 6.0
    assert problem.preamble == "### Question\nPrint twice the number.\n\n### Answer\n\n"
    assert "Read the inputs from stdin" in problem.chat_message and "# YOUR CODE HERE" in problem.chat_message
    good, bad = "print(2 * int(input()))", "print(6)"
    assert [grade.reward for grade in grader.grade([(problem, good), (problem, bad)])] == [1.0, 0.0]


def test_a_functional_record(grader) -> None:
    problem = to_problem(FUNCTIONAL, WHERE)
    assert problem.entry_point == "Solution.pair|pair" and problem.tests.kind == "call"
    assert [(c.args, c.expected) for c in problem.tests.cases] == [(([1, 2], 1), [2, 1]), (([], -5), [0, -5])]
    assert "### Starter Code\nclass Solution:\n" in problem.preamble
    assert "```python\nclass Solution:\n" in problem.chat_message
    bad = PAIR.replace("len(xs)", "1")
    # A returned tuple is a list; List needs no import.
    assert [grade.passed for grade in grader.grade([(problem, PAIR), (problem, bad)])] == [True, False]


def test_what_the_harness_imports_is_there(grader) -> None:
    problem = to_problem(STDIN, WHERE)
    program = (
        "n = int(input())\n"
        "assert mean([1, 3]) == 2 and dumps([1]) == '[1]' and json.loads('1') == 1 and gcd(4, 6) == 2\n"
        "assert datetime.date(2024, 1, 1) and heapq.heappop([1]) == Counter('a')['a'] and pow(2, 2) == 4\n"
        "assert sys.getrecursionlimit() == 50000\nprint(n * 2)\n"
    )
    assert grader.grade([(problem, program)])[0].passed


def test_private_tests_in_every_form() -> None:
    text = cases_of("stdin", ("4\n", "8\n"), ("0\n", "0\n"))
    forms = [text, json.loads(text), pack({"input_output": text}), *(pack(text, protocol=n) for n in range(6))]
    for form in forms:
        assert to_problem({**STDIN, "private_test_cases": form}, WHERE) == to_problem(STDIN, WHERE)
    assert len(to_problem({**STDIN, "private_test_cases": ""}, WHERE).tests.cases) == 1


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_hostile_pickle_is_not_run(tmp_path) -> None:
    path = tmp_path / "written"
    for protocol in range(6):
        with pytest.raises(ProblemError, match=r"^data/file.jsonl:17: the private tests use the pickle opcode"):
            decode_tests(pack(Hostile(path), protocol=protocol), WHERE)
    assert not path.exists()
    pickle.loads(pickle.dumps(Hostile(path))).close()
    assert path.exists()  # it would have been


@pytest.mark.parametrize(
    "raw",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",  # GLOBAL and REDUCE
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.",  # STACK_GLOBAL
        b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".",  # a large integer
        b"P1\n.",  # PERSID
        b"\x82\x01.",  # EXT1
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",  # a byte array that claims a terabyte
        b"\x8d" + (1 << 60).to_bytes(8, "little") + b"x.",  # a string that claims more than there is
        b"",
        b".",
        b"(lp0\n.",
    ],
)
def test_odd_pickles_are_one_clear_line(raw) -> None:
    with pytest.raises(ProblemError, match=r"^data/file.jsonl:17: the private tests [^\n]*$"):
        decode_tests(base64.b64encode(zlib.compress(raw)).decode(), WHERE)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60), st.booleans())
def test_no_bytes_do_anything_else(raw, compress) -> None:
    try:
        value = decode_tests(base64.b64encode(zlib.compress(raw) if compress else raw).decode(), WHERE)
    except ProblemError as error:
        assert str(error).startswith(WHERE) and "\n" not in str(error)
    else:
        assert type(value) is str


def test_a_bomb_is_not_unpacked(monkeypatch) -> None:
    monkeypatch.setattr(livecodebench, "MAX_TEXT_BYTES", 1 << 20)
    bomb = base64.b64encode(zlib.compress(pickle.dumps("0" * (64 << 20)), 9)).decode()
    assert len(bomb) < 100_000
    with pytest.raises(ProblemError, match="unpack to more than 1048576 bytes"):
        decode_tests(bomb, WHERE)
    cut = base64.b64encode(zlib.compress(pickle.dumps("abc" * 100))[:-8]).decode()
    with pytest.raises(ProblemError, match="are cut off"):
        decode_tests(cut, WHERE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"private_test_cases": "no base64!"}, "the private tests are neither JSON nor base64"),
        ({"private_test_cases": "AAAA"}, "the private tests are not packed by zlib"),
        ({"private_test_cases": pack({"a": "b"})}, "the private tests hold a dict; allowed: a string"),
        ({"private_test_cases": pack("[")}, "'private_test_cases' is not JSON"),
        ({"public_test_cases": "{}"}, "'public_test_cases' must be an array of objects"),
        ({"public_test_cases": cases_of("functional", ("1", "2"))}, "the tests' types are"),
        ({"metadata": "[]"}, "'metadata' must be an object"),
    ],
)
def test_malformed_records_name_file_and_line(change, message) -> None:
    with pytest.raises(ProblemError, match=rf"^data/file.jsonl:17: {message}"):
        to_problem({**STDIN, **change}, WHERE)


def test_functional_records_need_a_function_and_json() -> None:
    with pytest.raises(ProblemError, match="need 'func_name' in 'metadata'"):
        to_problem({**FUNCTIONAL, "metadata": "{}"}, WHERE)
    with pytest.raises(ProblemError, match="line 2 of the input of test_0 is not JSON"):
        to_problem({**FUNCTIONAL, "public_test_cases": cases_of("functional", ("1\nx", "1"))}, WHERE)


def test_a_record_without_tests_is_refused() -> None:
    assert to_problem({**STDIN, "public_test_cases": "[]", "private_test_cases": "[]"}, WHERE) == Refusal(
        "without tests"
    )


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_malformed_record_does_anything_else(data) -> None:
    check(to_problem, data.draw(malformed(data.draw(st.sampled_from([STDIN, FUNCTIONAL])))))


def test_the_hub_layout(tmp_path, monkeypatch) -> None:
    """Several JSON-lines files and a loading script; the script is not run."""
    import datasets

    monkeypatch.delenv("RESTRL_BENCHMARKS", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "test.jsonl").write_text(json.dumps(STDIN) + "\n", encoding="utf-8")
    (copy / "test2.jsonl").write_text(json.dumps(FUNCTIONAL) + "\n", encoding="utf-8")
    (copy / "code_generation_lite.py").write_text("raise RuntimeError('a loading script')\n")
    entry = PROBLEM_SETS["livecodebench"]
    assert entry.hub.id == "livecodebench/code_generation_lite"
    local = dataclasses.replace(entry, hub=dataclasses.replace(entry.hub, id=str(copy)))
    monkeypatch.setitem(PROBLEM_SETS, "livecodebench", local)
    expected = list(with_example(iter([to_problem(STDIN, WHERE), to_problem(FUNCTIONAL, WHERE)]), folder=""))
    assert load_problems("livecodebench") == expected


def test_base_prompts_begin_with_a_solved_example(tmp_path, monkeypatch) -> None:
    """The harness's own example where its file is at hand, else one of ours, in the same layout."""
    data = tmp_path / "tests.jsonl"
    data.write_text(json.dumps(STDIN) + "\n" + json.dumps(FUNCTIONAL) + "\n", encoding="utf-8")
    monkeypatch.setenv("RESTRL_BENCHMARKS", str(tmp_path))
    program, function = load_problems(f"livecodebench@{data}")
    for problem, code in ((program, ""), (function, "### Starter Code\nclass Solution:\n")):
        example, question = problem.preamble.removeprefix("### Question\n").split("### Question\n")
        assert problem.metadata["example"] == "own" and example.endswith("\n\n")
        assert question == to_problem(FUNCTIONAL if code else STDIN, WHERE).preamble.removeprefix("### Question\n")
        assert code in example and code in question
        ast.parse(example.split("### Answer\n\n")[1])

    folder = tmp_path / "livecodebench"
    folder.mkdir()
    with gzip.open(folder / "few_shot_func.json.gz", "wt", encoding="utf-8") as file:
        json.dump([{"question": "Q", "sample_code": "S", "answer": "A"}, {"question": "second"}], file)
    program, function = load_problems(f"livecodebench@{data}")
    assert program.metadata["example"] == "own" and function.metadata["example"] == "harness"
    shown = "### Question\nQ\n\n### Starter Code\nS\n\n### Answer\n\nA\n\n"
    assert function.preamble == shown + to_problem(FUNCTIONAL, WHERE).preamble

    (folder / "few_shot_stdin.json").write_text('[{"question": 1}]')
    with pytest.raises(ProblemError, match=r"few_shot_stdin.json:1: 'question' must be a string"):
        load_problems(f"livecodebench@{data}")


def test_the_examples_answers_are_right() -> None:
    peaks: dict[str, Any] = {"List": list}
    exec(OWN_FUNCTION.answer, peaks)
    solve = peaks["Solution"]().countPeaks
    assert [solve(xs) for xs in ([1, 4, 2, 3, 1], [5, 5, 1], [1], [1, 2])] == [2, 0, 0, 0]
    done = subprocess.run(
        [sys.executable, "-c", OWN_PROGRAM.answer], input="2\n7 3\n4 2\n", text=True, capture_output=True
    )
    assert done.stdout == "3\n2\n" == OWN_PROGRAM.question.split("Sample Output 1:\n")[1]


SENIORS = (
    "class Solution:\n    def countSeniors(self, details: List[str]) -> int:\n"
    "        return sum(int(text[11:13]) > {} for text in details)\n"
)
CARDS = (
    "for _ in range(int(input())):\n    s = input()\n"
    "    print('YES' if sum(a != b for a, b in zip(s, 'abc')) < {} else 'NO')\n"
)
WINNER = (
    "n, s = input(), input()\nt, a = s.count('T'), s.count('A')\n"
    "print('T' if t > a or (t == a and s[-1] == '{}') else 'A')\n"
)


@pytest.mark.benchmarks
def test_the_real_sample(grader) -> None:
    root = os.environ.get("RESTRL_BENCHMARKS")
    if not root:
        pytest.skip("RESTRL_BENCHMARKS names no folder with the benchmarks' data")
    problems = load_problems("livecodebench/sample")
    assert [(p.id.split("/", 1)[1], len(p.tests.cases)) for p in problems] == [
        ("codeforces/1873_A", 5),
        ("leetcode/2727", 14),
        ("atcoder/abc301_a", 15),
    ]
    right = [CARDS.format(3), SENIORS.format(60), WINNER.format("A")]
    wrong = [CARDS.format(2), SENIORS.format(61), WINNER.format("T")]
    assert all(grade.passed for grade in grader.grade(list(zip(problems, right, strict=True))))
    assert not any(grade.passed for grade in grader.grade(list(zip(problems, wrong, strict=True))))
    with gzip.open(Path(root, "livecodebench", "lcb_sandboxfusion_sample3.jsonl.gz"), "rt", encoding="utf-8") as file:
        prompts = [json.loads(line)["content"] for line in file]
    assert [p.chat_message.rstrip() for p in problems] == [prompt.rstrip() for prompt in prompts]
