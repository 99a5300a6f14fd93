"""Calibration against brute force, on simulated scorers of known error, and through a trained model's directory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem
from transformers import AutoConfig

from restrl.errors import ConfigError, ModelError
from restrl.types import State
from restrl.value.calibrators import (
    FITS,
    METHODS,
    Calibrator,
    best_method,
    check_calibration,
    fit_isotonic,
    fit_quantile,
    pool_adjacent_violators,
)
from restrl.value.config import ValueConfig
from restrl.value.data import split_problems
from restrl.value.model import TrainedValueModel
from restrl.value.targets import Trajectory
from restrl.value.train import train_value_model

points = st.lists(
    st.tuples(st.integers(-5, 15), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.5, 1.0, 3.0])),
    min_size=1,
    max_size=9,
)


@given(points)
@settings(deadline=None, max_examples=150)
def test_pools_are_the_min_max_formula(rows):
    """f(x_i) = max over a <= i of min over b >= i of the mean of y from a to b: the solution in closed form."""
    rows = sorted({x: (x, y, w) for x, y, w in rows}.values())
    x, y, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    expected = [
        max(min(np.average(y[a : b + 1], weights=w[a : b + 1]) for b in range(i, len(x))) for a in range(i + 1))
        for i in range(len(x))
    ]
    centres, means = pool_adjacent_violators(x, y, w)
    groups = [
        (value, [i for i, _ in group])
        for value, group in itertools.groupby(enumerate(expected), lambda p: round(p[1], 9))
    ]
    assert means == pytest.approx([value for value, _ in groups])
    assert centres == pytest.approx([np.average(x[index], weights=w[index]) for _, index in groups])


@given(points, st.sampled_from(METHODS), st.lists(st.integers(-200, 300), min_size=2, max_size=20, unique=True))
@settings(deadline=None, max_examples=150)
def test_a_map_stays_between_0_and_1_and_never_changes_the_order(rows, method, asked):
    x, y, w = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    calibrator = FITS[method](x / 10, y, w)
    values = calibrator(np.array(sorted(asked)) / 100)
    assert (np.diff(values) > 0).all() and values.min() > 0 and values.max() < 1
    again = Calibrator.from_json(json.loads(json.dumps(calibrator.to_json())))
    assert (again(np.array([0.1, 0.9])) == calibrator(np.array([0.1, 0.9]))).all()


def simulated(num_problems: int, seed: int, warp):
    """States whose true value is V, seen as a coin with that chance, and scored as warp(V)."""
    rng = np.random.default_rng(seed)
    value = rng.beta(1.2, 1.2, size=(num_problems, 20))
    target = (rng.random(value.shape) < value).astype(float)
    names = [f"p{i}" for i in range(num_problems) for _ in range(20)]
    return warp(value).ravel(), target.ravel(), value.ravel(), np.ones(target.size), names


def test_isotonic_finds_the_warp_of_an_exact_scorer():
    predicted, target, _, weight, _ = simulated(400, 0, lambda v: v**3 - 0.2)
    calibrator = fit_isotonic(predicted, target, weight)
    fresh, _, truth, _, _ = simulated(50, 1, lambda v: v**3 - 0.2)
    # 8,000 coins: the standard error of a local mean over a few hundred of them is 0.03.
    assert np.abs(calibrator(fresh) - truth).mean() < 0.03
    assert np.abs(fresh - truth).mean() > 0.3


def test_held_out_figures_are_what_new_problems_give():
    warp = lambda v: 0.5 + 2.5 * (v - 0.5)  # noqa: E731
    predicted, target, _, weight, names = simulated(300, 2, warp)
    checks = {check.method: check for check in check_calibration(predicted, target, weight, names)}
    assert best_method(tuple(checks.values())) == "isotonic"
    assert checks["none"].brier == pytest.approx(((predicted - target) ** 2).mean())
    fresh, seen, truth, _, _ = simulated(3000, 3, warp)
    for method in METHODS:
        brier = ((FITS[method](predicted, target, weight)(fresh) - seen) ** 2).mean()
        assert checks[method].brier == pytest.approx(brier, abs=0.01)
    # An exact scorer's Brier score is E[V (1 - V)], and its calibration error nothing.
    assert checks["isotonic"].brier == pytest.approx((truth * (1 - truth)).mean(), abs=0.01)
    assert checks["none"].ece > 0.2 > 0.04 > checks["isotonic"].ece
    # Coins are all 0 or 1, which is the spread that the quantile map gives: certain, and often wrong.
    assert checks["quantile"].brier > checks["isotonic"].brier + 0.05


def test_calibration_error_by_hand():
    predicted = np.array([0.05, 0.15, 0.12, 0.95, 1.4])
    target = np.array([0.0, 1.0, 0.5, 1.0, 0.0])
    weight = np.array([1.0, 1.0, 3.0, 2.0, 1.0])
    none = check_calibration(predicted, target, weight, ["a", "a", "b", "b", "b"])[0]
    gaps = abs(0.05) + abs(-0.85 + 3 * -0.38) + abs(2 * -0.05 + 1.4)
    assert none.ece == pytest.approx(gaps / 8)
    assert none.brier == pytest.approx((0.05**2 + 0.85**2 + 3 * 0.38**2 + 2 * 0.05**2 + 1.4**2) / 8)


def test_a_scorer_that_knows_nothing_becomes_the_mean():
    rng = np.random.default_rng(5)
    predicted, target = rng.random(3000), (rng.random(3000) < 0.3).astype(float)
    names = [f"p{i % 100}" for i in range(3000)]
    checks = {check.method: check for check in check_calibration(predicted, target, np.ones(3000), names)}
    assert checks["isotonic"].brier == pytest.approx(0.21, abs=0.01)
    assert checks["none"].brier == pytest.approx(0.21 + 1 / 12 + 0.04, abs=0.01)


def test_a_problem_is_never_measured_with_its_own_map():
    """One problem's scores rise with the targets, the other's fall: each half's map is wrong for the other."""
    predicted, target = np.array([0.2, 0.8, 0.2, 0.8]), np.array([0.0, 1.0, 1.0, 0.0])
    checks = {
        check.method: check
        for check in check_calibration(predicted, target, np.ones(4), ["rises", "rises", "falls", "falls"])
    }
    # Isotonic: the rising problem gets the constant 1/2 that fits the falling one; that one gets 0 and 1, both wrong.
    assert checks["isotonic"].brier == pytest.approx((0.25 + 0.25 + 1 + 1) / 4, abs=0.01)
    assert checks["none"].brier == pytest.approx((0.04 + 0.04 + 0.64 + 0.64) / 4)


def test_quantiles_get_the_targets_spread():
    rng = np.random.default_rng(4)
    target = rng.random(5000)
    calibrator = fit_quantile(7 + 3 * rng.permutation(target), target, np.ones(5000))
    assert calibrator(np.array([7.3, 8.5, 9.7])) == pytest.approx([0.1, 0.5, 0.9], abs=0.02)


def test_one_problem_cannot_be_held_out():
    one = np.array([0.5, 0.6])
    assert check_calibration(one, one, np.ones(2), ["p", "p"]) == ()
    assert best_method(()) == "none"


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"method": "isotonic", "x": [], "y": []},
        {"method": "isotonic", "x": [0, 1], "y": [1, 0]},
        {"method": "x", "x": [0], "y": [0]},
        {"method": "quantile", "x": ["a"], "y": [0]},
    ],
)
def test_a_broken_map_is_refused(record):
    with pytest.raises(ModelError, match="train the model again"):
        Calibrator.from_json(record)


PROBLEMS = {f"p/{i}": make_problem(f"p/{i}", initial_state=f"def f{i}(xs):\n") for i in range(12)}
CODES = ("    return sorted(xs)\n", "    return xs[::-1]\n")


@pytest.fixture(scope="module")
def trained(tiny_plain_model_dir: Path, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("calibrated")
    values = [
        Trajectory(name, code, True, ((0, 0.5, 1.0), (len(code) + 1, reward, 1.0)))
        for name in PROBLEMS
        for code, reward in zip(CODES, (0.9, 0.1), strict=True)
    ]
    config = ValueConfig(
        epochs=1, learning_rate=1e-3, validation_share=0.34, calibration="isotonic", batch_tokens=500, device="cpu"
    )
    return path, values, train_value_model(tiny_plain_model_dir, values, PROBLEMS, config, path, 7)


def test_the_directory_carries_the_map_and_loading_applies_it(trained):
    path, values, report = trained
    record = json.loads((path / "report.json").read_text())
    assert record["calibration_method"] == report.calibration_method == "isotonic"
    assert [check["method"] for check in record["calibration_checks"]] == ["none", "isotonic", "quantile"]
    states = [State(problem, code, True) for problem in PROBLEMS.values() for code in CODES]
    given = {
        name: TrainedValueModel(path / "model", device="cpu", calibration=name).score_states(states)
        for name in ("auto", "none", *METHODS)
    }
    assert given["auto"] == given["isotonic"] != given["none"] != given["quantile"]
    # The oracle: the raw values of the validation states, fitted here again.
    held_out = split_problems(set(PROBLEMS), 0.34, 7)
    raw = TrainedValueModel(path / "model", device="cpu", calibration="none")
    rows = []
    for item in values:
        if item.problem_id in held_out:
            for offset, value, _ in item.targets:
                state = State(PROBLEMS[item.problem_id], item.code[:offset], offset > 0)
                rows.append((raw.score_states([state])[0], value))
    x, y = np.array(rows).T
    fitted = fit_isotonic(x, y, np.ones(len(x)))
    assert given["isotonic"] == pytest.approx(fitted(np.array(given["none"])).tolist(), abs=2e-3)
    order = np.argsort(given["none"])
    assert (np.argsort(given["auto"]) == order).all()


def test_a_calibration_that_is_not_there_is_named(trained, tmp_path: Path):
    path, _, _ = trained
    with pytest.raises(ConfigError, match="'platt'"):
        TrainedValueModel(path / "model", device="cpu", calibration="platt")
    config = AutoConfig.from_pretrained(path / "model")
    assert config.restrl_value["calibration"]["method"] == "isotonic"
