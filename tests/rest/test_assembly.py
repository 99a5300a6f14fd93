"""The filter and the assembly against closed forms and brute force."""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.actions import finish, split_actions
from restrl.errors import ArtifactError, ConfigError
from restrl.rest.assembly import (
    Instance,
    RestConfig,
    Sample,
    assemble,
    best_finished,
    draw_lengths,
    num_draws,
    prefix_probabilities,
)

CODE = "".join(f"    x{i} = {i}\n" for i in range(8)) + "    return x0\n"


def exact_probabilities(length: int, alpha: Fraction) -> list[Fraction]:
    """Normalised geometric weights in exact arithmetic."""
    weights = [alpha**j for j in range(length)]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("length", [1, 2, 7, 40])
@pytest.mark.parametrize(
    "alpha", [Fraction(1, 100), Fraction(1, 2), Fraction(19, 20), Fraction(999999, 1000000), Fraction(1)]
)
def test_probabilities_are_the_papers(length: int, alpha: Fraction) -> None:
    exact = [float(p) for p in exact_probabilities(length, alpha)]
    assert prefix_probabilities(length, float(alpha)) == pytest.approx(exact, rel=1e-9)
    assert sum(prefix_probabilities(length, float(alpha))) == pytest.approx(1.0)


@pytest.mark.parametrize("alpha", [0.0, -0.5, 1.5, float("nan")])
def test_alpha_out_of_range_is_an_error(alpha: float) -> None:
    with pytest.raises(ConfigError, match="alpha"):
        prefix_probabilities(3, alpha)


def chi_square(counts: dict[object, int], expected: dict[object, float], total: int) -> float:
    assert set(counts) <= set(expected)
    return sum((counts.get(k, 0) - total * p) ** 2 / (total * p) for k, p in expected.items())


def test_single_draws_follow_the_closed_form() -> None:
    total, length, alpha = 20_000, 6, 0.7
    rng = random.Random(5)
    counts = Counter(draw_lengths(length, 1, alpha, True, rng)[0] for _ in range(total))
    expected = {j + 1: float(p) for j, p in enumerate(exact_probabilities(length, Fraction(7, 10)))}
    assert chi_square(dict(counts), dict(expected), total) < 20.5  # 0.1% point, 5 degrees of freedom


def test_distinct_draws_follow_successive_renormalisation() -> None:
    total, length = 20_000, 4
    p = exact_probabilities(length, Fraction(1, 2))
    expected: dict[object, float] = {}
    for i, j in itertools.permutations(range(length), 2):
        key = tuple(sorted((i + 1, j + 1)))
        expected[key] = expected.get(key, 0.0) + float(p[i] * p[j] / (1 - p[i]))
    rng = random.Random(6)
    counts = Counter(tuple(draw_lengths(length, 2, 0.5, True, rng)) for _ in range(total))
    assert chi_square(dict(counts), expected, total) < 20.5  # 6 pairs: 5 degrees of freedom


def test_literal_draws_are_independent() -> None:
    total, length = 20_000, 3
    p = exact_probabilities(length, Fraction(1, 2))
    expected: dict[object, float] = {}
    for i, j in itertools.product(range(length), repeat=2):
        key = tuple(sorted((i + 1, j + 1)))
        expected[key] = expected.get(key, 0.0) + float(p[i] * p[j])
    rng = random.Random(7)
    counts = Counter(tuple(draw_lengths(length, 2, 0.5, False, rng)) for _ in range(total))
    assert chi_square(dict(counts), expected, total) < 20.5


def test_assembly_draws_follow_the_closed_form_without_the_full_solution() -> None:
    """End to end over many problems: one draw each, lengths 1..|A|-1 with the same alpha."""
    total = 4000
    samples = {f"p{i}": [Sample(CODE, 1.0, True), Sample(CODE, 0.0, True)] for i in range(total)}
    assembly = assemble(samples, RestConfig(num_prefixes=1, alpha=0.8), seed=3)
    counts = Counter(instance.num_actions for instance in assembly.instances if instance.num_actions)
    length = len(split_actions(CODE)) - 1
    expected = {j + 1: float(p) for j, p in enumerate(exact_probabilities(length, Fraction(4, 5)))}
    assert sum(counts.values()) == total
    assert chi_square(dict(counts), dict(expected), total) < 24.4  # 0.1% point, 7 degrees of freedom


def test_tiny_alpha_still_gives_every_distinct_prefix() -> None:
    assert draw_lengths(400, 400, 1e-3, True, random.Random(0)) == list(range(1, 401))


@pytest.mark.parametrize(
    ("total", "config", "expected"),
    [
        (9, RestConfig(), 5),
        (10, RestConfig(ratio=0.3), 3),
        (30, RestConfig(ratio=0.1), 3),
        (1, RestConfig(), 0),
        (4, RestConfig(ratio=1.0), 3),
        (4, RestConfig(num_prefixes=2), 2),
        (4, RestConfig(num_prefixes=9), 3),
        (4, RestConfig(num_prefixes=9, distinct_prefixes=False), 9),
    ],
)
def test_number_of_draws(total: int, config: RestConfig, expected: int) -> None:
    assert num_draws(total, total - 1, config) == expected


def test_filter_uses_the_population_standard_deviation() -> None:
    # 0.6 and 0.7: 0.05 by the population formula (kept), 0.0707 by the sample formula.
    samples = {
        "kept": [Sample("a\n", 0.6, True), Sample("b\n", 0.7, True)],
        "flat": [Sample("a\n", 1.0, True)] * 5,
        "narrow": [Sample("a\n", 0.6, True), Sample("b\n", 0.69, True)],
        "empty": [],
    }
    assembly = assemble(samples, RestConfig(), seed=0)
    assert {s.problem_id: s.reason for s in assembly.problems} == {
        "empty": "no_samples",
        "flat": "no_variance",
        "kept": None,
        "narrow": "no_variance",
    }
    assert assembly.instances == (Instance("kept", "", 0, 0, None),)
    assert assembly.counts == {
        "problems": 4,
        "kept": 1,
        "dropped": 3,
        "dropped_no_samples": 1,
        "dropped_no_variance": 2,
        "valuable": 0,
        "instances": 1,
        "prefixes": 0,
    }


def test_best_trajectory_is_finished_and_the_first_of_equals() -> None:
    samples = [
        Sample("cut\n", 1.0, False),
        Sample("low\n", 0.2, True),
        Sample("first\n", 0.9, True),
        Sample("second\n", 0.9, True),
    ]
    assert best_finished(samples) == 2
    assert best_finished(samples[:1]) is None
    cut_only = {"p": [Sample("a\nb\n", 1.0, False), Sample("a\n", 0.0, True)]}
    assert assemble(cut_only, RestConfig(mode="all"), 0).instances == (Instance("p", "", 0, 0, None),)


def test_low_best_reward_gives_no_prefixes() -> None:
    samples = {"p": [Sample(CODE, 0.89, True), Sample(CODE, 0.0, True)]}
    assert len(assemble(samples, RestConfig(mode="all"), 0).instances) == 1
    assert len(assemble(samples, RestConfig(mode="all", r_0=0.89), 0).instances) == 9


def test_literal_options_repeat_and_include_the_whole_solution() -> None:
    samples = {f"p{i}": [Sample(CODE, 1.0, True), Sample(CODE, 0.0, True)] for i in range(60)}
    config = RestConfig(distinct_prefixes=False, exclude_full=False)
    instances = [i for i in assemble(samples, config, 0).instances if i.num_actions]
    assert len(instances) == 60 * 5
    assert any(i.prefix == CODE for i in instances)
    assert len(set(instances)) < len(instances)


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -0.1, 1.001])
def test_impossible_reward_is_an_error(reward: float) -> None:
    with pytest.raises(ArtifactError, match="reward"):
        assemble({"p": [Sample("a\n", reward, True)]}, RestConfig(), 0)


def test_unknown_mode_is_an_error() -> None:
    with pytest.raises(ConfigError, match="basic, sampled, all"):
        assemble({}, RestConfig(mode="some"), 0)


lines = st.sampled_from(["    a = 1", "", "    # note", "    return a", "    b = 2", "    a = 1"])
codes = st.lists(lines, max_size=8).map("\n".join)
sample_lists = st.lists(
    st.builds(Sample, code=codes, reward=st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0]), finished=st.booleans()),
    max_size=6,
)
problem_sets = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e/1"]), sample_lists, max_size=5)
configs = st.builds(
    RestConfig,
    mode=st.sampled_from(["basic", "sampled", "all"]),
    sigma_0=st.sampled_from([0.0, 0.05, 0.2]),
    alpha=st.sampled_from([0.1, 0.95, 1.0]),
    ratio=st.sampled_from([0.0, 0.5, 1.0]),
    num_prefixes=st.integers(0, 4),
)
few = settings(deadline=None, max_examples=80)


@few
@given(problem_sets, configs, st.integers(0, 5))
def test_prefixes_are_strict_line_prefixes_of_a_best_trajectory(
    samples: dict[str, list[Sample]], config: RestConfig, seed: int
) -> None:
    assembly = assemble(samples, config, seed)
    assert len(set(assembly.instances)) == len(assembly.instances)
    for instance in assembly.instances:
        group = samples[instance.problem_id]
        assert statistics.pstdev([s.reward for s in group]) >= config.sigma_0 - 1e-9
        if not instance.prefix:
            assert instance == Instance(instance.problem_id, "", 0, 0, None)
            continue
        top = max(s.reward for s in group if s.finished)
        sources = [finish(s.code) for s in group if s.finished and s.reward == top]
        assert instance.source_reward == top >= config.r_0
        assert instance.prefix.endswith("\n")
        assert any(code.startswith(instance.prefix) and code != instance.prefix for code in sources)
        assert len(split_actions(instance.prefix)) == instance.num_actions < instance.total_actions


@few
@given(problem_sets, configs, st.integers(0, 5), st.randoms(use_true_random=False))
def test_order_of_problems_does_not_matter(
    samples: dict[str, list[Sample]], config: RestConfig, seed: int, rng: random.Random
) -> None:
    names = list(samples)
    rng.shuffle(names)
    whole = assemble(samples, config, seed)
    assert assemble({name: samples[name] for name in names}, config, seed) == whole
    for name in names:
        alone = assemble({name: samples[name]}, config, seed).instances
        assert alone == tuple(i for i in whole.instances if i.problem_id == name)


@few
@given(problem_sets, st.sampled_from([0.1, 0.95, 1.0]), st.integers(0, 5))
def test_modes_are_nested(samples: dict[str, list[Sample]], alpha: float, seed: int) -> None:
    basic, sampled, full = (
        set(assemble(samples, RestConfig(mode=mode, alpha=alpha), seed).instances)
        for mode in ("basic", "sampled", "all")
    )
    assert basic <= sampled <= full
    kept = assemble(samples, RestConfig(), seed).counts["kept"]
    assert len(basic) == kept


@few
@given(problem_sets, st.floats(0, 0.6), st.floats(0, 0.6))
def test_higher_sigma_never_keeps_more(samples: dict[str, list[Sample]], first: float, second: float) -> None:
    low, high = sorted((first, second))
    kept = [{s.problem_id for s in assemble(samples, RestConfig(sigma_0=x), 0).problems if s.kept} for x in (low, high)]
    assert kept[1] <= kept[0]


def test_seed_changes_the_draws() -> None:
    samples = {f"p{i}": [Sample(CODE, 1.0, True), Sample(CODE, 0.0, True)] for i in range(20)}
    assert assemble(samples, RestConfig(), 0).instances == assemble(samples, RestConfig(), 0).instances
    assert assemble(samples, RestConfig(), 0).instances != assemble(samples, RestConfig(), 1).instances
