"""Pairs and demonstrations against brute force over all choices."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.rest.assembly import Sample
from restrl.rest.preference import Demonstration, Pair, select_demonstrations, select_pairs

groups = st.lists(
    st.builds(Sample, st.sampled_from("abcdef"), st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), st.booleans()), max_size=6
)
tables = st.dictionaries(st.sampled_from(["p/0", "p/1", "p/2", "p/3"]), groups, max_size=4)


@given(tables)
@settings(deadline=None, max_examples=150)
def test_pairs_are_the_widest_of_finished_samples(samples: dict[str, list[Sample]]) -> None:
    found = {pair.problem_id: pair for pair in select_pairs(samples)}
    assert len(found) == len(select_pairs(samples))  # one a problem
    for problem_id, group in samples.items():
        gaps = [(a.reward - b.reward, a, b) for a in group for b in group if a.finished and b.finished]
        widest = max((gap for gap, _, _ in gaps), default=0.0)
        if widest == 0.0:
            assert problem_id not in found
            continue
        pair = found[problem_id]
        assert pair.chosen_reward - pair.rejected_reward == widest
        # The first sampled among equals, on both sides.
        assert pair.chosen == next(s.code for s in group if s.finished and s.reward == pair.chosen_reward)
        assert pair.rejected == next(s.code for s in group if s.finished and s.reward == pair.rejected_reward)


@given(tables, st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.integers(0, 2))
@settings(deadline=None, max_examples=150)
def test_demonstrations_are_the_best_that_are_good_enough(
    samples: dict[str, list[Sample]], r_0: float, cap: int
) -> None:
    found = select_demonstrations(samples, r_0, cap)
    for problem_id, group in samples.items():
        mine = [item for item in found if item.problem_id == problem_id]
        finished = [s for s in group if s.finished]
        wanted = {s.code for s in finished if s.reward == max(t.reward for t in finished) and s.reward >= r_0}
        assert {item.code for item in mine} <= wanted and len({item.code for item in mine}) == len(mine)
        assert len(mine) == (min(len(wanted), cap) if cap else len(wanted))
        assert all(item.reward >= r_0 for item in mine)


@given(tables, st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_the_order_of_problems_plays_no_part(samples: dict[str, list[Sample]], seed: int) -> None:
    names = list(samples)
    random.Random(seed).shuffle(names)
    shuffled = {name: samples[name] for name in names}
    assert select_pairs(shuffled) == select_pairs(samples)
    assert select_demonstrations(shuffled, 0.5) == select_demonstrations(samples, 0.5)


def test_by_hand() -> None:
    samples = {
        "b": [Sample("w", 0.2, True), Sample("x", 1.0, True), Sample("y", 0.0, False), Sample("z", 1.0, True)],
        "a": [Sample("u", 0.5, True), Sample("v", 0.5, True)],
        "c": [Sample("q", 1.0, False), Sample("r", 0.0, True)],
    }
    assert select_pairs(samples) == (Pair("b", "x", "w", 1.0, 0.2),)
    assert select_demonstrations(samples, 0.9) == (Demonstration("b", "x", 1.0), Demonstration("b", "z", 1.0))
    assert [item.code for item in select_demonstrations(samples, 0.5, 1)] == ["u", "x"]
