"""Step-level beam search and diverse verifier tree search (DVTS), guided by the value model.

The searches are `restrl.search.beam.BeamSearch`; the driver runs those of many problems at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun
from restrl.decoding.results import Decoded
from restrl.decoding.searches import decode_searches
from restrl.search.asking import SearchLike
from restrl.search.beam import BeamConfig, BeamSearch
from restrl.seeds import derive_seed
from restrl.types import Policy, Problem, SamplingParams, State, ValueModel


def decode_beam(
    problems: Sequence[Problem],
    policy: Policy,
    value_model: ValueModel | None,
    config: DecodeConfig,
    seed: int,
    *,
    params: SamplingParams | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_round: Callable[[Sequence[SearchRun]], None] | None = None,
    wrap: Callable[[SearchLike], SearchLike] | None = None,
) -> list[Decoded]:
    """Searches every problem with ``config.budget`` completions and answers with the best-scored finished program.

    Serves ``beam_search`` (one group of ``config.beam_width`` beams) and ``dvts`` (``config.subtrees`` groups of one).
    The first b completions are those of a search with budget b.

    Raises:
        ConfigError: There is no value model.
        EngineError: The policy or the value model answered wrongly.
    """
    search = beam_config(config)
    trees = (BeamSearch(State(problem), search, derive_seed(seed, "decode", problem.id)) for problem in problems)
    return decode_searches(
        trees, policy, value_model, config, params=params, on_progress=on_progress, on_round=on_round, wrap=wrap
    )


def beam_config(config: DecodeConfig) -> BeamConfig:
    """Returns the settings of the method's search."""
    if config.method == "dvts":
        return BeamConfig(config.budget, config.num_sample, width=1, groups=config.subtrees)
    return BeamConfig(config.budget, config.num_sample, width=config.beam_width)
