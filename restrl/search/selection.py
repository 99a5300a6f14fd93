"""Where a search samples next: the way down the tree (ReST-RL, section 3.3). Selection changes nothing.

Settings that the paper does not have:

- ``selection = "puct"``: the line's prior probability weighs exploration (`restrl.search.puct`).
- ``widening``: ``fixed``, the paper's, samples an expanded state again only when the tree has run out of leaves.
  ``progressive`` samples a state again on the way as long as fewer than ``k * N^alpha`` completions were turned into
  children there, N its visits (after Coulom 2007; draws are counted, not children, since a policy that is sure of its
  line gives no second child). ``adaptive`` makes sampling again one more arm: the state's value, and as visits the
  draws from this very state (after AB-MCTS, Inoue et al. 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from restrl.search.config import SearchConfig
from restrl.search.puct import puct_scores, unseen_mass
from restrl.search.tree import Node
from restrl.search.uct import uct_scores


def select_leaf(nodes: Sequence[Node], config: SearchConfig, *, finished: bool = False) -> Node | None:
    """Goes down from the root to a state to sample; None if no state is left that never was.

    Args:
        nodes: All nodes of the tree, the root first.
        config: The settings.
        finished: Finished programs are leaves too.
    """
    reachable = _reachable(nodes, finished)
    node = nodes[0]
    if node not in reachable:
        return None
    while node.expanded or node.busy:
        if config.widening == "progressive" and not node.busy and wants_width(node, config):
            return node
        children = [child for child in node.children.values() if child in reachable]
        widens = config.widening == "adaptive" and not node.busy
        choice = int(_scores(node, children, widens, config).argmax())
        if choice == len(children):
            return node
        node = children[choice]
    return node


def wants_width(node: Node, config: SearchConfig) -> bool:
    """Returns whether progressive widening samples an expanded state again: ``moved < k * visits^alpha``."""
    return node.moved < config.widening_k * node.visits**config.widening_alpha


def select_again(nodes: Sequence[Node], config: SearchConfig) -> Node:
    """Chooses an expanded state to sample again: UCT over all of them, counting the draws from the very state.

    Args:
        nodes: All nodes of the tree, the root first.
        config: The settings.
    """
    candidates = [
        node for node in nodes if not node.state.terminal and not any(ancestor.pruned for ancestor in node.lineage())
    ]
    scores = uct_scores(
        [node.value for node in candidates],
        [node.draws for node in candidates],
        nodes[0].visits,
        c=config.c,
        eps=config.eps,
    )
    return candidates[int(scores.argmax())]


def _reachable(nodes: Sequence[Node], finished: bool) -> set[Node]:
    """Returns the leaves that may be chosen and all nodes on the way to them."""
    reachable: set[Node] = set()
    for leaf in nodes:
        if leaf.expanded or leaf.busy or (leaf.state.terminal and not finished):
            continue
        path: list[Node] = []
        for node in leaf.lineage():
            if node.pruned or node in reachable:
                break
            path.append(node)
        # The climb ends at the root or at a node known to be reachable, unless a pruned one cut it short.
        if path and (path[-1].parent is None or path[-1].parent in reachable):
            reachable.update(path)
    return reachable


def _scores(node: Node, children: Sequence[Node], widens: bool, config: SearchConfig) -> NDArray[np.float64]:
    """Scores a state's children and, with ``widens``, sampling the state again as the last arm."""
    arms = [(child.value, child.visits, child.in_flight, child.line_prior or 0.0) for child in children]
    if widens:
        unseen = unseen_mass([child.arrivals for child in node.children.values()])
        arms.append((node.value, node.draws, 0, unseen))
    values_C, visits_C, in_flight_C, priors_C = zip(*arms, strict=True)
    if config.selection == "puct":
        return puct_scores(
            values_C,
            visits_C,
            priors_C,
            node.visits,
            c=config.c,
            in_flight_C=in_flight_C,
            parent_in_flight=node.in_flight,
        )
    return uct_scores(
        values_C,
        visits_C,
        node.visits,
        c=config.c,
        eps=config.eps,
        in_flight_C=in_flight_C,
        parent_in_flight=node.in_flight,
    )
