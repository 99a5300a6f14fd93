"""The engine's own decode loop: prefill a prompt once for all its samples, then drop rows as they finish.

Why not `model.generate`: it prefills a prompt once per sample, keeps finished rows until the last one ends, and copies
the whole cache at every step. See `benchmarks/engine_throughput.py` for the measured ratio.

Shapes: P distinct prompts, B rows (one per completion), L prompt tokens with padding, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from restrl.policy.path_cache import PathCache, Prefix
from restrl.policy.prefix_tree import PrefixTree
from restrl.policy.sampling import draw_tokens
from restrl.policy.shared_batch import SharedBatch
from restrl.policy.shared_prefix import sharing_attention
from restrl.policy.text import StopChecker
from restrl.types import SamplingParams

OnOver = Callable[[Mapping[tuple[int, ...], int] | None, Sequence[int]], None]

# Steps by which the cache grows when it is full.
_GROWTH = 64
# Rows are gathered anew once this share of them has finished.
_COMPACT_SHARE = 0.125


@dataclass(slots=True)
class Row:
    """One completion on its way.

    Attributes:
        prompt_ids: Tokens of the prompt.
        budget: Most tokens to generate, >= 1.
        uniforms: One uniform per step, shape (>= budget,).
        checker: Watches for stop strings.
        tokens: The tokens so far.
        logprobs: Their log-probabilities.
        stopped: Ended by an end-of-sequence token or a stop string.
    """

    prompt_ids: tuple[int, ...]
    budget: int
    uniforms: NDArray[np.float64]
    checker: StopChecker
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def logprob(self) -> float:
        """Sum of the log-probabilities of the tokens."""
        return sum(self.logprobs)

    def append(self, token: int, logprob: float, eos_ids: frozenset[int]) -> bool:
        """Adds a token; returns whether the completion is over."""
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.stopped = token in eos_ids or self.checker.hits(self.tokens)
        return self.stopped or len(self.tokens) >= self.budget


class _GrowingLayer(DynamicLayer):
    """Keys and values of one layer in a buffer with room to spare, so that a step writes one column and copies nothing.

    ``keys`` and ``values`` are views of the filled part, shape (rows, heads, length, head size).
    """

    is_initialized: bool
    keys: Any
    values: Any
    _key_buffer: torch.Tensor
    _value_buffer: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends columns and returns the filled part."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self._key_buffer, self._value_buffer = key_states, value_states
            self.keys, self.values = key_states, value_states
            self.is_initialized = True
            return self.keys, self.values
        begin = self.keys.shape[-2]
        end = begin + key_states.shape[-2]
        if end > self._key_buffer.shape[-2]:
            self._key_buffer = _with_room(self.keys, end + _GROWTH)
            self._value_buffer = _with_room(self.values, end + _GROWTH)
        self._key_buffer[:, :, begin:end] = key_states
        self._value_buffer[:, :, begin:end] = value_states
        self.keys = self._key_buffer[:, :, :end]
        self.values = self._value_buffer[:, :, :end]
        return self.keys, self.values

    def take(self, rows_B: torch.Tensor, room: int = _GROWTH) -> None:
        """Keeps the given rows (repeats allowed), with room for ``room`` more columns."""
        length = self.keys.shape[-2]
        self._key_buffer = _with_room(self.keys, length + room, rows_B)
        self._value_buffer = _with_room(self.values, length + room, rows_B)
        self.keys = self._key_buffer[:, :, :length]
        self.values = self._value_buffer[:, :, :length]


def _with_room(states: torch.Tensor, capacity: int, rows_B: torch.Tensor | None = None) -> torch.Tensor:
    num_rows = states.shape[0] if rows_B is None else rows_B.shape[0]
    buffer = states.new_empty(num_rows, states.shape[1], capacity, states.shape[3])
    filled = buffer[:, :, : states.shape[2]]
    if rows_B is None:
        filled.copy_(states)
    else:
        filled.copy_(states.index_select(0, rows_B))
    return buffer


def supports_loop(model: PreTrainedModel) -> bool:
    """Whether every layer of the model is plain full attention, the only cache that this loop keeps."""
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return all(kind == "full_attention" for kind in kinds)
    if getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True):
        return False
    return bool(getattr(model, "_supports_sdpa", False)) and getattr(config, "is_encoder_decoder", False) is False


def decode(
    model: PreTrainedModel,
    rows: Sequence[Row],
    params: SamplingParams,
    eos_ids: frozenset[int],
    pad_id: int,
    on_over: OnOver,
    path_cache: PathCache | None = None,
    prefixes: PrefixTree | None = None,
) -> None:
    """Generates every row to its end, in place.

    Args:
        model: A causal language model in evaluation mode.
        rows: The completions; rows with equal prompts share one prefill.
        params: How to sample.
        eos_ids: Tokens that end a completion.
        pad_id: Fills the left of shorter prompts.
        on_over: Called with how many tokens of each distinct prompt were prefilled (padding, and all that ``prefixes``
            has run, excluded), and with the numbers of rows that have ended since the last call, at last of all others.
        path_cache: Keys and values of earlier prompts, and where those of these prompts are kept.
        prefixes: Keys and values of prompts and their beginnings; those of a prompt, of at least two tokens, are then
            read once for all its rows. None: every row has a copy.
    """
    if prefixes is None:
        _run(_Batch(model, rows, pad_id, path_cache), rows, params, eos_ids, model.device, on_over)
        return
    cache = Cache(layer_class_to_replicate=_GrowingLayer)
    shared = SharedBatch(model, rows, cache, prefixes)
    with sharing_attention(model):
        _run(shared, rows, params, eos_ids, model.device, on_over)


def _run(
    batch: _Batch | SharedBatch,
    rows: Sequence[Row],
    params: SamplingParams,
    eos_ids: frozenset[int],
    device: torch.device,
    on_over: OnOver,
) -> None:
    """Draws tokens until every row is over."""
    logits_BV = batch.begin()
    longest = max(row.budget for row in rows)
    uniforms_BT = torch.from_numpy(np.stack([row.uniforms[:longest] for row in rows])).to(device)

    alive = list(range(len(rows)))  # which completion each row of the batch holds
    over = [False] * len(rows)
    for step in range(longest):
        tokens_B, logprobs_B = draw_tokens(logits_BV, uniforms_BT[:, step], params.temperature, params.top_p)
        for slot, (token, logprob) in enumerate(zip(tokens_B.tolist(), logprobs_B.tolist(), strict=True)):
            if not over[slot]:
                over[slot] = rows[alive[slot]].append(token, logprob, eos_ids)
        if all(over):
            break
        if sum(over) > _COMPACT_SHARE * len(over):
            on_over(batch.prefilled, [alive[slot] for slot, done in enumerate(over) if done])
            kept = [slot for slot, done in enumerate(over) if not done]
            kept_B = torch.tensor(kept, device=device)
            batch.keep(kept, kept_B)
            tokens_B, uniforms_BT = tokens_B.index_select(0, kept_B), uniforms_BT.index_select(0, kept_B)
            alive = [alive[slot] for slot in kept]
            over = [False] * len(kept)
        logits_BV = batch.step(tokens_B, step)
    on_over(batch.prefilled, alive)


class _Batch:
    """Rows that each hold the keys and values of their whole sequence.

    Attributes:
        prefilled: Tokens run of each distinct prompt.
    """

    def __init__(self, model: PreTrainedModel, rows: Sequence[Row], pad_id: int, path_cache: PathCache | None) -> None:
        self._model, self._pad_id, self._path_cache = model, pad_id, path_cache
        index_of: dict[tuple[int, ...], int] = {}
        prompt_of = [index_of.setdefault(row.prompt_ids, len(index_of)) for row in rows]
        self._prompts = list(index_of)
        # Until the first step the cache holds prompts, not rows.
        self._waiting: torch.Tensor | None = torch.tensor(prompt_of, device=model.device)
        self._positions_B = torch.tensor([len(row.prompt_ids) for row in rows], device=model.device)
        self._longest = max(row.budget for row in rows)
        self._cache = Cache(layer_class_to_replicate=_GrowingLayer)
        self.prefilled: dict[tuple[int, ...], int] = {}

    def begin(self) -> torch.Tensor:
        """Runs the prompts; returns the logits of every row's first token, shape (B, V)."""
        logits_PV, mask_PL, run = _prefill(self._model, self._prompts, self._cache, self._pad_id, self._path_cache)
        self.prefilled = dict(zip(self._prompts, run, strict=True))
        assert self._waiting is not None
        mask_BL = mask_PL.index_select(0, self._waiting)
        self._length = mask_BL.shape[1]
        self._mask_BL = torch.cat([mask_BL, mask_BL.new_ones(len(mask_BL), self._longest)], dim=1)
        if len(self._prompts) == len(self._waiting):
            self._waiting = None
            return logits_PV
        return logits_PV.index_select(0, self._waiting)

    def keep(self, kept: Sequence[int], kept_B: torch.Tensor) -> None:
        """Drops all other rows."""
        _take(self._cache, kept_B if self._waiting is None else self._waiting.index_select(0, kept_B))
        self._waiting = None
        self._positions_B = self._positions_B.index_select(0, kept_B)
        self._mask_BL = self._mask_BL.index_select(0, kept_B)

    def step(self, tokens_B: torch.Tensor, step: int) -> torch.Tensor:
        """Runs one token of every row; returns the logits of the next, shape (B, V)."""
        if self._waiting is not None:
            _take(self._cache, self._waiting)
            self._waiting = None
        output = self._model(
            input_ids=tokens_B[:, None],
            attention_mask=self._mask_BL[:, : self._length + step + 1],
            position_ids=(self._positions_B + step)[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        return cast(torch.Tensor, output.logits[:, -1])


def _prefill(
    model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], cache: Cache, pad_id: int, path_cache: PathCache | None
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Runs the prompts, left-padded; returns the logits after each (P, V), the mask (P, L), and tokens run of each."""
    known = (
        [Prefix(0, None) for _ in prompts] if path_cache is None else [path_cache.find(prompt) for prompt in prompts]
    )
    rests = [prompt[prefix.length :] for prompt, prefix in zip(prompts, known, strict=True)]
    ids_PL, mask_PL = left_pad(rests, pad_id, model.device)
    known_P1 = torch.tensor([[prefix.length] for prefix in known], device=model.device)
    positions_PL = (known_P1 + mask_PL.cumsum(-1) - 1).clamp_min(0)
    if any(prefix.length for prefix in known):
        mask_PL = torch.cat([_fill(cache, known, model), mask_PL], dim=1)
    output = model(
        input_ids=ids_PL,
        attention_mask=mask_PL,
        position_ids=positions_PL,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    if path_cache is not None:
        layers = cast(list[_GrowingLayer], cache.layers)
        states_NPHLD = [torch.stack([layer.keys, layer.values]) for layer in layers]
        for row, prompt in enumerate(prompts):
            columns = mask_PL[row].nonzero().squeeze(-1)
            path_cache.keep(prompt, torch.stack([layer[:, row].index_select(-2, columns) for layer in states_NPHLD]))
    return output.logits[:, -1], mask_PL, [len(rest) for rest in rests]


def _fill(cache: Cache, known: Sequence[Prefix], model: PreTrainedModel) -> torch.Tensor:
    """Puts kept keys and values into a cache, aligned to the right; returns the mask of their columns (P, C)."""
    some = next(prefix.states for prefix in known if prefix.states is not None)
    num_layers, _, num_heads, _, size = some.shape
    longest = max(prefix.length for prefix in known)
    states = some.new_zeros(num_layers, 2, len(known), num_heads, longest, size)
    mask_PC = torch.zeros(len(known), longest, dtype=torch.int64, device=model.device)
    for row, prefix in enumerate(known):
        if prefix.states is not None:
            states[:, :, row, :, longest - prefix.length :] = prefix.states
            mask_PC[row, longest - prefix.length :] = 1
    for index in range(num_layers):
        cache.update(states[index, 0], states[index, 1], index)
    return mask_PC


def left_pad(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns left-padded token ids and their mask, both int64 of shape (P, L)."""
    longest = max(len(prompt) for prompt in prompts)
    ids_PL = torch.tensor([[pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    mask_PL = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    return ids_PL, mask_PL


def _take(cache: Cache, rows_B: torch.Tensor) -> None:
    for layer in cast(list[_GrowingLayer], cache.layers):
        layer.take(rows_B)
