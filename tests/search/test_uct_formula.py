"""The selection formula against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.search.uct import uct_scores


def test_numbers_of_a_hand_computation():
    # N_parent = e^3, so 1 + ln N = 4; eps + N = 4 and 1: the roots are 1 and 2.
    scores = uct_scores([0.25, 0.5], [3.9, 0.9], math.e**3, c=0.2, eps=0.1)
    assert scores == pytest.approx([0.25 + 0.2 * 1.0, 0.5 + 0.2 * 2.0])


def test_paper_constants():
    # V = 0.6, c = 0.1, N_parent = 10, N = 5: 0.6 + 0.1 * sqrt(3.302585 / 5.1) = 0.680472
    assert uct_scores([0.6], [5], 10, c=0.1, eps=0.1)[0] == pytest.approx(0.680472, abs=1e-6)


def test_unvisited_child_of_unvisited_parent_is_finite():
    assert uct_scores([0.0], [0], 0, c=1.0, eps=0.25)[0] == pytest.approx(2.0)


def test_completions_under_way_count_as_visits_of_child_and_parent():
    ahead = uct_scores([0.3, 0.4], [2, 3], 6, c=0.2, eps=0.1, in_flight_C=[5, 0], parent_in_flight=5)
    assert ahead == pytest.approx(uct_scores([0.3, 0.4], [7, 3], 11, c=0.2, eps=0.1))


@given(
    st.floats(0, 1), st.floats(0, 1), st.integers(0, 50), st.integers(0, 50), st.integers(1, 100), st.floats(0.01, 1.0)
)
@settings(deadline=None, max_examples=50)
def test_grows_with_value_and_parent_falls_with_visits(v1, v2, n1, n2, parent, c):
    low, high = sorted((v1, v2))
    few, many = sorted((n1, n2))
    by_value = uct_scores([low, high], [few, few], parent, c=c, eps=0.1)
    assert by_value[0] <= by_value[1]
    by_visits = uct_scores([low, low], [few, many], parent, c=c, eps=0.1)
    assert by_visits[0] >= by_visits[1]
    assert np.all(uct_scores([low], [few], parent + 1, c=c, eps=0.1) > uct_scores([low], [few], parent, c=c, eps=0.1))
