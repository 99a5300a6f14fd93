"""Value collection end to end with a scripted policy and a grader that reads the text."""

import json

import pytest

from restrl.errors import GraderError
from restrl.policy.scripted import ScriptedPolicy
from restrl.types import Grade, Problem, SamplingParams, Tests
from restrl.value.collect import CollectConfig, CollectedTree, collect_values

PROGRAMS = {"a\nb\n": 1.0, "a\nc\n": 0.5, "d\nb\n": 0.0, "a\nb\ne\n": 0.25}
PROBLEMS = [Problem(f"p{i}", "", "def f():\n", "f", Tests("call", ())) for i in range(12)]


class TableGrader:
    def __init__(self):
        self.programs = []

    def grade(self, pairs):
        self.programs += [(problem.id, program) for problem, program in pairs]
        rewards = [PROGRAMS[program.removeprefix(problem.initial_state)] for problem, program in pairs]
        return [
            Grade(problem.id, reward, reward == 1.0, ()) for (problem, _), reward in zip(pairs, rewards, strict=True)
        ]

    async def grade_async(self, pairs):
        return self.grade(pairs)


def collect(problems=PROBLEMS, grader=None, max_new_tokens=100, seed=3, **changes):
    policy = ScriptedPolicy.from_programs({problem.id: [(code, 1.0) for code in PROGRAMS] for problem in PROBLEMS})
    config = CollectConfig(**({"budget": 24} | changes))
    params = SamplingParams(max_new_tokens=max_new_tokens)
    trees = collect_values(problems, policy, grader or TableGrader(), config, seed, params=params)
    return trees, policy


def test_budget_is_exact_and_every_program_is_graded_once():
    grader = TableGrader()
    trees, policy = collect(grader=grader)
    assert [tree.problem_id for tree in trees] == [problem.id for problem in PROBLEMS]
    assert policy.num_completions == 24 * 12
    assert len(grader.programs) == len(set(grader.programs)) <= 4 * 12
    assert all(tree.stats["completions"] == 24 for tree in trees)


def test_finished_programs_carry_their_own_reward():
    trees, _ = collect()
    for tree in trees:
        for trajectory in tree.trajectories:
            assert trajectory.terminal
            offset, value, _ = trajectory.targets[-1]
            assert offset == len(trajectory.code) + 1 and value == PROGRAMS[trajectory.code]
            assert trajectory.targets[0][0] == 0


def test_end_markers_weigh_as_much_as_there_are_finished_completions():
    for tree in collect()[0]:
        assert sum(trajectory.targets[-1][2] for trajectory in tree.trajectories) == pytest.approx(24)


def test_cut_off_completions_lower_the_values_and_give_no_program():
    trees, _ = collect(max_new_tokens=3)
    for tree in trees:
        # From the problem alone three characters never finish a program; from "a" they do.
        root_values = [
            value for trajectory in tree.trajectories for offset, value, _ in trajectory.targets if not offset
        ]
        assert set(root_values) == {0.0}
        assert tree.stats["cut_off"] > 0


def test_same_seed_same_targets_whatever_the_window():
    first, _ = collect()
    again, _ = collect(window=2, overlap=False)
    alone, _ = collect(problems=PROBLEMS[4:5])
    other, _ = collect(seed=4)
    assert json.dumps([tree.to_json() for tree in first]) == json.dumps([tree.to_json() for tree in again])
    assert alone == first[4:5] and other != first


def test_json_round_trip():
    (tree,), _ = collect(problems=PROBLEMS[:1])
    assert CollectedTree.from_json(json.loads(json.dumps(tree.to_json()))) == tree


def test_target_and_weight_settings_change_the_targets():
    own, _ = collect()
    subtree, _ = collect(target="subtree")
    flat, _ = collect(weight="state")
    assert own != subtree and own != flat
    for tree in flat:
        roots = [weight for trajectory in tree.trajectories for offset, _, weight in trajectory.targets if offset == 0]
        assert sum(roots) == pytest.approx(1.0)


def test_progress_and_failures():
    seen = []
    policy = ScriptedPolicy.from_programs({problem.id: [(code, 1.0) for code in PROGRAMS] for problem in PROBLEMS})
    collect_values(PROBLEMS, policy, TableGrader(), CollectConfig(budget=5), 0, seen.append)
    assert sum(seen) == 12

    class Failing(TableGrader):
        def grade(self, pairs):
            raise GraderError("the sandbox is gone")

    with pytest.raises(GraderError, match="gone"):
        collect(grader=Failing())
