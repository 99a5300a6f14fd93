"""Tree search over lines of code as ask/tell: the selection formula (`uct`), the tree (`tree`), the search (`mcts`).

Pure: the standard library and numpy; whoever drives a search does the sampling and the scoring.
"""

from restrl.search.config import SearchConfig
from restrl.search.mcts import SearchTree
from restrl.search.saved import SavedDraw, SavedNode, SavedTree, tree_to_record
from restrl.search.tree import Draw, Node, TreeStatistics
from restrl.search.uct import uct_scores
from restrl.search.wants import RewardWant, SampleWant, ValueWant, Want

__all__ = [
    "Draw",
    "Node",
    "RewardWant",
    "SampleWant",
    "SavedDraw",
    "SavedNode",
    "SavedTree",
    "SearchConfig",
    "SearchTree",
    "TreeStatistics",
    "ValueWant",
    "Want",
    "tree_to_record",
    "uct_scores",
]
