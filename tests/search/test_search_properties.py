"""Laws that hold for every policy, every value function, every option and every order of events."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import (
    answer,
    configs,
    lengths,
    outline,
    own_configs,
    paper_configs,
    policies,
    policy_of,
    run,
    score,
)

from restrl.actions import split_actions
from restrl.decoding.results import Candidate, best_answers
from restrl.search import SampleWant, SearchTree
from restrl.types import Problem, SamplingParams, State, Tests

LAWS = settings(deadline=None, max_examples=40)


@given(policies, configs, lengths)
@LAWS
def test_the_budget_is_spent_exactly_and_nothing_stays_under_way(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    assert len(tree.draws) == config.budget == tree.num_counted == tree.statistics().completions
    assert config.algorithm == "paper" or tree.root.visits == config.budget
    assert [draw.index for draw in tree.draws] == list(range(config.budget))
    assert all(node.in_flight == 0 and not node.busy for node in tree.nodes)
    assert sum(node.draws for node in tree.nodes) == config.budget


def check_counts(tree):
    """Our own counts: a completion counts once at every node that it passes through, worth the same at each."""
    through = {node: [] for node in tree.nodes}
    # The draws of the round under way are counted when it ends.
    for draw in tree.draws[: tree.num_counted]:
        for node in draw.tip.lineage():
            through[node].append(draw)
    for node, draws in through.items():
        assert node.visits == len(draws)
        assert node.total == pytest.approx(sum(draw.worth for draw in draws), abs=1e-9)
        hidden = [
            draw for draw in draws if any(below.pruned for below in draw.tip.lineage() if below.depth > node.depth)
        ]
        kept = [draw for draw in draws if draw not in hidden]
        assert node.kept_visits == len(kept)
        assert node.kept_total == pytest.approx(sum(draw.worth for draw in kept), abs=1e-9)
        assert -1e-9 <= node.value <= 1 + 1e-9
        sampled_here = [draw for draw in draws if draw.start >= len(node.state.code) and not node.state.terminal]
        assert node.parent is None or node.arrivals == len(draws) - len(sampled_here)
        children = [child for child in node.children.values() if not child.pruned]
        if tree.config.aggregate == "max" and children:
            assert node.value == max(child.value for child in children)


@given(policies, own_configs, lengths, st.integers(0, 10**6))
@LAWS
def test_counts_and_sums_are_those_of_the_completions_at_every_moment(programs, config, max_tokens, seed):
    run(programs, config, max_tokens, random.Random(seed), check_counts)


def check_published_counts(tree):
    """The published counts: a node has what its children have, and its own first visits or the completions from it."""
    for node in tree.nodes:
        below = [child.visits for child in node.children.values()]
        if tree.config.backup == "children":
            own, worth = (node.arrivals, score(node.state)) if node.parent else (0, 0.0)
            stuck = [
                draw
                for draw in tree.draws[: tree.num_counted]
                if draw.tip is node and draw.start == len(node.state.code)
            ]
            own_visits = own + (0 if node.state.terminal else len(stuck))
            own_total = own * worth
        else:
            drawn = [draw for draw in tree.draws[: tree.num_counted] if sampled_at(draw) is node]
            own_visits, own_total, worth = len(drawn), sum(draw.worth for draw in drawn), score(node.state)
        repeats = node.visits - own_visits - sum(below)
        assert repeats == 0 or (node.state.terminal and repeats > 0)
        totals = sum(child.total for child in node.children.values())
        assert node.total == pytest.approx(own_total + repeats * worth + totals, abs=1e-9)
        assert (node.kept_visits, node.kept_total) == (node.visits, node.total)


def sampled_at(draw):
    """The node that a completion was sampled from."""
    return next(node for node in draw.tip.lineage() if not node.state.terminal and len(node.state.code) <= draw.start)


@given(policies, paper_configs, lengths, st.integers(0, 10**6))
@LAWS
def test_published_counts_and_sums_conserve_at_every_moment(programs, config, max_tokens, seed):
    run(programs, config, max_tokens, random.Random(seed), check_published_counts)


@given(policies, configs, lengths, st.integers(0, 10**6))
@LAWS
def test_order_and_size_of_asking_and_telling_change_nothing(programs, config, max_tokens, seed):
    assert outline(run(programs, config, max_tokens)) == outline(run(programs, config, max_tokens, random.Random(seed)))


@given(policies, configs, lengths)
@LAWS
def test_a_smaller_budget_is_the_beginning_of_a_larger_one(programs, config, max_tokens):
    whole = run(programs, config, max_tokens)
    half = run(programs, dataclasses.replace(config, budget=config.budget // 2), max_tokens)
    for small, large in zip(half.draws, whole.draws, strict=False):
        assert (small.code, small.finished, small.score) == (large.code, large.finished, large.score)


@given(policies, configs, lengths)
@LAWS
def test_states_extend_their_parents_by_one_action_and_pruning_keeps_num_decision(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    for node in tree.nodes:
        for (code, terminal), child in node.children.items():
            assert (code, terminal) == (child.state.code, child.state.terminal) and child.parent is node
            if not terminal:
                assert code.startswith(node.state.code) and code.endswith("\n")
                action = code[len(node.state.code) :]
                # Blank and comment lines are no actions: they belong to the line that follows.
                assert split_actions(action) == [action]
                says = [line for line in action.splitlines() if line.strip() and not line.strip().startswith("#")]
                assert len(says) == 1 and action.splitlines()[-1] == says[0]
        assert not (node.state.terminal and (node.children or node.draws))
        closable = [
            child for child in node.children.values() if config.algorithm == "paper" or not child.state.terminal
        ]
        assert sum(not child.pruned for child in closable) == min(len(closable), config.num_decision)
        if node.children:
            assert sum(child.line_prior for child in node.children.values()) == pytest.approx(1.0)


@given(policies, configs, lengths)
@LAWS
def test_nothing_is_drawn_or_scored_twice(programs, config, max_tokens):
    tree = SearchTree(State(Problem("p", "", "", "f", Tests("call", ()))), config, 5)
    policy, params = policy_of(programs), SamplingParams(max_new_tokens=max_tokens)
    scored, sampled = [], []
    while not tree.done:
        for want in tree.ask():
            if isinstance(want, SampleWant):
                node = next(n for n in tree.nodes if n.state == want.state)
                assert not any(above.pruned for above in node.lineage())
                inherited = len(node.stubs) if config.reuse_suffixes else 0
                left = config.budget - sum(n for _, n, _ in sampled)
                assert want.n == min(left, config.num_sample - inherited)
                assert not want.state.terminal
                sampled.append((want.state.code, want.n, want.seed))
            else:
                assert want.state.terminal or config.backup == "children"
                scored.append((want.state.code, want.state.terminal))
            answer(tree, want, policy, params)
    assert len(set(scored)) == len(scored) == tree.statistics().scored_states
    assert len({seed for _, _, seed in sampled}) == len(sampled)
    programs_scored = {draw.program for draw in tree.draws if draw.finished}
    assert programs_scored == {code for code, terminal in scored if terminal}
    for draw in tree.draws:
        assert draw.score == (score(State(tree.root.state.problem, draw.program, True)) if draw.finished else None)


@given(policies, configs, lengths)
@LAWS
def test_a_cut_off_completion_is_no_answer_while_a_finished_one_is_there(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    answers = best_answers([Candidate(draw.program, draw.finished, draw.score, draw.index) for draw in tree.draws])
    for budget, choice in enumerate(answers, start=1):
        finished = [draw for draw in tree.draws[:budget] if draw.finished]
        if finished:
            assert tree.draws[choice].finished
            assert tree.draws[choice].score == max(draw.score for draw in finished)
    assert not any(node.state.terminal and node.visits == 0 and config.algorithm == "own" for node in tree.nodes)


@given(policies, configs, lengths)
@LAWS
def test_statistics_look_and_do_not_touch(programs, config, max_tokens):
    seen = []

    def check(tree):
        before = outline(tree)
        assert tree.statistics() == tree.statistics()
        assert outline(tree) == before
        seen.append(tree.statistics().completions)

    run(programs, config, max_tokens, check=check)
    assert seen == sorted(seen)


@given(policies, configs, lengths)
@LAWS
def test_a_finished_search_holds_no_more_than_its_states_and_completions(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    assert all(not node.stubs and node.logprobs is None for node in tree.nodes)
    assert all(draw.likelihood is None for draw in tree.draws)
    held = {name: value for name, value in vars(tree).items() if isinstance(value, (list, dict, set)) and value}
    assert set(held) <= {"draws", "_nodes"}
