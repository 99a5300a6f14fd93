"""PUCT and its priors, maxima, widening and presets, by numbers worked out by hand."""

import math
import sys
from itertools import chain

import pytest
from search_worlds import PROBLEM, World, drive, search_world

from restrl.config import load_recipe
from restrl.decoding.config import DecodeConfig
from restrl.errors import ConfigError, EngineError
from restrl.search import SampleWant, SearchConfig, SearchTree, selection
from restrl.search.puct import TextLogprob, puct_scores, shares, softmax, unseen_mass
from restrl.search.selection import wants_width
from restrl.search.tree import Node
from restrl.types import Completion, State
from restrl.value.collect import CollectConfig


def test_puct_of_a_hand_computation():
    # sqrt(N) = 4: 0.25 + 2 * 0.5 * 4 / (1 + 3) = 1.25 and 0.5 + 2 * 0.1 * 4 / (1 + 0) = 1.3
    assert puct_scores([0.25, 0.5], [3, 0], [0.5, 0.1], 16, c=2.0).tolist() == pytest.approx([1.25, 1.3])


def test_completions_under_way_count_as_visits_in_puct():
    ahead = puct_scores([0.3, 0.4], [2, 3], [0.7, 0.3], 6, c=0.2, in_flight_C=[5, 0], parent_in_flight=5)
    assert ahead == pytest.approx(puct_scores([0.3, 0.4], [7, 3], [0.7, 0.3], 11, c=0.2))


def test_a_parent_without_visits_lets_the_priors_decide():
    assert puct_scores([0.0, 0.0], [0, 0], [0.9, 0.1], 0, c=1.0).tolist() == pytest.approx([0.9, 0.1])


def test_shares_and_softmax():
    assert shares([2, 1, 1]) == [0.5, 0.25, 0.25]
    assert softmax([math.log(3) - 900, -900]) == pytest.approx([0.75, 0.25])
    assert unseen_mass([4, 1]) == 2 / 6 and unseen_mass([]) == 1.0


TOKENS = Completion("ab\nc", "stop", 4, logprob=-10.0, token_logprobs=(-1.0, -2.0, -3.0, -4.0), token_ends=(1, 3, 4, 4))


def test_a_token_belongs_to_the_line_that_it_begins_in():
    known = TextLogprob.of(TOKENS)
    assert known.mean == -2.5
    assert known.between(0, 3) == -3.0  # "a" and "b\n"
    assert known.between(3, None) == -7.0  # "c" and the end of the sequence
    assert known.between(3, 4) == -3.0
    assert known.between(0, None) == -10.0


def test_without_places_the_mean_of_the_completion_stands_in():
    assert TextLogprob.of(Completion("ab\n", "stop", 4, logprob=-8.0)) == TextLogprob(-2.0)
    assert TextLogprob.of(Completion("ab\n", "stop", 4, token_logprobs=(-1.0, -3.0))) == TextLogprob(-2.0)
    assert TextLogprob(-2.0).between(0, 3) is None
    assert TextLogprob.of(Completion("ab\n", "stop", 4)) is None


def root_priors(completions, prior):
    config = SearchConfig(budget=len(completions), num_sample=len(completions), selection="puct", prior=prior)
    tree = drive(SearchTree(State(PROBLEM), config, 0), lambda *_: completions, lambda _: 0.5)
    return [child.line_prior for child in tree.root.children.values()]


def test_priors_of_a_hand_computation():
    def text(line, first):
        return Completion(
            f"{line}\nx\n", "stop", 2, logprob=first - 9.0, token_logprobs=(first, -9.0), token_ends=(2, 4)
        )

    completions = [text("a", math.log(0.6)), text("b", math.log(0.2)), text("a", math.log(0.6))]
    assert root_priors(completions, "uniform") == [0.5, 0.5]
    assert root_priors(completions, "frequency") == pytest.approx([2 / 3, 1 / 3])
    assert root_priors(completions, "logprob") == pytest.approx([0.75, 0.25])
    bare = [Completion("a\nx\n", "stop", 2, logprob=-2.0), Completion("b\nx\n", "stop", 4, logprob=-12.0)]
    assert root_priors(bare, "logprob") == pytest.approx(softmax([-1.0, -3.0]))


def test_log_probabilities_give_the_true_probabilities_of_the_known_lines():
    world = World(2, depth=5, early=0.0)
    tree = search_world(world, SearchConfig(budget=80, prior="logprob", selection="puct", widening="adaptive"), 1)
    checked = 0
    for node in tree.nodes:
        true = {line: probability for line, probability, _ in world.lines.get(node.state.code, [])}
        known = {child.state.code[len(node.state.code) :]: child.line_prior for child in node.children.values()}
        total = sum(true[line] for line in known)
        for line, prior in known.items():
            assert prior == pytest.approx(true[line] / total)
            checked += len(known) > 1
    assert checked > 10


def test_the_prior_steers_puct():
    # Two lines of equal value: after many rounds the visits lean to the likelier one; under UCT they do not.
    def sample(state, n, seed):
        lines = ["a"] * 9 + ["b"] if not state.code else [f"{seed}{i}" for i in range(n)]
        return [Completion(f"{line}\n{seed}-{i}x\ny\n", "stop") for i, line in enumerate(lines[:n])]

    def visits(**options):
        config = SearchConfig(budget=200, num_sample=10, c=1.0, reuse_suffixes=False, **options)
        tree = drive(SearchTree(State(PROBLEM), config, 0), sample, lambda _: 0.5)
        return {child.state.code: child.visits for child in tree.root.children.values()}

    puct, uct = visits(selection="puct"), visits()
    assert puct["a\n"] > 4 * puct["b\n"]
    assert abs(uct["a\n"] - uct["b\n"]) <= 10


def test_prior_without_log_probabilities_is_an_engine_error():
    tree = SearchTree(State(PROBLEM), SearchConfig(budget=1, selection="puct", prior="logprob"), 0)
    (want,) = tree.ask()
    with pytest.raises(EngineError, match="logprob"):
        tree.tell_samples(want.id, [Completion("a\n", "stop", 2)])


def test_maximum_is_the_best_childs_and_mean_is_not():
    def root_value(aggregate):
        config = SearchConfig(budget=3, num_sample=3, aggregate=aggregate)
        texts = ["a\nx\n", "b\nx\n", "b\ny\n"]
        tree = SearchTree(State(PROBLEM), config, 0)
        drive(tree, lambda *_: [Completion(text, "stop") for text in texts], lambda s: 0.2 + 0.6 * (s.code == "a\n"))
        return tree.root.value

    assert root_value("max") == pytest.approx(0.8) and root_value("mean") == pytest.approx((0.8 + 0.2 + 0.2) / 3)


def grow(parent, line, worths=()):
    """A child with completions worth so much, counted all the way up."""
    child = Node(State(PROBLEM, f"{parent.state.code}{line}\n"), parent, 0)
    parent.children[child.state.code, False] = child
    for worth in worths:
        child.credit(1, worth)
    return child


def test_the_maximum_leaves_closed_children_out_even_where_they_are_better():
    root = Node(State(PROBLEM), None, 0)
    low, high = grow(root, "a", [0.3]), grow(root, "b", [0.9])
    high.set_pruned(True)
    below = grow(low, "c", [0.5])
    low.take_maximum()
    assert (low.value, root.value) == (below.value, below.value) == (0.5, 0.5)
    high.set_pruned(False)
    root.take_maximum()
    assert root.value == 0.9


def test_closing_a_child_below_a_closed_state_changes_nothing_above_it():
    root = Node(State(PROBLEM), None, 0)
    other, closed = grow(root, "a", [0.25]), grow(root, "b")
    one, two = grow(closed, "c", [1.0]), grow(closed, "d", [0.5])
    assert root.mean == pytest.approx(1.75 / 3)
    closed.set_pruned(True)
    assert root.mean == other.mean == 0.25
    two.set_pruned(True)
    assert (closed.mean, root.mean, root.kept_visits) == (1.0, 0.25, 1)
    one.credit(1, 0.0)
    assert (closed.mean, root.mean, root.visits) == (0.5, 0.25, 4)
    closed.set_pruned(False)
    assert (root.kept_visits, root.mean) == (3, pytest.approx(1.25 / 3))
    two.set_pruned(False)
    assert (root.kept_visits, root.total, root.mean) == (4, 1.75, pytest.approx(1.75 / 4))


def endless(state, n, seed):
    """Completions that never run out: a first line of a, b or c at the root, then lines of their own."""
    lines = ["a", "b", "c"] if not state.code else [f"{seed}{i}" for i in range(n)]
    return [Completion(f"{line}\n{seed}-{i}x\ny\n", "stop") for i, line in enumerate(lines[:n])]


@pytest.mark.parametrize("formula", ["uct", "puct"])
@pytest.mark.parametrize("widening", ["fixed", "progressive", "adaptive"])
def test_closed_children_are_never_sampled_however_much_is_explored(formula, widening):
    asked = []

    def sample(state, n, seed):
        asked.append(state.code[:2])
        return endless(state, n, seed)

    config = SearchConfig(
        budget=60, num_sample=3, num_decision=2, c=50.0, reuse_suffixes=False, selection=formula, widening=widening
    )
    values = {"a": 0.9, "b": 0.1, "c": 0.5}
    drive(SearchTree(State(PROBLEM), config, 0), sample, lambda state: values[state.code[0]])
    assert set(asked) == {"", "a\n", "c\n"}


@pytest.mark.parametrize("formula", ["uct", "puct"])
def test_what_is_under_way_reaches_the_formula(formula, monkeypatch):
    real, seen = getattr(selection, f"{formula}_scores"), []

    def spy(values, visits, *rest, in_flight_C, parent_in_flight, **settings):
        seen.append((sum(in_flight_C), parent_in_flight))
        return real(values, visits, *rest, in_flight_C=in_flight_C, parent_in_flight=parent_in_flight, **settings)

    monkeypatch.setattr(selection, f"{formula}_scores", spy)
    config = SearchConfig(budget=60, num_sample=3, reuse_suffixes=False, selection=formula, leaves_in_flight=3)
    drive(SearchTree(State(PROBLEM), config, 0), endless, lambda _: 0.5)
    assert all(children <= parent for children, parent in seen)
    assert {parent for _, parent in seen} == {0, 3, 6} and any(children for children, _ in seen)


def test_progressive_widening_by_numbers():
    config = SearchConfig(widening="progressive", widening_k=2.0, widening_alpha=0.5)
    node = Node(State(PROBLEM), None, 0, visits=25, moved=9)
    assert wants_width(node, config)  # 9 < 2 * 5
    node.moved = 10
    assert not wants_width(node, config)


@pytest.mark.parametrize(
    "changes",
    [
        {"selection": "ucb"},
        {"prior": "value"},
        {"aggregate": "median"},
        {"widening": "wide"},
        {"algorithm": "other"},
        {"widening_k": 0.0},
        {"widening_alpha": 1.5},
    ],
)
def test_unknown_options_are_config_errors(changes):
    with pytest.raises(ConfigError):
        SearchConfig(**changes)


def test_presets_of_the_recipe_are_the_published_search():
    recipe = load_recipe("paper")
    decode, collect = recipe.section("decode", DecodeConfig), recipe.section("collect", CollectConfig)
    assert decode.search() == SearchConfig.paper(budget=decode.budget)
    assert collect.search() == SearchConfig.paper(budget=500, c=0.2, source="rewards", backup="completions")
    orm = DecodeConfig(method="orm_mcts", preset="paper").search()
    assert orm == SearchConfig.paper(backup="completions")
    assert DecodeConfig().search() == SearchConfig()


@pytest.mark.parametrize("change", [{"formula": "puct"}, {"aggregate": "max"}, {"widening": "adaptive"}])
def test_decoding_as_published_takes_no_other_options(change):
    with pytest.raises(ConfigError, match="preset"):
        DecodeConfig(preset="paper", **change)


def bytes_of(value, seen):
    """Bytes of everything that a value holds, each object once."""
    if id(value) in seen or isinstance(value, type) or value is PROBLEM:
        return 0
    seen.add(id(value))
    parts = []
    if isinstance(value, dict):
        parts = chain(value.keys(), value.values())
    elif isinstance(value, (list, tuple, set)):
        parts = value
    elif hasattr(value, "__dict__"):
        parts = vars(value).values()
    elif hasattr(value, "__slots__"):
        parts = [getattr(value, name) for name in value.__slots__ if hasattr(value, name)]
    return sys.getsizeof(value) + sum(bytes_of(part, seen) for part in parts)


def test_a_finished_tree_is_small():
    # 100 programs of 8 lines of 40 characters, no two alike.
    def sample(state, n, seed):
        left = 8 - state.code.count("\n")
        lines = [[f"    x{seed % 997}_{i}_{k} = ".ljust(39, "y") for k in range(left)] for i in range(n)]
        return [Completion("\n".join(part) + "\n", "stop", 80, logprob=-1.0) for part in lines]

    config = SearchConfig(budget=100, selection="puct", prior="logprob")
    tree = SearchTree(State(PROBLEM), config, 0)
    peak = 0
    while wants := tree.ask():
        for want in wants:
            if isinstance(want, SampleWant):
                tree.tell_samples(want.id, sample(want.state, want.n, want.seed))
            else:
                tree.tell_values({want.id: 0.5})
        peak = max(peak, bytes_of(tree, set()))
    size = bytes_of(tree, set())
    print(f"nodes {len(tree.nodes)}, {size} bytes, at most {peak} on the way")
    assert size < peak
    assert size < 100 * 320 * 8  # eight times the text of its programs
