"""Can search help at this noise? Signal to noise of a scorer, and what it lets best-of-n and tree search expect.

Search compares programs of one problem, or continuations of one state, so everything here is within such groups:

    score_i = a_group + b * V_i + e_i,    e_i ~ N(0, sigma^2)

- signal: the variance of the true values V in a group; for programs their rewards, for continuations (siblings in a
  tree) the variance of their targets less that of the targets' own sampling, at most v (1 - v) / (completions - 1);
- noise: sigma^2, the variance of the score that V does not explain;
- correlation: of score and V, with a bootstrap interval over problems; signal to noise = b^2 signal / sigma^2;
- advantage: b / sigma, how far a reward of 1 lies above one of 0, in noise widths.

From them, best of n under this simple model, for every n: candidates come from the problem's own programs, each with a
fresh error. And two widths:

- ``useful_width``: from where on doubling n gains less than 0.01 of reward;
- ``noise_width``: ``exp(advantage^2 / 2)``, the n at which the luckiest of n errors, ``sigma sqrt(2 ln n)``, is as
  large as the advantage. Dalal et al. (arXiv 2603.15377) derive that the widest useful beam grows as the exponential of
  (advantage / noise)^2; the constant here is that of the largest of n normal errors, not theirs.

The model's errors are independent of everything, so with a positive advantage it never predicts that a wider search
*hurts*. A measured curve that falls where this one rises says that the scorer is most wrong where it is most certain.

Shapes: G groups, N items, L levels of reward, S points of the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_N = 100
USEFUL_GAIN = 0.01
_DOUBLINGS = tuple(2**k for k in range(11))
_RESAMPLES = 1000
# An advantage beyond this is a scorer without noise.
_MAX_ADVANTAGE = 40.0


@dataclass(frozen=True, slots=True)
class Group:
    """Items that search chooses among.

    Attributes:
        problem: Their problem.
        score: What the scorer says, shape (N,).
        value: The true values, or estimates of them, shape (N,).
        sampling: Variance of each estimate; 0 for a value that is exact. Shape (N,).
    """

    problem: str
    score: Floats
    value: Floats
    sampling: Floats


@dataclass(frozen=True, slots=True)
class Signal:
    """A scorer among the items of a group; see the module.

    Attributes:
        signal_variance: Of the true values within a group.
        error_variance: Of score minus true value within a group.
        noise_std: Sigma, in units of the score.
        slope: b, score per unit of value.
        correlation: Of score and true value within a group, in [-1, 1].
        low: Lower end of the correlation's 95% bootstrap interval over problems.
        high: Upper end.
        snr: Signal to noise, ``correlation^2 / (1 - correlation^2)``; infinite without noise.
        advantage: ``slope / noise_std``, in noise widths.
        num_groups: Groups of at least two items.
        num_items: Items in them.
    """

    signal_variance: float
    error_variance: float
    noise_std: float
    slope: float
    correlation: float
    low: float
    high: float
    snr: float
    advantage: float
    num_groups: int
    num_items: int


@dataclass(frozen=True, slots=True)
class SearchOutlook:
    """What a scorer lets search expect.

    Attributes:
        programs: The scorer among finished programs of a problem; None where their rewards do not differ.
        siblings: The scorer among continuations of a state; None where nothing is known of them.
        expected_best_of: Expected reward of the best-scored of n programs, n = 1..100; empty without ``programs``.
        useful_width: Smallest power of 2 from which doubling n gains less than 0.01; None above 512.
        noise_width: See the module; 1 where the advantage is not above 0.
        verdict: One sentence.
    """

    programs: Signal | None
    siblings: Signal | None
    expected_best_of: tuple[float, ...]
    useful_width: int | None
    noise_width: float
    verdict: str


def measure_signal(groups: Sequence[Group], seed: int = 0) -> Signal | None:
    """Estimates signal and noise from groups of at least two items; None where the values do not differ.

    Args:
        groups: What search chooses among.
        seed: Of the bootstrap's draws.
    """
    groups = [group for group in groups if len(group.score) > 1]
    names = sorted({group.problem for group in groups})
    row_of = {name: row for row, name in enumerate(names)}
    # Per problem: sums of squares of value and score, of products, of sampling variance, degrees of freedom.
    sums = np.zeros((len(names), 5))
    for group in groups:
        value, score = group.value - group.value.mean(), group.score - group.score.mean()
        count = len(value)
        sampling = group.sampling.sum() * (1 - 1 / count)
        sums[row_of[group.problem]] += (value @ value, score @ score, value @ score, sampling, count - 1)
    total = sums.sum(axis=0)
    if not groups or not total[0] - total[3] > 1e-12:
        return None
    signal, spread, product = (total[0] - total[3]) / total[4], total[1] / total[4], total[2] / total[4]
    slope = product / signal
    noise = max(spread - slope * product, 0.0)
    correlation = _correlation(total)
    drawn = np.random.default_rng(seed).integers(len(names), size=(_RESAMPLES, len(names)))
    correlations = np.array([_correlation(sums[rows].sum(axis=0)) for rows in drawn])
    low, high = np.nanquantile(correlations, [0.025, 0.975])
    return Signal(
        signal_variance=float(signal),
        error_variance=float(max(spread - 2 * product + signal, 0.0)),
        noise_std=math.sqrt(noise),
        slope=float(slope),
        correlation=correlation,
        low=min(float(low), correlation),
        high=max(float(high), correlation),
        snr=correlation**2 / (1 - correlation**2) if abs(correlation) < 1 else math.inf,
        advantage=float(slope) / math.sqrt(noise) if noise > 0 else math.copysign(_MAX_ADVANTAGE, slope),
        num_groups=len(groups),
        num_items=sum(len(group.score) for group in groups),
    )


def _correlation(sums: Floats) -> float:
    """From sums of squares; a scorer that says the same of everything correlates with nothing."""
    signal = sums[0] - sums[3]
    if signal <= 0 or sums[1] <= 0:
        return 0.0
    return float(np.clip(sums[2] / math.sqrt(signal * sums[1]), -1.0, 1.0))


def expected_best_of(rewards: Sequence[Floats], advantage: float, sizes: Sequence[int]) -> Floats:
    """Returns the expected reward of the best-scored of n candidates, mean over problems, for every n of ``sizes``.

    A candidate of a problem has one of its rewards at random and scores ``advantage * reward + N(0, 1)``. Its chance to
    be the best of n is ``n F(s)^(n-1)`` at its score s, F the score's distribution:
    ``E_n = int sum_l q_l r_l phi(s - advantage r_l) n F(s)^(n-1) ds``, by the trapezoidal rule.

    Args:
        rewards: Rewards of each problem's programs.
        advantage: In noise widths.
        sizes: Values of n.
    """
    advantage = min(max(advantage, -_MAX_ADVANTAGE), _MAX_ADVANTAGE)
    n = np.array(sizes, dtype=np.float64)[:, None]
    totals = np.zeros(len(sizes))
    for reward_N in rewards:
        level_L, counts = np.unique(reward_N, return_counts=True)
        share_L = counts / counts.sum()
        shifts = advantage * level_L
        score_S = np.arange(shifts.min() - 8.0, shifts.max() + 8.0, 0.05)
        z_LS = score_S[None, :] - shifts[:, None]
        density_LS = share_L[:, None] * np.exp(-0.5 * z_LS**2)
        below_S = np.clip(share_L @ _normal_cdf(z_LS), 1e-300, 1.0)
        best_S = np.exp((n - 1) * np.log(below_S))
        chance = best_S @ density_LS.T
        totals += (chance @ level_L) / chance.sum(axis=1)
    return totals / len(rewards)


_Z = np.linspace(-9.0, 9.0, 7201)
_CDF = np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in _Z])


def _normal_cdf(z: Floats) -> Floats:
    return np.interp(z, _Z, _CDF)


def search_outlook(
    programs: Sequence[Group], siblings: Sequence[Group], measured: Sequence[tuple[int, float]] = ()
) -> SearchOutlook:
    """Says what search can expect of a scorer.

    Args:
        programs: The finished programs of each problem.
        siblings: The continuations of each state.
        measured: ``(n, reward of the best-scored of n)`` as measured, ascending, for the sentence.
    """
    among_programs, among_siblings = measure_signal(programs), measure_signal(siblings)
    if among_programs is None:
        verdict = "Whether search can help is not known: no problem has programs with different rewards."
        return SearchOutlook(None, among_siblings, (), None, 1.0, verdict)
    rewards = [group.value for group in programs]
    expected = expected_best_of(rewards, among_programs.advantage, range(1, MAX_N + 1))
    by_doubling = expected_best_of(rewards, among_programs.advantage, _DOUBLINGS)
    small = [n for n, gain in zip(_DOUBLINGS, np.diff(by_doubling), strict=False) if gain < USEFUL_GAIN]
    width = small[0] if small else None
    advantage = max(among_programs.advantage, 0.0)
    return SearchOutlook(
        programs=among_programs,
        siblings=among_siblings,
        expected_best_of=tuple(expected.tolist()),
        useful_width=width,
        noise_width=math.exp(min(0.5 * advantage**2, 700.0)),
        verdict=_verdict(among_programs, among_siblings, expected, width, measured),
    )


def _verdict(
    programs: Signal,
    siblings: Signal | None,
    expected: Floats,
    width: int | None,
    measured: Sequence[tuple[int, float]],
) -> str:
    within = f"{programs.correlation:.2f} [{programs.low:.2f}, {programs.high:.2f}]"
    seen = ""
    if measured:
        top = max(measured, key=lambda point: point[1])
        seen = f"; measured {measured[0][1]:.2f} to {measured[-1][1]:.2f} at n = {measured[-1][0]}"
        seen += f", after {top[1]:.2f} at n = {top[0]}" if top[1] > measured[-1][1] + USEFUL_GAIN else ""
    lines = "the continuations of a state were not measured"
    if siblings is not None:
        lines = (
            f"among continuations of a state it correlates {siblings.correlation:.2f} "
            f"[{siblings.low:.2f}, {siblings.high:.2f}]"
        )
    if programs.low <= 0:
        return (
            f"Search by this score alone is not known to help: within a problem it correlates {within} with the "
            f"reward, which may be nothing{seen}; {lines}."
        )
    until = f"from n = {width} on doubling n gains less than 0.01" if width else "doubling n still gains at 512"
    return (
        f"Search by this score can help: within a problem it correlates {within} with the reward, best of n should "
        f"rise from {expected[0]:.2f} to {expected[-1]:.2f} at n = {len(expected)}, and {until}{seen}; {lines}."
    )
