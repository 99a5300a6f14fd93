"""VM-MCTS and ORM-MCTS: tree search steered by a value model (ReST-RL, section 3.3).

VM-MCTS backs up the values of the states that the search has reached; ORM-MCTS the score of each completion's whole
program, by whatever model is given as an outcome reward model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun
from restrl.decoding.results import Decoded
from restrl.decoding.searches import decode_searches
from restrl.search.asking import SearchLike
from restrl.search.mcts import SearchTree
from restrl.seeds import derive_seed
from restrl.types import Policy, Problem, SamplingParams, State, ValueModel


def decode_mcts(
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

    The first b completions are those of a search with budget b, so the answers at every budget come from one run.

    Raises:
        ConfigError: There is no value model.
        EngineError: The policy or the value model answered wrongly.
    """
    search = config.search()
    trees = (SearchTree(State(problem), search, derive_seed(seed, "decode", problem.id)) for problem in problems)
    return decode_searches(
        trees, policy, value_model, config, params=params, on_progress=on_progress, on_round=on_round, wrap=wrap
    )
