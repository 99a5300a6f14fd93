"""The marks of the orderings on data made by hand, and the pool of the seeds."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.evaluation.statistics import Interval
from restrl.reproduce.orderings import difference, judge, mark_of, pool, reason, score
from restrl.reproduce.published import Published

FACTS = Published("", "", (("new", "old"), ("new", "missing")), rows={"new": {"m": 0.6}, "old": {"m": 0.5}})


def scores(*values: float) -> dict[str, dict[str, float]]:
    """One set with a problem for every value."""
    return {"set": {f"p{index}": value for index, value in enumerate(values)}}


@pytest.mark.parametrize(
    ("new", "old", "mark"),
    [
        ([0.9] * 20, [0.1] * 20, "holds"),
        ([0.1] * 20, [0.9] * 20, "reversed"),
        ([0.0, 1.0] * 10, [1.0, 0.0] * 10, "not decided"),
        ([0.5] * 20, [0.5] * 20, "not decided"),
        # One problem of twenty is better: nothing else changed, and a resample may leave it out.
        ([1.0] + [0.5] * 19, [0.0] + [0.5] * 19, "not decided"),
    ],
)
def test_an_ordering_is_marked_by_the_interval(new: list[float], old: list[float], mark: str) -> None:
    [found] = judge(FACTS, {"new": scores(*new), "old": scores(*old)})
    assert (found.better, found.worse, found.mark) == ("new", "old", mark)
    assert found.published is not None and found.published[0] == pytest.approx(0.1)
    assert found.difference.mean == pytest.approx(sum(new) / 20 - sum(old) / 20)


def test_an_interval_that_touches_zero_decides_nothing() -> None:
    assert mark_of(Interval(0.1, 0.0, 0.2)) == "not decided"
    assert mark_of(Interval(-0.1, -0.2, 0.0)) == "not decided"


def test_the_difference_is_paired() -> None:
    # Very different problems, and a small advantage on each of them: unpaired intervals would overlap by far.
    old = [index / 40 for index in range(40)]
    found = difference(scores(*(value + 0.02 for value in old)), scores(*old))
    assert found.low > 0.019 and found.high < 0.021
    assert score(scores(*old)).high - score(scores(*old)).low > 0.1


def test_scores_of_other_problems_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different problems"):
        difference(scores(1.0, 0.0), scores(1.0))
    with pytest.raises(ValueError, match="different problems"):
        difference({"a": {"p": 1.0}}, {"b": {"p": 1.0}})


def test_every_set_weighs_the_same() -> None:
    assert score({"humaneval": {"a": 1.0}, "mbpp": {"b": 0.0, "c": 0.0, "d": 0.0}}).mean == 0.5


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4))
def test_seeds_that_share_their_problems_are_averaged(runs: list[list[float]]) -> None:
    found = pool(scores(*run) for run in runs)["set"]
    for index in range(3):
        assert found[f"p{index}"] == pytest.approx(sum(run[index] for run in runs) / len(runs))


def test_seeds_with_problems_of_their_own_are_one_pool() -> None:
    found = pool([{"set": {"a": 1.0}}, {"set": {"b": 0.0, "c": 0.0}}])
    assert found == {"set": {"a": 1.0, "b": 0.0, "c": 0.0}} and score(found).mean == pytest.approx(1 / 3)


def test_only_what_is_not_decided_needs_a_reason() -> None:
    values = [list(pair) for pair in itertools.product((0.0, 1.0), repeat=2)] * 3
    undecided = judge(FACTS, {"new": scores(*(a for a, _ in values)), "old": scores(*(b for _, b in values))})
    [line] = reason(undecided, 12)
    width = (undecided[0].difference.high - undecided[0].difference.low) / 2
    assert "12 problems" in line and f"{width:.3f}" in line
    assert reason(judge(FACTS, {"new": scores(1.0, 1.0), "old": scores(0.0, 0.0)}), 2) == []
