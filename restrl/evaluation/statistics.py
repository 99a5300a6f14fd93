"""Estimators and intervals, pure numpy (ReST-RL, section 4: pass@1, pass@k and test-case average).

Shape legend: ``_P`` problems, ``_S`` seeds (repeated runs on the same problems), ``_R`` bootstrap resamples.

Deviation from the paper: it publishes point values; every mean here comes with a percentile bootstrap interval over
*problems*, because the problems are the sample from which one generalises, and two methods are compared by the interval
of their difference on the same problems, which is much narrower than what their two own intervals suggest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from restrl.errors import ConfigError

Floats = npt.NDArray[np.float64]

# Resampled values held in memory at a time: a million, 8 MB for each of a few arrays.
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval.

    Attributes:
        mean: The point estimate.
        low: Lower end of the interval, same unit as the mean.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Returns whether the whole interval lies on one side of 0: for a difference, a clear one."""
        return self.low > 0.0 or self.high < 0.0


def pass_at_k(n: int, c: int, k: int) -> float:
    """Returns the unbiased estimate of the chance that at least one of ``k`` independent samples passes.

    ``pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i = n-c+1..n} (1 - k / i)``: the share of the ``k``-subsets of the
    ``n`` samples that hold at least one of the ``c`` passing ones (Chen et al. 2021, equation 1).

    Args:
        n: Samples drawn, >= 1, independent and identically distributed.
        c: How many of them passed, in [0, n].
        k: Samples that may be tried, in [1, n].

    Raises:
        ConfigError: ``k`` is larger than ``n``: the estimate does not exist.
        ValueError: ``n``, ``c`` or ``k`` is not a count in its range.

    >>> pass_at_k(4, 1, 1), pass_at_k(4, 1, 4), pass_at_k(4, 2, 2)
    (0.25, 1.0, 0.8333333333333334)
    """
    if n < 1 or k < 1 or not 0 <= c <= n:
        raise ValueError(f"pass@k got n={n}, c={c}, k={k}: n and k must be at least 1 and c in [0, n]")
    if k > n:
        raise ConfigError(f"pass@{k} needs at least {k} samples per problem, got {n}: sample more or ask for k <= {n}")
    # Integers of any size divide exactly here, so large n neither overflows nor loses digits.
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def mean_pass_at_k(counts: Sequence[tuple[int, int]], k: int) -> float:
    """Returns the mean over problems of `pass_at_k`.

    Args:
        counts: For every problem ``(n, c)``: samples drawn, samples passed.
        k: Samples that may be tried, in [1, min n].

    Raises:
        ConfigError: A problem has fewer than ``k`` samples.
        ValueError: No problem.
    """
    if not counts:
        raise ValueError("pass@k got no problem: at least one is needed")
    return math.fsum(pass_at_k(n, c, k) for n, c in counts) / len(counts)


def strict_accuracy(rewards_P: Sequence[float]) -> float:
    """Returns the share of problems whose program passed every test: reward exactly 1.

    >>> strict_accuracy([1.0, 0.9, 0.0, 1.0])
    0.5
    """
    values_P = _vector(rewards_P, "strict accuracy")
    return float(np.mean(values_P == 1.0))


def test_case_average(rewards_P: Sequence[float]) -> float:
    """Returns the mean share of tests passed, every problem weighing the same (the paper's APPS-500 metric).

    >>> test_case_average([1.0, 0.5])
    0.75
    """
    return float(np.mean(_vector(rewards_P, "test-case average")))


# The name is the paper's; pytest must not collect it from modules that import it.
test_case_average.__test__ = False  # type: ignore[attr-defined]


def ranking_accuracy(scores: Sequence[float], passed: Sequence[bool]) -> float | None:
    """Returns how often a passing program is scored above a failing one of the same problem (ties count half).

    This is the area under the ROC curve within one problem, all that matters to a decoder that picks the best-scored
    candidate: 0.5 is a coin flip. None where all candidates pass or all fail, so that there is nothing to rank.

    Args:
        scores: One finite score per candidate.
        passed: Whether the candidate passed every test.

    >>> ranking_accuracy([0.9, 0.1, 0.9], [True, False, False])
    0.75
    """
    values, good = np.asarray(scores, dtype=np.float64), np.asarray(passed, dtype=bool)
    if values.shape != good.shape:
        raise ValueError(f"ranking got {values.size} scores for {good.size} candidates: one each is needed")
    if good.all() or not good.any():
        return None
    margins = values[good][:, None] - values[~good][None, :]
    return float(np.mean((margins > 0) + 0.5 * (margins == 0)))


def bootstrap_mean(
    values_P: npt.ArrayLike, num_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Returns the mean over problems with its percentile bootstrap interval.

    Problems are drawn with replacement ``num_resamples`` times; the interval is the central ``confidence`` share of the
    resampled means. Equal values (and a single problem) give an interval of width 0: the data shows no variation.

    Args:
        values_P: One finite value per problem, or (S, P): several runs on the same problems, averaged over runs first.
        num_resamples: Resamples, >= 1.
        seed: Seed of the draws; the same arguments give the same interval.
        confidence: In (0, 1).

    Raises:
        ValueError: No problem, a value that is not finite, or an argument out of range.

    >>> bootstrap_mean([0.0, 1.0, 1.0, 0.0], seed=1)
    Interval(mean=0.5, low=0.0, high=1.0)
    """
    return _interval(_per_problem(values_P, "bootstrap"), num_resamples, seed, confidence)


def bootstrap_seed_mean(
    values_SP: npt.ArrayLike,
    num_resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
    resample_seeds: bool = False,
) -> Interval:
    """Returns the mean over seeds and problems with a bootstrap interval.

    Args:
        values_SP: Shape (S, P): one row per run (seed), one column per problem.
        num_resamples: Resamples, >= 1.
        seed: Seed of the draws.
        confidence: In (0, 1).
        resample_seeds: Draw the runs with replacement too. Without it the interval speaks of *these* runs on other
            problems; with it, also of other runs (for S >= 5 or so; with fewer it is too narrow to be trusted).

    Raises:
        ValueError: Not two-dimensional, empty, or a value that is not finite.
    """
    matrix_SP = np.asarray(values_SP, dtype=np.float64)
    if matrix_SP.ndim != 2:
        raise ValueError(f"bootstrap over seeds got an array of shape {matrix_SP.shape}: it must be (seeds, problems)")
    means_P = _per_problem(matrix_SP, "bootstrap over seeds")
    if not resample_seeds:
        return _interval(means_P, num_resamples, seed, confidence)
    _check_arguments(num_resamples, confidence)
    num_seeds, num_problems = matrix_SP.shape
    rng = np.random.default_rng(seed)
    weights_RS = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), num_resamples) / num_seeds
    means_R = np.empty(num_resamples)
    for part, index_RP in _draws(rng, num_resamples, num_problems):
        by_seed_RP = weights_RS[part] @ matrix_SP
        means_R[part] = np.take_along_axis(by_seed_RP, index_RP, axis=1).mean(axis=1)
    return _percentiles(float(means_P.mean()), means_R, confidence)


def bootstrap_means(
    values_BP: npt.ArrayLike, num_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> list[Interval]:
    """Returns `bootstrap_mean` of every row, on the same draws of problems: a whole budget curve for one set of draws.

    Args:
        values_BP: Shape (B, P): B rows (budgets), one column per problem.
        num_resamples: Resamples, >= 1.
        seed: Seed of the draws.
        confidence: In (0, 1).

    Raises:
        ValueError: Not two-dimensional, empty, or a value that is not finite.
    """
    rows_BP = np.asarray(values_BP, dtype=np.float64)
    if rows_BP.ndim != 2 or 0 in rows_BP.shape:
        raise ValueError(f"bootstrap of rows got an array of shape {rows_BP.shape}: it must be (rows, problems)")
    _check_finite(rows_BP, "bootstrap of rows")
    return _intervals(rows_BP, num_resamples, seed, confidence)


def paired_bootstrap(
    a_P: npt.ArrayLike, b_P: npt.ArrayLike, num_resamples: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Returns the mean of ``a - b`` over problems with its bootstrap interval, paired by problem.

    Position ``p`` of both is the same problem, and every resample draws the same problems for both, so the difficulty
    of the problems cancels. Either may be (S, P): several runs, averaged over runs first; their numbers of runs may
    differ.

    Args:
        a_P: One finite value per problem.
        b_P: One finite value per problem, the same problems in the same order.
        num_resamples: Resamples, >= 1.
        seed: Seed of the draws.
        confidence: In (0, 1).

    Raises:
        ValueError: Different numbers of problems, none, or a value that is not finite.

    >>> paired_bootstrap([1.0, 0.6], [0.5, 0.1])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    means_a_P = _per_problem(a_P, "paired bootstrap")
    means_b_P = _per_problem(b_P, "paired bootstrap")
    if means_a_P.shape != means_b_P.shape:
        raise ValueError(
            f"paired bootstrap got {means_a_P.size} and {means_b_P.size} problems: both need the same ones in order"
        )
    return _interval(means_a_P - means_b_P, num_resamples, seed, confidence)


def _interval(values_P: Floats, num_resamples: int, seed: int, confidence: float) -> Interval:
    return _intervals(values_P[None, :], num_resamples, seed, confidence)[0]


def _intervals(rows_BP: Floats, num_resamples: int, seed: int, confidence: float) -> list[Interval]:
    _check_arguments(num_resamples, confidence)
    num_rows, num_problems = rows_BP.shape
    rng = np.random.default_rng(seed)
    means_RB = np.empty((num_resamples, num_rows))
    for part, index_RP in _draws(rng, num_resamples, num_problems):
        # How often each problem was drawn: then every row costs one matrix product, not one gather.
        flat = index_RP + np.arange(len(index_RP))[:, None] * num_problems
        counts_RP = np.bincount(flat.ravel(), minlength=flat.size).reshape(index_RP.shape)
        means_RB[part] = counts_RP.astype(np.float64) @ rows_BP.T / num_problems
    # Rows without variation are their own interval; sums of floats would only add noise to both ends.
    return [
        Interval(float(row_P[0]), float(row_P[0]), float(row_P[0]))
        if np.ptp(row_P) == 0.0
        else _percentiles(float(row_P.mean()), means_R, confidence)
        for row_P, means_R in zip(rows_BP, means_RB.T, strict=True)
    ]


def _draws(
    rng: np.random.Generator, num_resamples: int, num_problems: int
) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Yields slices of the resamples with the problem indices drawn for them, few enough at a time to fit in memory."""
    step = max(1, _CHUNK_VALUES // num_problems)
    for start in range(0, num_resamples, step):
        part = slice(start, min(start + step, num_resamples))
        yield part, rng.integers(num_problems, size=(part.stop - part.start, num_problems))


def _percentiles(mean: float, means_R: Floats, confidence: float) -> Interval:
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means_R, [tail, 1.0 - tail])
    # A mean is inside its own interval, also where few resamples or a low confidence would say otherwise.
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def _check_arguments(num_resamples: int, confidence: float) -> None:
    if num_resamples < 1:
        raise ValueError(f"bootstrap got num_resamples={num_resamples}: at least 1 is needed")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"bootstrap got confidence={confidence}: it must be in (0, 1)")


def _per_problem(values: npt.ArrayLike, what: str) -> Floats:
    """Returns one value per problem: the values themselves, or the mean over runs of an (S, P) array."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and array.shape[0] > 0:
        _check_finite(array, what)
        array = array.mean(axis=0)
    return _vector(array, what)


def _vector(values: Any, what: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{what} got an array of shape {array.shape}: at least one problem is needed, one value each")
    _check_finite(array, what)
    return array


def _check_finite(array: Floats, what: str) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{what} got {int((~np.isfinite(array)).sum())} values that are not finite: grade them first")
