"""Settings of the tree search."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from restrl.errors import ConfigError
from restrl.settings import setting

SOURCES = ("values", "rewards")
BACKUPS = ("children", "completions")
SELECTIONS = ("uct", "puct")
PRIORS = ("uniform", "frequency", "logprob")
AGGREGATES = ("mean", "max")
WIDENINGS = ("fixed", "progressive", "adaptive")
ALGORITHMS = ("own", "paper")

PUBLISHED: dict[str, Any] = {
    "selection": "uct",
    "aggregate": "mean",
    "widening": "fixed",
    "reuse_suffixes": False,
    "leaves_in_flight": 1,
}
"""What the published algorithm has no choice of."""


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Settings of one tree search. `collection` and `decoding` are the method's two uses, `paper` is as published."""

    budget: int = setting(100, "completions to sample per problem", low=0, paper=100)
    num_sample: int = setting(5, "completions sampled from a leaf", low=1, paper=5)
    num_decision: int = setting(5, "children of a state that stay selectable", low=1, paper=5)
    c: float = setting(0.1, "weight of exploration (0.2 for collection)", low=0.0, paper=0.1)
    eps: float = setting(0.1, "added to a child's visits in UCT", above=0.0, paper=0.1)
    source: str = setting("values", "who scores: the value model, or the tests", choices=SOURCES)
    backup: str = setting(
        "children",
        "what a completion is worth: the value of its deepest state in the tree, or the score of its program",
        choices=BACKUPS,
    )
    selection: str = setting("uct", "formula of the selection", choices=SELECTIONS, paper="uct")
    prior: str = setting(
        "frequency", "probability of a line among its siblings, which steers PUCT", choices=PRIORS, paper="uniform"
    )
    aggregate: str = setting(
        "mean", "value of an expanded state: mean over its completions, or its best child's", choices=AGGREGATES
    )
    widening: str = setting("fixed", "when an expanded state is sampled again", choices=WIDENINGS, paper="fixed")
    widening_k: float = setting(2.0, "k of progressive widening: k * visits^alpha completions", above=0.0)
    widening_alpha: float = setting(0.5, "alpha of progressive widening", low=0.0, high=1.0)
    reuse_suffixes: bool = setting(True, "let the rest of an earlier completion stand in for a new one", paper=False)
    leaves_in_flight: int = setting(1, "leaves of one tree that are expanded at once", low=1, paper=1)
    algorithm: str = setting("own", "counts, pruning and backup: ours, or as published", choices=ALGORITHMS)

    def __post_init__(self) -> None:
        """Raises ConfigError for settings that do not go together or out of range."""
        self._check_names()
        counts = {
            "num_sample": self.num_sample,
            "num_decision": self.num_decision,
            "leaves_in_flight": self.leaves_in_flight,
        }
        for name, value in counts.items():
            if value < 1:
                raise ConfigError(f"search {name} is {value}; it must be at least 1")
        if self.budget < 0 or self.c < 0 or self.eps <= 0:
            raise ConfigError(
                f"search budget {self.budget}, c {self.c}, eps {self.eps}: budget and c must be >= 0 and eps > 0"
            )
        if self.widening_k <= 0 or not 0 <= self.widening_alpha <= 1:
            raise ConfigError(
                f"search widening_k {self.widening_k}, widening_alpha {self.widening_alpha}: k must be > 0 and alpha "
                "in [0, 1]"
            )

    def _check_names(self) -> None:
        for field in dataclasses.fields(self):
            value, allowed = getattr(self, field.name), field.metadata["choices"]
            if allowed and value not in allowed:
                raise ConfigError(f"search {field.name} {value!r} is unknown; allowed: {', '.join(allowed)}")
        if self.source == "rewards" and self.backup == "children":
            raise ConfigError(
                "search backup 'children' needs source 'values', because tests grade finished programs only; "
                "set backup = 'completions'"
            )
        if self.algorithm == "paper":
            for name, value in PUBLISHED.items():
                if getattr(self, name) != value:
                    raise ConfigError(
                        f"search {name} is {getattr(self, name)!r}, which the published algorithm does not have; "
                        f"set {name} = {value!r}, or algorithm = 'own'"
                    )

    @classmethod
    def collection(cls, **changes: Any) -> SearchConfig:
        """The settings of value collection: real rewards, c = 0.2, fresh samples at every leaf."""
        base = cls(c=0.2, source="rewards", backup="completions", reuse_suffixes=False)
        return replace(base, **changes)

    @classmethod
    def decoding(cls, **changes: Any) -> SearchConfig:
        """The settings of VM-MCTS decoding: values of children, c = 0.1."""
        return replace(cls(), **changes)

    @classmethod
    def paper(cls, **changes: Any) -> SearchConfig:
        """The published algorithm (`restrl.search.paper`), as VM-MCTS unless ``source`` and ``backup`` say otherwise.

        The budget counts sampled completions here too.
        """
        return cls(**{"algorithm": "paper", **PUBLISHED, **changes})
