import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from restrl.errors import ProblemError
from restrl.problems import PROBLEM_SETS, load_problems, validate_problems
from restrl.problems.jsonl import write_problems
from restrl.types import Case, CaseVerdict, Grade, Problem, Tests


def test_starter_splits_load_by_name() -> None:
    problems = load_problems("starter/validation", count=3)
    assert [p.id for p in problems] == [f"starter/validation/{i:05d}" for i in range(3)]
    assert {p.split for p in problems} == {"validation"}


def test_a_smaller_count_is_a_prefix() -> None:
    assert load_problems("starter/train", count=6)[:2] == load_problems("starter/train", count=2)


def test_the_whole_family_takes_turns() -> None:
    assert [p.split for p in load_problems("starter", count=4)] == ["train", "validation", "test", "train"]


def test_another_seed_gives_other_problems_with_other_ids() -> None:
    first, second = load_problems("starter/train", count=5), load_problems("starter/train", count=5, seed=1)
    assert not {p.id for p in first} & {p.id for p in second}
    assert [p.statement for p in first] != [p.statement for p in second]


def test_files_load_by_path(tmp_path: Path) -> None:
    problems = load_problems("starter/test", count=4)
    path = tmp_path / "mine.jsonl"
    write_problems(path, problems)
    assert load_problems(str(path)) == [
        Problem(**{f: getattr(p, f) for f in p.__slots__})
        for p in problems  # equal, field by field
    ]
    assert load_problems(str(path), count=2) == problems[:2]
    with pytest.raises(ProblemError, match="has 4 problems, 5 were asked for"):
        load_problems(str(path), count=5)


@pytest.mark.parametrize("spec", ["humaneval-ish", "starter/dev", "problems.json", ""])
def test_unknown_sets_are_one_line_with_the_choices(spec: str) -> None:
    with pytest.raises(ProblemError) as caught:
        load_problems(spec)
    message = str(caught.value)
    assert repr(spec) in message and "starter/train" in message and ".jsonl" in message and "\n" not in message


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ProblemError, match="count is 0"):
        load_problems("starter/train", count=0)


def test_every_set_says_what_it_is() -> None:
    for name, entry in PROBLEM_SETS.items():
        assert re.fullmatch(r"[a-z0-9/_+-]+", name) and entry.summary


class ParityGrader:
    """Passes the solutions of even length."""

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        grades = []
        for problem, program in pairs:
            passed = len(program) % 2 == 0
            verdict = CaseVerdict("t", "pass" if passed else "wrong", "" if passed else "got 3")
            grades.append(Grade(problem.id, float(passed), passed, (verdict,)))
        return grades

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.grade(pairs)


def test_validation_lists_failures_and_missing_solutions() -> None:
    tests = Tests("call", (Case("t", (1,), expected=1),))

    def problem(name: str, solution: str | None) -> Problem:
        return Problem(name, "s", "", "f", tests, canonical_solution=solution)

    report = validate_problems([problem("a", "ab"), problem("b", "abc"), problem("c", None)], ParityGrader())
    assert (report.num_problems, report.num_passed, report.ok) == (3, 1, False)
    assert [(f.problem_id, f.reason) for f in report.failures] == [("b", "t wrong: got 3")]
    assert report.without_solution == ("c",)


def test_long_problems_are_a_family_of_their_own() -> None:
    """Six operations each; splits share no composition; the usual problems are what they were without them."""
    kept: dict[str, set[tuple[str, ...]]] = {}
    for split in ("train", "validation", "test"):
        problems = load_problems(f"starter-long/{split}", count=4)
        assert [p.id for p in problems] == [f"starter/{split}/long/{i:05d}" for i in range(4)]
        assert all(p.band == "long" and len(p.metadata["composition"]) == 6 for p in problems)
        kept[split] = {tuple(p.metadata["composition"]) for p in problems}
    assert not kept["train"] & kept["test"] and not kept["validation"] & kept["test"]
    assert not any(problem.band == "long" for problem in load_problems("starter/test", count=60))
