"""The published algorithm against a second, plain writing of it: the same tree, number for number."""

import math
from collections import Counter

import numpy as np
import pytest
from search_worlds import PROBLEM, World, drive, search_world

from restrl.errors import ConfigError
from restrl.search import SearchConfig, SearchTree
from restrl.seeds import derive_seed
from restrl.types import Completion, State


class Plain:
    """One iteration after the other, in lists: no counts in flight, no wants, no bookkeeping of pruned nodes."""

    def __init__(self, world, config, seed):
        self.world, self.config, self.seed = world, config, seed
        self.by_value = config.backup == "children"
        self.nodes = [{"code": "", "end": False, "up": None, "n": 0, "w": 0.0, "open": True, "kids": None, "draws": 0}]
        self.programs = []

    def run(self):
        while len(self.programs) < self.config.budget:
            leaf = self.select(ends=False)
            if leaf is None:
                leaf = self.flat()
            else:
                first = self.select(ends=True)
                if self.nodes[first]["end"]:
                    self.add(first, 1, self.score(first))
                    leaf = self.select(ends=False)
            self.expand(leaf)
        return self

    def score(self, i):
        return self.world.value[self.nodes[i]["code"], self.nodes[i]["end"]]

    def mean(self, i):
        return self.nodes[i]["w"] / self.nodes[i]["n"] if self.nodes[i]["n"] else 0.0

    def add(self, i, n, w):
        while i is not None:
            self.nodes[i]["n"] += n
            self.nodes[i]["w"] += w
            i = self.nodes[i]["up"]

    def bonus(self, parent_visits, visits):
        return self.config.c * math.sqrt((1 + math.log(max(1, parent_visits))) / (self.config.eps + visits))

    def leads_on(self, i, ends):
        node = self.nodes[i]
        if node["end"]:
            return ends
        return node["kids"] is None or any(self.nodes[k]["open"] and self.leads_on(k, ends) for k in node["kids"])

    def select(self, ends):
        i = 0
        if not self.leads_on(0, ends):
            return None
        while self.nodes[i]["kids"] is not None:
            kids = [k for k in self.nodes[i]["kids"] if self.nodes[k]["open"] and self.leads_on(k, ends)]
            i = max(kids, key=lambda k: (self.mean(k) + self.bonus(self.nodes[i]["n"], self.nodes[k]["n"]), -k))
        return i

    def flat(self):
        def is_open(i):
            return i is None or (self.nodes[i]["open"] and is_open(self.nodes[i]["up"]))

        states = [i for i, node in enumerate(self.nodes) if not node["end"] and is_open(i)]
        return max(states, key=lambda i: (self.mean(i) + self.bonus(self.nodes[0]["n"], self.nodes[i]["draws"]), -i))

    def expand(self, i):
        node = self.nodes[i]
        size = min(self.config.num_sample, self.config.budget - len(self.programs))
        seed = derive_seed(self.seed, "search", PROBLEM.id, node["code"], node["draws"])
        node["kids"] = node["kids"] or []
        for place in range(size):
            completion = self.world.complete(node["code"], np.random.default_rng([seed, place]))
            lines = completion.text.splitlines(keepends=True)
            code, end = node["code"] + lines[0], len(lines) == 1
            self.programs.append(node["code"] + completion.text)
            kid = next((k for k in node["kids"] if self.nodes[k]["code"] == code and self.nodes[k]["end"] == end), None)
            if kid is None:
                kid = len(self.nodes)
                self.nodes.append(
                    {"code": code, "end": end, "up": i, "n": 0, "w": 0.0, "open": True, "kids": None, "draws": 0}
                )
                node["kids"].append(kid)
            if self.by_value:
                self.add(kid, 1, self.score(kid))
            else:
                self.add(i, 1, self.world.reward[self.programs[-1]])
        node["draws"] += size
        ranked = sorted(node["kids"], key=lambda k: (-self.mean(k), k))
        for rank, kid in enumerate(ranked):
            self.nodes[kid]["open"] = rank < self.config.num_decision


@pytest.mark.parametrize(
    "options", [{}, {"backup": "completions"}, {"source": "rewards", "backup": "completions", "c": 0.2}]
)
def test_the_published_search_is_a_plain_writing_of_it(options):
    repeats = flats = 0
    for seed in range(12):
        world = World(seed, depth=4, width=4, early=0.3)
        config = SearchConfig.paper(budget=63, num_sample=4, num_decision=2 + seed % 3, **options)
        tree = search_world(world, config, seed)
        plain = Plain(world, config, seed).run()
        assert [draw.program for draw in tree.draws] == plain.programs
        assert len(tree.nodes) == len(plain.nodes)
        for node, other in zip(tree.nodes, plain.nodes, strict=True):
            assert (node.state.code, node.state.terminal) == (other["code"], other["end"])
            assert (node.visits, node.draws, not node.pruned) == (other["n"], other["draws"], other["open"])
            assert node.total == pytest.approx(other["w"], abs=1e-9)
        repeats += sum(node.visits for node in tree.nodes if node.state.terminal) if options else tree.root.visits - 63
        flats += tree.statistics().re_expansions
    assert repeats and flats  # both unusual ways were gone


def done(*texts):
    return [Completion(text, "stop") for text in texts]


def test_a_childs_value_is_the_value_models_and_the_backup_is_of_children():
    values = {"a\n": 0.2, "b\n": 0.8}
    tree = SearchTree(State(PROBLEM), SearchConfig.paper(budget=3, num_sample=3), 0)
    drive(tree, lambda *_: done("a\nx\n", "b\nx\n", "b\ny\n"), lambda state: values.get(state.code, 0.5))
    assert (tree.root.visits, tree.root.total) == (3, pytest.approx(0.2 + 0.8 + 0.8))
    assert [(child.visits, child.value) for child in tree.root.children.values()] == [(1, 0.2), (2, 0.8)]


def test_whole_programs_back_up_past_the_children_and_the_oldest_stay():
    tree = SearchTree(
        State(PROBLEM), SearchConfig.paper(budget=3, num_sample=3, num_decision=2, backup="completions"), 0
    )
    drive(tree, lambda *_: done("a\nx\n", "b\nx\n", "c\nx\n"), lambda state: 0.9 * (state.code == "c\nx\n"))
    assert (tree.root.visits, tree.root.value) == (3, pytest.approx(0.3))
    assert [(child.visits, child.pruned) for child in tree.root.children.values()] == [
        (0, False),
        (0, False),
        (0, True),
    ]


def test_a_closed_child_counts_in_its_parents_value_only_as_published():
    def root_value(config):
        tree = SearchTree(State(PROBLEM), config(budget=2, num_sample=2, num_decision=1), 0)
        return drive(
            tree, lambda *_: done("a\nx\n", "b\nx\n"), lambda state: 1.0 * state.code.startswith("a")
        ).root.value

    assert root_value(SearchConfig.paper) == 0.5 and root_value(SearchConfig) == 1.0


def test_a_repeated_program_is_a_visit_and_no_sample():
    def sample(state, n, _):
        return done(*["good\n", "a\nx\n"][:n]) if not state.code else done(*["x\ny\n"] * n)

    asked = Counter()

    def counted(state, n, seed):
        asked[state.code] += n
        return sample(state, n, seed)

    tree = SearchTree(State(PROBLEM), SearchConfig.paper(budget=4, num_sample=2), 0)
    drive(tree, counted, lambda state: 1.0 * (state.code == "good\n"))
    assert asked == {"": 2, "a\n": 2}
    finished = tree.root.children["good\n", True]
    assert (finished.visits, finished.draws, finished.arrivals) == (2, 0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"selection": "puct"},
        {"aggregate": "max"},
        {"widening": "adaptive"},
        {"reuse_suffixes": True},
        {"leaves_in_flight": 2},
    ],
)
def test_options_that_the_paper_does_not_have_are_refused(change):
    with pytest.raises(ConfigError, match="published"):
        SearchConfig.paper(**change)
