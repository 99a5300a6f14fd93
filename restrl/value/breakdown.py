"""A scorer's report in full: where in a program it errs, how it ranks there, and whether search can help with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from restrl.value.calibration import (
    Floats,
    Predictions,
    ShareError,
    StepRanking,
    ValueReport,
    evaluate_predictions,
    ranking_accuracy,
)
from restrl.value.signal import Group, search_outlook

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_AGGREGATIONS: Mapping[str, Callable[[Floats], float]] = {
    "last": lambda steps: float(steps[-1]),
    "min": lambda steps: float(steps.min()),
    "mean": lambda steps: float(steps.mean()),
}


def full_report(data: Predictions, train_mean: float) -> ValueReport:
    """Returns the figures of `evaluate_predictions`, the error along the program, and the outlook of a search."""
    report = evaluate_predictions(data, train_mean)
    measured = [(row.n, row.picked) for row in report.best_of_n]
    return replace(
        report,
        shares=share_errors(data, train_mean),
        step_rankings=step_rankings(data),
        search=search_outlook(program_groups(data), sibling_groups(data), measured),
    )


def share_errors(data: Predictions, train_mean: float) -> tuple[ShareError, ...]:
    """Returns the error by how much of the program is written; programs that were cut off do not count.

    The rows are the problem alone, the quarters of a program by its actions, and the finished program.
    """
    rows = [("the problem alone", (data.share == 0) & ~data.finished)]
    for low, high in itertools.pairwise(_SHARES):
        rows.append((f"up to {high:.0%}", (data.share > low) & (data.share <= high) & ~data.finished))
    rows.append(("finished", data.finished))
    problems = np.unique(np.array(data.problem), return_inverse=True)[1]
    errors = []
    for name, inside in rows:
        if inside.any():
            p, v, w = data.predicted[inside], data.target[inside], data.weight[inside]
            errors.append(
                ShareError(
                    name,
                    float(np.average((p - v) ** 2, weights=w)),
                    float(np.average((train_mean - v) ** 2, weights=w)),
                    within_correlation(p, v, w, problems[inside]),
                    int(inside.sum()),
                )
            )
    return tuple(errors)


def within_correlation(predicted: Floats, target: Floats, weight: Floats, group: NDArray[np.int64]) -> float:
    """Returns the weighted correlation of the deviations from the groups' weighted means; NaN where one is constant."""
    mass = np.bincount(group, weights=weight)
    centred = []
    for values in (predicted, target):
        means = np.bincount(group, weights=weight * values) / np.where(mass > 0, mass, 1.0)
        centred.append(values - means[group])
    p, v = centred
    scale = math.sqrt(float((weight * p * p).sum() * (weight * v * v).sum()))
    return float((weight * p * v).sum()) / scale if scale > 1e-12 else math.nan


def step_rankings(data: Predictions) -> tuple[StepRanking, ...]:
    """Returns how well a finished program's values along its lines rank it among those of its problem.

    The steps of a program are its lines and its end; see `restrl.value.kinds`.
    """
    order = np.argsort(data.carrier, kind="stable")
    starts = np.flatnonzero(np.diff(data.carrier[order], prepend=-1))
    programs: dict[str, list[tuple[Floats, float]]] = {}
    for rows in np.split(order, starts[1:]):
        if data.finished[rows[-1]]:
            steps = data.predicted[rows[(data.depth[rows] > 0) | data.finished[rows]]]
            programs.setdefault(data.problem[rows[-1]], []).append((steps, float(data.target[rows[-1]])))
    rankings = []
    for name, aggregate in _AGGREGATIONS.items():
        ranked = []
        for items in programs.values():
            scores = np.array([aggregate(steps) for steps, _ in items], dtype=np.float64)
            accuracy, pairs = ranking_accuracy(scores, np.array([reward for _, reward in items]))
            ranked += [accuracy] if pairs else []
        rankings.append(StepRanking(name, float(np.mean(ranked)) if ranked else math.nan))
    return tuple(rankings)


def program_groups(data: Predictions) -> list[Group]:
    """Returns the distinct finished programs of each problem; their rewards are exact."""
    groups: dict[str, dict[str, tuple[float, float]]] = {}
    for index in np.flatnonzero(data.finished).tolist():
        programs = groups.setdefault(data.problem[index], {})
        programs[data.program[index]] = (float(data.predicted[index]), float(data.target[index]))
    return [_group(problem, [(p, v, 0.0) for p, v in programs.values()]) for problem, programs in groups.items()]


def sibling_groups(data: Predictions) -> list[Group]:
    """Returns the unfinished states that differ in the last action only, where two completions or more tell of each.

    The variance of the mean of m rewards in [0, 1] is at most v (1 - v) / m; the mean itself being an estimate, the
    unbiased form divides by m - 1. It is exact for rewards of 0 and 1, and else more than there is.
    """
    states: dict[tuple[str, str], tuple[float, float, float, str]] = {}
    for index in np.flatnonzero(~data.finished & (data.depth > 0)).tolist():
        key = (data.problem[index], data.program[index])
        # A state's completions are shared among the programs that carry it.
        count = float(data.completions[index]) + (states[key][2] if key in states else 0.0)
        states[key] = (float(data.predicted[index]), float(data.target[index]), count, data.parent[index])
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for (problem, _), (score, value, count, parent) in states.items():
        if count > 2 - 1e-6:
            groups.setdefault((problem, parent), []).append((score, value, value * (1 - value) / (count - 1)))
    return [_group(problem, items) for (problem, _), items in groups.items() if len(items) > 1]


def _group(problem: str, items: Sequence[tuple[float, float, float]]) -> Group:
    score, value, sampling = np.array(items, dtype=np.float64).T
    return Group(problem, score, value, sampling)
