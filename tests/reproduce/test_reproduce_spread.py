"""The spread of rewards: groups, halves, re-filtering, and the interval that resamples problems."""

from statistics import fmean, pstdev

import numpy as np
import pytest

from restrl.reproduce.experiments.spread import mean_difference, refiltered, second_half, spreads

GROUPS = {"a": [[0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]], "b": [[0.5, 0.5, 0.5, 0.5]]}


def test_spreads_are_population_deviations() -> None:
    found = spreads("x", GROUPS)
    assert sorted(found.values) == pytest.approx(
        sorted(pstdev(group) for groups in GROUPS.values() for group in groups)
    )


def test_what_decides_is_not_what_is_measured() -> None:
    assert second_half(GROUPS) == {"a": [[1.0, 1.0], [0.0, 1.0]], "b": [[0.5, 0.5]]}
    # The first group of a spreads in its first half, and not in the half that is measured.
    assert refiltered(GROUPS, 0.05) == {"a": [[1.0, 1.0]]}
    assert refiltered(GROUPS, 0.0) == second_half(GROUPS)


def test_the_interval_draws_problems_with_all_their_groups() -> None:
    one = {"a": [0.4, 0.2], "b": [0.0], "c": [0.1, 0.3, 0.5]}
    other = {"a": [0.1], "b": [0.2], "c": [0.3]}
    found = mean_difference(one, other)
    assert found.mean == pytest.approx(fmean([0.4, 0.2, 0.0, 0.1, 0.3, 0.5]) - 0.2)
    # Brute force: all 27 draws of three problems, equally likely.
    names = ["a", "b", "c"]
    values = []
    for draw in np.ndindex(3, 3, 3):
        drawn = [names[index] for index in draw]
        values.append(
            fmean(value for name in drawn for value in one[name])
            - fmean(value for name in drawn for value in other[name])
        )
    low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    assert found.low == pytest.approx(low, abs=0.02) and found.high == pytest.approx(high, abs=0.02)


def test_groups_of_one_problem_are_not_independent_evidence() -> None:
    spread = {f"p{index}": [0.1 * (index % 5)] for index in range(20)}
    tenfold = {name: values * 10 for name, values in spread.items()}
    zero = {name: [0.0] for name in spread}
    once, again = mean_difference(spread, zero), mean_difference(tenfold, zero)
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
