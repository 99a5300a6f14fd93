"""VM-MCTS and ORM-MCTS: tree search steered by a value model (ReST-RL, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun, ValueScorer, iter_searches
from restrl.decoding.results import Candidate, Decoded, best_answers
from restrl.errors import ConfigError
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
) -> list[Decoded]:
    """Searches every problem with ``config.budget`` completions and answers with the best-scored finished program.

    The first b completions are those of a search with budget b, so the answers at every budget come from one run.

    Raises:
        ConfigError: There is no value model.
        EngineError: The policy or the value model answered wrongly.
    """
    if value_model is None:
        raise ConfigError(
            f"decoder {config.method} needs a value model, got none; train one, or choose the decoder 'sample'"
        )
    search = config.search()
    trees = (SearchTree(State(problem), search, derive_seed(seed, "decode", problem.id)) for problem in problems)
    decoded: dict[int, Decoded] = {}
    for run in iter_searches(
        trees,
        policy,
        ValueScorer(value_model),
        params or SamplingParams(),
        window=config.window,
        overlap=config.overlap,
        on_progress=on_progress,
        on_round=on_round,
    ):
        decoded[run.index] = decoded_from(run)
    return [decoded[index] for index in range(len(problems))]


def decoded_from(run: SearchRun) -> Decoded:
    """Returns the result of a finished search."""
    candidates = tuple(Candidate(draw.program, draw.finished, draw.score, draw.index) for draw in run.tree.draws)
    return Decoded(run.tree.root.state.problem.id, candidates, best_answers(candidates), run.ledger())
