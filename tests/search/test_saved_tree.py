"""Saved searches: everything comes back, nothing is stored twice, and what is broken is refused."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from search_cases import PROBLEM, configs, lengths, policies, run

from restrl.decoding.results import Candidate, best_answers
from restrl.errors import ArtifactError
from restrl.search import SavedTree, SearchConfig, tree_to_record

PROGRAMS = [("a\nb\nx\n", 2.0), ("a\nc\n", 1.0), ("b\n", 1.0)]


@given(policies, configs, lengths)
@settings(deadline=None, max_examples=40)
def test_a_saved_tree_is_the_tree(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    record = json.loads(json.dumps(tree_to_record(tree), allow_nan=False))
    saved = SavedTree.from_record(record)
    assert (saved.problem_id, saved.seed, SearchConfig(**saved.config)) == (PROBLEM.id, tree.seed, config)
    assert saved.to_record() == record
    for node, number in zip(tree.nodes, range(len(saved.nodes)), strict=True):
        copy = saved.nodes[number]
        assert saved.state(number, PROBLEM) == node.state
        assert [saved.nodes[child].order for child in saved.children[number]] == [
            child.order for child in sorted(node.children.values(), key=lambda child: child.order)
        ]
        assert (copy.visits, copy.value, copy.draws, copy.pruned, copy.scored_value, copy.line_prior) == (
            node.visits,
            node.value,
            node.draws,
            node.pruned,
            node.scored_value,
            node.line_prior,
        )
        assert saved.path(number) == tuple(above.order for above in reversed(list(node.lineage())))
    for draw, copy, program in zip(tree.draws, saved.draws, saved.programs, strict=True):
        assert (copy.finished, copy.score, copy.tokens, program) == (
            draw.finished,
            draw.score,
            draw.num_tokens,
            draw.program,
        )
        assert copy.node == draw.tip.order and len(saved.codes[copy.start]) == draw.start
        assert copy.start in saved.path(copy.node)


@given(policies, configs, lengths)
@settings(deadline=None, max_examples=20)
def test_the_answer_of_a_saved_tree_is_the_decoders(programs, config, max_tokens):
    tree = run(programs, config, max_tokens)
    saved = SavedTree.from_record(tree_to_record(tree))
    answers = best_answers([Candidate(draw.program, draw.finished, draw.score, draw.index) for draw in tree.draws])
    assert answers == tuple(saved.answer(budget) for budget in range(1, len(tree.draws) + 1))
    if answers:
        path = saved.chosen_path()
        assert path[0] == 0 and path[-1] == tree.draws[answers[-1]].tip.order
    else:
        assert saved.answer() is None and saved.chosen_path() == ()


def test_a_tree_can_be_saved_at_any_moment():
    counts = []
    run(PROGRAMS, SearchConfig(budget=17), 100, check=lambda tree: counts.append(len(saved_draws(tree))))
    assert counts == sorted(counts) and counts[0] == 0 and counts[-1] == 17


def saved_draws(tree):
    saved = SavedTree.from_record(tree_to_record(tree))
    assert all(draw.score is not None for draw in saved.draws)
    return saved.draws


def test_no_code_is_stored_twice():
    line = "x" * 100 + "\n"
    tree = run([(line * 30, 1.0)], SearchConfig(budget=5, num_sample=5), 10**6)
    record = tree_to_record(tree)
    assert len(tree.nodes) == 2  # the root and its first line: every other line is in a completion's rest
    assert json.dumps(record).count("x" * 100) == 1 + 5 * 29
    deep = tree_to_record(run([(line * 30, 1.0)], SearchConfig(budget=6, num_sample=1), 10**6))
    assert json.dumps(deep["nodes"]).count("x" * 100) == len(deep["nodes"]) - 1


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"nodes": [{"parent": None}]},
        {"seed": None},
        {"draws": [{"index": 0, "start": 0, "node": 99, "finished": True, "score": 0.5, "tokens": 1, "text": ""}]},
        {"draws": [{"index": 3, "start": 0, "node": 0, "finished": True, "score": 0.5, "tokens": 1, "text": ""}]},
    ],
)
def test_a_broken_record_is_refused(change):
    record = tree_to_record(run(PROGRAMS, SearchConfig(budget=3), 100)) | change
    with pytest.raises(ArtifactError, match="saved tree"):
        SavedTree.from_record(record)


@pytest.mark.parametrize("parent", [None, 1, 5, -1])
def test_a_node_without_an_earlier_parent_is_refused(parent):
    record = tree_to_record(run(PROGRAMS, SearchConfig(budget=3), 100))
    record["nodes"][1] |= {"parent": parent}
    with pytest.raises(ArtifactError, match="node 1"):
        SavedTree.from_record(record)


def test_saved_nodes_carry_no_more_than_they_need():
    record = tree_to_record(run(PROGRAMS, SearchConfig(budget=10), 100))
    names = {field.name for field in dataclasses.fields(type(SavedTree.from_record(record).nodes[0]))}
    assert all(set(node) == names - {"trim"} for node in record["nodes"])
