"""Beam search and DVTS: hand-made trees whose every round is known, and laws under any interleaving."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ConfigError, EngineError
from restrl.policy.scripted import ScriptedPolicy
from restrl.search import SampleWant
from restrl.search.beam import BeamConfig, BeamSearch
from restrl.search.saved import SavedTree, tree_to_record
from restrl.seeds import derive_seed
from restrl.types import Completion, Problem, SampleRequest, SamplingParams, State, Tests

PROBLEM = Problem("p", "", "", "f", Tests("call", ()))


class Script:
    """Answers the wants of a search: completions of a state in a fixed order, values from a table; keeps a log."""

    def __init__(self, completions, values):
        self.completions = {code: list(texts) for code, texts in completions.items()}
        self.values = values
        self.sampled, self.scored = [], []

    def run(self, search):
        while not search.done:
            for want in search.ask():
                if isinstance(want, SampleWant):
                    self.sampled.append((want.state.code, want.n))
                    texts = [self.completions[want.state.code].pop(0) for _ in range(want.n)]
                    search.tell_samples(want.id, [Completion(text, "stop", num_tokens=1) for text in texts])
                else:
                    self.scored.append((want.state.code, want.state.terminal))
                    search.tell_values({want.id: self.values.get(want.state.code, 0.0)})
        return search


def test_beams_are_the_best_children_and_rests_of_completions_are_samples_there():
    script = Script(
        {
            "": ["a\nx\n", "b\ny\n", "c\nz\n", "b\ny2\n"],
            "b\n": ["y3\n", "y4\n"],
            "c\n": ["z2\n", "z3\n", "z4\n"],
        },
        # a is the worst of three children, so that a beam of two drops it.
        {"a\n": 0.1, "b\n": 0.9, "c\n": 0.5, "c\nz3\n": 0.8, "b\ny\n": 0.7},
    )
    search = script.run(BeamSearch(State(PROBLEM), BeamConfig(budget=9, num_sample=4, width=2), 0))
    # b has two completions through it already, c one: only what is missing to four is drawn, the better beam first.
    assert script.sampled == [("", 4), ("b\n", 2), ("c\n", 3)]
    assert [draw.program for draw in search.draws] == [
        "a\nx\n", "b\ny\n", "c\nz\n", "b\ny2\n", "b\ny3\n", "b\ny4\n", "c\nz2\n", "c\nz3\n", "c\nz4\n",
    ]  # fmt: skip
    assert max(search.draws, key=lambda draw: draw.score).program == "c\nz3\n"
    # The first round scores three states and four programs; the last one programs only: no beam follows it.
    assert script.scored[:7] == [
        ("a\n", False), ("a\nx\n", True), ("b\n", False), ("b\ny\n", True), ("c\n", False), ("c\nz\n", True),
        ("b\ny2\n", True),
    ]  # fmt: skip
    assert all(terminal for _, terminal in script.scored[7:]) and len(script.scored) == 12
    statistics = search.statistics()
    assert statistics.completions == 9 and statistics.reused_suffixes == 3 and statistics.requests == 3
    assert search.root.visits == 9


def test_what_was_passed_over_comes_next_and_then_all_is_sampled_again():
    script = Script(
        {"": ["a\nx\n", "b\ny\n", "c\n", "d\n"], "a\n": ["x\n"] * 4, "b\n": ["y\n"] * 4},
        {"a\n": 0.2, "b\n": 0.8},
    )
    script.run(BeamSearch(State(PROBLEM), BeamConfig(budget=6, num_sample=2, width=1), 0))
    # First the better child b, whose other sample ends the program; then a; then nothing is left, so the root again.
    assert script.sampled == [("", 2), ("b\n", 1), ("a\n", 1), ("", 2)]


def test_the_last_round_draws_what_is_left():
    script = Script({"": ["a\nx\n"] * 4}, {})
    search = script.run(BeamSearch(State(PROBLEM), BeamConfig(budget=4, num_sample=3, width=3), 0))
    assert script.sampled == [("", 3), ("", 1)] and len(search.draws) == 4
    # One state and one program; the other two of the three completions wanted the same again, the fourth the program.
    assert search.statistics().scored_states == 2 and search.statistics().repeated_scores == 2 * 2 + 1


def test_groups_have_trees_of_their_own_and_equal_shares():
    """Two subtrees that meet the same root each follow what they themselves sampled."""
    script = Script(
        {"": ["a\nx\n", "b\nx\n", "c\nx\n", "d\nx\n"], "b\n": ["y\n", "z\n"], "c\n": ["y\n", "z\n"]},
        {"a\n": 0.3, "b\n": 0.4, "c\n": 0.2, "d\n": 0.1},
    )
    search = script.run(BeamSearch(State(PROBLEM), BeamConfig(budget=6, num_sample=2, width=1, groups=2), 0))
    # Beam search of width two would take a and b, the best of all; each subtree takes the best of its own.
    assert script.sampled == [("", 2), ("", 2), ("b\n", 1), ("c\n", 1)]
    first, second = search.root.children or search.nodes[1:3]
    assert [first.visits, second.visits, search.root.visits] == [3, 3, 6]


def test_cut_off_completions_are_draws_without_a_score():
    search = BeamSearch(State(PROBLEM), BeamConfig(budget=2, num_sample=2, width=1), 0)
    (want,) = search.ask()
    search.tell_samples(want.id, [Completion("a\nb", "length", 3), Completion("hal", "length", 3)])
    assert search.done and [draw.score for draw in search.draws] == [None, None]
    assert search.statistics().cut_off == 2


def test_wrong_answers_are_refused():
    search = BeamSearch(State(PROBLEM), BeamConfig(budget=3, num_sample=3), 0)
    (want,) = search.ask()
    with pytest.raises(EngineError, match="3 were asked"):
        search.tell_samples(want.id, [])
    with pytest.raises(ValueError, match="not a ValueWant"):
        search.tell_values({want.id: 0.5})
    with pytest.raises(ValueError, match="RewardWant"):
        search.tell_rewards({want.id: 0.5})
    search.tell_samples(want.id, [Completion("a\n", "stop")] * 3)
    (value,) = search.ask()
    with pytest.raises(EngineError, match="finite"):
        search.tell_values({value.id: float("nan")})
    with pytest.raises(ValueError, match="not a sample want"):
        search.tell_samples(value.id, [])
    with pytest.raises(ValueError, match="terminal"):
        BeamSearch(State(PROBLEM, "a\n", terminal=True), BeamConfig(), 0)
    for changes in ({"budget": -1}, {"num_sample": 0}, {"width": 0}, {"groups": 0}):
        with pytest.raises(ConfigError, match="beam search"):
            BeamConfig(**changes)


lines = st.sampled_from(["a", "b", "  c = 1", "# note", "", "a  "])
programs = st.lists(
    st.tuples(st.lists(lines, max_size=5).map("\n".join), st.sampled_from([1.0, 2.0, 7.0])), min_size=1, max_size=8
)
configs = st.builds(BeamConfig, st.integers(0, 40), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))


def value(state):
    return derive_seed("value", state.code, int(state.terminal)) / 2**63


def drive(weighted, config, max_tokens, order=None):
    """Runs a search; with ``order`` asks piecemeal and answers in random order. Returns it and the states scored."""

    def script(_, code):
        return [(text[len(code) :], weight) for text, weight in weighted if text.startswith(code)] or [("", 1.0)]

    policy, params = ScriptedPolicy(script), SamplingParams(max_new_tokens=max_tokens)
    search, waiting, scored = BeamSearch(State(PROBLEM), config, 3), [], []
    while not search.done:
        waiting += search.ask(None if order is None else order.randint(0, 3))
        if order is not None:
            order.shuffle(waiting)
        for want in [waiting.pop() for _ in range(len(waiting) if order is None else min(2, len(waiting)))]:
            if isinstance(want, SampleWant):
                (answer,) = policy.sample([SampleRequest(want.state, want.n, want.seed)], params)
                search.tell_samples(want.id, answer)
            else:
                scored.append((want.state.code, want.state.terminal))
                search.tell_values({want.id: value(want.state)})
    return search, scored


@given(programs, configs, st.sampled_from([3, 7, 100]), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_laws_of_beam_search(weighted, config, max_tokens, order):
    search, scored = drive(weighted, config, max_tokens)
    assert len(search.draws) == search.root.visits == search.statistics().completions == config.budget
    assert len(scored) == len(set(scored)) == search.statistics().scored_states
    for draw in search.draws:
        assert draw.score == (value(State(PROBLEM, draw.program, terminal=True)) if draw.finished else None)
        assert draw.code.startswith(draw.tip.state.code.rstrip())
    for node in search.nodes:
        inside = [draw for draw in search.draws if node in draw.tip.lineage()]
        assert node.visits == len(inside) and node.total == pytest.approx(sum(draw.worth for draw in inside))
        assert sum(child.visits for child in node.children.values()) <= node.visits or node is search.root
    shuffled, _ = drive(weighted, config, max_tokens, random.Random(order.random()))
    assert [(d.code, d.score) for d in shuffled.draws] == [(d.code, d.score) for d in search.draws]


@given(programs, configs, st.sampled_from([3, 100]))
@settings(deadline=None, max_examples=30)
def test_a_saved_beam_search_reads_back(weighted, config, max_tokens):
    search, _ = drive(weighted, config, max_tokens)
    saved = SavedTree.from_record(json.loads(json.dumps(tree_to_record(search))))
    assert saved.programs == tuple(draw.program for draw in search.draws)
    assert [draw.score for draw in saved.draws] == [draw.score for draw in search.draws]
    states = [(code, node.terminal) for code, node in zip(saved.codes, saved.nodes, strict=True)]
    assert states == [(node.state.code, node.state.terminal) for node in search.nodes]
    for draw, kept in zip(search.draws, saved.draws, strict=True):
        assert len(saved.codes[kept.start]) == draw.start


@given(programs, configs, st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_a_smaller_budget_is_the_beginning(weighted, config, budget):
    large, _ = drive(weighted, config, 100)
    small_config = BeamConfig(min(budget, config.budget), config.num_sample, config.width, config.groups)
    small, _ = drive(weighted, small_config, 100)
    assert [(d.code, d.score) for d in small.draws] == [(d.code, d.score) for d in large.draws[: len(small.draws)]]


@given(programs, st.integers(1, 5), st.integers(1, 2), st.integers(2, 4))
@settings(deadline=None, max_examples=30)
def test_groups_split_the_budget_evenly(weighted, num_sample, width, groups):
    search, _ = drive(weighted, BeamConfig(40, num_sample, width, groups), 100)
    shares = [node.visits for node in search.nodes[1 : groups + 1]]
    assert sum(shares) == 40 and max(shares) - min(shares) < 2 * num_sample * width
