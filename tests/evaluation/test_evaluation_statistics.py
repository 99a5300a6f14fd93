"""Estimators against brute force, closed forms and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ConfigError
from restrl.evaluation import statistics as stats

UNIT = st.floats(0.0, 1.0, allow_nan=False, width=32)
quick = settings(deadline=None, max_examples=40)


def pass_at_k_by_enumeration(n: int, c: int, k: int) -> float:
    """The definition: the share of the k-subsets of n samples, c of them passing, with at least one passing."""
    subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
    return sum(any(subset) for subset in subsets) / len(subsets)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_that_hold_a_passing_sample(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            assert stats.pass_at_k(n, c, k) == pytest.approx(pass_at_k_by_enumeration(n, c, k), abs=1e-12)


def test_pass_at_k_equals_the_product_form_for_large_n():
    n, c, k = 2000, 3, 1000
    product = 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
    assert stats.pass_at_k(n, c, k) == pytest.approx(product, rel=1e-12)


def test_pass_at_k_is_unbiased():
    p, n, k = 0.3, 6, 4
    expected = sum(math.comb(n, c) * p**c * (1 - p) ** (n - c) * stats.pass_at_k(n, c, k) for c in range(n + 1))
    assert expected == pytest.approx(1 - (1 - p) ** k, abs=1e-12)


@quick
@given(st.integers(1, 30), st.data())
def test_pass_at_k_grows_with_c_and_k_and_pass_at_1_is_the_rate(n, data):
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    value = stats.pass_at_k(n, c, k)
    assert 0.0 <= value <= 1.0
    assert stats.pass_at_k(n, c, 1) == pytest.approx(c / n)
    if c < n:
        assert stats.pass_at_k(n, c + 1, k) >= value
    if k < n:
        assert stats.pass_at_k(n, c, k + 1) >= value
    assert (value == 0.0) == (c == 0)
    assert (value == 1.0) == (n - c < k)


def test_pass_at_k_refuses_more_tries_than_samples_in_one_line():
    with pytest.raises(ConfigError, match=r"pass@10 needs at least 10 samples per problem, got 4.*k <= 4") as caught:
        stats.pass_at_k(4, 2, 10)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="pass@3"):
        stats.mean_pass_at_k([(8, 2), (2, 1)], 3)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 0)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match=f"n={n}, c={c}, k={k}"):
        stats.pass_at_k(n, c, k)


def test_mean_pass_at_k_weighs_problems_equally():
    assert stats.mean_pass_at_k([(4, 4), (100, 0)], 2) == 0.5
    with pytest.raises(ValueError, match="no problem"):
        stats.mean_pass_at_k([], 1)


@quick
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_ranking_accuracy_is_the_share_of_ordered_pairs(pairs):
    wins = [
        1.0 if good > bad else 0.5 if good == bad else 0.0
        for good, good_passed in pairs
        for bad, bad_passed in pairs
        if good_passed and not bad_passed
    ]
    expected = pytest.approx(sum(wins) / len(wins)) if wins else None
    assert stats.ranking_accuracy([x for x, _ in pairs], [ok for _, ok in pairs]) == expected


def test_strict_accuracy_counts_whole_passes_only():
    assert stats.strict_accuracy([1.0, 0.999, 0.0]) == pytest.approx(1 / 3)
    assert stats.test_case_average([1.0, 0.5, 0.0]) == pytest.approx(0.5)
    for metric in (stats.strict_accuracy, stats.test_case_average):
        with pytest.raises(ValueError, match="at least one problem"):
            metric([])
        with pytest.raises(ValueError, match="not finite"):
            metric([1.0, math.nan])


def test_bootstrap_of_two_problems_has_the_enumerated_quantiles():
    # Means of the four equally likely resamples of (0, 1): 0, 1/2, 1/2, 1.
    assert stats.bootstrap_mean([0.0, 1.0], confidence=0.95) == stats.Interval(0.5, 0.0, 1.0)
    assert stats.bootstrap_mean([0.0, 1.0], confidence=0.4) == stats.Interval(0.5, 0.5, 0.5)


def test_bootstrap_agrees_with_the_normal_interval_on_many_problems():
    values = np.random.default_rng(3).uniform(size=400)
    interval = stats.bootstrap_mean(values, num_resamples=4000)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(11)
    hits = 0
    for trial in range(300):
        interval = stats.bootstrap_mean(rng.binomial(1, 0.4, size=80), num_resamples=400, seed=trial, confidence=0.9)
        hits += interval.low <= 0.4 <= interval.high
    # Binomial(300, 0.9) has a standard deviation of 1.7 points; the percentile bootstrap itself is a point or two off.
    assert 0.84 <= hits / 300 <= 0.96


def test_paired_intervals_cover_the_true_difference_and_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(5)
    hits, widths, own_widths = 0, [], []
    for trial in range(150):
        difficulty = rng.uniform(size=60)
        a = np.clip(difficulty + 0.1 + 0.05 * rng.standard_normal(60), -1, 2)
        b = difficulty
        interval = stats.paired_bootstrap(a, b, num_resamples=300, seed=trial, confidence=0.9)
        hits += interval.low <= 0.1 <= interval.high
        widths.append(interval.high - interval.low)
        own = stats.bootstrap_mean(a, num_resamples=300, seed=trial, confidence=0.9)
        own_widths.append(own.high - own.low)
    assert 0.82 <= hits / 150 <= 0.97
    assert np.mean(widths) < 0.5 * np.mean(own_widths)


def test_interval_is_independent_of_how_resamples_are_chunked(monkeypatch):
    values = np.linspace(0, 1, 17) ** 2
    whole = stats.bootstrap_mean(values, num_resamples=500, seed=4)
    monkeypatch.setattr(stats, "_CHUNK_VALUES", 40)
    assert stats.bootstrap_mean(values, num_resamples=500, seed=4) == whole


@pytest.mark.parametrize("values", [[0.3], [0.1, 0.1, 0.1], [1.0] * 7])
def test_no_variation_gives_width_zero_exactly(values):
    assert stats.bootstrap_mean(values) == stats.Interval(values[0], values[0], values[0])


@quick
@given(st.lists(UNIT, min_size=1, max_size=20), st.integers(0, 1000))
def test_interval_is_ordered_inside_the_data_and_repeatable(values, seed):
    interval = stats.bootstrap_mean(values, num_resamples=50, seed=seed)
    assert min(values) - 1e-9 <= interval.low <= interval.mean <= interval.high <= max(values) + 1e-9
    assert interval == stats.bootstrap_mean(values, num_resamples=50, seed=seed)


@quick
@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=20))
def test_swapping_the_sides_of_a_paired_difference_negates_it(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    forward = stats.paired_bootstrap(a, b, num_resamples=99)
    backward = stats.paired_bootstrap(b, a, num_resamples=99)
    assert forward.mean == pytest.approx(np.mean(a) - np.mean(b), abs=1e-9)
    assert (-backward.high, -backward.low) == pytest.approx((forward.low, forward.high), abs=1e-9)


def test_pairing_a_method_with_itself_gives_exactly_zero():
    values = [0.1, 0.7, 1.0, 0.0]
    assert stats.paired_bootstrap(values, values) == stats.Interval(0.0, 0.0, 0.0)
    assert not stats.paired_bootstrap(values, values).excludes_zero()
    assert stats.paired_bootstrap([1.0, 1.0], [0.0, 0.5]).excludes_zero()


def test_seeds_are_averaged_before_problems_are_drawn():
    runs = np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    expected = stats.bootstrap_mean([0.5, 1.0, 0.5], seed=2)
    assert stats.bootstrap_seed_mean(runs, seed=2) == expected
    assert stats.bootstrap_mean(runs, seed=2) == expected
    assert stats.paired_bootstrap(runs, [0.0, 0.0, 0.0], seed=2) == expected


def test_resampling_seeds_adds_the_spread_between_runs():
    # Problems do not vary, runs do: only the draw of runs can show it.
    runs = np.repeat(np.linspace(0, 1, 8)[:, None], 5, axis=1)
    fixed = stats.bootstrap_seed_mean(runs)
    both = stats.bootstrap_seed_mean(runs, num_resamples=4000, resample_seeds=True)
    assert fixed.low == fixed.high
    half = 1.96 * np.linspace(0, 1, 8).std() / math.sqrt(8)
    assert both.mean == pytest.approx(0.5)
    assert (both.high - both.low) / 2 == pytest.approx(half, rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.bootstrap_mean([]), "at least one problem"),
        (lambda: stats.bootstrap_mean([[]]), "at least one problem"),
        (lambda: stats.bootstrap_mean([0.1, math.inf]), "not finite"),
        (lambda: stats.bootstrap_mean([0.1, 0.2], num_resamples=0), "num_resamples=0"),
        (lambda: stats.bootstrap_mean([0.1, 0.2], confidence=1.0), r"confidence=1.0"),
        (lambda: stats.paired_bootstrap([0.1], [0.1, 0.2]), "1 and 2 problems"),
        (lambda: stats.bootstrap_seed_mean([0.1, 0.2]), r"\(seeds, problems\)"),
    ],
)
def test_bad_input_is_refused_with_its_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
