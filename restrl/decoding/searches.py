"""Decoding by searches: one per problem, run together by the driver, each answer the best-scored finished program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun, ValueScorer, iter_searches
from restrl.decoding.results import Candidate, Decoded, best_answers
from restrl.errors import ConfigError
from restrl.search.asking import SearchLike
from restrl.types import Policy, SamplingParams, ValueModel


def decode_searches(
    searches: Iterable[SearchLike],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_round: Callable[[Sequence[SearchRun]], None] | None = None,
    wrap: Callable[[SearchLike], SearchLike] | None = None,
) -> list[Decoded]:
    """Runs one search per problem and returns their results, in order.

    Args:
        searches: The searches; taken as places in the window become free.
        policy: Samples completions.
        value_model: Scores states.
        config: The window.
        params: How to sample.
        on_progress: Called with the number of problems that have become done.
        on_round: Called after every round with the searches under way, for watching.
        wrap: Makes the search that is driven of each search.

    Raises:
        ConfigError: There is no value model.
        EngineError: The policy or the value model answered wrongly.
    """
    need_value_model(config.method, value_model)
    assert value_model is not None
    # The driver uses nothing of a search but what `SearchLike` says.
    driven: Iterable[Any] = map(wrap, searches) if wrap is not None else searches
    decoded: dict[int, Decoded] = {}
    for run in iter_searches(
        driven,
        policy,
        ValueScorer(value_model),
        params or SamplingParams(),
        window=config.window,
        overlap=config.overlap,
        on_progress=on_progress,
        on_round=on_round,
    ):
        decoded[run.index] = decoded_from(run)
    return [decoded[index] for index in range(len(decoded))]


def need_value_model(method: str, value_model: ValueModel | None) -> None:
    """Raises `ConfigError` where a method has no value model and needs one."""
    if value_model is None:
        raise ConfigError(f"decoder {method} needs a value model, got none; train one, or choose the decoder 'sample'")


def decoded_from(run: SearchRun) -> Decoded:
    """Returns the result of a finished search."""
    candidates = tuple(Candidate(draw.program, draw.finished, draw.score, draw.index) for draw in run.tree.draws)
    return Decoded(run.tree.root.state.problem.id, candidates, best_answers(candidates), run.ledger())
