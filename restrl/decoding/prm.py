"""Best of n by a process reward model: a program is worth the aggregate of the scores of its steps (method.md: PRM).

A *step* is an action, a line of code, and its score the model's value of the state after it; the last step's state is
the finished program. With step scores ``s_1..s_k``:

    min: the program is as good as its weakest line        min(s_1, ..., s_k)
    last: what the model thinks of the finished program     s_k
    mean: the average line                                  (s_1 + ... + s_k) / k
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from restrl.actions import boundaries
from restrl.decoding.best_of_n import decode_scored
from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import checked_scores
from restrl.decoding.results import Decoded
from restrl.decoding.searches import need_value_model
from restrl.errors import EngineError
from restrl.types import Policy, Problem, SamplingParams, State, ValueModel

AGGREGATIONS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "last": lambda scores: scores[-1],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}


def decode_best_of_n_prm(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> list[Decoded]:
    """Samples ``config.budget`` completions per problem and answers with the program whose steps score best.

    Every state is scored once, in one call per window. The completions are those of best-of-n under the same seed.

    Raises:
        ConfigError: There is no value model.
        EngineError: The policy or the value model answered wrongly.
    """
    need_value_model(config.method, value_model)
    assert value_model is not None
    model, aggregate = value_model, AGGREGATIONS[config.prm_aggregation]

    def score(states: Sequence[State]) -> tuple[list[float], list[int]]:
        steps, counts = step_scores(model, states)
        return [aggregate(scores) for scores in steps], counts

    return decode_scored(problems, policy, model, score, config, seed, params=params, on_progress=on_progress)


def step_scores(model: ValueModel, states: Sequence[State]) -> tuple[list[list[float]], list[int]]:
    """Returns the score after every step of finished programs, and how many states were scored for each.

    Args:
        model: With ``score_boundaries``, one forward per program gives all its steps; without, every distinct line
            prefix is scored as a state.
        states: Distinct terminal states.

    Raises:
        EngineError: A score is missing or not finite.
    """
    score_boundaries = getattr(model, "score_boundaries", None)
    if score_boundaries is None:
        return _by_states(model, states)
    rows: list[list[float]] = score_boundaries(states) if states else []
    expected = [len(boundaries(state.code)) + 1 for state in states]
    if list(map(len, rows)) != expected:
        raise EngineError(f"the value model scored {list(map(len, rows))} steps of programs that have {expected}")
    bad = next((value for row in rows for value in row if not math.isfinite(value)), None)
    if bad is not None:
        raise EngineError(f"the score of a step is {bad}; it must be a finite number")
    # The last line ends the program: its state is the finished one, not the one in which more could follow.
    return [[*row[:-2], row[-1]] for row in rows], [max(1, len(row) - 1) for row in rows]


def _by_states(model: ValueModel, states: Sequence[State]) -> tuple[list[list[float]], list[int]]:
    programs = [
        [*(State(state.problem, state.code[:end]) for end in boundaries(state.code)[:-1]), state] for state in states
    ]
    unique: dict[tuple[str, str, bool], State] = {}
    counts = []
    for steps in programs:
        before = len(unique)
        for step in steps:
            unique.setdefault(_key(step), step)
        counts.append(len(unique) - before)
    scores = dict(zip(unique, checked_scores(model.score_states, list(unique.values())), strict=True))
    return [[scores[_key(step)] for step in steps] for steps in programs], counts


def _key(state: State) -> tuple[str, str, bool]:
    return state.problem.id, state.code, state.terminal
