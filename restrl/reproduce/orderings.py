"""Whether a published ordering shows in our numbers: holds, not decided, or reversed.

A score is kept per problem set and problem, averaged over the seeds that measured the problem. The score of a method is
the unweighted mean over sets (as published), a difference is paired by problem, and its 95% bootstrap interval
resamples problems. With several seeds on problems of their own, all of them are in one pool. Training runs are not
resampled: the intervals speak of these runs, on other problems.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from restrl.evaluation.averages import average_of_rows
from restrl.evaluation.statistics import Interval
from restrl.evaluation.suite import family_of
from restrl.reproduce.published import Published

Scores = Mapping[str, Mapping[str, float]]
"""Problem set -> problem -> score."""

Mark = Literal["holds", "not decided", "reversed"]


@dataclass(frozen=True, slots=True)
class Ordering:
    """One published ordering and what became of it.

    Attributes:
        better: What the paper has on top.
        worse: What it has below.
        published: Mean published difference, in how many models it is positive, of how many; None without numbers.
        difference: Ours, ``better - worse``.
        mark: See `mark_of`.
        where: What was compared, where the names do not say it.
    """

    better: str
    worse: str
    published: tuple[float, int, int] | None
    difference: Interval
    mark: Mark
    where: str = ""


def mark_of(difference: Interval) -> Mark:
    """Returns the verdict on ``better - worse``: decided only where the interval excludes 0.

    >>> mark_of(Interval(0.1, 0.02, 0.2)), mark_of(Interval(0.1, -0.1, 0.2)), mark_of(Interval(-0.1, -0.2, -0.01))
    ('holds', 'not decided', 'reversed')
    """
    if not difference.excludes_zero():
        return "not decided"
    return "holds" if difference.mean > 0 else "reversed"


def pool(runs: Iterable[Scores]) -> dict[str, dict[str, float]]:
    """Returns the scores of several seeds together; a problem that several measured has the mean of them.

    >>> pool([{"s": {"a": 1.0}}, {"s": {"a": 0.0, "b": 1.0}}])
    {'s': {'a': 0.5, 'b': 1.0}}
    """
    lists: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for name, values in run.items():
            for problem, value in values.items():
                lists[name][problem].append(value)
    return {
        name: {problem: sum(found) / len(found) for problem, found in values.items()} for name, values in lists.items()
    }


def score(scores: Scores) -> Interval:
    """Returns the mean over sets of the means over problems, with its interval."""
    return average_of_rows(_families(scores))


def difference(better: Scores, worse: Scores) -> Interval:
    """Returns the score of one minus the score of the other, paired by problem, with its interval.

    Raises:
        ValueError: They were not measured on the same problems.
    """
    if {name: set(values) for name, values in better.items()} != {name: set(values) for name, values in worse.items()}:
        raise ValueError("cannot compare scores of different problems: measure both on the same ones")
    return average_of_rows(
        _families(
            {
                name: {problem: value - worse[name][problem] for problem, value in values.items()}
                for name, values in better.items()
            }
        )
    )


def by_another_score(found: Sequence[Ordering], where: str) -> list[Ordering]:
    """Returns the orderings as those of a score that the paper has no numbers of."""
    return [replace(item, published=None, where=where) for item in found]


def judge(published: Published, methods: Mapping[str, Scores], where: str = "") -> list[Ordering]:
    """Returns every published ordering whose two methods were measured, in the published order."""
    return [
        ordering(better, worse, difference(methods[better], methods[worse]), published, where)
        for better, worse in published.orderings
        if better in methods and worse in methods
    ]


def ordering(better: str, worse: str, found: Interval, published: Published, where: str = "") -> Ordering:
    """Returns one ordering with its mark."""
    return Ordering(better, worse, published.difference(better, worse), found, mark_of(found), where)


def _families(scores: Scores) -> list[list[Mapping[str, float]]]:
    """Sets about the same problems (HumanEval and HumanEval+) belong together: their problems are drawn once."""
    families: dict[str, list[Mapping[str, float]]] = {}
    for name, values in scores.items():
        families.setdefault(family_of(name), []).append(values)
    return list(families.values())


def reason(found: Sequence[Ordering], num_problems: int) -> list[str]:
    """Returns a sentence for every ordering that is not decided: how small a difference could have been told."""
    lines = []
    for item in found:
        if item.mark == "not decided":
            width = (item.difference.high - item.difference.low) / 2
            lines.append(
                f"{item.better} over {item.worse}{item.where and ', ' + item.where}: the difference is "
                f"{item.difference.mean:+.3f}, and on {num_problems} problems one below about {width:.3f} cannot be "
                "told from none."
            )
    return lines
