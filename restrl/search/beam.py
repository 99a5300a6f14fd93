"""Step-level beam search and diverse verifier tree search over lines of code, as ask/tell.

A *beam* is a state: a prefix of whole lines. One round expands the beams at one depth: from each, completions are
sampled to the end; the first line of each makes a child, its program is a candidate, and the rest of it waits at the
child as one of the child's own samples, so that only what is missing to ``num_sample`` is drawn there. The value model
scores the children, and the best ``width`` of them are the beams of the next round.

- *Beam search*: one group of ``width`` beams.
- *Diverse verifier tree search* (DVTS; Beeching, Tunstall and Rush 2024): several groups, each with a tree of its own,
  that share the budget evenly; with ``width`` 1 each follows its best line. The groups know nothing of each other, so
  one misjudged line cannot take all beams; only scores are shared, since a state has one value.

A pass ends when every beam has. What is left of the budget goes to further passes, of states that were passed over
before (complete anytime beam search, Zhang 1998), best first, from the shallowest depth that has any; where a group has
no such state any more, all its states are sampled again, from the root down.

The number of completions is the budget, exactly, and nothing depends on it but the end: the first b completions are
those of a search with budget b.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from restrl.errors import ConfigError
from restrl.search.drawing import Drawing
from restrl.search.tree import Draw, Node, StateKey, next_step
from restrl.search.wants import ValueWant
from restrl.seeds import derive_seed
from restrl.types import State


@dataclass(frozen=True, slots=True)
class BeamConfig:
    """Settings of one beam search.

    Attributes:
        budget: Completions to sample, >= 0.
        num_sample: Completions through a state that is expanded, >= 1.
        width: Beams of a group, >= 1.
        groups: Groups, >= 1: 1 is beam search; with ``width`` 1 they are the subtrees of DVTS.
    """

    budget: int = 100
    num_sample: int = 5
    width: int = 4
    groups: int = 1

    def __post_init__(self) -> None:
        """Raises ConfigError for a number out of range."""
        if self.budget < 0 or min(self.num_sample, self.width, self.groups) < 1:
            raise ConfigError(
                f"beam search: budget {self.budget}, num_sample {self.num_sample}, width {self.width}, groups "
                f"{self.groups}; the budget must be at least 0, the others at least 1"
            )


@dataclass(slots=True)
class _Group:
    """A group of beams: its tree by depth, the depth that comes next, and the completions that it has planned."""

    number: int
    levels: list[list[Node]]
    depth: int = 0
    planned: int = 0


@dataclass(slots=True)
class _Expansion:
    """A beam under way: how many new completions, and which completions move on from here."""

    group: _Group
    node: Node
    n: int
    want_id: int | None
    movers: list[Draw] = field(default_factory=list)


class BeamSearch(Drawing):
    """One problem's beam search.

    Attributes:
        root: The root node; with several groups, theirs are its children and the same state.
        config: The settings.
        draws: The completions in the order of sampling.
        nodes: All nodes in the order of creation, the root first.
        seed: The seed.
    """

    def __init__(self, root: State, config: BeamConfig, seed: int) -> None:
        """Plans the first round.

        Args:
            root: Where the search starts: a non-terminal state, mostly the problem alone.
            config: The settings.
            seed: Seed of the search; every request's seed derives from it, the group, the state and its draws.

        Raises:
            ValueError: The root is terminal.
        """
        super().__init__(root, seed)
        self.config = config
        roots = [self.root]
        if config.groups > 1:
            roots = [Node(root, self.root, number + 1) for number in range(config.groups)]
            self._nodes += roots
        self._groups = [_Group(number, [[node]]) for number, node in enumerate(roots)]
        self._round: list[_Expansion] = []
        self._sampled = True
        self._advance()

    def _depth(self) -> int:
        return max(len(group.levels) for group in self._groups) - 1

    @property
    def num_counted(self) -> int:
        """Completions that are counted in the tree: all but those of the round under way."""
        return self.root.visits

    @property
    def _planned(self) -> int:
        return sum(group.planned for group in self._groups)

    def _advance(self) -> None:
        while self.done:
            if not self._sampled:
                self._take_samples()
                self._want_scores()
                self._sampled = True
            elif self._round:
                self._take_scores()
                self._grow()
            elif self._planned < self.config.budget:
                self._plan()
                self._sampled = False
            else:
                return

    def _plan(self) -> None:
        """Chooses the beams of every group whose turn it is, and wants their samples."""
        # A group that has drawn more than its share waits, so that the budget is split evenly at any moment.
        least = min(group.planned for group in self._groups)
        for group in self._groups:
            if group.planned >= least + self.config.num_sample * self.config.width:
                continue
            for node in self._beams(group):
                left = self.config.budget - self._planned
                if left:
                    self._expand(group, node, left)

    def _beams(self, group: _Group) -> list[Node]:
        """Returns the best states of the next depth that were not expanded; begins a new pass where there are none."""
        depths = [depth for depth, nodes in enumerate(group.levels) if any(map(_is_open, nodes))]
        if not depths:
            for nodes in group.levels:
                for node in nodes:
                    node.expanded = False
            depths = [0]
        depth = min((depth for depth in depths if depth >= group.depth), default=depths[0])
        group.depth = depth + 1
        nodes = [node for node in group.levels[depth] if _is_open(node)]
        nodes.sort(key=lambda node: (-self._scores.get((node.state.code, False), 0.0), node.order))
        return nodes[: self.config.width]

    def _expand(self, group: _Group, node: Node, left: int) -> None:
        n = min(max(0, self.config.num_sample - len(node.stubs)), left)
        seed = derive_seed(self.seed, "beam", group.number, node.state.problem.id, node.state.code, node.draws)
        expansion = _Expansion(group, node, n, self._request(node, n, seed), node.stubs)
        self._reused += len(node.stubs)
        node.stubs = []
        self._re_expansions += bool(node.children)
        node.draws += n
        node.expanded = True
        group.planned += n
        self._round.append(expansion)

    def _take_samples(self) -> None:
        """Turns the round's completions into draws, in the order of the wants."""
        for expansion in self._round:
            if expansion.want_id is None:
                continue
            for completion in self._samples.pop(expansion.want_id):
                expansion.movers.append(self._record(expansion.node, completion))

    def _want_scores(self) -> None:
        """Wants the values of the new programs, and of the new states unless the search is over."""
        keys: list[StateKey] = []
        is_last = self._planned == self.config.budget
        for expansion in self._round:
            for draw in expansion.movers:
                step = next_step(draw.tip.state.code, draw.code, draw.finished)
                if step is not None and not step[1] and not is_last:
                    keys.append(step)
                if draw.finished and draw.score is None:
                    keys.append((draw.program, True))
        self._want_missing(keys, ValueWant)

    def _grow(self) -> None:
        """Counts the round's completions and lets each pass on to the child that its next line makes."""
        for expansion in self._round:
            for draw in expansion.movers:
                if draw.finished and draw.score is None:
                    draw.score = draw.worth = self._scores[draw.program, True]
                if draw.start == len(expansion.node.state.code):
                    expansion.node.credit(1, draw.worth)
                self._move(expansion.group, draw)
        self._round = []

    def _move(self, group: _Group, draw: Draw) -> None:
        node = draw.tip
        key = next_step(node.state.code, draw.code, draw.finished)
        if key is None:
            return
        child = node.children.get(key)
        if child is None:
            child = Node(State(node.state.problem, *key), node, len(self._nodes))
            child.scored_value = self._scores.get(key)
            self._nodes.append(child)
            node.children[key] = child
            depth = sum(1 for _ in child.lineage()) - (2 if self.config.groups > 1 else 1)
            if depth == len(group.levels):
                group.levels.append([])
            group.levels[depth].append(child)
        child.enter(draw)
        if not child.state.terminal:
            child.stubs.append(draw)


def _is_open(node: Node) -> bool:
    return not node.expanded and not node.state.terminal
