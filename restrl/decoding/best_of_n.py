"""Best of n: sample n completions, score the distinct finished programs, answer with the best (method.md: ORM)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import checked_scores, scored_tokens
from restrl.decoding.results import Decoded, best_answers, candidate_of
from restrl.decoding.sample import draw_windows, ledger_of, unique_key
from restrl.decoding.searches import need_value_model
from restrl.types import Policy, Problem, SamplingParams, State, ValueModel

Score = Callable[[Sequence[State]], tuple[list[float], list[int]]]
"""From distinct terminal states to a score of each, and to the number of states that the model scored for it."""


def decode_best_of_n(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """Samples ``config.budget`` completions per problem and answers with the best-scored finished program.

    Every distinct finished program is scored once, as a terminal state; one scoring call per window.

    Raises:
        ConfigError: There is no value model.
        EngineError: The policy or the value model answered wrongly.
    """
    need_value_model(config.method, value_model)
    assert value_model is not None
    model = value_model

    def score(states: Sequence[State]) -> tuple[list[float], list[int]]:
        return checked_scores(model.score_states, states), [1] * len(states)

    return decode_scored(problems, policy, model, score, config, seed, params=params, on_progress=on_progress)


def decode_scored(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel,
    score: Score,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """Samples ``config.budget`` completions per problem and answers with the finished program that scores best.

    Args:
        problems: What to solve.
        policy: Samples completions.
        value_model: What ``score`` asks, for the count of its tokens.
        score: Scores the distinct finished programs of a window, in one call.
        config: Budget and window.
        seed: Seed of the draws: those of the decoder ``sample``.
        params: How to sample.
        on_progress: Called with the number of problems that have become done.
    """
    results = []
    for window, completions_PN, elapsed_s in draw_windows(problems, policy, config, seed, params):
        began = time.perf_counter()
        keys = list(
            dict.fromkeys(
                (place, code)
                for place, completions in enumerate(completions_PN)
                for code, finished in map(unique_key, completions)
                if finished
            )
        )
        tokens_before = scored_tokens(value_model)
        values, counts = score([State(window[place], code, terminal=True) for place, code in keys])
        tokens_per_state = (scored_tokens(value_model) - tokens_before) / max(1, sum(counts))
        scores = dict(zip(keys, values, strict=True))
        wall_s = (elapsed_s + time.perf_counter() - began) / len(window)
        for place, (problem, completions) in enumerate(zip(window, completions_PN, strict=True)):
            candidates = tuple(
                candidate_of("", completion, scores.get((place, unique_key(completion)[0])), i)
                if completion.finish_reason == "stop"
                else candidate_of("", completion, None, i)
                for i, completion in enumerate(completions)
            )
            num_states = sum(count for (owner, _), count in zip(keys, counts, strict=True) if owner == place)
            ledger = ledger_of(
                completions, wall_s, num_states, 1 if num_states else 0, value_tokens=num_states * tokens_per_state
            )
            results.append(Decoded(problem.id, candidates, best_answers(candidates), ledger))
        if on_progress is not None:
            on_progress(len(window))
    return results
