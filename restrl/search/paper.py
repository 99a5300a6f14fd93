"""Counting as published (ReST-RL, section 3.3), for ``algorithm = "paper"``; the search around it is the same.

An iteration selects by UCT, expands the leaf with ``num_sample`` completions, and backs up:

- VM-MCTS (``backup = "children"``): a child is valued by the value model when it is made, and every completion that
  goes there is one visit worth that value. The node and all its ancestors get the children's visits and values on top
  of what they had, so a state's own first value stays part of its mean.
- ORM-MCTS and collection (``backup = "completions"``): the node and its ancestors get one visit per completion, worth
  its score. A new child starts with no visits and value 0.

Where the published text is silent, this follows the released program as far as it is no mistake:

1. A visit is a completion, so that an iteration adds ``num_sample`` of them. The children that stay selectable are the
   ``num_decision`` with the best values when the state is expanded, the oldest first where they are equal, and so
   always the oldest with ``backup = "completions"``. Finished ones take a place.
2. A child that is not selectable still counts in its parent's value.
3. A selection that ends at a finished program repeats its value as a visit. Published, it also uses up an iteration, so
   that fewer completions are sampled than the budget says; here the iteration then selects once more with finished
   programs closed, and the budget of sampled completions is spent exactly.
4. When every selectable leaf is a finished program, the published search repeats them to the end. Here, as in our own
   search, the state with the best flat UCT score is sampled again, for the budget must be spent.
5. Among equal scores the oldest child is taken; the released program draws lots, unseeded.
6. The answer is the best-scored finished program, the earliest among equals.

States, actions and finished programs are those of `restrl.search.tree`: a blank or comment line joins the next action,
the same line finished and going on are two states, a completion that was cut off is no program and one without a whole
line counts 0. Scores are taken once per state, which changes no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from restrl.search.config import SearchConfig
from restrl.search.tree import Draw, Node
from restrl.types import State


def back_up_as_published(
    node: Node,
    draws: Iterable[Draw],
    config: SearchConfig,
    child_of: Callable[[Node, Draw], Node | None],
    score_of: Callable[[State], float],
) -> None:
    """Counts the completions sampled from ``node``, makes its children, and closes all but ``num_decision`` of them.

    Args:
        node: The state that was expanded.
        draws: The completions, scored where they are finished.
        config: The settings.
        child_of: Makes or finds the child that a completion goes to.
        score_of: The score of a state that was scored.
    """
    for draw in draws:
        child = child_of(node, draw)
        if config.backup == "completions":
            draw.worth = 0.0 if draw.score is None else draw.score
            node.count(1, draw.worth)
        else:
            draw.worth = 0.0 if child is None else score_of(child.state)
            (child or node).count(1, draw.worth)
        if child is not None:
            child.arrivals += 1
            draw.tip = child
    ranked = sorted(node.children.values(), key=lambda child: (-child.value, child.order))
    for rank, child in enumerate(ranked):
        child.pruned = rank >= config.num_decision


def repeat_finished(leaf: Node, score_of: Callable[[State], float]) -> None:
    """Counts a finished program that the selection ended at once more."""
    leaf.count(1, score_of(leaf.state))
