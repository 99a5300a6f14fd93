"""Choosing among candidates by what they do: clusters of programs with the same outputs.

- *Majority*: the cluster that most completions fall into; in it, the program that was sampled most often.
- *Weighted by value*: the cluster whose completions have the largest sum of values, negative ones counted as 0; in it,
  the best-scored program.

At every budget b the clusters are those of the first b completions. Ties go to the earlier. Where public examples are
used, clusters that pass more of them come first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from restrl.decoding.execution import Behaviour
from restrl.decoding.results import Candidate, Rank, rank_of


@dataclass(slots=True)
class _Cluster:
    """Programs with one behaviour, as far as they have been sampled."""

    alive: bool
    public: float = 0.0
    count: int = 0
    weight: float = 0.0
    best: int = 0
    best_rank: Rank | None = None
    texts: dict[str, list[int]] = field(default_factory=dict)

    def add(self, candidate: Candidate) -> None:
        rank = rank_of(candidate)
        self.count += 1
        self.weight += max(0.0, candidate.score or 0.0)
        self.public = max(self.public, candidate.public or 0.0)
        self.texts.setdefault(candidate.code, []).append(candidate.index)
        if self.best_rank is None or rank > self.best_rank:
            self.best, self.best_rank = candidate.index, rank

    def usual(self) -> int:
        """The first completion with the most frequent text; the earlier text on ties."""
        return max(self.texts.values(), key=len)[0]


def majority_answers(candidates: Sequence[Candidate], behaviours: Mapping[str, Behaviour]) -> tuple[int, ...]:
    """Returns the answer of the majority at every budget; the first candidate until one is finished.

    Args:
        candidates: In the order of sampling.
        behaviours: From the code of every finished candidate to what it does.
    """
    return _answers(candidates, behaviours, by_value=False)


def weighted_answers(candidates: Sequence[Candidate], behaviours: Mapping[str, Behaviour]) -> tuple[int, ...]:
    """Returns the answer by clusters weighted by value at every budget; see `majority_answers`."""
    return _answers(candidates, behaviours, by_value=True)


def _answers(
    candidates: Sequence[Candidate], behaviours: Mapping[str, Behaviour], *, by_value: bool
) -> tuple[int, ...]:
    clusters: dict[tuple[str, ...], _Cluster] = {}
    answers: list[int] = []
    for candidate in candidates:
        if candidate.finished:
            behaviour = behaviours[candidate.code]
            clusters.setdefault(behaviour.key, _Cluster(behaviour.alive)).add(candidate)
        if not clusters:
            answers.append(0)
            continue
        # `max` takes the first of equals, and clusters stand in the order of their first members.
        largest = max(
            clusters.values(), key=lambda c: (c.public, c.alive, c.weight if by_value else float(c.count), c.count)
        )
        answers.append(largest.best if by_value else largest.usual())
    return tuple(answers)


def cluster_numbers(candidates: Sequence[Candidate], behaviours: Mapping[str, Behaviour]) -> list[int | None]:
    """Returns the number of every candidate's cluster, counted from 0 as they appear; None for unfinished ones."""
    numbers: dict[tuple[str, ...], int] = {}
    return [
        numbers.setdefault(behaviours[candidate.code].key, len(numbers)) if candidate.finished else None
        for candidate in candidates
    ]
