"""Laws that hold for every policy, every value function and every order of events."""

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_cases import configs, lengths, outline, policies, run


@given(policies, configs, lengths)
@settings(deadline=None, max_examples=30)
def test_the_budget_is_spent_exactly_and_nothing_stays_under_way(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    assert len(tree.draws) == config.budget == tree.root.visits == tree.statistics().completions
    assert [draw.index for draw in tree.draws] == list(range(config.budget))
    assert all(node.in_flight == 0 and not node.busy for node in tree.nodes)
    assert sum(node.draws for node in tree.nodes) == config.budget


@given(policies, configs, lengths, st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_counts_and_sums_are_those_of_the_completions_at_every_moment(programs, config, max_tokens, seed):
    def check(tree):
        through = {node: [] for node in tree.nodes}
        # The draws of the round under way are counted when it ends.
        for draw in tree.draws[: tree.root.visits]:
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

    run(programs, config, max_tokens, random.Random(seed), check)


@given(policies, configs, lengths, st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_order_and_size_of_asking_and_telling_change_nothing(programs, config, max_tokens, seed):
    assert outline(run(programs, config, max_tokens)) == outline(run(programs, config, max_tokens, random.Random(seed)))


@given(policies, configs, lengths)
@settings(deadline=None, max_examples=30)
def test_a_smaller_budget_is_the_beginning_of_a_larger_one(programs, config, max_tokens):
    whole = run(programs, config, max_tokens)
    half = run(programs, dataclasses.replace(config, budget=config.budget // 2), max_tokens)
    for small, large in zip(half.draws, whole.draws, strict=False):
        assert (small.code, small.finished, small.score) == (large.code, large.finished, large.score)


@given(policies, configs, lengths)
@settings(deadline=None, max_examples=30)
def test_states_extend_their_parents_and_pruning_keeps_num_decision(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    for node in tree.nodes:
        for (code, terminal), child in node.children.items():
            assert (code, terminal) == (child.state.code, child.state.terminal) and child.parent is node
            assert terminal or (code.startswith(node.state.code) and code.endswith("\n") and code != node.state.code)
        assert not (node.state.terminal and (node.children or node.draws))
        going_on = [child for child in node.children.values() if not child.state.terminal]
        assert sum(not child.pruned for child in going_on) == min(len(going_on), config.num_decision)


@given(policies, configs, lengths)
@settings(deadline=None, max_examples=30)
def test_statistics_look_and_do_not_touch(programs, config, max_tokens):
    seen = []

    def check(tree):
        before = outline(tree)
        assert tree.statistics() == tree.statistics()
        assert outline(tree) == before
        seen.append(tree.statistics().completions)

    run(programs, config, max_tokens, check=check)
    assert seen == sorted(seen)
