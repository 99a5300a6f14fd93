"""Draws what the experiments give, in the style of the report: ours, and the published values beside."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from restrl.report import theme
from restrl.report.theme import colour
from restrl.report.write import render
from restrl.reproduce.outcome import Curves, Dots, Histograms, Line, Panel, Plot

# A method has the colour of its family; iterations share it.
COLOURS: Mapping[str, str] = {
    "base": "grey",
    "ReST-GRPO": "blue",
    "ReST-RL": "purple",
    "ReST-DPO": "orange",
    "GRPO": "green",
    "DAPO": "orange",
    "VM-MCTS": "green",
    "ORM-MCTS": "blue",
    "ORM": "orange",
    "PRM": "brown",
}


def images(plot: Plot) -> dict[str, bytes]:
    """Returns the figure as ``{"svg": ..., "png": ...}``."""
    found = render(lambda: draw(plot))
    assert found is not None
    return found


def draw(plot: Plot) -> Figure:
    """Draws a plot of any kind."""
    if isinstance(plot, Dots):
        return draw_dots(plot)
    if isinstance(plot, Curves):
        return draw_curves(plot)
    return draw_histograms(plot)


def draw_dots(plot: Dots) -> Figure:
    """Draws a score a row with its interval; hollow rings on a second axis are the published models' scores."""
    figure = theme.new_figure(0.9 + 0.42 * len(plot.rows))
    figure.set_size_inches(2 * theme.WIDTH_INCHES, figure.get_size_inches()[1])
    ours, theirs = figure.subplots(1, 2, sharey=True)
    for place, (name, value) in enumerate(plot.rows):
        shade = colour(_shade(name))
        ours.plot([value.low, value.high], [place, place], color=shade, linewidth=2.2)
        ours.plot([value.mean], [place], "o", color=shade, markersize=6.5)
        ours.annotate(
            f"{value.mean:.3f}",
            (value.mean, place),
            xytext=(0, 6),
            textcoords="offset points",
            color=shade,
            ha="center",
            fontsize=9,
        )
        found = plot.published.get(name, ())
        theirs.plot(found, [place] * len(found), "o", color=shade, markerfacecolor="none", markersize=5.5)
    ours.set_yticks(range(len(plot.rows)), [theme.label(name) for name, _ in plot.rows])
    ours.tick_params(axis="y", labelcolor=colour("ink"), labelsize=9.5)
    ours.set_ylim(len(plot.rows) - 0.5, -0.6)
    for axes, title in ((ours, "ours, with 95% intervals"), (theirs, "published, one ring a model")):
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
    ours.set_xlabel(plot.label)
    theirs.set_xlabel("published score")
    return figure


def _shade(name: str) -> str:
    return COLOURS.get(name.partition(",")[0], "grey")


def draw_curves(plot: Curves) -> Figure:
    """Draws the panels side by side."""
    figure = theme.new_figure(3.4)
    figure.set_size_inches(theme.WIDTH_INCHES * len(plot.panels), 3.4)
    for axes, panel in zip(figure.subplots(1, len(plot.panels), squeeze=False)[0], plot.panels, strict=True):
        _draw_panel(axes, panel)
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    last = max(line.x[-1] for line in panel.lines)
    for line in panel.lines:
        _draw_line(axes, line, colour(_shade(line.name)))
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.log:
        axes.set_xscale("log")
        ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= last]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
    axes.margins(y=0.12)
    axes.set_xlim(axes.get_xlim()[0], last)
    axes.set_ylim(*axes.get_ylim())
    if all(line.x[-1] == last for line in panel.lines):
        ends = [(theme.label(line.name), line.y[-1].mean, colour(_shade(line.name))) for line in panel.lines]
        theme.label_line_ends(axes, last, ends)
    else:
        axes.legend(frameon=False, fontsize=10, loc="lower right")


def _draw_line(axes: Axes, line: Line, shade: str) -> None:
    y = [value.mean for value in line.y]
    low, high = [value.low for value in line.y], [value.high for value in line.y]
    published = low == high
    if not published:
        axes.fill_between(line.x, low, high, color=shade, alpha=0.13, linewidth=0)
    style = (0, (4, 2.5)) if published else "solid"
    axes.plot(line.x, y, color=shade, marker="o", markersize=4, linestyle=style, clip_on=False, label=line.name)


def draw_histograms(plot: Histograms) -> Figure:
    """Draws distributions one above the other, with their means."""
    figure = theme.new_figure(1.35 * len(plot.parts) + 0.5)
    panels: Sequence[Axes] = figure.subplots(len(plot.parts), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    edges = np.linspace(0.0, max(0.5, *(max(values) for _, values in plot.parts)), 21)
    shades = itertools.cycle(("grey", "blue", "green"))
    for axes, (name, values), shade in zip(panels, plot.parts, shades, strict=False):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.bar(edges[:-1], shares, 0.88 * np.diff(edges), align="edge", color=colour(shade))
        mean = sum(values) / len(values)
        axes.axvline(mean, 0, 0.72, color=colour("ink"), linewidth=1.2)
        axes.set_title(name, color=colour(shade))
        axes.text(
            1.0,
            0.97,
            f"mean {mean:.3f}\n{len(values)} groups",
            transform=axes.transAxes,
            ha="right",
            va="top",
            color=colour(shade),
            fontsize=10,
        )
        axes.yaxis.set_major_formatter(lambda value, _position: f"{value:.0%}")
        axes.grid(visible=False, axis="x")
    panels[0].set_ylim(0, 1.3 * panels[0].get_ylim()[1])
    panels[-1].set_xlabel(plot.label)
    figure.supylabel("share of groups", fontsize=11, color=colour("muted"))
    return figure
