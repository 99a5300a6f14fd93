"""Calibration: monotone maps from what a model says to what was seen, fitted after training on validation problems.

- ``isotonic``: the weighted least-squares fit among the non-decreasing functions, by pooling adjacent violators, then
  linear between the centres of the pools (centred isotonic regression, Oron and Flournoy, 2017). It estimates
  ``E[target | prediction]``.
- ``quantile``: a prediction's quantile among the predictions becomes the same quantile of the targets. It gives the
  values the spread of the targets, and is over-confident where the two are weakly related.

A map here never changes the order of two predictions: where the fit is flat, a small slope stays. So what a model
picks among finished programs is the same with and without; what changes are the means of values in a search's backup,
their balance with exploration and with a likelihood, and what a number means.

The pooling is twenty lines; a library for it would weigh more than the rest of this package's numerical code.

Shapes: N states, K knots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from restrl.errors import ModelError

Floats = NDArray[np.float64]
CalibrationMethod = Literal["isotonic", "quantile"]

METHODS: tuple[CalibrationMethod, ...] = get_args(CalibrationMethod)

# Share of the map that is a strictly rising function of the prediction: keeps the order where the fit is flat.
_SLOPE_SHARE = 1e-3
_MAX_KNOTS = 201


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A strictly increasing map into (0, 1).

    Attributes:
        method: How it was fitted.
        x: Predictions at the knots, shape (K,), ascending.
        y: Values at the knots, shape (K,), non-decreasing, in [0, 1].
    """

    method: CalibrationMethod
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, predicted: Floats) -> Floats:
        """Returns calibrated values: linear between the knots, flat outside, and a little slope everywhere."""
        fitted = np.interp(predicted, self.x, self.y)
        rising = 0.5 + np.arctan(predicted - 0.5) / np.pi
        return (1.0 - _SLOPE_SHARE) * fitted + _SLOPE_SHARE * rising

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `from_json` reads back."""
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Calibrator:
        """Reads what `to_json` wrote.

        Raises:
            ModelError: It is not a calibration.
        """
        try:
            x, y = tuple(map(float, record["x"])), tuple(map(float, record["y"]))
            sound = 0 < len(x) == len(y) and bool((np.diff(x) >= 0).all() and (np.diff(y) >= 0).all())
            method = record["method"]
        except (KeyError, TypeError, ValueError):
            sound, method = False, None
        if not sound or method not in METHODS:
            raise ModelError(
                f"the value model's calibration {str(record)[:60]!r} is not a rising map; train the model again, or "
                "load it with calibration 'none'"
            )
        return cls(method, x, y)


def fit_isotonic(predicted: Floats, target: Floats, weight: Floats) -> Calibrator:
    """Fits ``isotonic``; all arguments have shape (N,), N >= 1, weights > 0, targets in [0, 1]."""
    x, y, w = _pool_equal(predicted, target, weight)
    x, y = pool_adjacent_violators(x, y, w)
    keep = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_KNOTS)).round().astype(np.int64))
    return Calibrator("isotonic", tuple(x[keep].tolist()), tuple(np.clip(y[keep], 0.0, 1.0).tolist()))


def pool_adjacent_violators(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Returns the weighted centre and the mean of every pool, both ascending.

    ``y_pool = argmin sum_i w_i (f(x_i) - y_i)^2`` over non-decreasing f. Arguments by ascending x, shape (N,).

    >>> pool_adjacent_violators(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.8, 0.4]), np.ones(3))
    (array([0. , 1.5]), array([0. , 0.6]))
    """
    pools: list[tuple[float, float, float]] = []
    for centre, mean, mass in zip(x.tolist(), y.tolist(), w.tolist(), strict=True):
        while pools and pools[-1][1] >= mean:
            before, value, share = pools.pop()
            total = share + mass
            centre = (before * share + centre * mass) / total
            mean = (value * share + mean * mass) / total
            mass = total
        pools.append((centre, mean, mass))
    return np.array([pool[0] for pool in pools]), np.array([pool[1] for pool in pools])


def fit_quantile(predicted: Floats, target: Floats, weight: Floats) -> Calibrator:
    """Fits ``quantile``; arguments as in `fit_isotonic`."""
    levels = np.linspace(0.0, 1.0, _MAX_KNOTS)
    x = _weighted_quantiles(predicted, weight, levels)
    y = _weighted_quantiles(target, weight, levels)
    x, y, _ = _pool_equal(x, y, np.ones_like(x))
    return Calibrator("quantile", tuple(x.tolist()), tuple(np.clip(np.maximum.accumulate(y), 0.0, 1.0).tolist()))


FITS = {"isotonic": fit_isotonic, "quantile": fit_quantile}


def _pool_equal(x: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats, Floats]:
    """Sorts by x; equal ones become one, with the mean of their y and the sum of their weights."""
    values, group = np.unique(x, return_inverse=True)
    mass: Floats = np.bincount(group, weights=w).astype(np.float64)
    return values, np.bincount(group, weights=w * y) / mass, mass


def _weighted_quantiles(values: Floats, weight: Floats, levels: Floats) -> Floats:
    """Quantiles of a weighted sample, linear between the middles of the weights."""
    order = np.argsort(values, kind="stable")
    mass = weight[order]
    middles = (np.cumsum(mass) - 0.5 * mass) / mass.sum()
    return np.interp(levels, middles, values[order])


@dataclass(frozen=True, slots=True)
class CalibrationCheck:
    """A way of calibrating, on problems that it was not fitted on.

    The validation problems are halved; each half is measured with the map that the other half gave.

    Attributes:
        method: ``none``, ``isotonic`` or ``quantile``.
        brier: Mean squared distance of calibrated prediction and target, weighted as in training.
        ece: Expected calibration error in ten equal bins, weighted likewise.
    """

    method: str
    brier: float
    ece: float


def check_calibration(
    predicted: Floats, target: Floats, weight: Floats, problem: Sequence[str]
) -> tuple[CalibrationCheck, ...]:
    """Measures every method on the halves of the problems that it was not fitted on; empty with one problem.

    The halves are every other problem by name, so they depend on nothing but the problems.

    Args:
        predicted: The model's predictions, shape (N,).
        target: Shape (N,), in [0, 1].
        weight: Shape (N,), > 0.
        problem: N names.
    """
    names = sorted(set(problem))
    if len(names) < 2:
        return ()
    place = {name: index % 2 for index, name in enumerate(names)}
    half = np.array([place[name] for name in problem])
    checks = [CalibrationCheck("none", *_errors(predicted, target, weight))]
    for method in METHODS:
        calibrated = np.empty_like(predicted)
        for side in (0, 1):
            fitted, measured = half != side, half == side
            calibrator = FITS[method](predicted[fitted], target[fitted], weight[fitted])
            calibrated[measured] = calibrator(predicted[measured])
        checks.append(CalibrationCheck(method, *_errors(calibrated, target, weight)))
    return tuple(checks)


def _errors(predicted: Floats, target: Floats, weight: Floats, num_bins: int = 10) -> tuple[float, float]:
    """The weighted Brier score and expected calibration error."""
    which = np.clip((predicted * num_bins).astype(np.int64), 0, num_bins - 1)
    gaps = np.bincount(which, weights=weight * (predicted - target), minlength=num_bins)
    return float(np.average((predicted - target) ** 2, weights=weight)), float(np.abs(gaps).sum() / weight.sum())


def best_method(checks: Sequence[CalibrationCheck]) -> str:
    """Returns the method with the lowest held-out Brier score; ``none`` without a check."""
    return min(checks, key=lambda check: check.brier).method if checks else "none"
