"""Settings that all decoders share, and those of the search."""

from __future__ import annotations

from dataclasses import dataclass

from restrl.search.config import SearchConfig
from restrl.settings import setting

METHODS = (
    "greedy",
    "sample",
    "best_of_n",
    "best_of_n_prm",
    "vm_mcts",
    "orm_mcts",
    "beam_search",
    "dvts",
)


@dataclass(frozen=True, slots=True)
class DecodeConfig:
    """How answers are decoded. Every method samples exactly ``budget`` completions per problem."""

    method: str = setting("vm_mcts", "decoder", choices=METHODS, paper="vm_mcts")
    budget: int = setting(100, "completions to sample per problem", low=1, paper=100)
    num_sample: int = setting(5, "search: completions sampled from a leaf", low=1, paper=5)
    num_decision: int = setting(5, "search: children of a state that stay selectable", low=1, paper=5)
    c: float = setting(0.1, "search: weight of exploration in UCT", low=0.0, paper=0.1)
    eps: float = setting(0.1, "search: added to a child's visits in UCT", above=0.0, paper=0.1)
    reuse_suffixes: bool = setting(True, "search: let the rest of an earlier completion stand in for a new one")
    adaptive_width: bool = setting(
        False, "search: let UCT choose to sample an expanded state again, as one more child", paper=False
    )
    leaves_in_flight: int = setting(1, "search: leaves of one tree that are expanded at once", low=1, paper=1)
    likelihood_weight: float = setting(
        0.0,
        "added to every value: this times the policy's mean log-probability per token of the code; 0 = values alone",
        low=0.0,
        paper=0.0,
    )
    prm_aggregation: str = setting(
        "min",
        "best_of_n_prm: how the scores of a program's lines become one",
        choices=("min", "last", "mean"),
    )
    beam_width: int = setting(4, "beam_search: states that are expanded together", low=1)
    subtrees: int = setting(4, "dvts: independent greedy searches that share the budget", low=1)
    window: int = setting(64, "problems decoded together in one batch", low=1)
    overlap: bool = setting(False, "sample for half of the problems while the other half is scored")

    def search(self) -> SearchConfig:
        """The settings of the method's tree search: VM-MCTS, or ORM-MCTS with the scores of whole programs."""
        return SearchConfig.decoding(
            budget=self.budget,
            num_sample=self.num_sample,
            num_decision=self.num_decision,
            c=self.c,
            eps=self.eps,
            backup="completions" if self.method == "orm_mcts" else "children",
            reuse_suffixes=self.reuse_suffixes,
            adaptive_width=self.adaptive_width,
            leaves_in_flight=self.leaves_in_flight,
        )
