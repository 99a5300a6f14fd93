"""The figures of the report, one function each, in a literal dict; drawn with matplotlib's object interface.

A figure function returns None where the data it needs is missing. The caption beside it says what to see and how it was
computed; it is text for the page, written with the same data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from restrl.report import theme
from restrl.report.data import BudgetCurve, ReportData
from restrl.report.theme import colour

# The training metrics that are drawn (defined in `restrl.grpo.metrics`), and the titles of their panels.
TRAINING_PANELS: Mapping[str, str] = {
    "reward": "reward",
    "reward_std": "reward spread in a group",
    "frac_zero_std": "groups without spread",
    "entropy": "entropy (nats/token)",
    "kl": "KL to reference (nats/token)",
    "completion_length": "completion length (tokens)",
}


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """One figure of the report.

    Attributes:
        title: Above the figure.
        draw: Draws it, or returns None where its data is missing.
        caption: What one should see and how it was computed.
    """

    title: str
    draw: Callable[[ReportData], Figure | None]
    caption: Callable[[ReportData], str]


def draw_results(data: ReportData) -> Figure | None:
    """Draws pass@1 (filled) and the test-case average (hollow) of every method with intervals."""
    if not data.rows:
        return None
    figure = theme.new_figure(0.75 + 0.52 * len(data.rows))
    axes = figure.add_subplot()
    names = [row.name for row in data.rows]
    shades = theme.method_colours(names)
    for position, row in enumerate(data.rows):
        shade, marker = colour(shades[row.name]), theme.MARKERS[shades[row.name]]
        for value, offset, face in ((row.pass_at_1, -0.13, shade), (row.test_case_average, 0.17, colour("surface"))):
            y = position + offset
            axes.plot([value.low, value.high], [y, y], color=shade, linewidth=2.2 if offset < 0 else 1.1)
            axes.plot([value.mean], [y], marker, color=shade, markerfacecolor=face, markersize=6.5 if offset < 0 else 5)
        axes.text(1.02, position, f"{row.pass_at_1.mean:.3f}", va="center", color=shade, weight="bold", clip_on=False)
    axes.axvline(data.rows[0].pass_at_1.mean, color=colour("muted"), linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_yticks(range(len(names)), [theme.label(name) for name in names])
    axes.tick_params(axis="y", labelcolor=colour("ink"), labelsize=11)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of problems, share of tests")
    return figure


def draw_budget(data: ReportData) -> Figure | None:
    """Draws accuracy against budget for every method, with bands, and the oracle's dashed line."""
    curves = [curve for curve in data.curves if curve.points]
    if not curves:
        return None
    figure = theme.new_figure(3.4)
    axes = figure.add_subplot()
    shades = theme.method_colours([curve.method for curve in curves])
    last = max(curve.points[-1].budget for curve in curves)
    ends = [_draw_curve(axes, curve, colour(shades[curve.method]), last) for curve in curves]
    owner = best_oracle(curves)
    oracle = owner.oracle if owner else ()
    if owner:
        x, y = [point.budget for point in oracle], [point.mean for point in oracle]
        shade = colour(shades[owner.method])
        axes.plot(x, y, color=shade, linewidth=1.2, linestyle=(0, (4, 2.5)))
        ends.append(("oracle", y[-1], shade))
    _budget_axis(axes, last)
    top = max(max(point.high for point in curve.points) for curve in curves)
    axes.set_ylim(0, min(1.0, 1.1 * max([top] + [point.mean for point in oracle])) or 1.0)
    axes.set_ylabel("share of problems solved")
    theme.label_line_ends(axes, last, ends)
    return figure


def draw_differences(data: ReportData) -> Figure | None:
    """Draws the paired difference of methods against the budget, with bands around it, above and below zero."""
    pairs = [pair for pair in data.differences if pair.points]
    if not pairs:
        return None
    figure = theme.new_figure(3.4)
    axes = figure.add_subplot()
    last = max(pair.points[-1].budget for pair in pairs)
    ends = []
    # Dark on light comes last in the order of colours; names stand at the ends of the lines.
    for pair, shade in zip(pairs, itertools.cycle(("green", "purple", "blue", "orange")), strict=False):
        x, y = [point.budget for point in pair.points], [point.mean for point in pair.points]
        low, high = [point.low for point in pair.points], [point.high for point in pair.points]
        axes.fill_between(x, low, high, color=colour(shade), alpha=0.15, linewidth=0)
        axes.plot(x, y, color=colour(shade), marker=theme.MARKERS[shade] if len(x) == 1 else None)
        ends.append((theme.label(f"{pair.method} vs {pair.other}"), y[-1], colour(shade)))
    axes.axhline(0.0, color=colour("ink"), linewidth=1.0)
    _budget_axis(axes, last)
    axes.set_ylabel("difference in share solved")
    theme.label_line_ends(axes, last, ends)
    return figure


def _budget_axis(axes: Axes, last: int) -> None:
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(last.bit_length())]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlim(0.93, max(last, 2))
    axes.set_xlabel("sampled completions per problem")


def draw_spread(data: ReportData) -> Figure | None:
    """Draws the distribution of the groups' reward standard deviation, sampled above assembled."""
    spread = data.spread
    if spread is None or not (spread.sampled and spread.assembled):
        return None
    figure = theme.new_figure(3.4)
    top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
    upper = max(0.5, *spread.sampled, *spread.assembled)
    edges = np.linspace(0.0, upper, 21)
    parts = (
        (top, "as sampled by the policy", spread.sampled, "grey"),
        (bottom, "after filtering and assembly", spread.assembled, "blue"),
    )
    for axes, name, values, shade in parts:
        shares = np.histogram(values, edges)[0] / len(values)
        axes.bar(edges[:-1], shares, 0.88 * np.diff(edges), align="edge", color=colour(shade))
        mean = sum(values) / len(values)
        dead = sum(value < 1e-9 for value in values) / len(values)
        axes.axvline(mean, 0, 0.72, color=colour("ink"), linewidth=1.2)
        axes.set_title(name, color=colour(shade))
        text = f"mean {mean:.3f}\n{dead:.0%} without any spread"
        axes.text(1.0, 0.97, text, transform=axes.transAxes, ha="right", va="top", color=colour(shade), fontsize=10)
        axes.yaxis.set_major_formatter(lambda value, _position: f"{value:.0%}")
        axes.grid(visible=False, axis="x")
        if spread.sigma_0 is not None:
            axes.axvline(spread.sigma_0, color=colour("orange"), linewidth=1.2, linestyle=(0, (3, 2)))
    top.set_ylim(0, 1.3 * top.get_ylim()[1])
    if spread.sigma_0 is not None:
        top.annotate(
            f"sigma_0 = {spread.sigma_0:g}",
            (spread.sigma_0, 0.97),
            xycoords=top.get_xaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            color=colour("orange"),
            va="top",
            fontsize=10,
        )
    bottom.set_xlabel("standard deviation of the rewards in a group")
    figure.supylabel("share of groups", fontsize=11, color=colour("muted"))
    return figure


def draw_training(data: ReportData) -> Figure | None:
    """Draws the training metrics against the step, one small panel each."""
    series = {title: found for name, title in TRAINING_PANELS.items() if (found := _series(data.training, name))}
    if not series:
        return None
    columns = 1 if len(series) == 1 else 2
    rows = math.ceil(len(series) / columns)
    figure = theme.new_figure(1.45 * rows + 0.35)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (title, points) in zip(panels, series.items(), strict=False):
        steps, values = [x for x, _ in points], [y for _, y in points]
        axes.plot(steps, values, color=colour("blue"), linewidth=0.8, alpha=0.35)
        axes.plot(steps, _smoothed(values), color=colour("blue"))
        axes.set_title(title, fontsize=9.5)
        axes.tick_params(labelsize=9)
        axes.margins(x=0.02, y=0.15)
        axes.locator_params(nbins=4)
    for axes in panels[len(series) :]:
        axes.set_visible(False)
    for axes in panels[max(0, len(series) - columns) : len(series)]:
        axes.tick_params(labelbottom=True)
    figure.supxlabel("training step", fontsize=11, color=colour("muted"))
    return figure


def draw_calibration(data: ReportData) -> Figure | None:
    """Draws the value model's reliability: observed mean reward against prediction."""
    if data.value is None or not data.value.bins:
        return None
    figure = theme.new_figure(3.6)
    axes = figure.add_subplot()
    bins = data.value.bins
    total = max(1, sum(item.count for item in bins))
    axes.plot([0, 1], [0, 1], color=colour("muted"), linewidth=1.0, linestyle=(0, (4, 2.5)))
    axes.text(0.30, 0.36, "perfect", color=colour("muted"), rotation=45, rotation_mode="anchor", ha="center")
    axes.plot([item.predicted for item in bins], [item.observed for item in bins], color=colour("green"), linewidth=1.2)
    sizes = [20 + 900 * item.count / total for item in bins]
    axes.scatter(
        [item.predicted for item in bins],
        [item.observed for item in bins],
        s=sizes,
        color=colour("green"),
        edgecolor=colour("surface"),
        zorder=3,
    )
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted value")
    axes.set_ylabel("observed mean reward")
    return figure


def draw_depth(data: ReportData) -> Figure | None:
    """Draws the value model's squared error by number of actions, against a constant prediction."""
    if data.value is None or not data.value.depths:
        return None
    figure = theme.new_figure(3.0)
    axes = figure.add_subplot()
    depths = data.value.depths
    x = [item.depth for item in depths]
    ends = []
    lines = (
        ("constant", [item.baseline_mse for item in depths], "grey"),
        ("value model", [item.mse for item in depths], "green"),
    )
    for name, values, shade in lines:
        axes.plot(x, values, color=colour(shade), marker=theme.MARKERS[shade], markersize=5)
        ends.append((name, values[-1], colour(shade)))
    axes.set_ylim(0, 1.12 * max(max(values) for _, values, _ in lines) or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("actions (lines) written so far")
    axes.set_ylabel("mean squared error")
    theme.label_line_ends(axes, x[-1], ends)
    return figure


def draw_selection(data: ReportData) -> Figure | None:
    """Draws what picking the best-valued of n validation programs gives, between chance and an oracle."""
    if data.value is None or not data.value.best_of:
        return None
    figure = theme.new_figure(3.0)
    axes = figure.add_subplot()
    points = data.value.best_of
    sizes = [point.n for point in points]
    ends = []
    lines = (
        ("oracle", [point.oracle for point in points], "ink", (0, (4, 2.5))),
        ("value model", [point.picked for point in points], "green", "solid"),
        ("chance", [point.chance for point in points], "grey", (0, (1, 2.5))),
    )
    for name, values, shade, style in lines:
        axes.plot(sizes, values, color=colour(shade), linestyle=style, linewidth=1.8 if style == "solid" else 1.2)
        ends.append((name, values[-1], colour(shade)))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlim(0.93, max(2, sizes[-1]))
    axes.set_ylim(0, 1.05 * max(max(values) for _, values, _, _ in lines) or 1.0)
    axes.set_xlabel("programs to choose from")
    axes.set_ylabel("mean reward of the pick")
    theme.label_line_ends(axes, max(2, sizes[-1]), ends)
    return figure


def _draw_curve(axes: Axes, curve: BudgetCurve, shade: str, last: int) -> tuple[str, float, str]:
    """Draws one method and returns the label of its right end; a single point is extended by a dotted line."""
    x = [point.budget for point in curve.points]
    y = [point.mean for point in curve.points]
    if len(x) == 1:
        point = curve.points[0]
        axes.plot([point.budget, last], [point.mean, point.mean], color=shade, linewidth=1.0, linestyle=(0, (1, 2.5)))
        axes.plot([point.budget] * 2, [point.low, point.high], color=shade)
        axes.plot(x, y, "o", color=shade, markersize=6, clip_on=False, zorder=4)
    else:
        low, high = [point.low for point in curve.points], [point.high for point in curve.points]
        axes.fill_between(x, low, high, color=shade, alpha=0.13, linewidth=0)
        axes.plot(x, y, color=shade)
        axes.plot([x[-1]], [y[-1]], "o", color=shade, markersize=4, clip_on=False)
    return theme.label(curve.method), y[-1], shade


def best_oracle(curves: Sequence[BudgetCurve]) -> BudgetCurve | None:
    """Returns the curve whose oracle ends highest: the most that choosing among candidates could give; None without."""
    known = [curve for curve in curves if len(curve.oracle) > 1]
    return max(known, key=lambda curve: curve.oracle[-1].mean, default=None)


def _series(records: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    """Returns (step, value) of a metric, in the order logged; steps never go back."""
    points: list[tuple[float, float]] = []
    offset, previous = 0.0, 0.0
    for position, record in enumerate(records):
        step = float(record.get("step", position))
        # A second iteration counts its steps from the start again: continue where the first one ended.
        if step < previous:
            offset += previous
        previous = step
        value = record.get(name)
        if value is not None and math.isfinite(value):
            points.append((offset + step, float(value)))
    return points


def _smoothed(values: Sequence[float]) -> list[float]:
    """Returns the centred moving average over a tenth of the run, over what there is of it at both ends."""
    half = max(1, len(values) // 20)
    windows = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [sum(window) / len(window) for window in windows]
