"""A batch of the decode loop whose rows share the beginnings of their prompts (`restrl.policy.shared_prefix`).

Shapes: G shared beginnings, P distinct prompts, B rows, C columns of the rows' own, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from transformers import PreTrainedModel

from restrl.policy.shared_prefix import (
    PrefixStates,
    Sharing,
    forward,
    lowest,
    own_bias,
    prefix_states,
    sharing_attention,
)


class SharingRow(Protocol):
    """What is read of a row."""

    prompt_ids: tuple[int, ...]
    budget: int
    shared: int


class PrefixCache:
    """Keys and values of shared beginnings, for several batches; the least recently used are dropped first.

    Args:
        max_tokens: Most tokens kept between batches; 0 keeps none.
        max_batch_tokens: Tokens of one forward, padding included.

    Attributes:
        tokens: Tokens kept now.
    """

    def __init__(self, max_tokens: int, max_batch_tokens: int = 16_384) -> None:
        self._max_tokens, self._max_batch_tokens = max_tokens, max_batch_tokens
        self._entries: OrderedDict[tuple[int, ...], tuple[torch.Tensor, ...]] = OrderedDict()
        self.tokens = 0

    def states(self, model: PreTrainedModel, prefixes: Sequence[tuple[int, ...]], pad_id: int) -> PrefixStates:
        """Returns the states of distinct prefixes, in order; runs those that are not kept."""
        missing = sorted((prefix for prefix in prefixes if prefix not in self._entries), key=len)
        while missing:
            batch = missing[-max(1, self._max_batch_tokens // len(missing[-1])) :]
            del missing[-len(batch) :]
            self._add(batch, prefix_states(model, batch, pad_id))
        for prefix in prefixes:
            self._entries.move_to_end(prefix)
        states = _joined([self._entries[prefix] for prefix in prefixes], [len(prefix) for prefix in prefixes])
        while self.tokens > self._max_tokens:
            oldest, _ = self._entries.popitem(last=False)
            self.tokens -= len(oldest)
        return states

    def clear(self) -> None:
        """Forgets everything: the weights have changed."""
        self._entries.clear()
        self.tokens = 0

    def _add(self, prefixes: Sequence[tuple[int, ...]], states: PrefixStates) -> None:
        for number, prefix in enumerate(prefixes):
            keys = torch.stack([layer[number, :, :, -len(prefix) :] for layer in states.keys])
            values = torch.stack([layer[number, :, -len(prefix) :] for layer in states.values])
            self._entries[prefix] = (keys, values)
            self.tokens += len(prefix)


def _joined(entries: Sequence[tuple[torch.Tensor, ...]], lengths: Sequence[int]) -> PrefixStates:
    """Pads single prefixes, keys (N, K, D, L) and values (N, K, L, D), on the left."""
    keys, values = entries[0]
    longest = max(lengths)
    num_layers, num_heads, size, _ = keys.shape
    keys_NGKDL = keys.new_zeros(num_layers, len(entries), num_heads, size, longest)
    values_NGKLD = values.new_zeros(num_layers, len(entries), num_heads, longest, values.shape[-1])
    bias_G11L = keys.new_zeros(len(entries), 1, 1, longest)
    for number, ((keys, values), length) in enumerate(zip(entries, lengths, strict=True)):
        keys_NGKDL[:, number, ..., longest - length :] = keys
        values_NGKLD[:, number, :, longest - length :] = values
        bias_G11L[number, ..., : longest - length] = lowest(keys.dtype)
    return PrefixStates(tuple(keys_NGKDL), tuple(values_NGKLD), bias_G11L, tuple(lengths))


def continuation_logits(
    model: PreTrainedModel, rows: Sequence[Sequence[int]], starts: Sequence[int], prefixes: PrefixCache | None
) -> torch.Tensor:
    """Returns the logits from the last token of every row's prompt on, shape (B, T, V), rows padded on the right.

    Args:
        model: A causal language model in evaluation mode.
        rows: Token ids of B rows.
        starts: How many tokens of each row are the prompt's, in [1, length].
        prefixes: Keeps the prompts' keys and values, so that rows of one prompt share them; None: every row is run
            whole.
    """
    device = model.device
    longest = max(len(row) - start + 1 for row, start in zip(rows, starts, strict=True))
    group_of: dict[tuple[int, ...], int] = {}
    beginnings = [tuple(row[: start - 1]) for row, start in zip(rows, starts, strict=True)]
    groups = [group_of.setdefault(beginning, len(group_of)) for beginning in beginnings]
    if prefixes is None or () in group_of or len(rows) < 2 * len(group_of):
        whole = max(map(len, rows))
        first = min(starts) - 1
        ids_BT = torch.tensor([[*row, *([0] * (whole - len(row)))] for row in rows], device=device)
        # No mask: in a causal model nothing before the padding sees it.
        logits_BTV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=whole - first).logits
        begins_B1 = torch.tensor([[start - 1 - first] for start in starts], device=device)
        columns_BT = (begins_B1 + torch.arange(longest, device=device)).clamp_max(whole - first - 1)
        index_BTV = columns_BT[..., None].expand(-1, -1, logits_BTV.shape[-1])
        return cast(torch.Tensor, logits_BTV.gather(1, index_BTV))
    states = prefixes.states(model, list(group_of), 0)
    rests = [list(row[start - 1 :]) for row, start in zip(rows, starts, strict=True)]
    ids_BT = torch.tensor([[*rest, *([0] * (longest - len(rest)))] for rest in rests], device=device)
    begins_B1 = torch.tensor([[start - 1] for start in starts], device=device)
    # Padding has places too, and a model with learned ones has no more than its context.
    lasts_B1 = torch.tensor([[len(row) - 1] for row in rows], device=device)
    with sharing_attention(model):
        output = forward(
            model,
            Sharing(states, groups),
            input_ids=ids_BT,
            attention_mask=own_bias([longest] * len(rests), longest, states.bias),
            position_ids=torch.minimum(begins_B1 + torch.arange(longest, device=device), lasts_B1),
            use_cache=False,
        )
    return cast(torch.Tensor, output.logits)


class SharedBatch:
    """Rows that hold the keys and values of what comes after the beginning that they share with others.

    To be used inside `sharing_attention`.

    Attributes:
        prefilled: Tokens run of each distinct prompt, the shared ones excluded.
    """

    def __init__(
        self, model: PreTrainedModel, rows: Sequence[SharingRow], pad_id: int, cache: Any, prefixes: PrefixCache
    ) -> None:
        self._model, self._pad_id, self._cache = model, pad_id, cache
        group_of: dict[tuple[int, ...], int] = {}
        self._group_of_row = [group_of.setdefault(row.prompt_ids[: row.shared], len(group_of)) for row in rows]
        prompt_of: dict[tuple[int, ...], int] = {}
        self._prompt_of_row = [prompt_of.setdefault(row.prompt_ids, len(prompt_of)) for row in rows]
        first_row = {prompt: row for row, prompt in reversed(list(enumerate(self._prompt_of_row)))}
        self._states = prefixes.states(model, list(group_of), pad_id)
        self._groups = [self._group_of_row[first_row[prompt]] for prompt in range(len(prompt_of))]
        self._prompts = list(prompt_of)
        self._shared = [rows[first_row[prompt]].shared for prompt in range(len(prompt_of))]
        self._positions_B = torch.tensor([len(row.prompt_ids) for row in rows], device=model.device)
        self._room = max(row.budget for row in rows)
        self._waiting: torch.Tensor | None = torch.tensor(self._prompt_of_row, device=model.device)
        self.prefilled: dict[tuple[int, ...], int] = {}

    def begin(self) -> torch.Tensor:
        """Runs the rest of every prompt; returns the logits of every row's first token, shape (B, V)."""
        rests = [prompt[shared:] for prompt, shared in zip(self._prompts, self._shared, strict=True)]
        self.prefilled = {prompt: len(rest) for prompt, rest in zip(self._prompts, rests, strict=True)}
        self._length = max(map(len, rests))
        device = self._model.device
        ids = [[self._pad_id] * (self._length - len(rest)) + list(rest) for rest in rests]
        places = [
            [max(0, shared + column - (self._length - len(rest))) for column in range(self._length)]
            for rest, shared in zip(rests, self._shared, strict=True)
        ]
        bias_P1TT = own_bias([len(rest) for rest in rests], self._length, self._states.bias)
        output = forward(
            self._model,
            Sharing(self._states, self._groups),
            input_ids=torch.tensor(ids, device=device),
            attention_mask=bias_P1TT,
            position_ids=torch.tensor(places, device=device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        assert self._waiting is not None
        # The last token of a prompt sees all of it: its row of the mask, and every later token.
        own_B11C = bias_P1TT[:, :, -1:].index_select(0, self._waiting)
        self._bias_B11C = torch.nn.functional.pad(own_B11C, (0, self._room))
        self._sharing = Sharing(self._states, self._group_of_row)
        return cast(torch.Tensor, output.logits[:, -1].index_select(0, self._waiting))

    def keep(self, kept: Sequence[int], kept_B: torch.Tensor) -> None:
        """Drops all other rows."""
        self._take(kept_B if self._waiting is None else self._waiting.index_select(0, kept_B))
        self._sharing = self._sharing.keep(kept)
        self._positions_B = self._positions_B.index_select(0, kept_B)
        self._bias_B11C = self._bias_B11C.index_select(0, kept_B)

    def step(self, tokens_B: torch.Tensor, step: int) -> torch.Tensor:
        """Runs one token of every row; returns the logits of the next, shape (B, V)."""
        if self._waiting is not None:
            self._take(self._waiting)
        output = forward(
            self._model,
            self._sharing,
            input_ids=tokens_B[:, None],
            attention_mask=self._bias_B11C[..., : self._length + step + 1],
            position_ids=(self._positions_B + step)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        return cast(torch.Tensor, output.logits[:, -1])

    def _take(self, rows_B: torch.Tensor) -> None:
        for layer in self._cache.layers:
            layer.take(rows_B)
        self._waiting = None
