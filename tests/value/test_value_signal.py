"""Signal and noise of simulated scorers: known by construction, and best of n by plain simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.value.breakdown import full_report, program_groups, sibling_groups
from restrl.value.data import predictions, targets_of
from restrl.value.signal import Group, expected_best_of, measure_signal, search_outlook
from restrl.value.targets import GradedPath, targets_from_paths


def programs(num_problems: int, per_problem: int, slope: float, noise: float, seed: int, levels=(0.0, 1.0)):
    """Groups of finished programs: rewards at random, scores = an offset of the problem + slope * reward + noise."""
    rng = np.random.default_rng(seed)
    groups = []
    for index in range(num_problems):
        reward = rng.choice(levels, size=per_problem, p=rng.dirichlet(np.ones(len(levels))))
        score = rng.normal(0, 3) + slope * reward + rng.normal(0, noise, size=per_problem)
        groups.append(Group(f"p{index}", score, reward, np.zeros(per_problem)))
    return groups


@pytest.mark.parametrize(("slope", "noise"), [(1.0, 1.0), (0.3, 1.0), (2.0, 0.5), (-0.4, 0.7)])
def test_slope_and_noise_are_those_of_the_simulation(slope, noise):
    signal = measure_signal(programs(1500, 20, slope, noise, 1))
    assert signal.slope == pytest.approx(slope, abs=0.06 * noise)
    assert signal.noise_std == pytest.approx(noise, rel=0.03)
    assert signal.advantage == pytest.approx(slope / noise, abs=0.08 * (1 + abs(slope / noise)))
    # Within a problem the variance is E[p (1 - p)], here 1/6 for a uniform share p of right programs; its standard
    # deviation over problems is 0.075, and four standard errors of 1,500 are allowed.
    assert signal.signal_variance == pytest.approx(1 / 6, abs=4 * 0.075 / 1500**0.5)
    truth = slope * math.sqrt(1 / 6) / math.hypot(slope * math.sqrt(1 / 6), noise)
    assert signal.low < truth < signal.high
    assert signal.snr == pytest.approx(slope**2 / 6 / noise**2, rel=0.35)
    assert signal.error_variance == pytest.approx((slope - 1) ** 2 / 6 + noise**2, rel=0.06)


def test_intervals_cover_what_they_should():
    truth = 0.5 * math.sqrt(1 / 6) / math.hypot(0.5 * math.sqrt(1 / 6), 1.0)
    covered = 0
    for seed in range(60):
        signal = measure_signal(programs(50, 8, 0.5, 1.0, seed + 100), seed)
        covered += signal.low <= truth <= signal.high
    # 95% of 60 is 57; below 51 with a chance of about 0.001.
    assert covered >= 51


def simulate(rewards, advantage, n, rng, trials=40_000):
    """Draws n candidates, scores them, takes the best: nothing but that."""
    problem = rng.integers(len(rewards), size=trials)
    total = 0.0
    for index, reward in enumerate(rewards):
        count = int((problem == index).sum())
        drawn = rng.choice(reward, size=(count, n))
        best = np.argmax(advantage * drawn + rng.normal(size=drawn.shape), axis=1)
        total += drawn[np.arange(count), best].sum()
    return total / trials


@pytest.mark.parametrize("advantage", [-0.5, 0.0, 0.3, 1.0, 3.0])
def test_expected_best_of_n_is_what_a_simulation_gives(advantage):
    rng = np.random.default_rng(7)
    rewards = [np.array(row) for row in ([0, 0, 0, 1.0], [0, 0.5, 0.5, 1, 1], [0.25, 0.75], [1.0, 1.0], [0, 0, 0.2])]
    sizes = (1, 2, 5, 20, 100)
    expected = expected_best_of(rewards, advantage, sizes)
    assert expected[0] == pytest.approx(np.mean([row.mean() for row in rewards]), abs=1e-6)
    for n, value in zip(sizes, expected, strict=True):
        # The standard deviation of a pick is at most 0.5: four standard errors.
        assert value == pytest.approx(simulate(rewards, advantage, n, rng), abs=4 * 0.5 / 200), n


def test_a_scorer_without_noise_picks_the_best_and_one_of_chance_picks_any():
    rewards = [np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.5, 0.7])]
    exact = [(1 - 0.75**n + 0.7 - 0.2 * 0.5**n) / 2 for n in (1, 3, 10)]
    assert expected_best_of(rewards, math.inf, (1, 3, 10)) == pytest.approx(exact, abs=1e-3)
    assert expected_best_of(rewards, 0.0, (1, 7, 100)) == pytest.approx([0.425] * 3, abs=1e-9)


@given(st.floats(0.05, 5.0), st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_more_candidates_never_hurt_a_scorer_of_independent_errors(advantage, rewards):
    curve = expected_best_of([np.array(rewards)], advantage, range(1, 40))
    assert (np.diff(curve) > -1e-6).all() and min(rewards) - 1e-6 <= curve[0] and curve[-1] <= max(rewards) + 1e-6


def test_widths():
    """The widths of half right, half wrong programs, by the curve itself."""
    reward = np.tile([0.0, 1.0], 10)
    widths = {}
    for noise in (2.0, 0.3):
        rng = np.random.default_rng(3)
        groups = [Group(f"p{i}", reward + rng.normal(0, noise, 20), reward, reward * 0) for i in range(300)]
        outlook = search_outlook(groups, ())
        assert outlook.noise_width == pytest.approx(math.exp(outlook.programs.advantage**2 / 2))
        widths[noise] = outlook
    sharp, curve = widths[0.3].useful_width, widths[0.3].expected_best_of
    assert len(curve) == 100 and 1 < sharp < 50
    assert curve[2 * sharp - 1] - curve[sharp - 1] < 0.01 <= curve[sharp - 1] - curve[sharp // 2 - 1]
    # An advantage of 3.3 noise widths: the luckiest of exp(5.5) errors; of 0.5: of 1.1.
    assert 150 < widths[0.3].noise_width < 400 and 1.0 < widths[2.0].noise_width < 1.3


def test_verdicts():
    useless = search_outlook(programs(60, 8, 0.0, 1.0, 5), (), [(1, 0.5), (2, 0.52), (8, 0.45)])
    assert "not known to help" in useless.verdict and "0.45 at n = 8, after 0.52 at n = 2" in useless.verdict
    misled = search_outlook(programs(60, 20, -1.0, 1.0, 5), ())
    assert "not known to help" in misled.verdict and misled.noise_width == 1.0 and misled.useful_width == 1
    good = search_outlook(programs(60, 8, 1.0, 1.0, 5), programs(60, 4, 0.5, 1.0, 6))
    assert "can help" in good.verdict and "continuations of a state it correlates" in good.verdict
    flat = search_outlook([Group("p", np.array([0.1, 0.2]), np.ones(2), np.zeros(2))], ())
    assert flat.programs is None and flat.expected_best_of == () and "not known" in flat.verdict


def test_nothing_to_compare_is_no_signal():
    one = Group("p", np.array([0.5]), np.array([1.0]), np.zeros(1))
    assert measure_signal([]) is None and measure_signal([one, one]) is None
    # Estimates that differ no more than their own sampling explains.
    rng = np.random.default_rng(0)
    seen = rng.binomial(4, 0.5, size=(2000, 3)) / 4
    groups = [Group(f"p{i}", rng.random(3), row, row * (1 - row) / 3) for i, row in enumerate(seen)]
    signal = measure_signal(groups)
    assert signal is None or signal.signal_variance < 0.01


def test_the_sampling_of_targets_is_not_taken_for_signal():
    """True values of four continuations, coins that estimate them, scores of the true values."""
    rng = np.random.default_rng(11)
    groups, within = [], []
    for index in range(20_000):
        true = np.clip(rng.uniform(0.3, 0.7) + rng.normal(0, 0.15, size=4), 0, 1)
        within.append(true.var(ddof=1))
        count = rng.integers(2, 7, size=4)
        seen = rng.binomial(count, true) / count
        score = 0.5 * true + rng.normal(0, 0.1, size=4)
        groups.append(Group(f"p{index % 200}", score, seen, seen * (1 - seen) / (count - 1)))
    truth = np.mean(within)
    signal = measure_signal(groups)
    # What is seen varies three times as much as what is true.
    observed = np.array([group.value.var(ddof=1) for group in groups])
    assert observed.mean() > 3 * truth
    error = 4 * observed.std() / 20_000**0.5
    assert error < 0.1 * truth and signal.signal_variance == pytest.approx(truth, abs=error)
    assert signal.slope == pytest.approx(0.5, rel=1.5 * error / truth)
    assert signal.noise_std == pytest.approx(0.1, rel=0.03)
    correlation = 0.5 * math.sqrt(truth) / math.hypot(0.5 * math.sqrt(truth), 0.1)
    assert signal.low < correlation < signal.high
    assert signal.error_variance == pytest.approx(0.25 * truth + 0.01, abs=1.5 * error)


def test_groups_by_hand():
    paths = [GradedPath("a\nx\n", True, 1.0), GradedPath("a\ny\n", True, 0.0), GradedPath("b\nx\n", True, 1.0)]
    paths += [GradedPath("b\nx\n", True, 1.0), GradedPath("c\nx\n", True, 0.0), GradedPath("d\n", False, 0.0)]
    targets = [t for i, item in enumerate(targets_from_paths("p", paths)) for t in targets_of(item, False, i)]
    data = predictions(np.arange(len(targets), dtype=float), targets)
    (group,) = program_groups(data)
    assert sorted(group.value.tolist()) == [0.0, 0.0, 1.0, 1.0]
    # Of the first lines, a and b have two completions each; c and d have one.
    (lines,) = sibling_groups(data)
    assert sorted(lines.value.tolist()) == [0.5, 1.0] and sorted(lines.sampling.tolist()) == [0.0, 0.25]


def test_error_along_the_program_and_rankings_by_steps():
    """Two problems of a right and a wrong program; the model's values are set by hand."""
    targets, values = [], []
    for number, (problem, code, reward, steps) in enumerate(
        [
            ("p", "a\nb\nc\nd\n", 1.0, (0.0, 0.9, 0.1, 0.9, 0.9, 0.9)),
            ("p", "e\nf\n", 0.0, (0.0, 0.4, 0.4, 0.2)),
            ("q", "a\nb\n", 1.0, (0.5, 0.8, 0.7, 0.6)),
            ("q", "e\nf\n", 0.0, (0.5, 0.9, 0.9, 0.1)),
        ]
    ):
        (trajectory,) = targets_from_paths(problem, [GradedPath(code, True, reward)])
        targets += targets_of(trajectory, True, number)
        values += steps
    report = full_report(predictions(np.array(values), targets), 0.5)
    assert {row.aggregation: row.ranking_accuracy for row in report.step_rankings} == {
        "last": 1.0,  # 0.9 > 0.2, 0.6 > 0.1
        "min": 0.5,  # 0.1 < 0.2, 0.6 > 0.1
        "mean": 1.0,  # 0.74 > 0.33, 0.7 > 0.63
    }
    shares = {row.part: row for row in report.shares}
    assert list(shares) == ["the problem alone", "up to 25%", "up to 50%", "up to 75%", "up to 100%", "finished"]
    assert shares["up to 25%"].mse == pytest.approx(0.1**2) and shares["up to 25%"].count == 1
    assert shares["up to 50%"].mse == pytest.approx((0.9**2 + 0.4**2 + 0.2**2 + 0.9**2) / 4)
    assert shares["finished"].mse == pytest.approx((0.1**2 + 0.2**2 + 0.4**2 + 0.1**2) / 4)
    assert shares["finished"].baseline_mse == pytest.approx(0.25)
    # Deviations from the problem's mean: 0.35, -0.35, 0.25, -0.25 against 0.5, -0.5, 0.5, -0.5.
    assert shares["finished"].within == pytest.approx(0.6 / math.sqrt(0.37 * 2 * 0.5), abs=1e-6)
    assert report.search is not None and report.search.programs.num_items == 4
    assert report.to_json()["search"]["verdict"] == report.search.verdict
