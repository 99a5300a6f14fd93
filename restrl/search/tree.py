"""The search tree: nodes are states, children are reached by a first action, counts are completions.

Every sampled completion (a `Draw`) is counted once at each node that it is known to pass through, so that

    node.visits = completions through the node,
    node.total  = the sum of what those completions are worth,

whatever the order of events; the root's visits are the completions sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from restrl.actions import finish, split_actions
from restrl.search.puct import TextLogprob, shares, softmax
from restrl.types import State

StateKey = tuple[str, bool]


@dataclass(slots=True, eq=False)
class Draw:
    """One sampled completion.

    Attributes:
        index: Its place in the order of sampling, from 0: the budget that it took is ``index + 1``.
        start: Characters of ``code`` that were there before sampling.
        code: The sampled state's code and the completion, as sampled.
        finished: The policy ended it; else it was cut off by the token limit.
        num_tokens: Generated tokens.
        score: Reward or value of the finished program; None if it was cut off, or not scored yet.
        worth: What it counts for in the statistics of the nodes that it passes through.
        tip: The deepest node that it is known to pass through.
        likelihood: How likely the policy finds it; kept only where the search asks for it.
    """

    index: int
    start: int
    code: str
    finished: bool
    num_tokens: int
    tip: Node
    score: float | None = None
    worth: float = 0.0
    likelihood: TextLogprob | None = None

    @property
    def program(self) -> str:
        """The code, normalised if it is a finished program."""
        return finish(self.code) if self.finished else self.code


@dataclass(slots=True, eq=False)
class Node:
    """A state in the tree.

    Attributes:
        state: The state.
        parent: None for the root.
        order: Creation order in the tree, the root 0.
        children: By (code, terminal) of the child's state. The same last line, finished and not, gives two children.
        visits: Completions through this node.
        total: Sum of their worth.
        kept_visits: The same without the completions below pruned descendants.
        kept_total: The same without the completions below pruned descendants.
        in_flight: Completions under way from this node or below.
        draws: Completions sampled from this very state.
        arrivals: Completions that came here from the parent; the policy chose the line that often, for the others
            through this node were sampled at it or below.
        moved: Completions whose step from here was taken.
        maximum: Value of the best child, where the search backs up the maximum and there is a child.
        stubs: Completions through this node whose next action has not become a child.
        expanded: Completions have been turned into children here.
        busy: Its expansion is under way.
        pruned: Not selectable: the parent has enough better children.
        scored_value: The value model's value of the state, if it was asked.
        line_prior: Probability of the last action among the parent's known ones.
        logprobs: Log-probability of the last action, if known, and mean log-probability per token of a completion that
            goes there.
    """

    state: State
    parent: Node | None
    order: int
    children: dict[StateKey, Node] = field(default_factory=dict)
    visits: int = 0
    total: float = 0.0
    kept_visits: int = 0
    kept_total: float = 0.0
    in_flight: int = 0
    draws: int = 0
    arrivals: int = 0
    moved: int = 0
    maximum: float | None = None
    stubs: list[Draw] = field(default_factory=list)
    expanded: bool = False
    busy: bool = False
    pruned: bool = False
    scored_value: float | None = None
    line_prior: float | None = None
    logprobs: tuple[float | None, float] | None = None

    @property
    def mean(self) -> float:
        """Mean worth of the completions through this node that are not below a pruned descendant; 0 without any."""
        return self.kept_total / self.kept_visits if self.kept_visits else 0.0

    @property
    def value(self) -> float:
        """What the state is taken to be worth: its best child's value where the search backs that up, or `mean`."""
        return self.mean if self.maximum is None else self.maximum

    @property
    def depth(self) -> int:
        """Number of steps from the root."""
        return sum(1 for _ in self.lineage()) - 1

    def lineage(self) -> Iterator[Node]:
        """Yields this node, its parent, and so on up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent

    def credit(self, visits: int, total: float) -> None:
        """Adds completions worth ``total`` to this node and to its ancestors."""
        kept = True
        for node in self.lineage():
            node.visits += visits
            node.total += total
            if kept:
                node.kept_visits += visits
                node.kept_total += total
            kept = kept and not node.pruned

    def enter(self, draw: Draw) -> None:
        """Lets a completion that is counted at the parent pass on to this node."""
        self.visits += 1
        self.total += draw.worth
        self.kept_visits += 1
        self.kept_total += draw.worth
        self.arrivals += 1
        draw.tip = self

    def count(self, visits: int, total: float) -> None:
        """Adds visits worth ``total`` to this node and to all its ancestors, as published: pruned or not."""
        for node in self.lineage():
            node.visits += visits
            node.total += total
            node.kept_visits += visits
            node.kept_total += total

    def take_maximum(self) -> None:
        """Makes the best child's value this node's own and its ancestors'."""
        for node in self.lineage():
            node.maximum = max((child.value for child in node.children.values() if not child.pruned), default=None)

    def set_line_priors(self, kind: str) -> None:
        """Gives every child its share of the policy's choice; see `restrl.search.puct`."""
        children = list(self.children.values())
        if kind == "uniform":
            priors = shares([1.0] * len(children))
        elif kind == "frequency":
            priors = shares([child.arrivals for child in children])
        else:
            known = [child.logprobs or (None, 0.0) for child in children]
            lines = [line for line, _ in known if line is not None]
            priors = softmax(lines if len(lines) == len(known) else [mean for _, mean in known])
        for child, prior in zip(children, priors, strict=True):
            child.line_prior = prior

    def set_pruned(self, pruned: bool) -> None:
        """Takes this node's completions out of its ancestors' values, or puts them back."""
        if pruned == self.pruned:
            return
        self.pruned = pruned
        sign = -1 if pruned else 1
        node = self.parent
        while node is not None:
            node.kept_visits += sign * self.kept_visits
            node.kept_total += sign * self.kept_total
            node = None if node.pruned else node.parent

    def prune_children(self, num_decision: int) -> None:
        """Leaves the ``num_decision`` best non-terminal children selectable.

        Ranked by value, then by how often the policy went there, then by age. Terminal children are never expanded and
        take no place.
        """
        open_children = [child for child in self.children.values() if not child.state.terminal]
        ranked = sorted(open_children, key=lambda child: (-child.value, -child.visits, child.order))
        for rank, child in enumerate(ranked):
            child.set_pruned(rank >= num_decision)


@dataclass(frozen=True, slots=True)
class TreeStatistics:
    """What a search did.

    Attributes:
        completions: Sampled completions.
        unique_completions: Distinct programs among them (a cut-off one differs from the same text finished).
        cut_off: Completions that the token limit ended.
        requests: Sampling requests.
        generated_tokens: Tokens of the completions.
        prompt_tokens: Prompt tokens that went through the policy.
        reused_prompt_tokens: Prompt tokens that took no forward.
        scored_states: States that were scored (values or rewards), each once.
        repeated_scores: Scores that were needed again and taken from the tree's memory.
        reused_suffixes: Times that the rest of an earlier completion stood in for a new one.
        re_expansions: Expansions of states that had been expanded before.
        nodes: Nodes of the tree, root included.
        terminal_nodes: Terminal ones.
        depth: Steps from the root to the deepest node.
        cost: What the policy's server charged, in the currency of its prices.
    """

    completions: int
    unique_completions: int
    cut_off: int
    requests: int
    generated_tokens: int
    prompt_tokens: int
    reused_prompt_tokens: int
    scored_states: int
    repeated_scores: int
    reused_suffixes: int
    re_expansions: int
    nodes: int
    terminal_nodes: int
    depth: int
    cost: float = 0.0


def next_step(state_code: str, code: str, finished: bool) -> StateKey | None:
    """Returns (code, terminal) of the state that a completion reaches next from ``state_code``, or None.

    None: the completion was cut off before its next action was whole. Half a line is not an action.

    Args:
        state_code: Code of a state that the completion passes through; a prefix of ``code``.
        code: All of the completion's code.
        finished: The completion ended by itself.

    >>> next_step("", "a\\nb", True)
    ('a\\n', False)
    >>> next_step("a\\n", "a\\nb", True)
    ('a\\nb\\n', True)
    >>> next_step("a\\n", "a\\nb", False) is None
    True
    """
    rest = code[len(state_code) :]
    if finished:
        actions = split_actions(rest)
        if len(actions) <= 1:
            return finish(code), True
        return state_code + actions[0], False
    whole_lines = rest[: rest.rfind("\n") + 1]
    # The line that will follow takes trailing blank and comment lines with it, so they are no part of this action.
    actions = split_actions(whole_lines + "x")[:-1]
    return (state_code + actions[0], False) if actions else None
