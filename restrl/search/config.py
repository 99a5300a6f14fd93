"""Settings of the tree search."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from restrl.errors import ConfigError
from restrl.settings import setting


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Settings of one tree search. `collection` and `decoding` give the method's two uses."""

    budget: int = setting(100, "completions to sample per problem", low=0, paper=100)
    num_sample: int = setting(5, "completions sampled from a leaf", low=1, paper=5)
    num_decision: int = setting(5, "children of a state that stay selectable", low=1, paper=5)
    c: float = setting(0.1, "weight of exploration in UCT (0.2 for collection)", low=0.0, paper=0.1)
    eps: float = setting(0.1, "added to a child's visits in UCT", above=0.0, paper=0.1)
    source: str = setting("values", "who scores: the value model, or the tests", choices=("values", "rewards"))
    backup: str = setting(
        "children",
        "what a completion is worth: the value of its deepest state in the tree, or the score of its program",
        choices=("children", "completions"),
    )
    reuse_suffixes: bool = setting(True, "let the rest of an earlier completion stand in for a new one")
    adaptive_width: bool = setting(
        False, "let UCT choose to sample an expanded state again, as one more child (after AB-MCTS)", paper=False
    )
    leaves_in_flight: int = setting(1, "leaves of one tree that are expanded at once", low=1, paper=1)

    def __post_init__(self) -> None:
        """Raises ConfigError for settings that do not go together or out of range."""
        if self.source not in ("values", "rewards") or self.backup not in ("children", "completions"):
            raise ConfigError(
                f"search source {self.source!r} with backup {self.backup!r} is unknown; source is 'values' or "
                "'rewards', backup is 'children' or 'completions'"
            )
        if self.source == "rewards" and self.backup == "children":
            raise ConfigError(
                "search backup 'children' needs source 'values', because tests grade finished programs only; "
                "set backup = 'completions'"
            )
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

    @classmethod
    def collection(cls, **changes: Any) -> SearchConfig:
        """The settings of value collection: real rewards, c = 0.2, fresh samples at every leaf."""
        base = cls(c=0.2, source="rewards", backup="completions", reuse_suffixes=False)
        return replace(base, **changes)

    @classmethod
    def decoding(cls, **changes: Any) -> SearchConfig:
        """The settings of VM-MCTS decoding: values of children, c = 0.1."""
        return replace(cls(), **changes)
