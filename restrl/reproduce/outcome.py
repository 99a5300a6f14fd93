"""What an experiment gives, as plain data: tables, orderings, a plot, notes. Written by `restrl.reproduce.write`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restrl.evaluation.statistics import Interval
from restrl.reproduce.orderings import Ordering


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """One score a row with its interval, and the published scores of the row beside it."""

    rows: tuple[tuple[str, Interval], ...]
    published: Mapping[str, Sequence[float]]
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """A curve with intervals."""

    name: str
    x: tuple[float, ...]
    y: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves on one pair of axes; published ones are straight lines between the two values that were published."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log: bool = False


@dataclass(frozen=True, slots=True)
class Curves:
    """Panels side by side: ours, then the published one."""

    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Histograms:
    """Distributions one above the other, on one axis."""

    parts: tuple[tuple[str, tuple[float, ...]], ...]
    label: str


Plot = Dots | Curves | Histograms


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an experiment gives.

    Attributes:
        name: Of the experiment.
        title: Above everything.
        tables: Ours.
        orderings: The published orderings with their marks.
        plot: What is drawn.
        num_problems: Held-out problems, of all seeds together.
        notes: Sentences below the tables.
        data: Every number, for programs.
    """

    name: str
    title: str
    tables: tuple[Table, ...]
    orderings: tuple[Ordering, ...]
    plot: Plot
    num_problems: int
    notes: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def text(value: Interval, signed: bool = False) -> str:
    """Returns ``mean [low, high]``.

    >>> text(Interval(0.5, 0.25, 0.75))
    '0.500 [0.250, 0.750]'
    """
    sign = "+" if signed else ""
    return f"{value.mean:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"
