"""Drawing the next token so that a completion depends on its own seed and never on its batch.

Every completion owns a stream of uniforms, one per step, from a counter-based generator keyed by (request seed, sample
index). A step inverts the cumulative distribution of its row at its uniform, so it reads nothing of the other rows.
What is left of the batch is rounding: the logits of a row move by about 1e-6 with the shape of its batch in float32
(more in 16-bit precision), and a draw changes where the uniform falls that close to a step of the distribution.

Shapes: B rows, V tokens of the vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

_MASK64 = (1 << 64) - 1


def uniforms(seed: int, sample_index: int, count: int) -> NDArray[np.float64]:
    """Returns ``count`` uniforms in [0, 1), shape (count,); fewer are the start of more.

    Args:
        seed: Seed of the request.
        sample_index: Which of the request's completions.
        count: How many steps.
    """
    key = np.array([seed & _MASK64, sample_index & _MASK64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def nucleus(probs_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zeroes all but the smallest set of most likely tokens whose mass reaches ``top_p``, without renormalising.

    Args:
        probs_BV: Probabilities, rows sum to 1.
        top_p: Mass in (0, 1]; 1 keeps everything.
    """
    if top_p >= 1.0:
        return probs_BV
    sorted_BV, order_BV = torch.sort(probs_BV, dim=-1, descending=True, stable=True)
    # A token stays while the mass before it is short of top_p, so the first always stays.
    before_BV = torch.cumsum(sorted_BV, dim=-1, dtype=torch.float64) - sorted_BV
    sorted_BV = sorted_BV.masked_fill(before_BV >= top_p, 0.0)
    return torch.zeros_like(probs_BV).scatter_(-1, order_BV, sorted_BV)


def draw_tokens(
    logits_BV: torch.Tensor, uniforms_B: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws one token per row.

    The token is the first whose cumulative probability, in token order, exceeds the row's uniform. At temperature 0 it
    is the most likely one (the first, if several are).

    Args:
        logits_BV: Logits of the next token.
        uniforms_B: float64 in [0, 1), one per row; unused at temperature 0.
        temperature: >= 0.
        top_p: Nucleus mass in (0, 1].

    Returns:
        Token ids (B,) and their log-probabilities (B,), float64, under the distribution that was sampled (temperature
        and nucleus applied); at temperature 0 under the model's own.
    """
    logits_BV = logits_BV.float()
    if temperature == 0.0:
        tokens_B = logits_BV.argmax(dim=-1)
        logprobs_BV = torch.log_softmax(logits_BV, dim=-1)
        return tokens_B, logprobs_BV.gather(-1, tokens_B[:, None]).squeeze(-1).double()
    probs_BV = nucleus(torch.softmax(logits_BV / temperature, dim=-1), top_p)
    cumulative_BV = torch.cumsum(probs_BV, dim=-1, dtype=torch.float64)
    total_B1 = cumulative_BV[:, -1:]
    # Below the total even after rounding, so that the search always ends on a token with mass.
    below_B1 = torch.nextafter(total_B1, torch.zeros_like(total_B1))
    threshold_B1 = torch.minimum(uniforms_B[:, None] * total_B1, below_B1)
    # NaN logits search past the end; their log-probability tells on them later.
    tokens_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True).clamp_max(probs_BV.shape[-1] - 1)
    mass_B1 = probs_BV.gather(-1, tokens_B1).double()
    return tokens_B1.squeeze(-1), torch.log(mass_B1 / total_B1).squeeze(-1)
