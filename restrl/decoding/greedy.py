"""Greedy decoding: the answer is the completion at temperature 0."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import sample_in_batches
from restrl.decoding.results import Decoded, candidate_of
from restrl.decoding.sample import draw_windows, ledger_of
from restrl.seeds import derive_seed
from restrl.types import Completion, Policy, Problem, SampleRequest, SamplingParams, State, ValueModel


def decode_greedy(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """Answers with one completion at temperature 0, at every budget.

    More of the same would be the same again, so the rest of the budget are the first completions of the decoder
    ``sample`` under the same seed: they make no difference to the answers. The value model is not used.
    """
    params = params or SamplingParams()
    coldest = dataclasses.replace(params, temperature=0.0)
    results = []
    for start in range(0, len(problems), config.window):
        window = problems[start : start + config.window]
        began = time.perf_counter()
        requests = [SampleRequest(State(problem), 1, derive_seed(seed, "greedy", problem.id)) for problem in window]
        first_PN = sample_in_batches(policy, requests, coldest)
        rest_PN: list[list[Completion]] = [[] for _ in window]
        if config.budget > 1:
            others = dataclasses.replace(config, budget=config.budget - 1)
            ((_, rest_PN, _),) = draw_windows(window, policy, others, seed, params)
        wall_s = (time.perf_counter() - began) / len(window)
        for problem, first, rest in zip(window, first_PN, rest_PN, strict=True):
            completions = [*first, *rest]
            candidates = tuple(candidate_of("", completion, None, i) for i, completion in enumerate(completions))
            ledger = dataclasses.replace(ledger_of(completions, wall_s), requests=1 + bool(rest))
            results.append(Decoded(problem.id, candidates, (0,) * len(candidates), ledger))
        if on_progress is not None:
            on_progress(len(window))
    return results
