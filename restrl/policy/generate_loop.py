"""Decoding through `model.generate`, for models whose cache the engine's own loop does not keep (sliding windows, state
spaces, hybrids).

Sampling and stopping are the same as in the own loop: a logits processor draws the token and leaves `generate` no
choice, and a stopping criterion ends rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from restrl.policy.decode_loop import Row, left_pad
from restrl.policy.sampling import draw_tokens
from restrl.types import SamplingParams


class _Draw(LogitsProcessor):
    """Draws every row's token from its own uniforms and masks all others."""

    def __init__(self, rows: Sequence[Row], params: SamplingParams, device: torch.device) -> None:
        longest = max(row.budget for row in rows)
        self._uniforms_BT = torch.from_numpy(np.stack([row.uniforms[:longest] for row in rows])).to(device)
        self._params = params
        self.step = 0
        self.logprobs_B = torch.zeros(len(rows), dtype=torch.float64, device=device)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        tokens_B, self.logprobs_B = draw_tokens(
            scores, self._uniforms_BT[:, self.step], self._params.temperature, self._params.top_p
        )
        self.step += 1
        forced: Any = torch.full_like(scores, float("-inf")).scatter_(-1, tokens_B[:, None], 0.0)
        return forced


class _Stop(StoppingCriteria):
    """Feeds the drawn tokens to the rows and ends those that are over."""

    def __init__(self, rows: Sequence[Row], draw: _Draw, eos_ids: frozenset[int]) -> None:
        self._rows = rows
        self._draw = draw
        self._eos_ids = eos_ids
        self._over = [False] * len(rows)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        tokens = input_ids[:, -1].tolist()
        logprobs = self._draw.logprobs_B.tolist()
        for index, row in enumerate(self._rows):
            if not self._over[index]:
                self._over[index] = row.append(tokens[index], logprobs[index], self._eos_ids)
        over: Any = torch.tensor(self._over, device=input_ids.device)
        return over


def decode_with_generate(
    model: PreTrainedModel, rows: Sequence[Row], params: SamplingParams, eos_ids: frozenset[int], pad_id: int
) -> None:
    """Generates every row to its end, in place; see `decode_loop.decode`. Prompts run once per row."""
    ids_BL, mask_BL = left_pad([row.prompt_ids for row in rows], pad_id, model.device)
    draw = _Draw(rows, params, model.device)
    config = GenerationConfig(
        max_new_tokens=max(row.budget for row in rows),
        do_sample=False,
        pad_token_id=pad_id,
        # Ends of sequence are the stopping criterion's business: one rule for both loops.
        eos_token_id=None,
        bos_token_id=None,
    )
    generate: Any = model.generate
    generate(
        inputs=ids_BL,
        attention_mask=mask_BL,
        generation_config=config,
        logits_processor=LogitsProcessorList([draw]),
        stopping_criteria=StoppingCriteriaList([_Stop(rows, draw, eos_ids)]),
    )
