"""Single sample: the answer is the first completion; the others serve pass@k."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from restrl.actions import finish
from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import sample_in_batches
from restrl.decoding.results import Decoded, Ledger, candidate_of
from restrl.seeds import derive_seed
from restrl.types import Completion, Policy, Problem, SampleRequest, SamplingParams, State, ValueModel


def decode_sample(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """Samples ``config.budget`` completions per problem and answers with the first one at every budget.

    The completions are those of best-of-n under the same seed. The value model is not used.
    """
    results = []
    for window, completions_PN, elapsed_s in draw_windows(problems, policy, config, seed, params):
        for problem, completions in zip(window, completions_PN, strict=True):
            candidates = tuple(candidate_of("", completion, None, i) for i, completion in enumerate(completions))
            ledger = ledger_of(completions, elapsed_s / len(window))
            results.append(Decoded(problem.id, candidates, (0,) * len(candidates), ledger))
        if on_progress is not None:
            on_progress(len(window))
    return results


def draw_windows(
    problems: Sequence[Problem], policy: Policy, config: DecodeConfig, seed: int, params: SamplingParams | None
) -> Iterator[tuple[Sequence[Problem], list[list[Completion]], float]]:
    """Yields (problems, their completions, seconds) window by window: one policy call each."""
    for start in range(0, len(problems), config.window):
        window = problems[start : start + config.window]
        began = time.perf_counter()
        requests = [
            SampleRequest(State(problem), config.budget, derive_seed(seed, "draw", problem.id)) for problem in window
        ]
        completions_PN = sample_in_batches(policy, requests, params or SamplingParams())
        yield window, completions_PN, time.perf_counter() - began


def ledger_of(
    completions: Sequence[Completion],
    wall_s: float,
    value_states: int = 0,
    value_calls: int = 0,
    value_tokens: float = 0.0,
) -> Ledger:
    """Returns the cost of one request's completions and their scoring."""
    programs = {unique_key(completion) for completion in completions}
    return Ledger(
        completions=len(completions),
        unique_completions=len(programs),
        cut_off=sum(completion.finish_reason != "stop" for completion in completions),
        requests=1,
        generated_tokens=sum(completion.num_tokens for completion in completions),
        prompt_tokens=sum(c.prompt_tokens - c.reused_prompt_tokens for c in completions),
        reused_prompt_tokens=sum(c.reused_prompt_tokens for c in completions),
        cost=sum(c.cost for c in completions),
        value_states=value_states,
        value_calls=value_calls,
        value_tokens=value_tokens,
        wall_s=wall_s,
    )


def unique_key(completion: Completion) -> tuple[str, bool]:
    """Returns what makes two completions of one problem the same program."""
    finished = completion.finish_reason == "stop"
    return (finish(completion.text) if finished else completion.text), finished
