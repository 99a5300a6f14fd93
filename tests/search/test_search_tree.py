"""The search by example: what becomes a child, what is asked for, what the budget buys, what it finds."""

import itertools

import numpy as np
import pytest

from restrl.errors import ConfigError, EngineError
from restrl.policy.scripted import ScriptedPolicy
from restrl.search import RewardWant, SampleWant, SearchConfig, SearchTree, ValueWant
from restrl.search.tree import next_step
from restrl.types import Completion, Problem, SampleRequest, SamplingParams, State, Tests

PROBLEM = Problem("p", "", "def f():\n", "f", Tests("call", ()))
PARAMS = SamplingParams(max_new_tokens=50)


def drive(tree, policy, score, params=PARAMS):
    """Answers a search until it is done, in the plainest way; returns every want."""
    asked = []
    while wants := tree.ask():
        asked += wants
        for want in wants:
            if isinstance(want, SampleWant):
                tree.tell_samples(want.id, policy.sample([SampleRequest(want.state, want.n, want.seed)], params)[0])
            elif isinstance(want, ValueWant):
                tree.tell_values({want.id: score(want.state)})
            else:
                tree.tell_rewards({want.id: score(want.state)})
    assert tree.done
    return asked


def search(programs, score, config, seed=0, params=PARAMS):
    tree = SearchTree(State(PROBLEM), config, seed)
    asked = drive(tree, ScriptedPolicy.from_programs({"p": programs}), score, params)
    return tree, asked


def done(*texts, reason="stop"):
    return [Completion(text, reason, num_tokens=len(text)) for text in texts]


def child_states(node):
    return {(child.state.code, child.state.terminal): child for child in node.children.values()}


def first_round(texts, config, reason="stop"):
    """One expansion of the root with the given completions, values 0.5."""
    tree = SearchTree(State(PROBLEM), config, 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done(*texts, reason=reason))
    for want in tree.ask():
        tree.tell_values({want.id: 0.5})
    return tree


def test_next_step_joins_blank_and_comment_lines_to_the_next_action():
    assert next_step("", "\n# why\nx = 1\ny\n", True) == ("\n# why\nx = 1\n", False)
    assert next_step("", "x = 1\n\n# end\n", True) == ("x = 1\n\n# end\n", True)


def test_next_step_of_cut_off_text_takes_whole_lines_only():
    assert next_step("", "x = 1\n# an\n\n  y =", False) == ("x = 1\n", False)
    assert next_step("", "x = 1\n# an", False) == ("x = 1\n", False)
    assert next_step("", "# only\n\n", False) is None
    assert next_step("", "x = ", False) is None


def test_first_want_samples_the_root():
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=7, num_sample=5), 3)
    (want,) = tree.ask()
    assert isinstance(want, SampleWant) and want.n == 5 and want.state == State(PROBLEM)
    assert tree.ask() == [] and not tree.done


def test_last_line_finished_and_going_on_are_two_children():
    tree = first_round(["r\n", "r\nmore\n", "r"], SearchConfig(budget=3, num_sample=3))
    children = child_states(tree.root)
    assert set(children) == {("r\n", True), ("r\n", False)}
    assert children["r\n", True].visits == 2 and children["r\n", False].visits == 1


def test_cut_off_completion_makes_a_child_but_no_program():
    tree = first_round(["a\nb", "a"], SearchConfig(budget=2, num_sample=2), reason="length")
    assert set(child_states(tree.root)) == {("a\n", False)}
    assert [draw.finished for draw in tree.draws] == [False, False]
    assert [draw.score for draw in tree.draws] == [None, None]
    assert tree.root.visits == 2 and tree.root.value == pytest.approx(0.25)  # half a line is worth 0


def test_duplicates_are_counted_and_valued_once():
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=4, num_sample=4), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done("a\nb\n", "a\nb", "a\nc\n", "a\nb\n\n"))
    wants = tree.ask()
    assert [(want.state.code, want.state.terminal) for want in wants] == [
        ("a\n", False),
        ("a\nb\n", True),
        ("a\nc\n", True),
    ]
    tree.tell_values({want.id: 0.1 * want.id for want in wants})
    counts = tree.statistics()
    assert (counts.completions, counts.unique_completions, counts.scored_states) == (4, 2, 3)
    assert counts.repeated_scores == 5
    assert tree.root.children["a\n", False].visits == 4


def test_collection_asks_for_rewards_of_finished_programs_only():
    tree = SearchTree(State(PROBLEM), SearchConfig.collection(budget=2, num_sample=2), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, [*done("a\nb\n"), *done("a\nb", reason="length")])
    (want,) = tree.ask()
    assert isinstance(want, RewardWant) and want.state == State(PROBLEM, "a\nb\n", terminal=True)
    tree.tell_rewards({want.id: 1.0})
    assert tree.done and tree.root.value == 0.5  # the cut-off one counts 0


def test_children_values_are_backed_up():
    values = {("a\n", False): 0.2, ("b\n", False): 0.8, ("a\nx\n", True): 0.9, ("b\ny\n", True): 0.1}
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=3, num_sample=3), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done("a\nx\n", "b\ny\n", "b\ny\n"))
    tree.tell_values({want.id: values[want.state.code, want.state.terminal] for want in tree.ask()})
    assert tree.root.value == pytest.approx((0.2 + 0.8 + 0.8) / 3)
    assert [draw.score for draw in tree.draws] == [0.9, 0.1, 0.1]


def test_suffixes_stand_in_for_new_samples():
    config = SearchConfig(budget=10, num_sample=2)
    tree = SearchTree(State(PROBLEM), config, 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done("a\nb\nx\n", "a\nc\nx\n"))
    for want in tree.ask():
        tree.tell_values({want.id: 0.5})
    # "a" has two rests already: it is expanded without sampling, by values alone.
    wants = tree.ask()
    assert {(want.state.code, want.state.terminal) for want in wants} == {("a\nb\n", False), ("a\nc\n", False)}
    assert all(isinstance(want, ValueWant) for want in wants)
    tree.tell_values({wants[0].id: 0.9, wants[1].id: 0.2})
    assert tree.root.value == pytest.approx(0.55) and tree.root.visits == 2
    (want,) = tree.ask()
    assert isinstance(want, SampleWant) and want.state.code == "a\nb\n" and want.n == 1
    assert tree.statistics().reused_suffixes == 2


def test_without_reuse_every_leaf_is_sampled_afresh():
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=10, num_sample=2, reuse_suffixes=False), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done("a\nb\nx\n", "a\nc\nx\n"))
    for want in tree.ask():
        tree.tell_values({want.id: 0.5})
    (want,) = tree.ask()
    assert isinstance(want, SampleWant) and want.state.code == "a\n" and want.n == 2


def test_pruning_keeps_the_best_and_leaves_the_parents_value():
    values = {"a\n": 0.1, "b\n": 0.9, "c\n": 0.6, "d\n": 0.7}
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=5, num_sample=4, num_decision=2), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done(*(f"{line}x\n" for line in values)))
    tree.tell_values({want.id: values.get(want.state.code, 0.0) for want in tree.ask()})
    kept = {child.state.code for child in tree.root.children.values() if not child.pruned}
    assert kept == {"b\n", "d\n"}
    assert tree.root.value == pytest.approx(0.8)
    assert tree.root.total == pytest.approx(2.3) and tree.root.visits == 4


def test_exhausted_tree_still_spends_exactly_its_budget():
    for budget in (1, 4, 5, 17, 23):
        tree, asked = search([("r\n", 1.0)], lambda state: 0.3, SearchConfig(budget=budget))
        assert len(tree.draws) == budget == sum(want.n for want in asked if isinstance(want, SampleWant))
        assert tree.statistics().scored_states == 1
        assert tree.statistics().re_expansions == max(0, -(-budget // 5) - 1)


def test_terminal_children_are_never_sampled_from():
    _, asked = search([("r\n", 3.0), ("a\nb\n", 1.0)], lambda state: 1.0 * state.terminal, SearchConfig(budget=40))
    assert not any(want.state.terminal for want in asked if isinstance(want, SampleWant))


def test_budget_zero_asks_nothing():
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=0), 0)
    assert tree.done and tree.ask() == []


def test_empty_completion_is_an_empty_program():
    tree = first_round([""], SearchConfig(budget=1))
    assert set(child_states(tree.root)) == {("", True)} and tree.draws[0].program == ""


def test_leaves_in_flight_do_not_crowd():
    tree = SearchTree(
        State(PROBLEM), SearchConfig(budget=40, num_sample=4, leaves_in_flight=3, reuse_suffixes=False), 0
    )
    (want,) = tree.ask()  # the root is the only leaf
    tree.tell_samples(want.id, done("a\nx\n", "b\nx\n", "c\nx\n", "d\nx\n"))
    for want in tree.ask():
        tree.tell_values({want.id: 0.5})
    wants = tree.ask()
    assert [want.state.code for want in wants] == ["a\n", "b\n", "c\n"]
    assert tree.root.in_flight == 12


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_value_that_is_no_number_is_an_engine_error(bad):
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=1), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done("a\n"))
    (want,) = tree.ask()
    with pytest.raises(EngineError, match="finite"):
        tree.tell_values({want.id: bad})


def test_reward_outside_the_range_is_an_engine_error():
    tree = SearchTree(State(PROBLEM), SearchConfig.collection(budget=1), 0)
    (want,) = tree.ask()
    tree.tell_samples(want.id, done("a\n"))
    (want,) = tree.ask()
    with pytest.raises(EngineError, match=r"\[0, 1\]"):
        tree.tell_rewards({want.id: 1.5})


def test_wrong_answers_are_refused():
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=2), 0)
    (want,) = tree.ask()
    with pytest.raises(EngineError, match="1 completions"):
        tree.tell_samples(want.id, done("a\n"))
    with pytest.raises(ValueError, match="not a ValueWant"):
        tree.tell_values({want.id: 0.5})
    with pytest.raises(ValueError, match="waits"):
        tree.tell_samples(99, done("a\n"))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_sample": 0},
        {"source": "rewards"},
        {"source": "oracle"},
        {"eps": 0.0},
        {"budget": -1},
        {"leaves_in_flight": 0},
    ],
)
def test_impossible_settings_are_config_errors(changes):
    with pytest.raises(ConfigError):
        SearchConfig(**changes)


def test_terminal_root_is_refused():
    with pytest.raises(ValueError, match="terminal"):
        SearchTree(State(PROBLEM, "a\n", terminal=True), SearchConfig(), 0)


def test_search_from_a_prefix_keeps_it():
    tree = SearchTree(State(PROBLEM, "a\n"), SearchConfig(budget=12), 0)
    drive(tree, ScriptedPolicy.from_programs({"p": [("a\nb\n", 1.0), ("a\nc\nd\n", 1.0)]}), lambda state: 0.5)
    assert {draw.program for draw in tree.draws} == {"a\nb\n", "a\nc\nd\n"}
    assert {draw.start for draw in tree.draws} <= {2, 4}


NEEDLE = "c\nc\nc\nc\n"
HAYSTACK = [
    ("".join(f"{line}\n" for line in lines), 2.0 ** lines[:2].count("a"))
    for lines in itertools.product("abc", repeat=4)
]


def agreement(state):
    """The best reward that can be reached below a state, exactly: the share of right lines when the rest are right."""
    lines = state.code.split("\n")[:-1]
    return (sum(line == "c" for line in lines) + (4 - len(lines))) / 4


def num_found(num_seeds=20, **changes):
    found = 0
    for seed in range(num_seeds):
        tree, _ = search(HAYSTACK, agreement, SearchConfig(**changes), seed)
        found += max(tree.draws, key=lambda draw: draw.score).program == NEEDLE
    return found


def test_true_values_lead_to_the_best_program_where_the_search_can_widen():
    # A plain sample is the needle with probability 1 in 144: 60 of them find it in 6.8 of 20 cases.
    assert num_found(budget=60, widening="adaptive") >= 15  # measured 54 of 60


class UniformLines:
    """A policy that writes ``depth`` lines, each a, b or c with equal probability."""

    def __init__(self, depth):
        self.depth = depth

    def sample(self, requests, params):
        results = []
        for request in requests:
            rng = np.random.default_rng(request.seed)
            missing = self.depth - request.state.code.count("\n")
            results.append(
                done(*("".join(f"{x}\n" for x in rng.choice(list("abc"), missing)) for _ in range(request.n)))
            )
        return results


def share_of_c(state):
    return state.code.count("c") / 6


@pytest.mark.parametrize("reuse", [True, False])
def test_values_find_the_best_program_more_often_than_sampling_does(reuse):
    # 60 plain samples out of 3^6 programs contain the best one with probability 0.08.
    found = 0
    for seed in range(20):
        tree = SearchTree(State(PROBLEM), SearchConfig(budget=60, reuse_suffixes=reuse), seed)
        drive(tree, UniformLines(6), share_of_c)
        found += max(draw.score for draw in tree.draws) == 1.0
    assert found >= 5


def test_rewards_alone_lead_upwards():
    late = []
    for seed in range(10):
        tree = SearchTree(State(PROBLEM), SearchConfig.collection(budget=60), seed)
        drive(tree, UniformLines(6), share_of_c)
        late += [draw.score for draw in tree.draws[5:]]
    assert sum(late) / len(late) > 1 / 3 + 0.1
