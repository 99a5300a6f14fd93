"""Evaluation of decoded programs against hand-computed numbers."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ArtifactError, ConfigError, EngineError, GraderError
from restrl.evaluation.evaluate import evaluate_decoded
from restrl.evaluation.results import compare, from_records
from restrl.evaluation.statistics import Interval
from restrl.types import Case, CaseVerdict, Grade, Problem, Tests


@dataclass(frozen=True)
class Candidate:
    code: str
    finished: bool = True
    score: float | None = None


@dataclass(frozen=True)
class Ledger:
    completions: int = 0
    tokens: int = 0
    wall_s: float = 0.5
    note: str = "not a number"


@dataclass(frozen=True)
class Decoded:
    problem_id: str
    candidates: tuple[Candidate, ...]
    answers: tuple[int | None, ...]
    ledger: Ledger | None = None


class TableGrader:
    """The reward of a program is the number written in it; remembers what it was asked."""

    def __init__(self):
        self.batches = []

    def grade(self, pairs):
        self.batches.append(list(pairs))
        grades = []
        for problem, program in pairs:
            assert program.startswith(problem.initial_state)
            reward = float(program[len(problem.initial_state) :])
            grades.append(Grade(problem.id, reward, reward == 1.0, (CaseVerdict("t", "pass"),)))
        return grades

    async def grade_async(self, pairs):
        return self.grade(pairs)


def problem(name, band="easy"):
    return Problem(name, "Say it.", f"# {name}\n", "f", Tests("call", (Case("t"),)), band=band)


PROBLEMS = [problem("a"), problem("b", "hard"), problem("c", "hard"), problem("unused")]


def decoded(name, rewards, answers, ledger=None):
    return Decoded(name, tuple(Candidate(str(reward)) for reward in rewards), tuple(answers), ledger)


THREE = [
    decoded("b", [0.5, 1.0, 1.0], [0, 0, 1], Ledger(3, 30)),
    decoded("a", [0.0, 0.0, 0.25], [0, 1, 2], Ledger(3, 20)),
    decoded("c", [1.0, 0.0, 1.0], [0, 1, 0], Ledger(3, 50)),
]


def evaluate(items, **kwargs):
    kwargs.setdefault("num_resamples", 200)
    return evaluate_decoded(PROBLEMS, items, TableGrader(), **kwargs)


def test_metrics_of_three_problems_by_hand():
    result = evaluate(THREE, independent=True)
    summary = result.summary()
    assert [p.problem_id for p in result.problems] == ["b", "a", "c"]
    assert summary["num_problems"] == 3 and summary["budget"] == 3 and summary["num_short"] == 0
    assert summary["pass@1"]["mean"] == pytest.approx(2 / 3)
    assert summary["strict_accuracy"] == pytest.approx(2 / 3)
    assert summary["test_case_average"]["mean"] == pytest.approx(2.25 / 3)
    assert summary["oracle"]["mean"] == pytest.approx(2 / 3)
    # Two of three pass on b and c, none on a.
    assert summary["pass@k"] == pytest.approx({"1": 4 / 9, "2": 2 / 3, "3": 2 / 3})
    assert summary["sample_pass@1"]["mean"] == pytest.approx(4 / 9)
    assert summary["sample_test_case_average"]["mean"] == pytest.approx((2.5 + 0.25 + 2.0) / 9)
    assert summary["distinct_share"] == pytest.approx(6 / 9)
    assert summary["ledger"] == {"completions": 9, "tokens": 100, "wall_s": 1.5}


def test_budget_curve_uses_the_answer_of_each_budget_and_the_oracle_its_candidates():
    curve = evaluate(THREE).curve()
    assert [point.budget for point in curve] == [1, 2, 3]
    # b, a, c by hand: budget 1: c; budget 2: none; budget 3: b and c.
    assert [point.accuracy.mean for point in curve] == pytest.approx([1 / 3, 0, 2 / 3])
    assert [point.oracle.mean for point in curve] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert curve[1].accuracy == Interval(0.0, 0.0, 0.0)
    assert curve[2].accuracy.low < 2 / 3 < curve[2].accuracy.high


def test_bands_split_the_problems():
    summary = evaluate(THREE).summary()
    assert list(summary["by_band"]) == ["easy", "hard"]
    assert summary["by_band"]["easy"]["pass@1"]["mean"] == 0.0
    assert summary["by_band"]["hard"]["pass@1"]["mean"] == 1.0
    assert summary["by_band"]["hard"]["num_problems"] == 2


def test_every_distinct_program_is_graded_once_in_one_batch():
    grader = TableGrader()
    evaluate_decoded(PROBLEMS, THREE, grader)
    assert len(grader.batches) == 1
    programs = [(p.id, program) for p, program in grader.batches[0]]
    assert len(programs) == len(set(programs)) == 6
    assert ("a", "# a\n0.25") in programs


def test_a_cut_off_program_scores_zero_without_being_run_unless_asked():
    items = [Decoded("a", (Candidate("1.0", finished=False), Candidate("1.0")), (0, 1))]
    result = evaluate(items)
    assert [c.reward for c in result.problems[0].candidates] == [0.0, 1.0]
    assert [point.accuracy.mean for point in result.curve()] == [0.0, 1.0]
    assert result.summary()["unfinished_share"] == 0.5
    assert evaluate(items, grade_unfinished=True).values("pass@1", 1).tolist() == [1.0]
    only_cut = [Decoded("a", (Candidate("1.0", finished=False),), (0,))]
    grader = TableGrader()
    assert evaluate_decoded(PROBLEMS, only_cut, grader).summary()["unfinished_answers"] == 1.0
    assert grader.batches == []


def test_no_answer_scores_zero():
    result = evaluate([Decoded("a", (Candidate("1.0"),), (None,))])
    assert result.summary()["pass@1"]["mean"] == 0.0
    assert result.curve()[0].oracle.mean == 1.0


def test_a_search_that_ran_dry_keeps_its_last_answer_and_is_counted():
    result = evaluate([decoded("a", [1.0], [0]), decoded("b", [0.0, 1.0], [0, 1])])
    assert result.values("pass@1").tolist() == [1.0, 1.0]
    assert result.summary()["num_short"] == 1


def test_records_survive_json_and_chunks():
    result = evaluate(THREE)
    lines = [json.dumps(record) for record in result.to_records(timing=True)]
    again = from_records([json.loads(line) for line in lines], num_resamples=200)
    assert again == result
    assert json.loads(json.dumps(again.summary(), allow_nan=False)) == json.loads(json.dumps(result.summary()))
    record = json.loads(lines[0])
    assert (record["problem_id"], record["passed"], record["reward"]) == ("b", True, 1.0)
    assert record["ledger"]["wall_s"] == 0.5
    assert "wall_s" not in result.to_records()[0]["ledger"]


def test_bad_records_name_the_problem():
    with pytest.raises(ArtifactError, match="'b' does not fit"):
        from_records([{"problem_id": "b", "band": ""}])
    with pytest.raises(ArtifactError, match="restrl evaluate"):
        from_records([])


def test_pass_at_k_is_refused_for_searched_candidates_and_for_too_few():
    with pytest.raises(ValueError, match="independent"):
        evaluate(THREE).pass_at_k(2)
    with pytest.raises(ConfigError, match="pass@4 needs at least 4 samples"):
        evaluate(THREE, independent=True).pass_at_k(4)
    assert "pass@k" not in evaluate(THREE).summary()


def test_ranking_accuracy_is_over_scored_finished_candidates_of_problems_with_both_kinds():
    mixed = (Candidate("1.0", score=0.9), Candidate("0.0", score=0.95), Candidate("0.5", score=0.1))
    items = [
        Decoded("a", (*mixed, Candidate("0.0", finished=False, score=0.0)), (0, 0, 0, 0)),
        Decoded("b", (Candidate("1.0", score=0.2), Candidate("1.0", score=0.1)), (0, 0)),
    ]
    assert evaluate(items).summary()["ranking_accuracy"] == 0.5
    assert evaluate(THREE).summary()["ranking_accuracy"] is None


def test_compare_pairs_by_problem_id_and_averages_runs():
    first = evaluate(THREE)
    other = evaluate([decoded("c", [0.0], [0]), decoded("a", [0.0], [0]), decoded("b", [1.0], [0])])
    assert compare(first, other).mean == pytest.approx(1 / 3)
    assert compare(other, first).mean == pytest.approx(-1 / 3)
    assert compare(first, other, "test_case_average").mean == pytest.approx((0 + 0.25 + 1) / 3)
    assert compare([first, other], [other, other]).mean == pytest.approx(1 / 6)
    assert compare(first, first, "pass@1", "sample_pass@1").mean == pytest.approx(2 / 3 - 4 / 9)
    with pytest.raises(ValueError, match="'a'"):
        compare(first, evaluate(THREE[::2]))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "no problem"),
        ([decoded("zz", [1.0], [0])], "'zz', which is not among the 4 problems"),
        ([THREE[0], THREE[0]], "'b' twice"),
        ([decoded("a", [1.0], [])], "no answer"),
        ([decoded("a", [1.0, 1.0], [1, 1])], "candidate 1 at budget 1: only candidates 0..0"),
        ([decoded("a", [1.0], [0, -1])], "candidate -1 at budget 2"),
    ],
)
def test_a_decoder_that_breaks_its_contract_is_an_error(items, message):
    with pytest.raises(EngineError, match=message):
        evaluate(items)


def test_a_grader_that_loses_programs_is_an_error():
    class Lossy(TableGrader):
        def grade(self, pairs):
            return super().grade(pairs)[:-1]

    with pytest.raises(GraderError, match="5 grades for 6 programs"):
        evaluate_decoded(PROBLEMS, THREE, Lossy())


REWARDS = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=4, max_size=4)


@settings(deadline=None, max_examples=30)
@given(st.lists(REWARDS, min_size=1, max_size=3), st.data())
def test_oracle_is_monotone_bounds_every_choice_and_equals_pass_at_n(tables, data):
    items = [
        decoded(name, rewards, [data.draw(st.integers(0, b)) for b in range(4)])
        for name, rewards in zip("abc", tables, strict=False)
    ]
    result = evaluate(items, independent=True, num_resamples=5)
    curve = result.curve()
    oracle = [point.oracle.mean for point in curve]
    assert oracle == sorted(oracle)
    assert all(point.accuracy.mean <= point.oracle.mean for point in curve)
    assert oracle[-1] == pytest.approx(result.pass_at_k(4))
    assert np.all(result.values("pass@1") <= result.values("test_case_average"))
