"""The variance figure: the spread of a group's rewards in naive data and in assembled data.

Naive GRPO's groups are those of the sampling stage, one per training problem. The assembled ones are sampled by the
same policy from the instances of the first iteration, in groups of the same size. An interval resamples problems, with
all groups of a problem together.

*Re-filtered* is what ``rest.refilter_samples`` would do: instances whose group shows too little spread are dropped.
Here the first half of a group decides and the other half is measured, since a group that was kept for its spread would
show more of it than it has; naive and assembled data are given for halves as well, to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import numpy as np

from restrl.artifacts import read_jsonl
from restrl.evaluation.statistics import Interval
from restrl.reproduce.orderings import Ordering, mark_of, reason
from restrl.reproduce.outcome import Histograms, Outcome, Table
from restrl.reproduce.published import published
from restrl.reproduce.workspace import SHARED_FROM, Workspace

TITLE = "Reward spread of naive and of assembled data"
RESAMPLES = 10_000

Groups = Mapping[str, Sequence[Sequence[float]]]
"""Problem -> the rewards of each of its groups."""


@dataclass(frozen=True, slots=True)
class Spreads:
    """Problem -> the standard deviation of each of its groups, for one kind of data."""

    name: str
    by_problem: Mapping[str, Sequence[float]]

    @property
    def values(self) -> list[float]:
        """All of them."""
        return [value for values in self.by_problem.values() for value in values]


def measure(workspace: Workspace, seed: int) -> None:
    """Samples from the assembled instances."""
    workspace.measure_spread(seed)


def summarise(workspace: Workspace) -> Outcome:
    """Puts the seeds together."""
    naive, assembled = _read(workspace)
    sigma_0 = float(workspace.recipe(workspace.seeds[0], SHARED_FROM).to_dict()["rest"]["sigma_0"])
    whole = [spreads("naive data", naive), spreads("assembled data", assembled)]
    halves = [
        spreads("naive data, half groups", second_half(naive)),
        spreads("assembled data, half groups", second_half(assembled)),
        spreads("assembled and re-filtered, half groups", refiltered(assembled, sigma_0)),
    ]
    facts = published()["variance"]
    change = mean_difference(whole[1].by_problem, whole[0].by_problem)
    found = [Ordering("assembled data", "naive data", None, change, mark_of(change))]
    refilter = mean_difference(halves[2].by_problem, halves[0].by_problem)
    found.append(
        Ordering("re-filtered data", "naive data", None, refilter, mark_of(refilter), "half groups; not published")
    )
    assert facts.orderings == (("assembled data", "naive data"),)
    parts = [*whole, *halves]
    return Outcome(
        "variance",
        TITLE,
        (_table(parts, sigma_0), _rewards_table({"naive data": naive, **by_prefix(workspace)})),
        tuple(found),
        Histograms(
            tuple((item.name, tuple(item.values)) for item in (*whole, halves[2])),
            "standard deviation of the rewards in a group",
        ),
        len(naive),
        tuple(reason(found, len(naive))),
        {
            "sigma_0": sigma_0,
            "std": {item.name: item.values for item in parts},
            "assembled_minus_naive": [change.mean, change.low, change.high],
            "refiltered_minus_naive_half_groups": [refilter.mean, refilter.low, refilter.high],
        },
    )


def _read(workspace: Workspace) -> tuple[dict[str, list[list[float]]], dict[str, list[list[float]]]]:
    """The groups of all seeds: naive, assembled. Fixed problem sets give a problem several groups."""
    naive: dict[str, list[list[float]]] = {}
    assembled: dict[str, list[list[float]]] = {}
    for seed in workspace.seeds:
        folder = workspace.path(seed, SHARED_FROM) / "iteration-1"
        for record in read_jsonl(folder / "samples.jsonl"):
            naive.setdefault(record["problem_id"], []).append([item["reward"] for item in record["samples"]])
        for record in read_jsonl(folder / "spread-groups.jsonl"):
            assembled.setdefault(record["problem_id"], []).append(record["rewards"])
    return naive, assembled


def spreads(name: str, groups: Groups) -> Spreads:
    """Returns the population standard deviation of every group."""
    return Spreads(name, {problem: [pstdev(group) for group in found] for problem, found in groups.items()})


def second_half(groups: Groups) -> dict[str, list[Sequence[float]]]:
    """Returns the second half of every group."""
    return {problem: [group[len(group) // 2 :] for group in found] for problem, found in groups.items()}


def refiltered(groups: Groups, sigma_0: float) -> dict[str, list[Sequence[float]]]:
    """Returns the second half of every group whose first half spreads by ``sigma_0`` or more."""
    kept = {
        problem: [group[len(group) // 2 :] for group in found if pstdev(group[: len(group) // 2]) >= sigma_0]
        for problem, found in groups.items()
    }
    return {problem: found for problem, found in kept.items() if found}


def mean_difference(
    one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]], confidence: float = 0.95
) -> Interval:
    """Returns the mean over groups of ``one`` minus that of ``other``; a resample draws problems with their groups."""
    problems = sorted({*one, *other})
    sums_KP = np.array([[sum(part.get(problem, ())) for problem in problems] for part in (one, other)])
    counts_KP = np.array([[len(part.get(problem, ())) for problem in problems] for part in (one, other)], dtype=float)
    mean = fmean(value for found in one.values() for value in found) - fmean(
        value for found in other.values() for value in found
    )
    rng = np.random.default_rng(0)
    drawn_RP = rng.multinomial(len(problems), np.full(len(problems), 1 / len(problems)), RESAMPLES).astype(float)
    # A resample without any group of one kind says nothing about the difference.
    totals_KR = counts_KP @ drawn_RP.T
    means_KR = (sums_KP @ drawn_RP.T) / np.where(totals_KR > 0, totals_KR, np.nan)
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(means_KR[0] - means_KR[1], [tail, 1.0 - tail])
    return Interval(mean, min(float(low), mean), max(float(high), mean))


def by_prefix(workspace: Workspace) -> dict[str, dict[str, list[list[float]]]]:
    """Returns the assembled groups apart: those of whole problems, and those that go on from a prefix."""
    found: dict[str, dict[str, list[list[float]]]] = {"assembled, whole problems": {}, "assembled, prefixes": {}}
    for seed in workspace.seeds:
        for record in read_jsonl(workspace.path(seed, SHARED_FROM) / "iteration-1/spread-groups.jsonl"):
            name = "assembled, prefixes" if record["prefix"] else "assembled, whole problems"
            found[name].setdefault(record["problem_id"], []).append(record["rewards"])
    return found


def _rewards_table(parts: Mapping[str, Groups]) -> Table:
    rows = []
    for name, by_problem in parts.items():
        groups = [group for found in by_problem.values() for group in found]
        if groups:
            right = sum(min(group) > 1 - 1e-9 for group in groups) / len(groups)
            cells = (f"{fmean(map(fmean, groups)):.3f}", f"{fmean(map(pstdev, groups)):.3f}", f"{right:.1%}")
            rows.append((name, str(len(groups)), *cells))
    header = ("data", "groups", "mean reward", "mean std", "every completion right")
    return Table("Where the spread goes", header, tuple(rows))


def _table(parts: Sequence[Spreads], sigma_0: float) -> Table:
    rows = []
    for item in parts:
        values = item.values
        rows.append(
            (
                item.name,
                str(len(values)),
                f"{fmean(values):.3f}",
                f"{np.median(values):.3f}",
                f"{sum(value < 1e-9 for value in values) / len(values):.1%}",
                f"{sum(value < sigma_0 for value in values) / len(values):.1%}",
            )
        )
    header = ("data", "groups", "mean std", "median std", "without spread", f"below sigma_0 = {sigma_0:g}")
    return Table("Ours", header, tuple(rows))
