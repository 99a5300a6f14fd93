"""How good a value model is, before anything is built on it: error, calibration, and above all ranking.

Search over a noisy scorer stops helping beyond a width that its signal-to-noise ratio sets, so the number that predicts
best-of-n is how often the model prefers the better of two finished programs *of the same problem*. A model can have a
low error from telling easy problems from hard ones, and still rank at random within a problem.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restrl.value.calibrators import CalibrationCheck
from restrl.value.signal import SearchOutlook

Floats = NDArray[np.float64]

NUM_BINS = 10
BEST_OF = (1, 2, 4, 8, 16, 32, 64, 100)


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """States whose predictions fall into one tenth of [0, 1] (outliers in the end bins)."""

    low: float
    high: float
    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class DepthError:
    """Error on states after ``depth`` actions; the baseline predicts the training mean."""

    depth: int
    mse: float
    baseline_mse: float
    count: int


@dataclass(frozen=True, slots=True)
class BestOf:
    """Mean reward of the program that the model, an oracle, or chance picks from ``n`` finished ones of a problem."""

    n: int
    picked: float
    oracle: float
    chance: float


@dataclass(frozen=True, slots=True)
class ShareError:
    """Error on states with a certain share of the program written.

    Attributes:
        part: Which states.
        mse: Mean squared error, weighted as in training.
        baseline_mse: That of the training mean.
        within: Correlation of prediction and target among the states of a problem; NaN where one is constant.
        count: States.
    """

    part: str
    mse: float
    baseline_mse: float
    within: float
    count: int


@dataclass(frozen=True, slots=True)
class StepRanking:
    """Ranking accuracy of finished programs by the ``last``, ``min`` or ``mean`` of the values of their steps."""

    aggregation: str
    ranking_accuracy: float


@dataclass(frozen=True, slots=True)
class ValueReport:
    """A value model on validation problems.

    Attributes:
        validation_mse: Mean squared error over states, weighted as in training.
        baseline_mse: That of predicting the training targets' mean.
        finished_mse: Mean squared error on finished programs.
        ece: Expected calibration error: mean distance of prediction and outcome over the bins, by count.
        pearson: Linear correlation of prediction and target; NaN where one of them is constant.
        spearman: Rank correlation.
        ranking_accuracy: Among finished programs of one problem with different rewards, how often the better one has
            the higher value (ties count half); mean over problems; NaN without such pairs.
        ranking_pairs: Pairs behind it.
        best_of_n: What picking by value gives, from the validation programs.
        calibration: Reliability bins, by ascending prediction; empty ones left out.
        depths: Error by number of actions.
        num_states: Validation states.
        num_problems: Validation problems.
        num_train_states: Training states.
        best_epoch: Epoch whose weights were kept.
        kind: What was learned: ``vm``, ``orm`` or ``prm``; the targets are those of the kind.
        calibration_checks: Ways of calibrating, on problems that they were not fitted on; every other figure of the
            report is of the model as trained, without calibration.
        calibration_method: The one that is applied when the model is loaded: ``none``, ``isotonic`` or ``quantile``.
        shares: Error by how much of the program is written.
        step_rankings: How the values along a program rank it.
        search: Whether search can help with this scorer.
        model_dir: Where the model is, seen from the report's folder.
    """

    validation_mse: float
    baseline_mse: float
    finished_mse: float
    ece: float
    pearson: float
    spearman: float
    ranking_accuracy: float
    ranking_pairs: int
    best_of_n: tuple[BestOf, ...]
    calibration: tuple[CalibrationBin, ...]
    depths: tuple[DepthError, ...]
    num_states: int
    num_problems: int
    num_train_states: int = 0
    best_epoch: int = 0
    kind: str = "vm"
    calibration_checks: tuple[CalibrationCheck, ...] = ()
    calibration_method: str = "none"
    shares: tuple[ShareError, ...] = ()
    step_rankings: tuple[StepRanking, ...] = ()
    search: SearchOutlook | None = None
    model_dir: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns plain data; numbers that are not finite become None."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions and targets of states, all of length N.

    Attributes:
        predicted: ``V(S)``.
        target: ``v``.
        weight: Weights of the targets.
        depth: Actions of the states.
        finished: Whether the state is a finished program.
        problem: Problem of each state.
        program: Code of each state, to count a program once.
        share: Actions of the state by those of its program; NaN where the program was cut off.
        parent: Code of the state one action before.
        carrier: Number of the program that carries the target; targets of a program by ascending offset.
        completions: Completions behind the target, as far as this program carries them.
    """

    predicted: Floats
    target: Floats
    weight: Floats
    depth: NDArray[np.int64]
    finished: NDArray[np.bool_]
    problem: Sequence[str]
    program: Sequence[str]
    share: Floats
    parent: Sequence[str]
    carrier: NDArray[np.int64]
    completions: Floats


def evaluate_predictions(data: Predictions, train_mean: float, num_train_states: int = 0) -> ValueReport:
    """Computes every figure of a `ValueReport` from predictions (at least one state)."""
    error = (data.predicted - data.target) ** 2
    baseline = (train_mean - data.target) ** 2
    bins = calibration_bins(data.predicted, data.target)
    groups = _finished_groups(data)
    accuracies = [(ranking_accuracy(p, r), p) for p, r in groups]
    ranked = [accuracy for (accuracy, pairs), _ in accuracies if pairs]
    return ValueReport(
        validation_mse=float(np.average(error, weights=data.weight)),
        baseline_mse=float(np.average(baseline, weights=data.weight)),
        finished_mse=float(error[data.finished].mean()) if data.finished.any() else math.nan,
        ece=expected_calibration_error(bins),
        pearson=correlation(data.predicted, data.target),
        spearman=correlation(_ranks(data.predicted), _ranks(data.target)),
        ranking_accuracy=float(np.mean(ranked)) if ranked else math.nan,
        ranking_pairs=sum(pairs for (_, pairs), _ in accuracies),
        best_of_n=best_of_table(groups),
        calibration=bins,
        depths=_depth_errors(data.depth, error, baseline),
        num_states=len(error),
        num_problems=len(set(data.problem)),
        num_train_states=num_train_states,
    )


def calibration_bins(predicted: Floats, target: Floats, num_bins: int = NUM_BINS) -> tuple[CalibrationBin, ...]:
    """Returns equal-width reliability bins of [0, 1]; predictions outside count in the end bins."""
    which = np.clip((predicted * num_bins).astype(np.int64), 0, num_bins - 1)
    bins = []
    for index in range(num_bins):
        inside = which == index
        if inside.any():
            bins.append(
                CalibrationBin(
                    index / num_bins,
                    (index + 1) / num_bins,
                    float(predicted[inside].mean()),
                    float(target[inside].mean()),
                    int(inside.sum()),
                )
            )
    return tuple(bins)


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """``sum_b count_b / N * |predicted_b - observed_b|``, in [0, 1] for predictions in [0, 1]."""
    total = sum(item.count for item in bins)
    return sum(item.count * abs(item.predicted - item.observed) for item in bins) / total


def correlation(left: Floats, right: Floats) -> float:
    """Returns Pearson's correlation; NaN where a side is constant."""
    a, b = left - left.mean(), right - right.mean()
    scale = math.sqrt(float((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else math.nan


def ranking_accuracy(predicted: Floats, reward: Floats) -> tuple[float, int]:
    """Returns how often the better of two programs has the higher value, and the number of pairs.

    Pairs with equal rewards do not count; equal predictions count half. NaN without pairs.
    """
    better = reward[:, None] > reward[None, :]
    pairs = int(better.sum())
    if not pairs:
        return math.nan, 0
    won = (predicted[:, None] > predicted[None, :]) + 0.5 * (predicted[:, None] == predicted[None, :])
    return float(won[better].sum() / pairs), pairs


def best_of_expectation(score: Floats, reward: Floats, n: int) -> float:
    """Returns the mean reward of the best-scored of ``n`` programs drawn without replacement.

    Sorted by falling score, program ``i`` is the pick with probability ``C(N - 1 - i, n - 1) / C(N, n)``. Equal scores
    share their mean reward. ``n`` is capped at N.
    """
    n = min(n, len(score))
    order = np.argsort(-score, kind="stable")
    _, tie, sizes = np.unique(-score[order], return_inverse=True, return_counts=True)
    shared = np.bincount(tie, weights=reward[order])[tie] / sizes[tie]
    total = math.comb(len(score), n)
    chances = [math.comb(len(score) - 1 - i, n - 1) / total for i in range(len(score))]
    return float(np.dot(chances, shared))


def best_of_table(groups: Sequence[tuple[Floats, Floats]], sizes: Sequence[int] = BEST_OF) -> tuple[BestOf, ...]:
    """Averages `best_of_expectation` over problems, for every n that the largest group has."""
    rows = []
    largest = max((len(reward) for _, reward in groups), default=0)
    for n in sizes:
        if n > largest:
            break
        picked = np.mean([best_of_expectation(p, r, n) for p, r in groups])
        oracle = np.mean([best_of_expectation(r, r, n) for _, r in groups])
        rows.append(BestOf(n, float(picked), float(oracle), float(np.mean([r.mean() for _, r in groups]))))
    return tuple(rows)


def _finished_groups(data: Predictions) -> list[tuple[Floats, Floats]]:
    """Predictions and rewards of the distinct finished programs of each problem."""
    groups: dict[str, dict[str, tuple[float, float]]] = {}
    for index in np.flatnonzero(data.finished).tolist():
        programs = groups.setdefault(data.problem[index], {})
        programs[data.program[index]] = (float(data.predicted[index]), float(data.target[index]))
    result = []
    for programs in groups.values():
        pairs = np.array(list(programs.values()), dtype=np.float64)
        result.append((pairs[:, 0], pairs[:, 1]))
    return result


def _depth_errors(depth: NDArray[np.int64], error: Floats, baseline: Floats) -> tuple[DepthError, ...]:
    return tuple(
        DepthError(int(d), float(error[depth == d].mean()), float(baseline[depth == d].mean()), int((depth == d).sum()))
        for d in np.unique(depth)
    )


def _ranks(values: Floats) -> Floats:
    """Ranks from 0, equal values sharing their mean rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    return ((ends - sizes + ends - 1) / 2)[group].astype(np.float64)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
