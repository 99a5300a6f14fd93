"""Training the value model: it learns, it is deterministic, it goes on after a kill; its figures are closed forms."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_models import make_problem, make_tokenizer

from restrl.actions import boundaries
from restrl.errors import ConfigError, ProblemError
from restrl.seeds import derive_seed
from restrl.types import Problem, State
from restrl.value.calibration import (
    ValueReport,
    best_of_expectation,
    calibration_bins,
    correlation,
    expected_calibration_error,
    ranking_accuracy,
)
from restrl.value.config import ValueConfig
from restrl.value.data import targets_of
from restrl.value.model import TrainedValueModel
from restrl.value.targets import Trajectory
from restrl.value.train import choose_pad_id, split_problems, train_value_model

PROBLEMS = {f"p/{i}": make_problem(f"p/{i}", initial_state=f"def f{i}(xs):\n") for i in range(12)}
GOOD, BAD = "    return sorted(xs)\n", "    return xs[::-1]\n"
CONFIG = ValueConfig(epochs=5, learning_rate=2e-3, batch_tokens=300, validation_share=0.25, device="cpu")


def _trajectories() -> list[Trajectory]:
    """The value is in the last line: 0.9 after the good one, 0.1 after the bad one, 0.5 before."""
    result = []
    for name in PROBLEMS:
        for last, value in ((GOOD, 0.9), (BAD, 0.1)):
            for first in ("", "    total = 0\n", "    for x in xs:\n        pass\n"):
                code = first + last
                offsets = sorted({0, len(first), len(code), len(code) + 1})
                targets = tuple((o, value if o >= len(code) else 0.5, 1.0 + (o == 0)) for o in offsets)
                result.append(Trajectory(name, code, True, targets))
    return result


@pytest.fixture(scope="module")
def trained(
    tiny_plain_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ValueReport, list[dict]]:
    path = tmp_path_factory.mktemp("trained")
    logs: list[dict] = []
    report = train_value_model(tiny_plain_model_dir, _trajectories(), PROBLEMS, CONFIG, path, 7, "auto", logs.append)
    return path, report, logs


def test_it_learns_what_the_last_line_says(trained: tuple[Path, ValueReport, list[dict]]) -> None:
    path, report, _ = trained
    assert report.validation_mse < report.baseline_mse
    assert report.ranking_accuracy > 0.95
    assert report.num_problems == 3
    assert report.best_of_n[-1].picked > report.best_of_n[-1].chance + 0.3
    model = TrainedValueModel(path / "model", device="cpu")
    held_out = make_problem("new", initial_state="def g(xs):\n")
    good, bad = model.score_states([State(held_out, GOOD, True), State(held_out, BAD, True)])
    assert good > bad + 0.1


def test_the_report_is_on_disk_and_is_what_the_saved_model_gives(
    trained: tuple[Path, ValueReport, list[dict]],
) -> None:
    path, report, _ = trained
    record = json.loads((path / "report.json").read_text())
    assert record["validation_mse"] == pytest.approx(report.validation_mse)
    assert {"predicted", "observed", "count"} <= set(record["calibration"][0])
    assert {"depth", "mse", "baseline_mse", "count"} <= set(record["depths"][0])
    # The oracle: score every validation state with the saved model and take the weighted mean by hand.
    held_out = split_problems(set(PROBLEMS), 0.25, 7)
    model = TrainedValueModel(path / "model", device="cpu", calibration="none")
    errors, weights = [], []
    for trajectory in _trajectories():
        if trajectory.problem_id in held_out:
            for offset, value, weight in trajectory.targets:
                finished = offset > len(trajectory.code)
                state = State(PROBLEMS[trajectory.problem_id], trajectory.code[:offset], finished)
                errors.append((model.score_states([state])[0] - value) ** 2)
                weights.append(weight)
    assert np.average(errors, weights=weights) == pytest.approx(report.validation_mse, rel=1e-3)
    assert report.num_states == len(errors)


def test_progress_is_told(trained: tuple[Path, ValueReport, list[dict]]) -> None:
    _, report, logs = trained
    assert logs[0]["total_steps"] > 0
    assert sum("loss" in log for log in logs) == logs[0]["total_steps"]
    assert [log["eval_mse"] for log in logs if "eval_mse" in log][report.best_epoch - 1] == report.validation_mse


class _Kill(Exception):
    pass


def test_resumed_is_uninterrupted(
    trained: tuple[Path, ValueReport, list[dict]], tiny_plain_model_dir: Path, tmp_path: Path
) -> None:
    path, report, logs = trained
    steps = int(logs[0]["total_steps"])

    def kill(log: dict[str, float]) -> None:
        if "loss" in log and log["step"] > 0.75 * steps:
            raise _Kill

    arguments = (tiny_plain_model_dir, _trajectories(), PROBLEMS, CONFIG, tmp_path, 7, "auto")
    with pytest.raises(_Kill):
        train_value_model(*arguments, kill)
    assert not (tmp_path / "model").exists()
    resumed: list[dict] = []
    second = train_value_model(*arguments, resumed.append)
    assert 0 < sum("loss" in log for log in resumed) < steps
    assert second.validation_mse == report.validation_mse
    left, right = (load_file(folder / "model/model.safetensors") for folder in (path, tmp_path))
    assert left.keys() == right.keys()
    assert all((left[name] == right[name]).all() for name in left)


def test_accumulation_is_one_large_batch(tiny_plain_model_dir: Path, tmp_path: Path) -> None:
    """One step over everything: in one forward, or in several that are accumulated."""
    reports = []
    for index, (tokens, accumulation) in enumerate(((100_000, 1), (600, 1000))):
        config = ValueConfig(
            epochs=1,
            learning_rate=1e-2,
            warmup_share=0.0,
            batch_tokens=tokens,
            accumulation=accumulation,
            validation_share=0.25,
            head_init="zero",
            device="cpu",
        )
        logs: list[dict] = []
        reports.append(
            train_value_model(
                tiny_plain_model_dir, _trajectories(), PROBLEMS, config, tmp_path / str(index), 7, "auto", logs.append
            )
        )
        assert logs[0]["total_steps"] == 1
        # The head starts at zero: the first loss is the weighted mean of the squared targets.
        held_out = split_problems(set(PROBLEMS), 0.25, 7)
        targets = [t for tr in _trajectories() if tr.problem_id not in held_out for t in tr.targets]
        expected = sum(w * v * v for _, v, w in targets) / sum(w for _, _, w in targets)
        assert next(log["loss"] for log in logs if "loss" in log) == pytest.approx(expected, rel=1e-3)
    assert reports[0].validation_mse == pytest.approx(reports[1].validation_mse, rel=1e-3)


def test_cross_entropy_gives_values_between_0_and_1(tiny_plain_model_dir: Path, tmp_path: Path) -> None:
    config = ValueConfig(
        epochs=4, learning_rate=2e-3, batch_tokens=300, validation_share=0.25, loss="bce", device="cpu"
    )
    report = train_value_model(tiny_plain_model_dir, _trajectories(), PROBLEMS, config, tmp_path, 7)
    assert report.ranking_accuracy > 0.9
    model = TrainedValueModel(tmp_path / "model", device="cpu")
    values = model.score_boundaries([State(PROBLEMS["p/0"], GOOD, True), State(PROBLEMS["p/0"], BAD, True)])
    assert all(0 < value < 1 for row in values for value in row)
    assert values[0][-1] > values[1][-1]


def test_chat_models_keep_their_prompt_style(tiny_chat_model_dir: Path, tmp_path: Path) -> None:
    config = ValueConfig(epochs=1, learning_rate=1e-3, batch_tokens=4000, validation_share=0.25, device="cpu")
    trajectories = [t for t in _trajectories() if t.problem_id in ("p/0", "p/1", "p/2")]
    train_value_model(tiny_chat_model_dir, trajectories, PROBLEMS, config, tmp_path, 0, "plain")
    assert TrainedValueModel(tmp_path / "model", device="cpu").prompt_style == "plain"


def test_wrong_input_is_named(tiny_plain_model_dir: Path, tmp_path: Path) -> None:
    one = [Trajectory("p/0", GOOD, True, ((0, 0.5, 1.0),))]
    with pytest.raises(ConfigError, match="at least 2"):
        train_value_model(tiny_plain_model_dir, one, PROBLEMS, CONFIG, tmp_path, 0)
    stranger = [*one, Trajectory("q/9", GOOD, True, ((0, 0.5, 1.0),))]
    with pytest.raises(ProblemError, match="q/9"):
        train_value_model(tiny_plain_model_dir, stranger, PROBLEMS, CONFIG, tmp_path, 0)


@given(st.sets(st.text(max_size=4), min_size=2, max_size=30), st.floats(0.01, 0.5), st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_the_split_is_by_name(names: set[str], share: float, seed: int) -> None:
    held_out = split_problems(names, share, seed)
    assert 1 <= len(held_out) < len(names)
    assert held_out <= names
    assert abs(len(held_out) - share * len(names)) <= 1
    assert split_problems(set(sorted(names, reverse=True)), share, seed) == held_out


def test_padding_never_ends_a_state() -> None:
    tokenizer = make_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    assert choose_pad_id(tokenizer) != tokenizer.eos_token_id


def test_depths_and_finished_marks() -> None:
    code = "    a = 1\n\n    # why\n    b = 2\n"
    ends = boundaries(code)
    targets = tuple((offset, 0.5, 2.0) for offset in (0, *ends, len(code) + 1))
    found = targets_of(Trajectory("p/0", code, True, targets), weight_by_visits=False)
    assert [target.depth for target in found] == [0, 1, 2, 2]
    assert [target.finished for target in found] == [False, False, False, True]
    assert {target.weight for target in found} == {1.0}


FLOATS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=6)


@given(st.data(), FLOATS)
@settings(deadline=None, max_examples=80)
def test_best_of_n_is_the_mean_over_all_subsets(data: st.DataObject, rewards: list[float]) -> None:
    scores = data.draw(st.lists(st.integers(0, 3), min_size=len(rewards), max_size=len(rewards)))
    n = data.draw(st.integers(1, len(rewards)))
    total = 0.0
    subsets = list(itertools.combinations(range(len(rewards)), n))
    for subset in subsets:
        # Ties are broken towards the mean over everything tied, in or out of the subset.
        top = max(scores[i] for i in subset)
        tied = [rewards[i] for i in range(len(rewards)) if scores[i] == top]
        total += sum(tied) / len(tied)
    expected = total / len(subsets)
    assert best_of_expectation(np.array(scores, float), np.array(rewards), n) == pytest.approx(expected)


@given(st.data(), FLOATS)
@settings(deadline=None, max_examples=80)
def test_ranking_accuracy_counts_pairs(data: st.DataObject, rewards: list[float]) -> None:
    scores = data.draw(st.lists(st.integers(0, 3), min_size=len(rewards), max_size=len(rewards)))
    won, pairs = 0.0, 0
    for i, j in itertools.combinations(range(len(rewards)), 2):
        if rewards[i] != rewards[j]:
            pairs += 1
            difference = (scores[i] - scores[j]) * (1 if rewards[i] > rewards[j] else -1)
            won += 1.0 if difference > 0 else 0.5 if difference == 0 else 0.0
    accuracy, count = ranking_accuracy(np.array(scores, float), np.array(rewards))
    assert count == pairs
    assert math.isnan(accuracy) if not pairs else accuracy == pytest.approx(won / pairs)


def test_calibration_by_hand() -> None:
    predicted = np.array([0.05, 0.05, 0.95, 1.4, -0.2])
    target = np.array([0.0, 0.2, 1.0, 0.0, 0.1])
    bins = calibration_bins(predicted, target)
    assert [(b.count, round(b.predicted, 4), round(b.observed, 4)) for b in bins] == [
        (3, -0.0333, 0.1),
        (2, 1.175, 0.5),
    ]
    assert expected_calibration_error(bins) == pytest.approx(3 / 5 * (0.1 + 0.1 / 3) + 2 / 5 * 0.675)
    assert correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])) == pytest.approx(1.0)
    assert math.isnan(correlation(np.ones(3), np.arange(3.0)))


def test_the_seed_of_the_split_is_derived() -> None:
    names = {f"n{i}" for i in range(10)}
    first = min(names, key=lambda name: derive_seed(3, "validation", name))
    assert split_problems(names, 0.01, 3) == {first}
    assert isinstance(PROBLEMS["p/0"], Problem)
