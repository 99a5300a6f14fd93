"""Grading a samples file: formats, order, resuming, complaints."""

from __future__ import annotations

import json

import pytest

from restrl.errors import ArtifactError, GraderError, ProblemError
from restrl.grading.samples import grade_samples, read_samples
from restrl.types import Case, CaseVerdict, Grade, Problem, Tests

PROBLEMS = [
    Problem(
        name,
        "",
        "def f(x):\n",
        "f",
        Tests("call", (Case("a", args=(1,), expected=2), Case("b", args=(2,), expected=3))),
    )
    for name in ("p/0", "p/1")
]
GOOD, BAD = "def f(x):\n    return x + 1\n", "def f(x):\n    return 2\n"


class Scripted:
    """Counts its work and fails on demand; half credit for BAD."""

    def __init__(self, fail_after=10**9):
        self.graded = 0
        self.fail_after = fail_after

    def grade(self, pairs):
        grades = []
        for problem, program in pairs:
            if self.graded >= self.fail_after:
                raise GraderError("on purpose")
            self.graded += 1
            good = program == GOOD
            marks = (CaseVerdict("a", "pass"), CaseVerdict("b", "pass" if good else "wrong"))
            grades.append(Grade(problem.id, 1.0 if good else 0.5, good, marks, 0.25, ("uid",)))
        return grades

    async def grade_async(self, pairs):
        return self.grade(pairs)


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_both_formats_give_whole_programs(tmp_path):
    path = write(
        tmp_path / "s.jsonl",
        [
            {"task_id": "p/0", "solution": GOOD, "_identifier": "x"},
            {"problem_id": "p/1", "completion": "    return x + 1\n"},
            {"task_id": "p/0", "solution": BAD},
        ],
    )
    samples = read_samples(path, PROBLEMS)
    assert [(s.problem.id, s.sample_index, s.program) for s in samples] == [
        ("p/0", 0, GOOD),
        ("p/1", 0, GOOD),
        ("p/0", 1, BAD),
    ]


def test_records_have_the_documented_fields(tmp_path, grader):
    path = write(tmp_path / "s.jsonl", [{"task_id": "p/0", "solution": GOOD}, {"task_id": "p/0", "solution": BAD}])
    out = tmp_path / "deep" / "grades.jsonl"
    records = grade_samples(PROBLEMS, path, out, grader)
    assert [json.loads(line) for line in out.read_text().splitlines()] == records
    assert [(r["problem_id"], r["sample_index"], r["reward"], r["passed"]) for r in records] == [
        ("p/0", 0, 1.0, True),
        ("p/0", 1, 0.5, False),
    ]
    assert records[1]["tests"] == [{"id": "a", "verdict": "pass"}, {"id": "b", "verdict": "wrong"}]
    assert (
        records[1]["assurance"] == "isolated"
        and records[1]["layers"] == list(grader.layers)
        and records[1]["cpu_s"] > 0
    )


def test_resumed_equals_uninterrupted(tmp_path):
    path = write(
        tmp_path / "s.jsonl", [{"task_id": f"p/{i % 2}", "solution": GOOD if i % 3 else BAD} for i in range(200)]
    )
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    grade_samples(PROBLEMS, path, whole, Scripted())
    with pytest.raises(GraderError):
        grade_samples(PROBLEMS, path, cut, Scripted(fail_after=150))
    kept = cut.read_text()
    assert len(kept.splitlines()) == 128
    cut.write_text(kept + '{"problem_id": "p/0", "sam')
    grader, seen = Scripted(), []
    grade_samples(PROBLEMS, path, cut, grader, lambda done, total: seen.append((done, total)))
    assert cut.read_bytes() == whole.read_bytes()
    assert grader.graded == 200 - 128
    assert seen == [(128, 200), (192, 200), (200, 200)]


def test_records_of_other_samples_are_not_mixed_in(tmp_path):
    out = tmp_path / "o.jsonl"
    grade_samples(PROBLEMS, write(tmp_path / "a.jsonl", [{"task_id": "p/0", "solution": GOOD}]), out, Scripted())
    with pytest.raises(ArtifactError, match=r"o\.jsonl:1"):
        grade_samples(PROBLEMS, write(tmp_path / "b.jsonl", [{"task_id": "p/0", "solution": BAD}]), out, Scripted())


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON list"),
        ('{"solution": "x"}', "no problem name"),
        ('{"task_id": "q", "solution": "x"}', "unknown problem 'q'"),
        ('{"task_id": "p/0"}', "no program"),
        ('{"task_id": "p/0", "solution": 3}', "is a int"),
    ],
)
def test_a_bad_record_is_named_by_file_and_line(tmp_path, line, complaint):
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"task_id": "p/0", "solution": GOOD}) + "\n\n" + line + "\n")
    grader = Scripted()
    with pytest.raises(ProblemError, match=complaint) as caught:
        grade_samples(PROBLEMS, path, tmp_path / "o.jsonl", grader)
    assert f"{path}:3" in str(caught.value) and grader.graded == 0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ProblemError, match="no such samples file"):
        read_samples(tmp_path / "none.jsonl", PROBLEMS)
