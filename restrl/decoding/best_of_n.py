"""Best of n: sample n completions, score the distinct finished programs, answer with the best (method.md: ORM)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import checked_scores
from restrl.decoding.results import Decoded, best_answers, candidate_of
from restrl.decoding.sample import draw_windows, ledger_of, unique_key
from restrl.errors import ConfigError
from restrl.types import Policy, Problem, SamplingParams, State, ValueModel


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
    if value_model is None:
        raise ConfigError("decoder best_of_n needs a value model, got none; train one, or choose the decoder 'sample'")
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
        states = [State(window[place], code, terminal=True) for place, code in keys]
        scores = dict(zip(keys, checked_scores(value_model.score_states, states), strict=True))
        wall_s = (elapsed_s + time.perf_counter() - began) / len(window)
        for place, (problem, completions) in enumerate(zip(window, completions_PN, strict=True)):
            candidates = tuple(
                candidate_of("", completion, scores.get((place, unique_key(completion)[0])), i)
                if completion.finish_reason == "stop"
                else candidate_of("", completion, None, i)
                for i, completion in enumerate(completions)
            )
            num_states = sum(1 for owner, _ in keys if owner == place)
            ledger = ledger_of(completions, wall_s, num_states, 1 if num_states else 0)
            results.append(Decoded(problem.id, candidates, best_answers(candidates), ledger))
        if on_progress is not None:
            on_progress(len(window))
    return results
