"""What ReST-DPO and rejection-sampling fine-tuning learn from: choices among the stored samples of a problem. Pure.

- *Pairs* (ReST-DPO, the baseline of ReST-RL's section 4): the best sample of a problem against its worst, where their
  verifier rewards differ; one pair per problem.
- *Demonstrations* (rejection sampling): the best samples of a problem, where they earned at least ``r_0``.

Only finished samples count: a program that the token limit cut off does not show how a program ends. Nothing is random;
among equals the first sampled is taken, so the order of problems plays no part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restrl.rest.assembly import Sample

# Rewards are fractions; two that are equal as fractions may differ by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference between two samples of one problem.

    Attributes:
        problem_id: The problem.
        chosen: Code of the best finished sample, after the initial state.
        rejected: Code of the worst finished sample.
        chosen_reward: Verifier reward of the best.
        rejected_reward: Verifier reward of the worst, smaller.
    """

    problem_id: str
    chosen: str
    rejected: str
    chosen_reward: float
    rejected_reward: float


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A sample to imitate.

    Attributes:
        problem_id: The problem.
        code: Its code, after the initial state.
        reward: Its verifier reward.
    """

    problem_id: str
    code: str
    reward: float


def best_and_worst(samples: Sequence[Sample]) -> tuple[int, int] | None:
    """Returns the indices of the best and of the worst finished sample, or None where no two rewards differ.

    >>> best_and_worst([Sample("a", 0.5, True), Sample("b", 1.0, True), Sample("c", 0.0, False)])
    (1, 0)
    """
    finished = [index for index, sample in enumerate(samples) if sample.finished]
    if not finished:
        return None
    best = max(finished, key=lambda index: (samples[index].reward, -index))
    worst = min(finished, key=lambda index: (samples[index].reward, index))
    return (best, worst) if samples[best].reward > samples[worst].reward + _ROUNDING else None


def select_pairs(samples: Mapping[str, Sequence[Sample]]) -> tuple[Pair, ...]:
    """Returns one pair for every problem whose finished samples differ in reward, ordered by problem id."""
    pairs = []
    for problem_id in sorted(samples):
        group = samples[problem_id]
        found = best_and_worst(group)
        if found is not None:
            best, worst = group[found[0]], group[found[1]]
            pairs.append(Pair(problem_id, best.code, worst.code, best.reward, worst.reward))
    return tuple(pairs)


def select_demonstrations(
    samples: Mapping[str, Sequence[Sample]], r_0: float, per_problem: int = 0
) -> tuple[Demonstration, ...]:
    """Returns the distinct finished samples with a problem's best reward, where that is at least ``r_0``.

    Args:
        samples: For every problem id, its graded samples in sampling order.
        r_0: Least reward.
        per_problem: At most so many of a problem, the first sampled; 0 = all.

    Returns:
        Ordered by problem id, then in sampling order.
    """
    chosen = []
    for problem_id in sorted(samples):
        finished = [sample for sample in samples[problem_id] if sample.finished]
        best = max((sample.reward for sample in finished), default=0.0)
        if not finished or best < r_0 - _ROUNDING:
            continue
        codes = list(dict.fromkeys(sample.code for sample in finished if sample.reward >= best - _ROUNDING))
        chosen += [Demonstration(problem_id, code, best) for code in codes[: per_problem or None]]
    return tuple(chosen)
