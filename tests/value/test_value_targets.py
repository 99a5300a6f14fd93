"""Value targets against counts by hand and against the exact values of an enumerated policy."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.actions import boundaries
from restrl.policy.scripted import ScriptedPolicy
from restrl.search import SampleWant, SearchConfig, SearchTree
from restrl.types import Problem, SampleRequest, SamplingParams, State, Tests
from restrl.value.targets import GradedPath, Trajectory, targets_from_paths, targets_from_samples


@dataclass(frozen=True)
class Sample:
    code: str
    reward: float
    finished: bool


def as_table(trajectories):
    """(code of the state, terminal) -> (value, total weight)."""
    table = {}
    for trajectory in trajectories:
        for offset, value, weight in trajectory.targets:
            key = (trajectory.code[:offset], offset > len(trajectory.code))
            old = table.get(key, (value, 0.0))
            assert old[0] == value
            table[key] = (value, old[1] + weight)
    return {key: (value, pytest.approx(weight)) for key, (value, weight) in table.items()}


def test_prefix_means_of_plain_samples():
    samples = [Sample("a\nb\n", 1.0, True), Sample("a\nc\n", 0.5, True), Sample("a\nb\n", 1.0, True)]
    trajectories = targets_from_samples("p", samples)
    assert [(item.code, item.terminal) for item in trajectories] == [("a\nb\n", True), ("a\nc\n", True)]
    # The root and "a" carry 3 samples, shared by two programs; offset 5 is the end-of-program marker.
    mean = 2.5 / 3
    assert trajectories[0].targets == (
        (0, pytest.approx(mean), 1.5),
        (2, pytest.approx(mean), 1.5),
        (4, 1.0, 2.0),
        (5, 1.0, 2.0),
    )
    assert trajectories[1].targets[2:] == ((4, 0.5, 1.0), (5, 0.5, 1.0))


def test_finished_and_going_on_have_their_own_targets():
    samples = [Sample("a\n", 1.0, True), Sample("a\nb\n", 0.0, True)]
    table = as_table(targets_from_samples("p", samples))
    assert table["a\n", True] == (1.0, 1.0)
    assert table["a\n", False] == (0.5, 2.0)


def test_program_without_last_newline_never_stood_after_its_last_line():
    (trajectory,) = targets_from_samples("p", [Sample("a\nb", 1.0, True)])
    assert trajectory.code == "a\nb\n" and [offset for offset, _, _ in trajectory.targets] == [0, 2, 5]


def test_cut_off_completions_count_zero_and_end_nowhere():
    samples = [Sample("a\nb\nret", 0.9, False), Sample("a\nc\n", 1.0, True)]
    table = as_table(targets_from_samples("p", samples))
    assert table == {
        ("", False): (0.5, 2.0),
        ("a\n", False): (0.5, 2.0),
        ("a\nb\n", False): (0.0, 1.0),
        ("a\nc\n", False): (1.0, 1.0),
        ("a\nc\n", True): (1.0, 1.0),
    }


def test_unfinished_program_inside_another_needs_no_trajectory_of_its_own():
    samples = [Sample("a\nb", 0.0, False), Sample("a\nc\n", 1.0, True)]
    trajectories = targets_from_samples("p", samples)
    assert [item.code for item in trajectories] == ["a\nc\n"]
    assert trajectories[0].targets[0] == (0, 0.5, 2.0)


def test_nothing_but_half_a_line():
    (trajectory,) = targets_from_samples("p", [Sample("re", 0.0, False)])
    assert (trajectory.code, trajectory.terminal, trajectory.targets) == ("", False, ((0, 0.0, 1.0),))


def test_blank_and_comment_lines_are_no_boundaries():
    (trajectory,) = targets_from_samples("p", [Sample("a\n\n# why\nb\n", 1.0, True)])
    assert [offset for offset, _, _ in trajectory.targets] == [0, 2, 11, 12]


def test_own_leaves_out_what_was_sampled_further_down():
    paths = [
        GradedPath("a\nx\n", True, 0.0),
        GradedPath("a\ny\n", True, 1.0, start=2),
        GradedPath("a\ny\n", True, 1.0, start=2),
    ]
    own = as_table(targets_from_paths("p", paths, "own"))
    assert own["", False] == (0.0, 1.0)
    assert own["a\n", False] == (pytest.approx(2 / 3), 3.0)
    subtree = as_table(targets_from_paths("p", paths, "subtree"))
    assert subtree["", False] == (pytest.approx(2 / 3), 3.0)


def test_state_weight_counts_every_state_once():
    paths = [GradedPath("a\nx\n", True, 0.0), GradedPath("a\ny\n", True, 1.0), GradedPath("a\ny\n", True, 1.0)]
    table = as_table(targets_from_paths("p", paths, weight="state"))
    assert all(weight == 1.0 for _, weight in table.values()) and len(table) == 6


def test_json_round_trip():
    (trajectory,) = targets_from_samples("p", [Sample("a\nb\n", 0.25, True)])
    assert Trajectory.from_json(trajectory.to_json()) == trajectory


@pytest.mark.parametrize(
    "targets", [((3, 0.5, 1.0),), ((2, 0.5, 1.0), (0, 0.5, 1.0)), ((0, 1.5, 1.0),), ((0, 0.5, 0.0),)]
)
def test_targets_out_of_range_are_refused(targets):
    with pytest.raises(ValueError, match="target"):
        Trajectory("p", "a\n", False, targets)


codes = st.lists(st.sampled_from(["a\n", "b\n", "\n", "# n\n", "c"]), max_size=5).map("".join)
paths = st.lists(st.builds(GradedPath, codes, st.booleans(), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=12)


@given(paths)
@settings(deadline=None, max_examples=100)
def test_weights_and_values_are_conserved(paths):
    table = {}
    trajectories = targets_from_paths("p", paths)
    for trajectory in trajectories:
        assert {offset for offset, _, _ in trajectory.targets} <= {
            0,
            *boundaries(trajectory.code),
            len(trajectory.code) + 1,
        }
        for offset, value, weight in trajectory.targets:
            key = (trajectory.code[:offset], offset > len(trajectory.code))
            table[key] = (value, table.get(key, (value, 0.0))[1] + weight)
    rewards = [path.reward * path.finished for path in paths]
    assert table["", False] == (pytest.approx(sum(rewards) / len(rewards)), pytest.approx(len(paths)))
    ends = [weight for (_, terminal), (_, weight) in table.items() if terminal]
    assert sum(ends) == pytest.approx(sum(path.finished for path in paths))
    assert len({(item.code, item.terminal) for item in trajectories}) == len(trajectories)


def deep(first, rewards):
    """Eight programs that open with a line and end with three lines of two kinds each."""
    names = [f"{first}\n{x}\n{y}\n{z}\n" for x in "uv" for y in "uv" for z in "uv"]
    return {name: (2.0 if "u\n" in name else 1.0, reward) for name, reward in zip(names, rewards, strict=True)}


PROGRAMS = {**deep("a", [1, 1, 0.5, 1, 1, 0.75, 1, 0]), **deep("b", [0, 0, 0.5, 0, 0, 0.25, 0, 1]), "a\n": (1.0, 0.25)}


def exact_value(code):
    below = [pair for program, pair in PROGRAMS.items() if program.startswith(code)]
    return sum(w * r for w, r in below) / sum(w for w, _ in below)


def collected_paths(seed):
    problem = Problem("p", "", "", "f", Tests("call", ()))
    policy = ScriptedPolicy.from_programs({"p": [(code, weight) for code, (weight, _) in PROGRAMS.items()]})
    tree = SearchTree(State(problem), SearchConfig.collection(budget=12, num_sample=3), seed)
    while wants := tree.ask():
        for want in wants:
            if isinstance(want, SampleWant):
                request = SampleRequest(want.state, want.n, want.seed)
                tree.tell_samples(want.id, policy.sample([request], SamplingParams())[0])
            else:
                tree.tell_rewards({want.id: PROGRAMS[want.state.code][1]})
    return [GradedPath(draw.code, draw.finished, draw.score, draw.start) for draw in tree.draws]


def test_own_targets_estimate_the_policys_values_and_subtree_targets_lean_upwards():
    sums = {"own": {}, "subtree": {}}
    for seed in range(400):
        paths = collected_paths(seed)
        for kind, table in sums.items():
            for trajectory in targets_from_paths("p", paths, kind):
                for offset, value, weight in trajectory.targets:
                    if offset <= len(trajectory.code):
                        total, mass = table.get(trajectory.code[:offset], (0.0, 0.0))
                        table[trajectory.code[:offset]] = (total + weight * value, mass + weight)
    checked = 0
    for code, (total, mass) in sums["own"].items():
        if mass >= 300:
            checked += 1
            # Rewards have a standard deviation of at most 0.5: four standard errors.
            assert total / mass == pytest.approx(exact_value(code), abs=4 * 0.5 / mass**0.5), code
    assert checked >= 5
    total, mass = sums["subtree"][""]
    assert total / mass > exact_value("") + 0.05


def test_order_of_the_paths_changes_no_target():
    paths = [GradedPath(f"{a}\n{b}\n", True, random.Random(a + b).random()) for a in "abc" for b in "abc"]
    assert as_table(targets_from_paths("p", paths)) == as_table(targets_from_paths("p", paths[::-1]))
