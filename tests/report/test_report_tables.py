"""Text tables, the headline, and rows made from evaluations."""

import dataclasses
import json
import re

import pytest

from restrl.evaluation.results import CandidateResult, EvaluationResult, ProblemResult, compare
from restrl.evaluation.statistics import Interval
from restrl.report.cost_tables import costs, difference_table
from restrl.report.data import Cost, ReportData, Row, cost_from, curve_from, difference_from, row_from, to_plain
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


def test_differences_are_paired_at_every_budget():
    found = difference_from("VM-MCTS", SEARCH, "base", BASE)
    # By hand: the answer at budget b is candidate b - 1. Base: 1, 0, 1 then 0, 0, 1; search: 0, 0, 0 then 1, 1, 1.
    assert [(point.budget, point.mean) for point in found.points] == [
        (1, pytest.approx(-2 / 3)),
        (2, pytest.approx(2 / 3)),
    ]
    first, full = found.points[0], compare(SEARCH, BASE)
    assert -1.0 <= first.low <= first.mean <= first.high <= 0.0
    assert (found.points[1].low, found.points[1].high) == pytest.approx((full.low, full.high))
    same = difference_from("a", SEARCH, "b", SEARCH)
    assert all(point.low == point.mean == point.high == 0.0 for point in same.points)
    shuffled = dataclasses.replace(BASE, problems=BASE.problems[::-1])
    assert difference_from("a", SEARCH, "b", shuffled).points == found.points
    with pytest.raises(ValueError, match="same problems"):
        difference_from("a", SEARCH, "b", dataclasses.replace(BASE, problems=BASE.problems[:2]))


def test_costs_are_sums_means_and_shares():
    cost = cost_from("VM-MCTS", SEARCH, 12.0)
    assert (cost.num_problems, cost.totals["completions"], cost.totals["generated_tokens"]) == (3, 6, 60)
    assert (cost.prompt_reuse, cost.score_reuse) == (0.0, 0.0)
    reused = Cost("m", 4, {"prompt_tokens": 10, "reused_prompt_tokens": 30, "value_states": 9, "repeated_scores": 1})
    assert (reused.prompt_reuse, reused.score_reuse) == (0.75, pytest.approx(0.1))
    text = costs(ReportData("t", "", (), costs=(cost, reused)))
    for words in ("6 (2.0)", "60 (20.0)", "30 (7.5), 75%", "10%", "12 s"):
        assert f">{words}<" in text, words
    assert "suffixes" not in text and "price" not in text, "a column that nothing fills is shown"
    priced = dataclasses.replace(reused, totals={"cost": 0.0125})
    assert ">0.0125<" in costs(ReportData("t", "", (), costs=(priced,)))
    assert costs(ReportData("t", "", ())) == "" == difference_table(ReportData("t", "", ()))


def test_the_table_of_differences_marks_what_is_clear(report):
    text = difference_table(report)
    head = text.split("</thead>")[0]
    assert [int(cell) for cell in re.findall(r"<th>(\d+)</th>", head)] == [1, 2, 4, 8, 16, 32]
    rows = text.split("<tbody>")[1].split("</tr>")[:2]
    assert [rows[0].count(mark) for mark in "\u25b2\u25bc\u2248"] == [4, 0, 2]
    assert rows[1].count("\u25b2 +0.170") == 6
