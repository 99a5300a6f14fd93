"""Every metric that the code reports is defined on the page of metrics, with the words of its owner."""

import dataclasses
import re
from pathlib import Path

import pytest

from restrl.decoding.results import Ledger
from restrl.evaluation.results import CandidateResult, EvaluationResult, ProblemResult
from restrl.grpo.config import GRPOConfig
from restrl.grpo.metrics import METRICS, OFFLINE_METRICS, RolloutStats
from restrl.grpo.rewards import Score
from restrl.grpo.run_log import sample_completions
from restrl.pipeline.compute import Compute
from restrl.types import Completion, Grade, Problem, State, Tests
from restrl.value.calibration import ValueReport
from restrl.value.run_log import VALUE_METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def section(title):
    """Returns the names defined in a section: the code spans of the first cells of its table."""
    body = PAGE.split(f"# {title}\n", 1)[1].split("\n## ", 1)[0].split("\n### ", 1)[0]
    cells = re.findall(r"^\| ([^|]*) \|", body, flags=re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def summary_names():
    candidate = CandidateResult("x", True, 1.0, True)
    result = EvaluationResult((ProblemResult("p", "", (candidate,), (0,)),), independent=True, num_resamples=1)
    return set(result.summary())


def completion_names():
    grade = Grade("p", 1.0, True, ())
    score = Score(State(Problem("p", "", "", "f", Tests("call", ()))), grade, 1.0)
    config = GRPOConfig(num_generations=2)
    stats = RolloutStats([[1.0, 1.0]], [[1.0, 1.0]], [1, 1], 0, 0.0, 0.0, 0.0)
    return set(next(sample_completions(1, [(score, Completion("x", "stop"))] * 2, [stats], config)))


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Evaluation", summary_names()),
        ("Ledger", {field.name for field in dataclasses.fields(Ledger)}),
        ("Training", set(METRICS)),
        ("Training on stored samples", set(OFFLINE_METRICS)),
        ("Training a value model", set(VALUE_METRICS)),
        ("Sample completions", completion_names()),
        ("What training took", {field.name for field in dataclasses.fields(Compute)}),
        ("Value model", {field.name for field in dataclasses.fields(ValueReport)}),
    ],
)
def test_every_metric_is_defined_and_nothing_else(title, names):
    assert section(title) == names


@pytest.mark.parametrize("name", METRICS)
def test_training_metrics_say_what_their_owner_says(name):
    line = f"| `{name}` | {METRICS[name].replace('|', chr(92) + '|')} |"
    assert line in PAGE, f"docs/metrics.md is stale; the line should be: {line}"
