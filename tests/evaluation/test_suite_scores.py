"""Scores by set and averaged over sets, against numbers worked out by hand and by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ArtifactError
from restrl.evaluation.averages import average_of_rows
from restrl.evaluation.config import SuiteConfig
from restrl.evaluation.layouts import samples_path, samples_text, slug
from restrl.evaluation.statistics import bootstrap_mean
from restrl.evaluation.suite import Part, Scored, ScoredAnswer, has_base, is_base, part_of, stem_of, summarise
from restrl.evaluation.tables import COLUMNS, markdown, notes, rows
from restrl.types import Case, CaseVerdict, Tests


def answer(reward: float, base: float | None = None, finished: bool = True) -> ScoredAnswer:
    parts = [None if value is None else Part(value, value == 1.0) for value in (reward, base)]
    assert parts[0] is not None
    return ScoredAnswer(finished, parts[0], parts[1])


def scored(name: str, problem: str, *rewards: float, base: tuple[float, ...] | None = None) -> Scored:
    bases: tuple[float | None, ...] = base if base is not None else (None,) * len(rewards)
    return Scored(name, problem, tuple(answer(r, b) for r, b in zip(rewards, bases, strict=True)))


def config(samples: int = 1) -> SuiteConfig:
    return SuiteConfig(samples=samples, resamples=200)


def test_one_set_by_hand() -> None:
    records = [
        scored("mine.jsonl", "a", 1.0, 0.5),
        scored("mine.jsonl", "b", 0.0, 0.25),
        scored("mine.jsonl", "c", 1, 1),
    ]
    (row,) = summarise(records, ["mine.jsonl"], config(2))["sets"]
    assert row["pass@1"]["mean"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert row["strict_accuracy"]["mean"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert row["test_case_average"]["mean"] == pytest.approx((0.75 + 0.125 + 1) / 3)
    assert {k: v["mean"] for k, v in row["pass@k"].items()} == pytest.approx({"1": 0.5, "2": 2 / 3})
    assert row["pass@1"]["low"] <= 0.5 <= row["pass@1"]["high"]


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_pass_at_k_is_the_share_of_draws_without_replacement_that_hold_a_pass(table: list[list[bool]]) -> None:
    records = [scored("s", str(i), *map(float, row)) for i, row in enumerate(table)]
    (row,) = summarise(records, ["s"], SuiteConfig(samples=4, resamples=100))["sets"]
    for k in (1, 2, 4):
        brute = [np.mean([any(draw) for draw in itertools.combinations(flags, k)]) for flags in table]
        assert row["pass@k"][str(k)]["mean"] == pytest.approx(np.mean(brute))


def test_the_papers_average_weighs_sets_alike_and_takes_apps_by_its_test_cases() -> None:
    records = [
        *(scored("humaneval", str(i), float(i < 3)) for i in range(4)),  # pass@1 0.75
        *(scored("apps/test", str(i), 0.5) for i in range(10)),  # pass@1 0, test-case average 0.5
        scored("bigcodebench", "x", 0.9),  # pass@1 0
    ]
    average = summarise(records, ["humaneval", "apps/test", "bigcodebench"], config())["average"]
    assert average["score"]["mean"] == pytest.approx((0.75 + 0.5 + 0.0) / 3)
    assert average["pass@1"]["mean"] == pytest.approx((0.75 + 0.0 + 0.0) / 3)
    assert average["test_case_average"]["mean"] == pytest.approx((0.75 + 0.5 + 0.9) / 3)
    assert average["score"]["low"] <= average["score"]["mean"] <= average["score"]["high"]


def test_plus_sets_have_a_base_and_a_plus_row() -> None:
    plus = [
        scored("humaneval+", "a", 1.0, 0.0, base=(1.0, 1.0)),
        scored("humaneval+", "b", 0.0, 0.0, base=(0.0, 1.0)),
    ]
    result = summarise(plus, ["humaneval+"], config(2))
    base_row, plus_row = result["sets"]
    assert (base_row["part"], plus_row["part"]) == ("base", "plus")
    assert base_row["pass@1"]["mean"] == pytest.approx(0.75)
    assert plus_row["pass@1"]["mean"] == pytest.approx(0.25)
    assert result["average"]["over"] == ["humaneval+ (base)", "humaneval+ (plus)"]
    assert result["average"]["score"]["mean"] == pytest.approx(0.5)
    # With the plain set there, its own row speaks for the base tests.
    both = summarise([*plus, scored("humaneval", "a", 1.0, 1.0)], ["humaneval", "humaneval+"], config(2))
    assert both["average"]["over"] == ["humaneval", "humaneval+ (plus)"]
    assert both["average"]["score"]["mean"] == pytest.approx((1.0 + 0.25) / 2)


def test_what_cannot_be_graded_is_counted_and_left_out() -> None:
    records = [scored("s", "a", 1.0), Scored("s", "b", (), "the package faker is missing"), scored("t", "a", 0.0)]
    result = summarise([*records, Scored("u", "z", (), "no tests")], ["s", "t", "u"], config())
    row = result["sets"][0]
    assert (row["num_problems"], row["num_graded"], row["num_not_gradable"]) == (2, 1, 1)
    assert row["pass@1"]["mean"] == 1.0
    assert result["average"]["over"] == ["s", "t"]
    assert [item["problem_id"] for item in result["not_gradable"]] == ["b", "z"]
    page = markdown({**result, "settings": {"confidence": 0.95}, "refused": {"s": {"no tests": 3}}})
    assert "2 problems are not gradable" in page
    assert "1 x the package faker is missing" in page
    assert "1 of 2" in page
    assert "3 no tests" in page
    assert "none graded" in page


def test_every_row_of_the_table_is_as_wide_as_its_head() -> None:
    records = [scored("s", "a", *[1.0] * 20), scored("s", "b", *[0.0] * 19, 1.0)]
    result = {**summarise(records, ["s"], config(20)), "refused": {}}
    assert all(len(cells) == len(COLUMNS) for cells in rows(result))
    # 1 of 20 passes: 10 of 20 draws of ten hold it.
    assert "@10 0.750" in rows(result)[0][4]
    assert "@20 1.000" in rows(result)[0][4]
    assert notes(result)


def test_parts_follow_the_rule_of_the_tests() -> None:
    cases = tuple(Case(name) for name in ("base_0", "base_1", "plus_0", "plus_1"))
    verdicts = [CaseVerdict(c.id, v) for c, v in zip(cases, ("pass", "wrong", "pass", "pass"), strict=True)]
    assert part_of(Tests("call", cases), verdicts, is_base) == Part(0.5, False)
    assert part_of(Tests("call", cases, all_or_nothing=True), verdicts, is_base) == Part(0.0, False)
    assert part_of(Tests("call", cases), verdicts, lambda case: not is_base(case)) == Part(1.0, True)
    assert has_base(Tests("call", cases))
    assert not has_base(Tests("call", cases[:2]))
    assert not has_base(Tests("call", (Case("baseline"), Case("plus_0"))))


def test_scores_come_back_from_their_records() -> None:
    record = Scored("s", "p", (answer(0.5, 1.0), answer(0.0, finished=False)), "", {"completions": 2.0})
    assert Scored.from_record(record.to_record()) == record
    with pytest.raises(ArtifactError, match="'p' does not fit"):
        Scored.from_record({"problem_id": "p", "set": "s", "answers": [{}], "not_gradable": "", "cost": {}})


def test_the_interval_of_one_row_is_the_usual_bootstraps() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(60)
    usual = bootstrap_mean(values, 20_000, 1)
    ours = average_of_rows([[{str(i): v for i, v in enumerate(values)}]], 20_000, 2)
    assert ours.mean == pytest.approx(usual.mean)
    # Two Monte Carlo estimates of the same quantiles.
    assert (ours.low, ours.high) == pytest.approx((usual.low, usual.high), abs=0.004)


def test_rows_about_the_same_problems_are_drawn_together() -> None:
    rng = np.random.default_rng(1)
    first = {str(i): float(v) for i, v in enumerate(rng.random(50))}
    opposite = {key: 1.0 - value for key, value in first.items()}
    together = average_of_rows([[first, opposite]], 2_000, 0)
    apart = average_of_rows([[first], [opposite]], 2_000, 0)
    # What one row gains from a draw the other loses: together there is nothing left to vary.
    assert together.high - together.low < 1e-9
    variance = (np.var(list(first.values())) * 2 / 50) / 4
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.1)


def test_rows_may_lack_problems_and_bad_input_is_named() -> None:
    partial = average_of_rows([[{"a": 1.0, "b": 0.0}, {"b": 1.0}]], 500, 0)
    assert partial.mean == 0.75
    assert 0.5 <= partial.low <= partial.high <= 1.0
    for families in ([], [[]], [[{}]]):
        with pytest.raises(ValueError, match="no row"):
            average_of_rows(families)
    with pytest.raises(ValueError, match="not finite"):
        average_of_rows([[{"a": math.nan}]])
    with pytest.raises(ValueError, match="confidence"):
        average_of_rows([[{"a": 1.0}]], confidence=1.0)


def test_every_set_has_a_samples_file_of_its_own() -> None:
    from restrl.problems import PROBLEM_SETS

    paths = [samples_path(name, "tiny", 0.0, 1) for name in PROBLEM_SETS]
    assert len(set(paths)) == len(paths)


def test_names_of_sets_and_files() -> None:
    assert stem_of("apps/test@/x/y.parquet") == "apps"
    assert slug("mbpp/test@x/y.jsonl") == "mbpp-test"
    path = samples_path("mbpp+@a/b.jsonl", "Qwen/Qwen3-8B", 0.7, 5)
    assert path.as_posix() == "evalplus/mbpp+/mbpp/Qwen--Qwen3-8B_restrl_temp_0.7.jsonl"
    assert samples_path("starter/test", "m", 0.7, 5).as_posix() == "starter-test.jsonl"
    assert "bigcodebench-complete--restrl-0.2-3" in samples_path("bigcodebench/complete", "m", 0.2, 3).name
    assert samples_text([("a/0", "x = 'é'\n")]) == '{"task_id": "a/0", "solution": "x = \'\\u00e9\'\\n"}\n'
