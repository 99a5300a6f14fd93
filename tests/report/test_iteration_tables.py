"""The tables over the iterations: validation scores, and what training took."""

import dataclasses
import re

import pytest

from restrl.evaluation.statistics import Interval
from restrl.pipeline.compute import compute_rows, total_compute
from restrl.report.data import ComputeRow, IterationRow, ReportData
from restrl.report.iteration_tables import html_tables, iteration_tables, markdown_tables, text_tables
from restrl.report.page import render_page
from restrl.report.write import write_report


def row(name, mean, diff=None, previous=None, kept=False):
    return IterationRow(
        name=name,
        num_problems=100,
        num_samples=8,
        pass_at_1=Interval(mean, mean - 0.05, mean + 0.05),
        mean_reward=Interval(mean + 0.1, mean, mean + 0.2),
        pass_at_k={1: Interval(mean, 0.0, 1.0), 8: Interval(0.9, 0.85, 0.95)},
        vs_base=diff,
        vs_previous=previous,
        kept=kept,
    )


ROWS = (
    row("base", 0.5),
    row("iteration 1", 0.7, Interval(0.2, 0.15, 0.25), Interval(0.2, 0.15, 0.25), kept=True),
    row("iteration 2", 0.65, Interval(0.15, 0.1, 0.2), Interval(-0.05, -0.1, 0.0)),
)


def record(iteration, sampled, trained):
    sampling = {"completions": sampled, "generated_tokens": 10 * sampled, "grader_calls": sampled, "wall_s": 1.5}
    training = {"completions": trained, "generated_tokens": 20 * trained, "grader_calls": trained, "optimizer_steps": 4}
    total = {
        "completions": sampled + trained,
        "generated_tokens": 10 * sampled + 20 * trained,
        "grader_calls": sampled + trained,
        "optimizer_steps": 4,
        "wall_s": 61.5,
    }
    return {
        "iteration": iteration,
        "method": "rest-grpo",
        "sampling": sampling,
        "training": {**training, "wall_s": 60.0},
        "total": total,
    }


RECORDS = [record(1, 3000, 1000), record(2, 3000, 200)]


@pytest.fixture
def data(report):
    return dataclasses.replace(report, iterations=ROWS, compute=tuple(compute_rows(RECORDS)))


def test_the_text_is_aligned_ascii_with_every_policy_and_the_sum(data):
    scores, compute = text_tables(data).split("\n\n")
    lines = scores.splitlines()
    assert scores.isascii() and compute.isascii()
    assert lines[1].split() == ["policy", "pass@1", "vs", "base", "vs", "previous", "mean", "reward", "pass@8"]
    assert [line.split("  ")[0] for line in lines[3:6]] == ["base", "iteration 1", "iteration 2"]
    assert [line.endswith("kept") for line in lines[3:6]] == [False, True, False]
    assert "0.650 [0.600, 0.700]  +0.150 [+0.100, +0.200]  -0.050 [-0.100, +0.000]" in lines[5]
    assert "100 validation problems, 8 samples each" in lines[6]
    assert re.split(r"\s{2,}", compute.splitlines()[-2]) == [
        "total",
        "7,200",
        "6,000",
        "84,000",
        "7,200",
        "8",
        "2 min 03 s",
    ]


def test_one_iteration_needs_no_second_difference_and_no_sum(data):
    text = text_tables(dataclasses.replace(data, iterations=ROWS[:2], compute=tuple(compute_rows(RECORDS[:1]))))
    assert "vs previous" not in text and "total" not in text and "vs base" in text
    assert "3,000" in text and "4,000" in text


def test_the_sum_has_the_shape_of_a_record():
    total = total_compute(RECORDS)
    assert total["sampling"]["completions"] == 6000 and total["training"]["completions"] == 1200
    assert total["total"] == {
        "completions": 7200,
        "generated_tokens": 84_000,
        "grader_calls": 7200,
        "optimizer_steps": 8,
        "wall_s": 123.0,
    }
    assert total_compute([])["total"]["completions"] == 0 and compute_rows([]) == []


def test_nothing_is_shown_of_a_run_without_iterations(report):
    assert (
        iteration_tables(report) == [] and text_tables(report) == markdown_tables(report) == html_tables(report) == ""
    )
    assert len(iteration_tables(ReportData("t", "", (), compute=(ComputeRow("iteration 1", 1, 0, 1, 1, 1, 1.0),)))) == 1


def test_markdown_has_one_cell_per_column(data):
    for part in markdown_tables(data).split(":\n\n")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) == 1 and len(lines) >= 5


def test_the_page_and_the_files_show_both_tables_and_escape_names(data, hostile, tmp_path):
    page = render_page(dataclasses.replace(data, iterations=(row(hostile, 0.5), *ROWS[1:])), {})
    assert "Iterations, on validation problems" in page and "What training took" in page
    assert "<script" not in page and "iteration 2" in page
    bare = dataclasses.replace(
        data, rows=data.rows[:1], curves=(), differences=(), training=(), spread=None, value=None, examples=()
    )
    paths = write_report(bare, tmp_path)
    for name in ("table.txt", "table.md"):
        assert "iteration 2" in paths[name].read_text() and "84,000" in paths[name].read_text()
