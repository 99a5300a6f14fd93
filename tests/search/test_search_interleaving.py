"""Any interleaving of asking and telling, as a state machine: what is conserved after every step."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from search_cases import PROBLEM, answer, lengths, outline, own_configs, paper_configs, policies, policy_of, run, score

from restrl.search import SearchTree, ValueWant
from restrl.types import SamplingParams, State


class Interleaving(RuleBasedStateMachine):
    """Asks and tells in any order; `configs` is set by the subclasses."""

    configs = own_configs

    def __init__(self):
        super().__init__()
        self.waiting = []

    @initialize(programs=policies, data=st.data(), max_tokens=lengths)
    def begin(self, programs, data, max_tokens):
        self.config = data.draw(self.configs)
        self.programs, self.max_tokens = programs, max_tokens
        self.policy, self.params = policy_of(programs), SamplingParams(max_new_tokens=max_tokens)
        self.tree = SearchTree(State(PROBLEM), self.config, 5)

    @rule(limit=st.integers(0, 4) | st.none())
    def ask(self, limit):
        wants = self.tree.ask(limit)
        assert limit is None or len(wants) <= limit
        assert not {want.id for want in wants} & {want.id for want in self.waiting}
        self.waiting += wants

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def tell_one(self, data):
        want = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        answer(self.tree, want, self.policy, self.params)

    @precondition(lambda self: len(self.waiting) > 1)
    @rule()
    def tell_all_values_at_once(self):
        values = [want for want in self.waiting if isinstance(want, ValueWant)]
        self.waiting = [want for want in self.waiting if want not in values]
        self.tree.tell_values({want.id: score(want.state) for want in reversed(values)})

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def go_on_for_a_while(self, data):
        for _ in range(data.draw(st.integers(1, 12))):
            self.waiting += self.tree.ask()
            for want in reversed(self.waiting):
                answer(self.tree, want, self.policy, self.params)
            self.waiting = []

    @rule()
    def tell_what_nobody_asked(self):
        with pytest.raises(ValueError, match="waits"):
            self.tree.tell_samples(10**9, [])

    @invariant()
    def what_is_under_way_is_counted_on_its_way(self):
        if not hasattr(self, "tree"):
            return
        for node in self.tree.nodes:
            own = node.in_flight - sum(child.in_flight for child in node.children.values())
            assert 0 <= own <= self.config.num_sample and (own == 0 or node.busy)
        assert self.tree.num_counted + self.tree.root.in_flight <= self.config.budget
        busy = sum(node.busy for node in self.tree.nodes)
        assert busy <= self.config.leaves_in_flight
        assert not self.tree.done or (busy == 0 and self.tree.num_counted == self.config.budget)

    @invariant()
    def visits_and_sums_are_conserved(self):
        if not hasattr(self, "tree"):
            return
        tree = self.tree
        if self.config.algorithm == "own":
            assert tree.root.visits == tree.num_counted
        for node in tree.nodes:
            children = list(node.children.values())
            here = [draw for draw in tree.draws[: tree.num_counted] if draw.tip is node]
            if self.config.algorithm == "own":
                assert node.visits == len(here) + sum(child.visits for child in children)
                total = sum(draw.worth for draw in here) + sum(child.total for child in children)
                assert node.total == pytest.approx(total, abs=1e-9)
            else:
                assert node.visits >= sum(child.visits for child in children)
            kept = [child for child in children if not child.pruned or self.config.algorithm == "paper"]
            assert node.visits - node.kept_visits == sum(c.visits for c in children) - sum(c.kept_visits for c in kept)

    def teardown(self):
        if not hasattr(self, "tree"):
            return
        while not self.tree.done:
            self.waiting += self.tree.ask()
            answer(self.tree, self.waiting.pop(), self.policy, self.params)
            self.what_is_under_way_is_counted_on_its_way()
        assert all(node.in_flight == 0 and not node.busy for node in self.tree.nodes)
        assert outline(self.tree) == outline(run(self.programs, self.config, self.max_tokens))


class PublishedInterleaving(Interleaving):
    configs = paper_configs


Interleaving.TestCase.settings = settings(deadline=None, max_examples=30, stateful_step_count=20)
PublishedInterleaving.TestCase.settings = settings(deadline=None, max_examples=15, stateful_step_count=20)


def run_machine(machine):
    case = machine.TestCase()
    case.runTest()


def test_any_interleaving_conserves_counts():
    run_machine(Interleaving)


def test_any_interleaving_conserves_published_counts():
    run_machine(PublishedInterleaving)
