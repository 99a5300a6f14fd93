"""How likely a policy finds its own code: the mean log-probability of the tokens of a state's code, in nats.

A policy that errs by habit knows better than it samples: within a problem, its programs' likelihood ranks right above
wrong without having seen a test. `LikelihoodPrior` adds that to a value model's score, as PUCT adds a prior to a value:

    score(S) = V_phi(S) + weight * (1 / |S|) * sum_t log pi(s_t | q, s_<t)

It is no part of the published method, where the weight is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from restrl.errors import ConfigError
from restrl.policy.prompting import encode_state
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


def mean_log_likelihoods(
    policy: TransformersPolicy, states: Sequence[State], max_batch_tokens: int = 16_384
) -> list[float]:
    """Returns the mean log-probability of the code's tokens (and of the end marker, if terminal) of every state, <= 0.

    A state without code has 0. Probabilities are those of temperature 1.
    """
    tokenizer, style = policy.tokenizer, policy.prompt_style
    prompts: dict[str, list[int]] = {}
    rows: dict[tuple[int, ...], int] = {}
    keys: list[tuple[int, ...]] = []
    for state in states:
        if state.problem.id not in prompts:
            prompts[state.problem.id] = list(encode_state(State(state.problem), tokenizer, style))
        ids = tuple(encode_state(state, tokenizer, style))
        rows[ids] = len(prompts[state.problem.id])
        keys.append(ids)
    means: dict[tuple[int, ...], float] = {ids: 0.0 for ids, start in rows.items() if len(ids) <= start}
    waiting = sorted((ids for ids in rows if ids not in means), key=len)
    while waiting:
        longest = len(waiting[-1])
        batch = waiting[-max(1, max_batch_tokens // longest) :]
        del waiting[-len(batch) :]
        policy.stats.scored_tokens += sum(map(len, batch))
        for ids, mean in zip(batch, _forward(policy, batch, [rows[ids] for ids in batch]), strict=True):
            means[ids] = mean
    return [means[ids] for ids in keys]


@torch.inference_mode()
def _forward(policy: TransformersPolicy, rows: Sequence[tuple[int, ...]], starts: Sequence[int]) -> list[float]:
    """The mean log-probability of every row's tokens from its start on; rows are padded on the right."""
    model: Any = policy.model
    longest = max(len(row) for row in rows)
    ids_BT = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows], device=model.device)
    # Only the predictions of the code's tokens are needed: the shared prompt's logits are the larger part.
    first = min(starts) - 1
    logits_BTV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=longest - first).logits[:, :-1].float()
    targets_BT = ids_BT[:, first + 1 :]
    logprobs_BT = torch.gather(logits_BTV, 2, targets_BT[:, :, None])[..., 0] - torch.logsumexp(logits_BTV, dim=-1)
    position_T = torch.arange(first + 1, longest, device=model.device)
    start_B = torch.tensor(list(starts), device=model.device)
    end_B = torch.tensor([len(row) for row in rows], device=model.device)
    of_code_BT = (position_T >= start_B[:, None]) & (position_T < end_B[:, None])
    mean_B = (logprobs_BT * of_code_BT).sum(1) / of_code_BT.sum(1)
    result: list[float] = mean_B.tolist()
    return result
