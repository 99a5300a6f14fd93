"""The options of the assembly and of the order, against brute force."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.rest.adaptive import LengthSearch, refilter, start_search
from restrl.rest.assembly import Instance, RestConfig, Sample, assemble
from restrl.rest.curriculum import Misses, reverse_curriculum, skip_probability


def make(problem: str, length: int, total: int = 5) -> Instance:
    lines = "".join(f"    x{index} = 1\n" for index in range(length))
    return Instance(problem, lines, length, total if length else 0, 1.0 if length else None)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=5), max_size=6), st.floats(0, 0.6))
@settings(deadline=None, max_examples=100)
def test_refilter_drops_what_has_no_spread_and_nothing_else(groups: list[list[float]], sigma_0: float) -> None:
    prefixes = [make(f"p/{index}", 1 + index % 3) for index in range(len(groups))]
    instances = [make(item.problem_id, 0) for item in prefixes] + prefixes
    rewards = {(item.problem_id, item.prefix): group for item, group in zip(prefixes, groups, strict=True)}
    kept = refilter(instances, rewards, sigma_0)
    mean = [sum(group) / len(group) for group in groups]
    wanted = [
        (sum((r - m) ** 2 for r in group) / len(group)) ** 0.5 >= sigma_0 - 1e-9
        for group, m in zip(groups, mean, strict=True)
    ]
    expected = [*instances[: len(groups)], *[item for item, good in zip(prefixes, wanted, strict=True) if good]]
    edge = any(abs(statistics.pstdev(group) - sigma_0) < 1e-9 for group in groups)
    assert edge or list(kept) == expected
    # A higher threshold never keeps more.
    assert set(refilter(instances, rewards, sigma_0 + 0.1)) <= set(kept)


@given(st.integers(1, 40), st.integers(0, 41))
@settings(deadline=None, max_examples=150)
def test_bisection_finds_the_shortest_prefix_that_is_easy_enough(longest: int, threshold: int) -> None:
    """Against a scan, for a reward that jumps at a length; the longest prefix is taken to be easy enough."""
    search = start_search(1.0 if threshold == 0 else 0.0, 0.5, longest)
    if threshold == 0:
        assert search is None
        return
    assert search is not None
    asked = 0
    while (length := search.probe) is not None:
        assert search.low < length < search.high
        search = search.told(1.0 if length >= threshold else 0.0, 0.5)
        asked += 1
    scan = next((j for j in range(1, longest) if j >= threshold), longest)
    assert search.high == scan
    assert asked <= longest.bit_length()


def test_bisection_that_is_over_takes_no_answer() -> None:
    with pytest.raises(ValueError, match="over"):
        LengthSearch(0, 1).told(1.0, 0.5)
    assert start_search(0.0, 0.5, 0) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(6, 9)), max_size=12), st.integers(0, 9))
@settings(deadline=None, max_examples=80)
def test_reverse_curriculum_ends_with_the_whole_problems(lengths: list[tuple[int, int]], seed: int) -> None:
    instances = [make(f"p/{index}", length, total) for index, (length, total) in enumerate(lengths)]
    ordered = reverse_curriculum(instances, seed)
    assert sorted(item.problem_id for item in ordered) == sorted(item.problem_id for item in instances)
    starts = [item.num_actions > 0 for item in ordered]
    assert starts == sorted(starts, reverse=True)
    left = [item.total_actions - item.num_actions for item in ordered if item.num_actions]
    assert left == sorted(left)
    assert ordered == reverse_curriculum(instances, seed)


def test_equals_are_shuffled_by_the_seed() -> None:
    instances = [make(f"p/{index}", 2) for index in range(12)]
    assert reverse_curriculum(instances, 0) != reverse_curriculum(instances, 1)


def test_skipping_follows_the_formula() -> None:
    misses = Misses()
    assert misses[7] == 0 and not any(misses.skips(7, 0.5, seed) for seed in range(200))
    for _ in range(3):
        misses.note(7, False)
    assert misses[7] == 3
    share = statistics.fmean(misses.skips(7, 0.5, seed) for seed in range(4000))
    assert share == pytest.approx(1 - 0.5**3, abs=0.025)
    misses.note(7, True)
    assert misses[7] == 0
    assert skip_probability(5, 1.0) == 0.0


CODE = "".join(f"    x{index} = {index}\n" for index in range(6))


def test_prefixes_of_all_successes() -> None:
    """Every good finished sample gives prefixes, not the best one alone, and no prefix comes twice."""
    samples = [
        Sample(CODE + "    return 1\n", 1.0, True),
        Sample(CODE.replace("x0", "y0") + "    return 2\n", 0.95, True),
        Sample(CODE.replace("x0", "z0") + "    return 3\n", 0.5, True),
        Sample(CODE.replace("x0", "w0"), 1.0, False),
        Sample("    return 0\n", 0.0, True),
    ]
    config = RestConfig(mode="all", prefix_source="successes")
    found = [item for item in assemble({"p": samples}, config, 0).instances if item.prefix]
    codes = [samples[0].code, samples[1].code]
    wanted = {"".join(code.splitlines(keepends=True)[:j]) for code in codes for j in range(1, 7)}
    assert {item.prefix for item in found} == wanted and len(found) == len(wanted)
    best = [item for item in assemble({"p": samples}, RestConfig(mode="all"), 0).instances if item.prefix]
    assert {item.prefix for item in best} == {"".join(codes[0].splitlines(keepends=True)[:j]) for j in range(1, 7)}
    drawn = [
        assemble({"p": samples}, RestConfig(prefix_source="successes", num_prefixes=4), seed).instances[1:]
        for seed in range(30)
    ]
    assert all(len({item.prefix for item in group}) == len(group) == 4 for group in drawn)
    assert {item.prefix for group in drawn for item in group} == wanted


def test_successes_of_one_sample_are_the_best() -> None:
    samples = {"p": [Sample(CODE, 1.0, True), Sample("    return 0\n", 0.0, True)]}
    config = RestConfig(mode="all")
    other = RestConfig(mode="all", prefix_source="successes")
    assert assemble(samples, config, 3).instances == assemble(samples, other, 3).instances
