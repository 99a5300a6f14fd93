"""The formulas of GRPO in numpy (float64): the reference for what the training engine computes. Pure.

Shapes: ``P`` instances (groups), ``G`` completions per group, ``B`` completions, ``T`` tokens of a completion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# TRL adds this to the standard deviation; with rewards in [0, 1] it only matters for near-constant groups.
EPSILON_STD = 1e-4


def group_advantages(rewards_PG: Floats, *, scale: str = "group") -> Floats:
    """``A_i = (r_i - mean(r)) / (std(r) + 1e-4)`` within each group (DeepSeekMath, section 4.1.2).

    Args:
        rewards_PG: Shaped rewards.
        scale: ``group`` divides by the standard deviation of the group, ``batch`` by that of all rewards, ``none`` by
            1. The standard deviation is the sample one (divisor n - 1), as in TRL.

    Returns:
        Advantages (P, G); every group has mean 0.

    >>> group_advantages(np.array([[0.0, 1.0], [1.0, 1.0]])).round(3).tolist()
    [[-0.707, 0.707], [0.0, 0.0]]
    """
    centred = rewards_PG - rewards_PG.mean(axis=1, keepdims=True)
    if scale == "none":
        return np.asarray(centred)
    std = rewards_PG.std(axis=1, ddof=1, keepdims=True) if scale == "group" else rewards_PG.std(ddof=1)
    return np.asarray(centred / (std + EPSILON_STD))


def group_spread(rewards_PG: Floats) -> Floats:
    """Population standard deviation of each group (P,): the quantity that the filter compares with ``sigma_0``."""
    return np.asarray(rewards_PG.std(axis=1))


def overlong_penalty(num_tokens: int, limit: int, buffer: int) -> float:
    """Soft overlong punishment (DAPO, equation 13): 0 up to ``limit - buffer`` tokens, then linearly down to -1.

    Args:
        num_tokens: Tokens of the completion.
        limit: Longest allowed completion.
        buffer: Tokens before the limit in which the penalty grows; 0 = no penalty.

    >>> [overlong_penalty(n, 100, 20) for n in (80, 85, 100, 101)]
    [0.0, -0.25, -1.0, -1.0]
    """
    if buffer == 0 or num_tokens <= limit - buffer:
        return 0.0
    return max((limit - buffer - num_tokens) / buffer, -1.0)


def token_weights(mask_BT: Floats, loss_type: str, max_tokens: int) -> Floats:
    """The share of every token in the loss: ``loss = sum_it weight_it * token_loss_it``.

    - ``grpo``: ``1 / (B |o_i|)``: by completion, then over completions (DeepSeekMath, equation 3);
    - ``dapo`` and ``bnpo``: ``1 / sum_i |o_i|``: every token counts the same (DAPO, equation 8). The engine takes the
      sum over the step for ``dapo`` and over a micro batch for ``bnpo``;
    - ``dr_grpo``: ``1 / (B max_tokens)``: a constant, so that length carries no weight (Dr. GRPO, section 3.2).

    Args:
        mask_BT: 1 for tokens of the completion, 0 for padding.
        loss_type: See above.
        max_tokens: Longest allowed completion.
    """
    count = len(mask_BT)
    if loss_type == "grpo":
        weights = mask_BT / (count * np.maximum(mask_BT.sum(axis=1, keepdims=True), 1.0))
    elif loss_type in ("dapo", "bnpo"):
        weights = mask_BT / max(mask_BT.sum(), 1.0)
    elif loss_type == "dr_grpo":
        weights = mask_BT / (count * max_tokens)
    else:
        raise ValueError(f"loss_type is {loss_type!r}; allowed: grpo, bnpo, dr_grpo, dapo")
    return np.asarray(weights)


def clipped_loss(
    logps_BT: Floats,
    old_logps_BT: Floats,
    advantages_B: Floats,
    mask_BT: Floats,
    *,
    epsilon: float,
    epsilon_high: float,
    beta: float = 0.0,
    ref_logps_BT: Floats | None = None,
    loss_type: str = "grpo",
    max_tokens: int = 0,
) -> float:
    """The clipped loss: ``-sum_it weight_it [min(rho A, clip(rho) A) - beta * KL]`` (DeepSeekMath, equation 3).

    ``rho = exp(logp - old_logp)`` is clipped to ``[1 - epsilon, 1 + epsilon_high]``;
    ``KL = exp(ref - logp) - (ref - logp) - 1`` per token; the weights are `token_weights`.

    Args:
        logps_BT: Log-probabilities of the completions' tokens under the trained policy, at the sampling temperature.
        old_logps_BT: The same under the policy that sampled them.
        advantages_B: One advantage per completion.
        mask_BT: 1 for tokens of the completion, 0 for padding. Prompt tokens (with the prefix) are not here at all.
        epsilon: Lower clip.
        epsilon_high: Upper clip.
        beta: Weight of the KL penalty.
        ref_logps_BT: Log-probabilities under the reference policy, needed if ``beta`` is not 0.
        loss_type: How token losses are averaged.
        max_tokens: Longest allowed completion, needed for ``dr_grpo``.
    """
    ratio = np.exp(logps_BT - old_logps_BT)
    advantages = advantages_B[:, None]
    token_loss = -np.minimum(ratio * advantages, np.clip(ratio, 1 - epsilon, 1 + epsilon_high) * advantages)
    if beta:
        if ref_logps_BT is None:
            raise ValueError("beta is not 0, so ref_logps_BT is needed")
        gap = ref_logps_BT - logps_BT
        token_loss = token_loss + beta * (np.exp(gap) - gap - 1)
    return float((token_loss * token_weights(mask_BT, loss_type, max_tokens)).sum())
