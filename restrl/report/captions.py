"""Titles and captions of the figures, and the dict of all figures: what one should see, and how it was computed."""

from __future__ import annotations

from collections.abc import Mapping

from restrl.report import figures
from restrl.report.data import ReportData
from restrl.report.figures import FigureSpec


def _results(data: ReportData) -> str:
    return (
        "Filled marks: pass@1, the share of held-out problems whose answer passes every test. Hollow marks: the "
        f"mean share of tests passed. Whiskers: {data.confidence:.0%} bootstrap intervals over problems. Dotted: "
        "the base's pass@1. Whiskers of two methods may overlap although their paired difference in the table is "
        "clear, because both answer the same problems."
    )


def _budget(data: ReportData) -> str:
    owner = figures.best_oracle(data.curves)
    oracle = (
        f"Dashed: an oracle that always picks a passing candidate of {owner.method} where there is one; the gap below "
        "it is what a better choice could still win. "
        if owner
        else ""
    )
    return (
        "Share of problems solved by the answer chosen from the first b sampled completions, all budgets from one run. "
        f"Bands: {data.confidence:.0%} bootstrap intervals over problems. {oracle}A line that falls with the budget "
        "means that the value model prefers some wrong programs."
    )


def _differences(data: ReportData) -> str:
    return (
        "Share of problems solved by the first method minus that of the second, both choosing from their first b "
        f"completions. Bands: paired {data.confidence:.0%} bootstrap intervals over problems, every budget on the same "
        "draws. Where a band lies above zero, the first method is better at that budget."
    )


def _spread(data: ReportData) -> str:
    text = (
        "Population standard deviation of the verifier's rewards in each group. A group whose rewards are all "
        "equal gives no gradient; filtering and prefixes should move the mass to the right. Solid: the mean."
    )
    if data.spread is not None and data.spread.sigma_0 is not None:
        text += " Dashed: sigma_0, below which a problem is dropped."
    return text


def _training(data: ReportData) -> str:
    return (
        "One point per logged step (faint) and its moving average over a tenth of the run. Reward should rise "
        "while the entropy stays away from zero: a policy that lost its variety leaves search nothing to find. "
        "Iterations follow one another on the axis."
    )


def _calibration(data: ReportData) -> str:
    value = data.value
    errors = f"Squared error {value.mse:.4f}, of a constant {value.baseline_mse:.4f}. " if value else ""
    return (
        f"{errors}Validation states binned by predicted value; area of a mark: number of states. On the diagonal a "
        "prediction of 0.7 means that 70% of the reward is obtained. Marks below it on the right are wrong "
        "programs that the model likes: those mislead search."
    )


def _depth(data: ReportData) -> str:
    return (
        "Mean squared error on states of validation problems after a number of actions, against predicting the "
        "training mean everywhere. The error should fall with depth: the more of the program is written, the more "
        "is decided."
    )


def _selection(data: ReportData) -> str:
    accuracy = data.value.ranking_accuracy if data.value else None
    ranking = (
        "Of two programs of one problem with different rewards, the better one has the higher value in "
        f"{accuracy:.0%} of the cases. "
        if accuracy is not None
        else ""
    )
    return (
        f"{ranking}Mean reward of the best-valued of n finished programs of a validation problem, exact over all "
        "draws. "
        "This line predicts what best-of-n and search will do: where it falls below chance the model misleads, "
        "whatever its mean error."
    )


FIGURES: Mapping[str, FigureSpec] = {
    "results": FigureSpec("Results on held-out problems", figures.draw_results, _results),
    "budget": FigureSpec("What more samples buy", figures.draw_budget, _budget),
    "differences": FigureSpec("What search adds at every budget", figures.draw_differences, _differences),
    "spread": FigureSpec("Reward spread before and after assembly", figures.draw_spread, _spread),
    "training": FigureSpec("Training of the policy", figures.draw_training, _training),
    "calibration": FigureSpec("Can the value model be believed?", figures.draw_calibration, _calibration),
    "selection": FigureSpec("Can the value model choose?", figures.draw_selection, _selection),
    "depth": FigureSpec("Value error by depth", figures.draw_depth, _depth),
}
