"""Text tables, the headline, and rows made from evaluations."""

import dataclasses
import json

import pytest

from restrl.evaluation.results import CandidateResult, EvaluationResult, ProblemResult
from restrl.evaluation.statistics import Interval
from restrl.report.data import ReportData, Row, curve_from, row_from, to_plain
from restrl.report.tables import console_table, headline, markdown_table


def result(table, independent=True):
    """An evaluation from {problem: [passed, ...]}; the answer at every budget is the last candidate so far."""
    problems = tuple(
        ProblemResult(
            name,
            "easy" if name < "b" else "hard",
            tuple(CandidateResult(f"{i}", True, 1.0 if ok else 0.5, ok) for i, ok in enumerate(passed)),
            tuple(range(len(passed))),
            {"completions": len(passed), "generated_tokens": 10 * len(passed), "wall_s": 2.0},
        )
        for name, passed in table.items()
    )
    return EvaluationResult(problems, independent, num_resamples=100)


BASE = result({"a": [True, False], "b": [False, False], "c": [True, True]})
SEARCH = result({"a": [False, True], "b": [False, True], "c": [False, True]}, independent=False)


def test_console_table_is_aligned_plain_ascii_with_every_row(report):
    text = console_table(report)
    assert text.isascii()
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == ["base", "ReST-GRPO", "best-of-n", "VM-MCTS", "ReST-RL"]
    # Columns start or end at the same place in every line, which the rule of dashes marks.
    for line in lines[2:-1]:
        padded = line.ljust(len(lines[1]))
        assert all(padded[i] == " " for i, mark in enumerate(lines[1]) if mark == " ")
    assert "0.742 [0.692, 0.792]" in lines[-2] and "+0.330 [+0.290, +0.370]" in lines[-2]
    assert lines[-1].startswith("Brackets: 95%") and "200 held-out problems" in lines[-1]


def test_markdown_table_has_one_cell_per_column_and_escapes_bars(report):
    odd = dataclasses.replace(report.rows[0], name="a|b <i>\nline")
    lines = markdown_table(dataclasses.replace(report, rows=(odd, *report.rows[1:]))).splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines[:7]} == {9}
    assert lines[2].startswith("| a\\|b &lt;i> line |")


def test_a_column_that_no_row_fills_is_left_out(report):
    rows = tuple(dataclasses.replace(row, wall_s=None, diff=None) for row in report.rows)
    for table in (console_table, markdown_table):
        head = table(dataclasses.replace(report, rows=rows)).splitlines()[0]
        assert "wall" not in head and "vs base" not in head and "tokens" in head
    assert console_table(ReportData("t", "", ())).splitlines()[0] == "method"


def test_headline_says_whether_the_difference_is_clear(report):
    assert headline(report).endswith("base 41.2%: +33.0 points [+29.0, +37.0].")
    unclear = dataclasses.replace(report.rows[-1], diff=Interval(0.01, -0.02, 0.04))
    assert headline(dataclasses.replace(report, rows=(report.rows[0], unclear))).endswith("no clear difference.")
    assert "no evaluation" in headline(ReportData("t", "", ()))
    assert headline(dataclasses.replace(report, rows=report.rows[:1])) == "base solves 41.2% of the held-out problems."


def test_a_single_sample_row_is_the_mean_over_samples_at_the_cost_of_one():
    row = row_from("base", BASE, single=True)
    assert row.pass_at_1.mean == pytest.approx(0.5)
    assert row.test_case_average.mean == pytest.approx(0.75)
    assert (row.budget, row.completions, row.tokens, row.wall_s) == (1, 3, 30, 3.0)
    assert row.diff is None
    assert {band: interval.mean for band, interval in row.bands.items()} == pytest.approx({"easy": 0.5, "hard": 0.5})


def test_a_search_row_is_its_answer_at_the_full_budget_and_pairs_with_the_base():
    row = row_from("VM-MCTS", SEARCH, BASE, wall_s=7.5)
    assert (row.pass_at_1.mean, row.budget, row.completions, row.tokens, row.wall_s) == (1.0, 2, 6, 60, 7.5)
    # Per problem: 1 - 1/2, 1 - 0, 1 - 1.
    assert row.diff is not None and row.diff.mean == pytest.approx(0.5)
    assert row_from("x", SEARCH, BASE, base_single=False).diff.mean == pytest.approx(1 - 1 / 3)


def test_curve_has_every_budget_and_the_oracle():
    curve = curve_from("VM-MCTS", SEARCH)
    assert [(p.budget, p.mean) for p in curve.points] == [(1, 0.0), (2, 1.0)]
    assert [p.mean for p in curve_from("base", BASE, [1, 2]).oracle] == pytest.approx([2 / 3, 2 / 3])


def test_plain_data_is_strict_json_and_keeps_the_numbers(report):
    odd = Row("odd", Interval(float("nan"), 0.0, float("inf")), Interval(0.5, 0.4, 0.6))
    plain = json.loads(json.dumps(to_plain(dataclasses.replace(report, rows=(odd,))), allow_nan=False))
    assert plain["rows"][0]["pass_at_1"] == {"mean": None, "low": 0.0, "high": None}
    assert plain["spread"]["sigma_0"] == 0.05
    assert len(plain["training"]) == 60
