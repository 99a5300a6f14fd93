"""Decoders: from problems to answers at an equal budget of sampled completions.

A new decoder is one module with a function of `Decoder` 's shape and one line in `DECODERS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

from restrl.decoding.beam import decode_beam
from restrl.decoding.best_of_n import decode_best_of_n
from restrl.decoding.choosing import choose
from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun
from restrl.decoding.execution import Execution, open_execution
from restrl.decoding.greedy import decode_greedy
from restrl.decoding.majority import decode_majority
from restrl.decoding.mcts import decode_mcts
from restrl.decoding.prm import decode_best_of_n_prm
from restrl.decoding.public import PublicExamples, PublicSearch, WatchedPrograms
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
    "Execution",
    "Layer",
    "Ledger",
    "best_answers",
    "check_choice",
    "decode",
    "open_execution",
    "runs_programs",
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
    "majority": decode_majority,
    "vm_mcts": decode_mcts,
    "orm_mcts": decode_mcts,
    "beam_search": decode_beam,
    "dvts": decode_beam,
}

SEARCHES = frozenset({"vm_mcts", "orm_mcts", "beam_search", "dvts"})
"""Decoders that grow one tree per problem and show it after every round."""

WITHOUT_VALUES = frozenset({"greedy", "sample", "majority"})
"""Decoders that need no value model."""

INDEPENDENT = frozenset({"sample", "best_of_n", "best_of_n_prm", "majority"})
"""Decoders whose candidates are independent samples, for which pass@k is defined."""


def runs_programs(config: DecodeConfig) -> bool:
    """Returns whether a decoder with these settings runs candidates: it then needs a sandbox."""
    return config.method == "majority" or config.selection == "clusters" or config.public_tests


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
    execution: Execution | None = None,
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
        execution: Runs candidates, for the settings that need it (`runs_programs`); a sandbox of its own by default.

    Raises:
        ConfigError: The method is unknown, or needs a value model and has none.
        EngineError: The policy or the value model answered wrongly.
        GraderError: The sandbox failed.
    """
    name = method.replace("-", "_")
    if name not in DECODERS:
        raise ConfigError(f"decoder {method!r} is unknown; allowed: {', '.join(DECODERS)}")
    config = dataclasses.replace(config, method=name)
    check_choice(config)
    if config.likelihood_weight and value_model is not None:
        from restrl.policy.likelihood import LikelihoodPrior

        value_model = LikelihoodPrior(value_model, policy, config.likelihood_weight)
    if layer is not None:
        policy, value_model = layer(policy, value_model)
    extra: dict[str, Any] = {"params": params, "on_progress": on_progress}
    if name in SEARCHES:
        extra["on_round"] = on_round
    run: Callable[..., list[Decoded]] = DECODERS[name]
    if not runs_programs(config):
        return run(problems, policy, value_model, config, seed, **extra)
    with open_execution() if execution is None else nullcontext(execution) as sandbox:
        examples = PublicExamples.of(problems, sandbox.grader) if config.public_tests else None
        if examples is not None and name in SEARCHES and value_model is not None:
            value_model = WatchedPrograms(value_model, examples)
            extra["wrap"] = lambda search: PublicSearch(search, examples.rewards, config.public_weight)
        if name == "majority":
            extra["runner"] = sandbox.runner
        decoded = run(problems, policy, value_model, config, seed, **extra)
        if examples is None and config.selection != "clusters":
            return decoded
        return choose(problems, decoded, config, seed, sandbox.runner, examples)


def check_choice(config: DecodeConfig) -> None:
    """Raises `ConfigError` for a way of choosing that the method has no use for."""
    if config.method in ("greedy", "sample") and (config.selection != "score" or config.public_tests):
        option = "public_tests = true" if config.public_tests else f"selection = {config.selection!r}"
        raise ConfigError(
            f"decode.{option} with the decoder {config.method}, which answers with its first completion; choose "
            "another decoder, for example majority, or leave it out"
        )
    if config.method == "majority" and config.selection != "score":
        raise ConfigError(
            f"decode.selection = {config.selection!r} with the decoder majority, which has clusters but no values; "
            "choose best_of_n, or leave it out"
        )
