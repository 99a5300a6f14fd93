"""A batch of the decode loop whose rows share their prompts (`restrl.policy.shared_prefix`).

Shapes: P distinct prompts, B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedModel

from restrl.policy.prefix_tree import PrefixTree
from restrl.policy.shared_prefix import Sharing, forward, own_bias, sharing_attention

_log = logging.getLogger(__name__)


class SharingRow(Protocol):
    """What is read of a row."""

    prompt_ids: tuple[int, ...]


def supports_sharing(model: PreTrainedModel) -> bool:
    """Whether a model in evaluation mode gives the same logits with a shared beginning.

    Decided by trying, on four tokens of which two are shared: every layer must ask for the attention by its name, as it
    would for plain SDPA, and nothing else (a bias by position, say) may play a part.
    """
    config: Any = model.config.get_text_config(decoder=True)
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return False
    ids_BT = torch.arange(4, device=model.device)[None] % config.vocab_size
    try:
        with torch.inference_mode():
            plain_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, 2:].float()
            with sharing_attention(model):
                sharing = Sharing(PrefixTree(0).states(model, [(0, 1)]), [0])
                output = forward(
                    model,
                    sharing,
                    input_ids=ids_BT[:, 2:],
                    attention_mask=own_bias([2], 2, sharing.states.bias),
                    position_ids=torch.tensor([[2, 3]], device=model.device),
                    use_cache=False,
                )
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        _log.debug("%s does not run with shared beginnings: %s", type(model).__name__, error)
        return False
    # Not so where a weight is NaN; sampling says that.
    close = bool((output.logits.float() - plain_BTV).abs().max() <= 0.02 * plain_BTV.abs().max())
    return close and sharing.layers == len(sharing.states.keys)


class SharedBatch:
    """Rows that hold the keys and values of what they have generated, and share those of their prompts.

    All of a prompt but its last token, whose logits sampling starts from, is what the rows of that prompt share. To be
    used inside `sharing_attention`.

    Attributes:
        prefilled: Tokens run of each distinct prompt, the shared ones excluded.
    """

    def __init__(self, model: PreTrainedModel, rows: Sequence[SharingRow], cache: Any, prefixes: PrefixTree) -> None:
        self._model, self._cache = model, cache
        prompt_of: dict[tuple[int, ...], int] = {}
        self._prompt_of_row = [prompt_of.setdefault(row.prompt_ids, len(prompt_of)) for row in rows]
        self._prompts = list(prompt_of)
        self._states = prefixes.states(model, [prompt[:-1] for prompt in self._prompts])
        self._positions_B = torch.tensor([len(row.prompt_ids) for row in rows], device=model.device)
        self._waiting: torch.Tensor | None = torch.tensor(self._prompt_of_row, device=model.device)
        self.prefilled: dict[tuple[int, ...], int] = dict.fromkeys(self._prompts, 1)

    def begin(self) -> torch.Tensor:
        """Runs the last token of every prompt; returns the logits of every row's first token, shape (B, V)."""
        device = self._model.device
        output = forward(
            self._model,
            Sharing(self._states, list(range(len(self._prompts)))),
            input_ids=torch.tensor([[prompt[-1]] for prompt in self._prompts], device=device),
            # Nothing is hidden among a row's own tokens: it has no padding there.
            attention_mask=self._states.bias.new_zeros(1, 1, 1, 1),
            position_ids=torch.tensor([[len(prompt) - 1] for prompt in self._prompts], device=device),
            past_key_values=self._cache,
            use_cache=True,
        )
        assert self._waiting is not None
        self._sharing = Sharing(self._states, self._prompt_of_row)
        return cast(torch.Tensor, output.logits[:, -1].index_select(0, self._waiting))

    def keep(self, kept: Sequence[int], kept_B: torch.Tensor) -> None:
        """Drops all other rows."""
        self._take(kept_B if self._waiting is None else self._waiting.index_select(0, kept_B))
        self._sharing = self._sharing.keep(kept)
        self._positions_B = self._positions_B.index_select(0, kept_B)

    def step(self, tokens_B: torch.Tensor, step: int) -> torch.Tensor:
        """Runs one token of every row; returns the logits of the next, shape (B, V)."""
        if self._waiting is not None:
            self._take(self._waiting)
        output = forward(
            self._model,
            self._sharing,
            input_ids=tokens_B[:, None],
            attention_mask=self._states.bias.new_zeros(1, 1, 1, 1),
            position_ids=(self._positions_B + step)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        return cast(torch.Tensor, output.logits[:, -1])

    def _take(self, rows_B: torch.Tensor) -> None:
        for layer in self._cache.layers:
            layer.take(rows_B)
        self._waiting = None
