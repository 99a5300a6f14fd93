"""How likely a policy finds its own code: the mean log-probability of the tokens of a state's code, in nats.

A policy that errs by habit knows better than it samples: within a problem, its programs' likelihood ranks right above
wrong without having seen a test. `LikelihoodPrior` adds that to a value model's score, as PUCT adds a prior to a value:

    score(S) = V_phi(S) + weight * (1 / |S|) * sum_t log pi(s_t | q, s_<t)

It is no part of the published method, where the weight is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from restrl.errors import ConfigError
from restrl.policy.notes import own_logprobs, token_notes
from restrl.policy.prompting import encode_boundaries
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Policy, State, ValueModel


class LikelihoodPrior:
    """A value model plus the policy's mean log-probability per token.

    Args:
        value_model: Scores the states.
        policy: The policy that is decoded; one that runs in this process.
        weight: Value units per nat, > 0.
        max_batch_tokens: Tokens of one forward, padding included.

    Raises:
        ConfigError: The policy gives no access to its probabilities.
    """

    def __init__(self, value_model: ValueModel, policy: Policy, weight: float, max_batch_tokens: int = 16_384) -> None:
        if not isinstance(policy, TransformersPolicy):
            raise ConfigError(
                f"decode.likelihood_weight is {weight:g}, but a {type(policy).__name__} gives no probabilities of "
                "given code; use policy.engine = 'transformers', or the weight 0"
            )
        self._value_model, self._policy, self._weight = value_model, policy, weight
        self._max_batch_tokens = max_batch_tokens
        self._tokens_before = policy.stats.scored_tokens

    @property
    def tokens(self) -> int:
        """Tokens that the value model and the policy took for scores, padding excluded."""
        stats = getattr(self._value_model, "stats", None)
        return int(getattr(stats, "tokens", 0)) + self._policy.stats.scored_tokens - self._tokens_before

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns one score per state, in order."""
        values = self._value_model.score_states(states)
        priors = mean_log_likelihoods(self._policy, states, self._max_batch_tokens)
        return [value + self._weight * prior for value, prior in zip(values, priors, strict=True)]

    @property
    def score_paths(self) -> Callable[[Sequence[State]], list[list[tuple[int, float]]]] | None:
        """Scores of states and of the states on the way to them (`TrainedValueModel.score_paths`), where the value
        model gives them; None where not."""
        inner = getattr(self._value_model, "score_paths", None)
        return None if inner is None else partial(self._paths, inner)

    def _paths(self, inner: Any, states: Sequence[State]) -> list[list[tuple[int, float]]]:
        paths: list[list[tuple[int, float]]] = inner(states)
        asked = [(state, [offset for offset, _ in path[1:]]) for state, path in zip(states, paths, strict=True)]
        rows = _means(self._policy, asked, self._max_batch_tokens)
        return [
            [(at, value + self._weight * mean) for (at, value), mean in zip(path, means, strict=True) if mean == mean]
            for path, means in zip(paths, rows, strict=True)
        ]


def mean_log_likelihoods(
    policy: TransformersPolicy, states: Sequence[State], max_batch_tokens: int = 16_384
) -> list[float]:
    """Returns the mean log-probability of the code's tokens (and of the end marker, if terminal) of every state, <= 0.

    A state without code has 0. Probabilities are those of temperature 1.
    """
    return [path[0] for path in _means(policy, [(state, ()) for state in states], max_batch_tokens)]


def _means(
    policy: TransformersPolicy, asked: Sequence[tuple[State, Sequence[int]]], max_batch_tokens: int
) -> list[list[float]]:
    """Returns for every state its mean, then those of its code up to the given offsets (NaN where the tokens of the
    code alone are others)."""
    encoded = [
        encode_boundaries(state, policy.tokenizer, policy.prompt_style, [*offsets, 0]) for state, offsets in asked
    ]
    starts = {item.ids: item.positions[-1] + 1 for item in encoded}
    sums: dict[tuple[int, ...], list[float]] = {ids: [0.0] for ids, start in starts.items() if len(ids) <= start}
    waiting = sorted((ids for ids in starts if ids not in sums), key=len)
    while waiting:
        longest = len(waiting[-1])
        batch = waiting[-max(1, max_batch_tokens // longest) :]
        del waiting[-len(batch) :]
        policy.stats.scored_tokens += sum(map(len, batch))
        sums.update(zip(batch, _forward(policy, batch, [starts[ids] for ids in batch]), strict=True))
    rows = []
    for item in encoded:
        start, upto = starts[item.ids], sums[item.ids]
        counts = [len(item.ids) - start, *(position + 1 - start for position in item.positions[:-1])]
        exact = [True, *item.exact[:-1]]
        means = [upto[count] / max(1, count) if ok else math.nan for count, ok in zip(counts, exact, strict=True)]
        rows.append(means)
    return rows


@torch.inference_mode()
def _forward(policy: TransformersPolicy, rows: Sequence[tuple[int, ...]], starts: Sequence[int]) -> list[list[float]]:
    """The log-probability of the first 0, 1, 2, ... tokens of every row's code."""
    notes = token_notes(policy.model, rows, starts, own_logprobs, policy.scoring)
    # The last token of the prompt has nothing to say.
    return [torch.nn.functional.pad(item[1:, 0].double().cumsum(0), (1, 0)).tolist() for item in notes]
