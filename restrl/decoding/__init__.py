"""Decoders: from problems to answers at an equal budget of sampled completions.

A new decoder is one module with a function of `Decoder` 's shape and one line in `DECODERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from restrl.decoding.beam import decode_beam
from restrl.decoding.best_of_n import decode_best_of_n
from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun
from restrl.decoding.greedy import decode_greedy
from restrl.decoding.mcts import decode_mcts
from restrl.decoding.prm import decode_best_of_n_prm
from restrl.decoding.results import Candidate, Decoded, Ledger, best_answers
from restrl.decoding.sample import decode_sample
from restrl.errors import ConfigError
from restrl.types import Policy, Problem, SamplingParams, ValueModel

__all__ = [
    "DECODERS",
    "INDEPENDENT",
    "SEARCHES",
    "WITHOUT_VALUES",
    "Candidate",
    "DecodeConfig",
    "Decoded",
    "Decoder",
    "Layer",
    "Ledger",
    "best_answers",
    "decode",
]

Layer = Callable[[Policy, ValueModel | None], tuple[Policy, ValueModel | None]]
"""Stands between a decoder and its models, to watch them or to remember their answers."""


class Decoder(Protocol):
    """A decoding method."""

    def __call__(
        self,
        problems: Sequence[Problem],
        policy: Policy,
        value_model: ValueModel | None,
        config: DecodeConfig,
        seed: int,
        *,
        params: SamplingParams | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> list[Decoded]:
        """Returns one result per problem, in order, each with exactly ``config.budget`` candidates."""
        ...


DECODERS: dict[str, Decoder] = {
    "greedy": decode_greedy,
    "sample": decode_sample,
    "best_of_n": decode_best_of_n,
    "best_of_n_prm": decode_best_of_n_prm,
    "vm_mcts": decode_mcts,
    "orm_mcts": decode_mcts,
    "beam_search": decode_beam,
    "dvts": decode_beam,
}

SEARCHES = frozenset({"vm_mcts", "orm_mcts", "beam_search", "dvts"})
"""Decoders that grow one tree per problem and show it after every round."""

WITHOUT_VALUES = frozenset({"greedy", "sample"})
"""Decoders that need no value model."""

INDEPENDENT = frozenset({"sample", "best_of_n", "best_of_n_prm"})
"""Decoders whose candidates are independent samples, for which pass@k is defined."""


def decode(
    method: str,
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_round: Callable[[Sequence[SearchRun]], None] | None = None,
    layer: Layer | None = None,
) -> list[Decoded]:
    """Decodes problems by a method of `DECODERS`; a hyphen in the name is as good as an underscore.

    Args:
        method: Takes precedence over ``config.method``.
        problems: What to solve.
        policy: Samples completions.
        value_model: Scores states; None for those of `WITHOUT_VALUES` only.
        config: Budget and settings of the search.
        seed: Seed of everything random.
        params: How to sample.
        on_progress: Called with the number of problems that have become done.
        on_round: Called after every round with the searches under way (`SEARCHES` only), for watching.
        layer: Stands between the decoder and its models: from the two models to the two that the decoder calls.

    Raises:
        ConfigError: The method is unknown, or needs a value model and has none.
        EngineError: The policy or the value model answered wrongly.
    """
    name = method.replace("-", "_")
    if name not in DECODERS:
        raise ConfigError(f"decoder {method!r} is unknown; allowed: {', '.join(DECODERS)}")
    config = dataclasses.replace(config, method=name)
    if config.likelihood_weight and value_model is not None:
        from restrl.policy.likelihood import LikelihoodPrior

        value_model = LikelihoodPrior(value_model, policy, config.likelihood_weight)
    if layer is not None:
        policy, value_model = layer(policy, value_model)
    if on_round is not None and name in SEARCHES:
        search = decode_mcts if name.endswith("mcts") else decode_beam
        return search(
            problems, policy, value_model, config, seed, params=params, on_progress=on_progress, on_round=on_round
        )
    return DECODERS[name](problems, policy, value_model, config, seed, params=params, on_progress=on_progress)
