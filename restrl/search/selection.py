"""Where a search samples next: the way down the tree by UCT (ReST-RL, section 3.3). Selection changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from restrl.search.config import SearchConfig
from restrl.search.tree import Node
from restrl.search.uct import uct_scores


def select_leaf(nodes: Sequence[Node], config: SearchConfig) -> Node | None:
    """Goes down from the root by UCT to a state to expand; None if no state is left that never was.

    With ``adaptive_width`` a state is one more child of itself: its value, and as visits the draws from this very
    state.

    Args:
        nodes: All nodes of the tree, the root first.
        config: The settings.
    """
    root = nodes[0]
    reachable: set[Node] = set()
    for leaf in nodes:
        if leaf.expanded or leaf.busy or leaf.state.terminal:
            continue
        path: list[Node] = []
        for node in leaf.lineage():
            if node.pruned or node in reachable:
                break
            path.append(node)
        # The climb ends at the root or at a node known to be reachable, unless a pruned one cut it short.
        if path and (path[-1].parent is None or path[-1].parent in reachable):
            reachable.update(path)
    if root not in reachable:
        return None
    node = root
    while node.expanded or node.busy:
        children = [child for child in node.children.values() if child in reachable]
        arms = [(child.value, child.visits, child.in_flight) for child in children]
        if config.adaptive_width and not node.busy:
            arms.append((node.value, node.draws, 0))
        values_C, visits_C, in_flight_C = zip(*arms, strict=True)
        scores_C = uct_scores(
            values_C,
            visits_C,
            node.visits,
            c=config.c,
            eps=config.eps,
            in_flight_C=in_flight_C,
            parent_in_flight=node.in_flight,
        )
        choice = int(scores_C.argmax())
        if choice == len(children):
            return node
        node = children[choice]
    return node


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
