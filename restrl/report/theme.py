"""Colours, type and sizes of the figures, and the drawing helpers that all of them share.

The colours are those of `restrl.report.palette`; a CSS variable replaces each where the SVG stands inside the page, so
that the same drawing serves light and dark. The method colours are told apart by people with any of the
common colour vision deficiencies and have at least 3:1 contrast on both backgrounds; labels stand beside the marks,
so that colour is never the only key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from restrl.report.palette import COLOURS, printable

__all__ = [
    "COLOURS",
    "MARKERS",
    "METHOD_COLOURS",
    "RC",
    "colour",
    "label",
    "label_line_ends",
    "method_colours",
    "new_figure",
    "printable",
    "spread_labels",
]

METHOD_COLOURS: Mapping[str, str] = {
    "base": "grey",
    "ReST-GRPO": "blue",
    "best-of-n": "orange",
    "VM-MCTS": "green",
    "ReST-RL": "purple",
    "ReST-GRPO + best-of-n": "brown",
}
MARKERS: Mapping[str, str] = {"grey": "o", "blue": "s", "orange": "^", "green": "D", "purple": "o", "brown": "v"}

WIDTH_INCHES = 4.7

# Any: matplotlib types the keys as one literal of hundreds.
RC: Any = {
    "svg.hashsalt": "restrl",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.0,
    "text.parse_math": False,
    "text.color": COLOURS["ink"][0],
    "axes.edgecolor": COLOURS["line"][0],
    "axes.labelcolor": COLOURS["muted"][0],
    "axes.labelsize": 11.0,
    "axes.titlesize": 11.0,
    "axes.titlecolor": COLOURS["ink"][0],
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": COLOURS["line"][0],
    "grid.linewidth": 0.7,
    "xtick.color": COLOURS["line"][0],
    "ytick.color": COLOURS["line"][0],
    "xtick.labelcolor": COLOURS["muted"][0],
    "ytick.labelcolor": COLOURS["muted"][0],
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "savefig.facecolor": COLOURS["surface"][0],
}


def colour(name: str) -> str:
    """Returns the light value of a named colour."""
    return COLOURS[name][0]


def method_colours(names: Sequence[str]) -> dict[str, str]:
    """Returns a colour name per method: its fixed one, or the next free one for a method of one's own."""
    taken = {METHOD_COLOURS[name] for name in names if name in METHOD_COLOURS}
    free = [name for name in MARKERS if name not in taken] or list(MARKERS)
    chosen = {}
    for name in names:
        if name in METHOD_COLOURS:
            chosen[name] = METHOD_COLOURS[name]
        elif name not in chosen:
            chosen[name] = free[0]
            free.append(free.pop(0))
    return chosen


def label(name: str) -> str:
    """Returns a name as a label that leaves room for the drawing: printable, on one line, at most 26 characters.

    >>> label("a method with quite a long name")
    'a method with quite a lon…'
    """
    text = " ".join(printable(name).split())
    return text if len(text) <= 26 else text[:25].rstrip() + "…"


def new_figure(height_inches: float) -> Figure:
    """Returns an empty figure of the common width."""
    return Figure(figsize=(WIDTH_INCHES, height_inches))


def spread_labels(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves label positions apart until neighbours are ``gap`` apart, keeping their order and staying near.

    Args:
        positions: Wanted positions, any order.
        gap: Smallest distance between two labels.
        low: Labels stay above this where there is room.
        high: Labels stay below this where there is room.

    >>> spread_labels([0.5, 0.5], 0.1, 0.0, 1.0)
    [0.45, 0.55]
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    # Blocks of touching labels, each centred on the mean of what its members want.
    blocks: list[list[int]] = []
    for index in order:
        blocks.append([index])
        while len(blocks) > 1:
            below, above = (_start(block, positions, gap, low, high) for block in blocks[-2:])
            if below + gap * len(blocks[-2]) <= above:
                break
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = [0.0] * len(positions)
    for block in blocks:
        start = _start(block, positions, gap, low, high)
        for step, index in enumerate(block):
            placed[index] = round(start + step * gap, 12)
    return placed


def label_line_ends(axes: Axes, x: float, ends: Sequence[tuple[str, float, str]]) -> None:
    """Writes (text, y, colour) labels to the right of the lines' ends, moved apart where they would touch.

    Args:
        axes: Where; its limits must be final.
        x: Data coordinate of the lines' ends.
        ends: One triple per line.
    """
    low, high = axes.get_ylim()
    gap = 0.075 * (high - low)
    size = 10.5 if max(len(text) for text, _, _ in ends) <= 14 else 9.0
    for (text, y, shade), at in zip(ends, spread_labels([end[1] for end in ends], gap, low, high), strict=True):
        moved = abs(at - y) > 0.2 * gap
        axes.annotate(
            text,
            (x, y),
            xytext=(1.03, at),
            textcoords=("axes fraction", "data"),
            color=shade,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "lw": 0.6, "shrinkA": 1, "shrinkB": 3} if moved else None,
        )


def _start(block: Sequence[int], positions: Sequence[float], gap: float, low: float, high: float) -> float:
    """Returns the position of a block's first label: centred on what its members want, inside the limits."""
    span = gap * (len(block) - 1)
    centred = sum(positions[index] for index in block) / len(block) - span / 2
    return max(low, min(centred, high - span))
