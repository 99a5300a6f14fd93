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
) -> float:
    """The GRPO loss (DeepSeekMath, equation 3): ``-mean_i mean_t [min(rho A, clip(rho) A) - beta * KL]``.

    ``rho = exp(logp - old_logp)`` is clipped to ``[1 - epsilon, 1 + epsilon_high]``;
    ``KL = exp(ref - logp) - (ref - logp) - 1`` per token. Tokens are averaged within a completion first, then
    completions.

    Args:
        logps_BT: Log-probabilities of the completions' tokens under the trained policy, at the sampling temperature.
        old_logps_BT: The same under the policy that sampled them.
        advantages_B: One advantage per completion.
        mask_BT: 1 for tokens of the completion, 0 for padding. Prompt tokens (with the prefix) are not here at all.
        epsilon: Lower clip.
        epsilon_high: Upper clip.
        beta: Weight of the KL penalty.
        ref_logps_BT: Log-probabilities under the reference policy, needed if ``beta`` is not 0.
    """
    ratio = np.exp(logps_BT - old_logps_BT)
    advantages = advantages_B[:, None]
    token_loss = -np.minimum(ratio * advantages, np.clip(ratio, 1 - epsilon, 1 + epsilon_high) * advantages)
    if beta:
        if ref_logps_BT is None:
            raise ValueError("beta is not 0, so ref_logps_BT is needed")
        gap = ref_logps_BT - logps_BT
        token_loss = token_loss + beta * (np.exp(gap) - gap - 1)
    return float(((token_loss * mask_BT).sum(axis=1) / mask_BT.sum(axis=1)).mean())
