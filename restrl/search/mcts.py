"""Monte Carlo tree search over lines of code as ask/tell (ReST-RL, section 3.3: value collection and VM-MCTS).

`SearchTree.ask` says what the tree wants to know; `tell_samples`, `tell_values` and `tell_rewards` answer in any order.
One round: choose up to ``leaves_in_flight`` leaves by UCT, sample completions from their states, score what is new,
back up. Answers are applied in the order of the wants when a round is complete, so the tree depends on its seed, its
settings and the answers, never on their timing.

Two ways of valuing:

- collection (``source="rewards"``): every finished completion gets its real reward, which is backed up along its path;
- decoding (``source="values"``): a completion is worth the value model's value of the deepest state of it that is in
  the tree, so backup uses the values of the children; finished programs are scored as answers.

Deviations from the paper:
1. Counts are completions, not iterations, and the budget is the number of sampled completions, exactly.
2. Terminal states are never selected. With no leaf left to expand, the state with the best flat UCT score is sampled
   again.
3. Children beyond ``num_decision`` are pruned by value, not by age, and leave their parent's value.
4. A line that ends the program and the same line that goes on are two children.
5. A completion that was cut off is no program: no answer, reward 0; its whole lines still make children.
6. ``reuse_suffixes``: rests of completions that pass through a leaf stand in for new samples from it.
7. A state is scored once.
8. Options: PUCT with line priors, the maximum as backup, progressive and adaptive widening, several leaves at once.

``algorithm = "paper"`` counts as published instead: `restrl.search.paper`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from restrl.errors import EngineError
from restrl.search.config import SearchConfig
from restrl.search.drawing import Drawing
from restrl.search.paper import back_up_as_published, repeat_finished
from restrl.search.puct import TextLogprob
from restrl.search.selection import select_again, select_leaf
from restrl.search.tree import Draw, Node, StateKey, next_step
from restrl.search.wants import RewardWant, ValueWant
from restrl.seeds import derive_seed
from restrl.types import Completion, State


@dataclass(slots=True)
class _Expansion:
    """A leaf under way: where, how many new completions, what was sampled, and which completions move on from here."""

    node: Node
    n: int
    want_id: int | None
    draws: list[Draw] = field(default_factory=list)
    movers: list[Draw] = field(default_factory=list)


class SearchTree(Drawing):
    """One problem's search.

    Attributes:
        root: The root node.
        config: The settings.
        draws: The completions in the order of sampling.
        seed: The seed.
    """

    def __init__(self, root: State, config: SearchConfig, seed: int) -> None:
        """Plans the first round.

        Args:
            root: Where the search starts: a non-terminal state, mostly the problem alone.
            config: The settings.
            seed: Seed of the search; every request's seed derives from it, the state and the number of draws there.

        Raises:
            ValueError: The root is terminal.
        """
        super().__init__(root, seed)
        self.config = config
        self._round: list[_Expansion] = []
        self._sampled = True
        self._planned = self._counted = 0
        self._advance()

    @property
    def num_counted(self) -> int:
        """Completions that are backed up; those of the round under way come at its end."""
        return self._counted

    def _advance(self) -> None:
        """Goes on until something has to be asked, or the search is done."""
        while self.done:
            if not self._sampled:
                self._take_samples()
                self._sampled = True
                self._want_scores()
            elif self._round:
                self._take_scores()
                self._back_up()
            elif self._planned < self.config.budget:
                self._plan()
                self._sampled = False
            else:
                self._let_go()
                return

    def _let_go(self) -> None:
        """Drops what a finished search has no more use for: its states, completions and statistics stay."""
        self._scores.clear()
        for node in self._nodes:
            node.stubs = []
            node.logprobs = None
        for draw in self.draws:
            draw.likelihood = None

    def _plan(self) -> None:
        """Chooses the leaves of the next round and wants their samples."""
        while len(self._round) < self.config.leaves_in_flight and self._planned < self.config.budget:
            node = self._choose()
            if node is None:
                if self._round:
                    return
                node = select_again(self._nodes, self.config)
            self._re_expansions += node.expanded
            inherited = len(node.stubs)
            n = min(max(0, self.config.num_sample - inherited), self.config.budget - self._planned)
            node.busy = True
            for ancestor in node.lineage():
                ancestor.in_flight += n
            self._planned += n
            seed = derive_seed(self.seed, "search", node.state.problem.id, node.state.code, node.draws)
            self._round.append(_Expansion(node, n, self._request(node, n, seed)))

    def _choose(self) -> Node | None:
        """Returns the next leaf to expand, if there is one."""
        node = select_leaf(self._nodes, self.config)
        if self.config.algorithm == "paper" and node is not None:
            first = select_leaf(self._nodes, self.config, finished=True)
            if first is not None and first.state.terminal:
                repeat_finished(first, self._score_of)
                node = select_leaf(self._nodes, self.config)
        return node

    def _take_samples(self) -> None:
        """Turns the round's completions into draws, in the order of the wants."""
        for expansion in self._round:
            if expansion.want_id is None:
                continue
            for completion in self._samples.pop(expansion.want_id):
                expansion.draws.append(self._record(expansion.node, completion, self._likelihood(completion)))

    def _likelihood(self, completion: Completion) -> TextLogprob | None:
        """Returns what the prior needs of a completion.

        Raises:
            EngineError: The completion has no log-probability.
        """
        if self.config.prior != "logprob":
            return None
        likelihood = TextLogprob.of(completion)
        if likelihood is None:
            raise EngineError(
                f"the policy gave no log-probability for a completion of {self.root.state.problem.id}, which the prior "
                "'logprob' needs; set prior = 'frequency', or use an engine that gives them"
            )
        return likelihood

    def _want_scores(self) -> None:
        """Wants a score for every state of the round that has none yet."""
        keys: list[StateKey] = []
        for expansion in self._round:
            # Frozen here: another expansion of the round may leave more stubs at this node, which have no score yet.
            expansion.movers = [*expansion.node.stubs, *expansion.draws]
            self._reused += len(expansion.node.stubs)
            expansion.node.stubs = []
            if self.config.backup == "children":
                steps = [next_step(draw.tip.state.code, draw.code, draw.finished) for draw in expansion.movers]
                keys += [step for step in steps if step is not None]
            keys += [(draw.program, True) for draw in expansion.draws if draw.finished]
        self._want_missing(keys, RewardWant if self.config.source == "rewards" else ValueWant)

    def _back_up(self) -> None:
        """Counts the round's completions, makes the children, and releases the leaves."""
        for expansion in self._round:
            node = expansion.node
            for draw in expansion.draws:
                draw.score = self._scores[draw.program, True] if draw.finished else None
            if self.config.algorithm == "paper":
                back_up_as_published(node, expansion.movers, self.config, self._child_of, self._score_of)
            else:
                self._back_up_own(expansion)
            self._counted += len(expansion.draws)
            node.moved += len(expansion.movers)
            node.draws += expansion.n
            node.expanded = True
            node.busy = False
            node.set_line_priors(self.config.prior)
            if self.config.aggregate == "max":
                node.take_maximum()
            for ancestor in node.lineage():
                ancestor.in_flight -= expansion.n
        self._round = []

    def _back_up_own(self, expansion: _Expansion) -> None:
        node = expansion.node
        for child in node.children.values():
            child.set_pruned(False)
        for draw in expansion.draws:
            draw.worth = draw.score if draw.score is not None and self.config.backup == "completions" else 0.0
            node.credit(1, draw.worth)
        for draw in expansion.movers:
            self._move(draw)
        node.prune_children(self.config.num_decision)

    def _move(self, draw: Draw) -> None:
        """Moves a completion one step down the tree, making the child if it is new."""
        node = draw.tip
        child = self._child_of(node, draw)
        if self.config.backup == "children":
            worth = 0.0 if child is None else self._scores[child.state.code, child.state.terminal]
            node.credit(0, worth - draw.worth)
            draw.worth = worth
        if child is not None:
            child.enter(draw)
            if self.config.reuse_suffixes and not child.state.terminal:
                child.stubs.append(draw)

    def _child_of(self, node: Node, draw: Draw) -> Node | None:
        """Returns the child of ``node`` that a completion goes to, made if new; None where its line is not whole."""
        key = next_step(node.state.code, draw.code, draw.finished)
        if key is None:
            return None
        child = node.children.get(key)
        if child is None:
            child = Node(State(node.state.problem, *key), node, len(self._nodes))
            child.scored_value = self._scores.get(key) if self.config.source == "values" else None
            if draw.likelihood is not None:
                origin = len(node.state.code) - draw.start
                end = None if key[1] else len(key[0]) - draw.start
                child.logprobs = draw.likelihood.between(origin, end), draw.likelihood.mean
            self._nodes.append(child)
            node.children[key] = child
        return child

    def _score_of(self, state: State) -> float:
        """Returns the score of a state that has one.

        Raises:
            KeyError: It has none yet.
        """
        return self._scores[state.code, state.terminal]
