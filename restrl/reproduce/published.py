"""The published numbers (``published.toml``): tables, curves, and the orderings that they claim."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

_FILE = Path(__file__).parent / "published.toml"


@dataclass(frozen=True, slots=True)
class Published:
    """What the paper says where one experiment stands.

    Attributes:
        what: The published result in words.
        metric: What its numbers are.
        orderings: (better, worse) pairs that it claims.
        rows: Row -> model -> score; models without a number are left out.
        curves: Name -> first and last value.
        axis: First and last place of the curves: steps or samples.
        others_at_most: What the curves that have no numbers stay below.
    """

    what: str
    metric: str
    orderings: tuple[tuple[str, str], ...]
    rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    axis: tuple[int, int] = (0, 0)
    others_at_most: float | None = None

    def difference(self, better: str, worse: str) -> tuple[float, int, int] | None:
        """Returns the mean published difference, in how many models it is positive, and of how many.

        None where the paper has no numbers for both.
        """
        if better in self.rows and worse in self.rows:
            shared = [model for model in self.rows[better] if model in self.rows[worse]]
            found = [self.rows[better][model] - self.rows[worse][model] for model in shared]
        elif better in self.curves and worse in self.curves:
            found = [self.curves[better][1] - self.curves[worse][1]]
        else:
            return None
        return fmean(found), sum(value > 0 for value in found), len(found)


@cache
def published() -> Mapping[str, Published]:
    """Returns the published results by experiment."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: _published(table) for name, table in tables.items() if isinstance(table, dict)}


def source() -> str:
    """Returns where the numbers were published."""
    return str(tomllib.loads(_FILE.read_text(encoding="utf-8"))["source"])


def models() -> tuple[str, ...]:
    """Returns the models of the published tables, in their order."""
    return tuple(tomllib.loads(_FILE.read_text(encoding="utf-8"))["models"])


def _published(table: Mapping[str, Any]) -> Published:
    values = dict(table)
    first, last = values.pop("budgets", (0, values.pop("steps", 0)))
    pairs = tuple((str(better), str(worse)) for better, worse in values.pop("orderings"))
    curves = {str(name): (float(ends[0]), float(ends[1])) for name, ends in values.pop("curves", {}).items()}
    return Published(orderings=pairs, curves=curves, axis=(int(first), int(last)), **values)
