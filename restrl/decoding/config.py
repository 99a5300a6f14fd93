"""Settings that all decoders share, and those of the search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from restrl.errors import ConfigError
from restrl.search.config import AGGREGATES, ALGORITHMS, PRIORS, SELECTIONS, WIDENINGS, SearchConfig
from restrl.settings import setting

PAPER_OPTIONS = {"formula": "uct", "aggregate": "mean", "widening": "fixed", "leaves_in_flight": 1}
METHODS = (
    "greedy",
    "sample",
    "best_of_n",
    "best_of_n_prm",
    "majority",
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
    preset: str = setting(
        "own",
        "search: ours, or the published algorithm to the letter, which reuses no suffixes and has no other options",
        choices=ALGORITHMS,
        paper="paper",
    )
    num_sample: int = setting(5, "search: completions sampled from a leaf", low=1, paper=5)
    num_decision: int = setting(5, "search: children of a state that stay selectable", low=1, paper=5)
    c: float = setting(0.1, "search: weight of exploration in UCT", low=0.0, paper=0.1)
    eps: float = setting(0.1, "search: added to a child's visits in UCT", above=0.0, paper=0.1)
    reuse_suffixes: bool = setting(True, "search: let the rest of an earlier completion stand in for a new one")
    formula: str = setting("uct", "search: formula of the selection", choices=SELECTIONS, paper="uct")
    line_prior: str = setting(
        "frequency",
        "search: probability of a line for PUCT: its share of the completions there, its log-probability, or none",
        choices=PRIORS,
    )
    aggregate: str = setting(
        "mean",
        "search: value of an expanded state: the mean over its completions, or its best child's",
        choices=AGGREGATES,
        paper="mean",
    )
    widening: str = setting(
        "fixed",
        "search: when an expanded state is sampled again: never while a leaf is left, as k * visits^alpha grows, or as "
        "one more child",
        choices=WIDENINGS,
        paper="fixed",
    )
    widening_k: float = setting(2.0, "search: k of progressive widening", above=0.0)
    widening_alpha: float = setting(0.5, "search: alpha of progressive widening", low=0.0, high=1.0)
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
    selection: str = setting(
        "score",
        "the answer: the best-scored program, or that of the cluster of equal outputs with the largest sum of scores",
        choices=("score", "clusters"),
        paper="score",
    )
    num_inputs: int = setting(12, "majority and clusters: inputs that programs are run on", low=1)
    public_tests: bool = setting(
        False,
        "another information regime: run candidates on the examples that the problem shows, and rank by those first",
        paper=False,
    )
    public_weight: float = setting(
        0.5, "search with public_tests: weight of the examples passed in the value of a state", low=0.0, high=1.0
    )
    window: int = setting(64, "problems decoded together in one batch", low=1)
    overlap: bool = setting(False, "sample for half of the problems while the other half is scored")

    def __post_init__(self) -> None:
        """Raises ConfigError for options that the published algorithm does not have."""
        if self.preset == "paper":
            for name, value in PAPER_OPTIONS.items():
                if getattr(self, name) != value:
                    raise ConfigError(
                        f"decode.{name} is {getattr(self, name)!r}, which preset 'paper' does not have; set {name} = "
                        f"{value!r}, or preset = 'own'"
                    )

    def search(self) -> SearchConfig:
        """The settings of the method's tree search: VM-MCTS, or ORM-MCTS with the scores of whole programs."""
        shared: dict[str, Any] = {
            "budget": self.budget,
            "num_sample": self.num_sample,
            "num_decision": self.num_decision,
            "c": self.c,
            "eps": self.eps,
            "backup": "completions" if self.method == "orm_mcts" else "children",
        }
        if self.preset == "paper":
            return SearchConfig.paper(**shared)
        return SearchConfig.decoding(
            **shared,
            selection=self.formula,
            prior=self.line_prior,
            aggregate=self.aggregate,
            widening=self.widening,
            widening_k=self.widening_k,
            widening_alpha=self.widening_alpha,
            reuse_suffixes=self.reuse_suffixes,
            leaves_in_flight=self.leaves_in_flight,
        )
