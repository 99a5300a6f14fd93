"""Searches as plain data: what a viewer or a later program needs of a tree, and nothing twice.

A node is its action and the number of its parent, a completion the rest of its text after the deepest node that it
passes through; codes are put together again on reading. A record holds numbers, texts, booleans, None, lists and
dictionaries with text keys only, so it survives JSON:

    {"version": 1, "problem_id", "config": {...}, "seed", "nodes": [...], "draws": [...]}

Nodes stand in the order of creation, the root first with parent None; draws in the order of sampling.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from restrl.actions import finish
from restrl.errors import ArtifactError
from restrl.search.beam import BeamSearch
from restrl.search.mcts import SearchTree
from restrl.search.tree import Draw, Node
from restrl.types import Problem, State

VERSION = 1


@dataclass(frozen=True, slots=True)
class SavedNode:
    """A state of a saved search.

    Attributes:
        parent: Number of the parent; None for the root.
        action: What the state's code adds to its parent's (for the root: all of its code).
        terminal: The program is finished.
        visits: Completions through the state.
        value: Mean worth of the completions through it, those below pruned descendants left out.
        scored_value: The value model's value of the state; None if it was not asked, or not by a value model.
        line_prior: Probability of the action at the parent; None where the search did not use it.
        draws: Completions sampled from this very state.
        pruned: Not selectable.
        order: Its number.
        trim: Characters that the parent's code loses first: a finished program has no trailing blanks.
    """

    parent: int | None
    action: str
    terminal: bool
    visits: int
    value: float
    scored_value: float | None
    line_prior: float | None
    draws: int
    pruned: bool
    order: int
    trim: int = 0


@dataclass(frozen=True, slots=True)
class SavedDraw:
    """A sampled completion of a saved search.

    Attributes:
        index: Place in the order of sampling, from 0.
        start: Number of the node that it was sampled from.
        node: Number of the deepest node that it is known to pass through.
        finished: The policy ended it; else the token limit did.
        score: Reward or value of the finished program; None without one.
        tokens: Generated tokens.
        text: Its code after that of ``node``.
    """

    index: int
    start: int
    node: int
    finished: bool
    score: float | None
    tokens: int
    text: str


@dataclass(frozen=True)
class SavedTree:
    """A search read back.

    Attributes:
        problem_id: The problem.
        config: The settings of the search by name.
        seed: Its seed.
        nodes: Its states in the order of creation, the root first.
        draws: Its completions in the order of sampling.
    """

    problem_id: str
    config: Mapping[str, Any]
    seed: int
    nodes: tuple[SavedNode, ...]
    draws: tuple[SavedDraw, ...]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SavedTree:
        """Reads what `tree_to_record` wrote.

        Raises:
            ArtifactError: The version is another, a field is missing or unknown, or a number points nowhere.
        """
        version = record.get("version")
        if version != VERSION:
            raise ArtifactError(f"saved tree: version {version!r} is unknown; allowed: {VERSION}; search again")
        try:
            tree = cls(
                str(record["problem_id"]),
                dict(record["config"]),
                int(record["seed"]),
                tuple(SavedNode(**node) for node in record["nodes"]),
                tuple(SavedDraw(**draw) for draw in record["draws"]),
            )
            tree._check()
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"saved tree: {type(error).__name__} {error}; it is not what tree_to_record writes; search again"
            ) from error
        return tree

    def to_record(self) -> dict[str, Any]:
        """Returns the record that `from_record` reads."""
        return {
            "version": VERSION,
            "problem_id": self.problem_id,
            "config": dict(self.config),
            "seed": self.seed,
            "nodes": [_plain(node) for node in self.nodes],
            "draws": [dataclasses.asdict(draw) for draw in self.draws],
        }

    @cached_property
    def codes(self) -> tuple[str, ...]:
        """The code of every node's state."""
        codes: list[str] = []
        for node in self.nodes:
            before = "" if node.parent is None else codes[node.parent]
            codes.append(before[: len(before) - node.trim] + node.action)
        return tuple(codes)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """The numbers of every node's children, ascending."""
        children: list[list[int]] = [[] for _ in self.nodes]
        for number, node in enumerate(self.nodes):
            if node.parent is not None:
                children[node.parent].append(number)
        return tuple(map(tuple, children))

    @cached_property
    def programs(self) -> tuple[str, ...]:
        """The code of every completion, normalised where it is finished."""
        programs = []
        for draw in self.draws:
            code = self.codes[draw.node] + draw.text
            programs.append(finish(code) if draw.finished else code)
        return tuple(programs)

    def state(self, number: int, problem: Problem) -> State:
        """Returns a node's state."""
        return State(problem, self.codes[number], self.nodes[number].terminal)

    def path(self, number: int) -> tuple[int, ...]:
        """Returns the numbers of the nodes from the root to this one."""
        path: list[int] = []
        current: int | None = number
        while current is not None:
            path.append(current)
            current = self.nodes[current].parent
        return tuple(reversed(path))

    def answer(self, budget: int | None = None) -> int | None:
        """Returns the index of the best of the first ``budget`` completions; None without any.

        Finished before cut off, then the higher score, then the earlier one.
        """
        draws = self.draws[:budget]
        ranks = [(draw.finished, -math.inf if draw.score is None else draw.score, -draw.index) for draw in draws]
        return draws[ranks.index(max(ranks))].index if ranks else None

    def chosen_path(self, budget: int | None = None) -> tuple[int, ...]:
        """Returns the nodes that the answer passes through, from the root; empty without completions."""
        answer = self.answer(budget)
        return () if answer is None else self.path(self.draws[answer].node)

    def _check(self) -> None:
        """Raises ArtifactError for numbers that point nowhere."""
        for number, node in enumerate(self.nodes):
            parent = -1 if node.parent is None else node.parent
            if (
                (node.parent is None) != (number == 0)
                or not min(0, number - 1) <= parent < number
                or node.order != number
            ):
                raise ArtifactError(f"saved tree: node {number} has parent {node.parent} and order {node.order}")
        for index, draw in enumerate(self.draws):
            if draw.index != index or not 0 <= draw.node < len(self.nodes) or not 0 <= draw.start < len(self.nodes):
                raise ArtifactError(f"saved tree: completion {index} has index {draw.index} and node {draw.node}")


def tree_to_record(tree: SearchTree | BeamSearch) -> dict[str, Any]:
    """Returns a search as plain data; at any moment, with the completions that are backed up by then."""
    nodes = [_saved_node(node) for node in tree.nodes]
    draws = [_saved_draw(draw) for draw in tree.draws[: tree.num_counted]]
    config = dataclasses.asdict(tree.config)
    return SavedTree(tree.root.state.problem.id, config, tree.seed, tuple(nodes), tuple(draws)).to_record()


def _saved_node(node: Node) -> SavedNode:
    before = "" if node.parent is None else node.parent.state.code
    code = node.state.code
    kept = len(before if code.startswith(before) else before.rstrip())
    return SavedNode(
        parent=None if node.parent is None else node.parent.order,
        action=code[kept:],
        terminal=node.state.terminal,
        visits=node.visits,
        value=node.value,
        scored_value=node.scored_value,
        line_prior=node.line_prior,
        draws=node.draws,
        pruned=node.pruned,
        order=node.order,
        trim=len(before) - kept,
    )


def _saved_draw(draw: Draw) -> SavedDraw:
    tip = draw.tip
    # A finished tip is the whole program; what the policy wrote after it was blank.
    text = "" if tip.state.terminal else draw.code[len(tip.state.code) :]
    start = next(node for node in tip.lineage() if not node.state.terminal and len(node.state.code) <= draw.start)
    return SavedDraw(draw.index, start.order, tip.order, draw.finished, draw.score, draw.num_tokens, text)


def _plain(node: SavedNode) -> dict[str, Any]:
    record = dataclasses.asdict(node)
    if not node.trim:
        del record["trim"]
    return record
