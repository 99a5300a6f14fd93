"""Measures a policy on problems of the family: pass@k, and how often the samples of a problem differ in reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from restrl.actions import finish
from restrl.evaluation.statistics import mean_pass_at_k
from restrl.seeds import derive_seed
from restrl.types import Grader, Policy, Problem, SampleRequest, SamplingParams, State

_SPREAD = 0.05
_CHUNK = 20


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured on one band of one split.

    Attributes:
        split: The split, and ``band``: the band, or ``all``.
        num_problems: Problems.
        num_samples: Samples of each.
        mean_reward: Mean fraction of passed tests, in [0, 1].
        pass_at: ``k`` -> unbiased pass@k, in [0, 1].
        spread_share: Share of the problems whose rewards have a standard deviation of at least 0.05.
        mean_tokens: Mean number of generated tokens.
    """

    split: str
    band: str
    num_problems: int
    num_samples: int
    mean_reward: float
    pass_at: dict[int, float]
    spread_share: float
    mean_tokens: float


def measure_policy(
    policy: Policy,
    grader: Grader,
    problems: Sequence[Problem],
    num_samples: int = 100,
    params: SamplingParams | None = None,
    seed: int = 0,
    ks: Sequence[int] = (1, 4, 10, 30, 100),
) -> list[Measurement]:
    """Samples from every problem, grades, and sums up: one `Measurement` for all, then one per band.

    Args:
        policy: Samples the solutions.
        grader: Grades them. A completion that was cut off earns 0 ungraded.
        problems: Problems of one split.
        num_samples: Samples per problem, at least the largest of ``ks``; larger ``ks`` are left out.
        params: The default is temperature 0.7 and at most 224 tokens.
        seed: Of the sampling.
        ks: The ``k`` of pass@k.
    """
    params = params or SamplingParams(max_new_tokens=224)
    rewards_PG = np.zeros((len(problems), num_samples))
    tokens_PG = np.zeros((len(problems), num_samples))
    for start in range(0, len(problems), _CHUNK):
        chunk = problems[start : start + _CHUNK]
        requests = [SampleRequest(State(p), num_samples, derive_seed(seed, "starter measure", p.id)) for p in chunk]
        drawn = policy.sample(requests, params)
        where, pairs = [], []
        for i, (problem, completions) in enumerate(zip(chunk, drawn, strict=True), start):
            for j, completion in enumerate(completions):
                tokens_PG[i, j] = completion.num_tokens
                if completion.finish_reason == "stop":
                    where.append((i, j))
                    pairs.append((problem, problem.initial_state + finish(completion.text)))
        for (i, j), grade in zip(where, grader.grade(pairs), strict=True):
            rewards_PG[i, j] = grade.reward
    bands = ["all", *dict.fromkeys(p.band for p in problems)]
    return [_summarize(problems, rewards_PG, tokens_PG, band, ks) for band in bands]


def _summarize(
    problems: Sequence[Problem], rewards_PG: np.ndarray, tokens_PG: np.ndarray, band: str, ks: Sequence[int]
) -> Measurement:
    rows = [i for i, p in enumerate(problems) if band in ("all", p.band)]
    rewards = rewards_PG[rows]
    num_samples = rewards.shape[1]
    counts = [(num_samples, int((row == 1.0).sum())) for row in rewards]
    return Measurement(
        split=problems[0].split,
        band=band,
        num_problems=len(rows),
        num_samples=num_samples,
        mean_reward=float(rewards.mean()),
        pass_at={k: mean_pass_at_k(counts, k) for k in ks if k <= num_samples},
        spread_share=float((rewards.std(axis=1) >= _SPREAD).mean()),
        mean_tokens=float(tokens_PG[rows].mean()),
    )
