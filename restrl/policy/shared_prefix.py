"""Attention over beginnings that many rows share: their keys and values are kept once, not once a row.

All completions of a problem, and all states of its search tree, begin with the same prompt. In a batch of them the
prompt's keys and values are computed once, and every step reads them once for all rows of the problem, as one matrix
product; a row owns only what comes after. So a batch reads a fraction of the memory, which is what bounds decoding.

For R rows of a problem, with the scores of both parts in one softmax:

    o = softmax([q K_shared^T, q K_own^T] / sqrt(d) + mask) [V_shared; V_own]

which is attention over the whole sequence, up to rounding.

Shapes: G shared prefixes, R most rows of one, B rows, K key-value heads, Q query heads of each, T new tokens,
L tokens of the longest prefix, C columns of the rows' own, D head size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "restrl_shared_prefix"
_HIDDEN = -1e30
# Prefixes are gathered anew when no more than this share of them has a row.
_DROP_SHARE = 0.75

_active: ContextVar[Sharing | None] = ContextVar("restrl_shared_prefix", default=None)


@dataclass(frozen=True, slots=True)
class PrefixStates:
    """Keys and values of G prefixes, padded on the left.

    Attributes:
        keys: Of every layer, transposed, shape (G, K, D, L).
        values: Of every layer, shape (G, K, L, D).
        bias: 0 where there is a token and very low on padding, shape (G, 1, 1, L).
        lengths: Tokens of each.
    """

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    bias: torch.Tensor
    lengths: tuple[int, ...]

    def take(self, indices: Sequence[int]) -> PrefixStates:
        """Returns some of the prefixes, cut to the longest of them."""
        lengths = tuple(self.lengths[i] for i in indices)
        begin = self.bias.shape[-1] - max(lengths)
        if begin == 0 and list(indices) == list(range(len(self.lengths))):
            return self
        index = torch.tensor(list(indices), device=self.bias.device)
        return PrefixStates(
            tuple(layer.index_select(0, index)[..., begin:].contiguous() for layer in self.keys),
            tuple(layer.index_select(0, index)[:, :, begin:].contiguous() for layer in self.values),
            self.bias.index_select(0, index)[..., begin:],
            lengths,
        )


@dataclass(slots=True)
class Sharing:
    """Which row of a batch continues which prefix.

    Args:
        states: The prefixes.
        group_of: For every row, the number of its prefix.

    Attributes:
        layers: Attention layers that have read it: a model that never calls `attend` leaves it 0.
    """

    states: PrefixStates
    group_of: list[int]
    layers: int = 0
    _room: int = field(init=False)
    _padded: torch.Tensor = field(init=False)
    _back: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        members: list[list[int]] = [[] for _ in self.states.lengths]
        for row, group in enumerate(self.group_of):
            members[group].append(row)
        self._room = max(map(len, members))
        back = [0] * len(self.group_of)
        for group, rows in enumerate(members):
            for place, row in enumerate(rows):
                back[row] = group * self._room + place
        padded = [row for rows in members for row in (rows + [0] * (self._room - len(rows)))]
        device = self.states.bias.device
        self._padded = torch.tensor(padded, device=device)
        self._back = torch.tensor(back, device=device)

    def keep(self, rows: Sequence[int]) -> Sharing:
        """Returns the sharing of some of the rows; prefixes without a row are dropped once there are enough of them."""
        groups = sorted({self.group_of[row] for row in rows})
        if len(groups) > _DROP_SHARE * len(self.states.lengths):
            # Copying all others costs more than carrying a few for nothing.
            return Sharing(self.states, [self.group_of[row] for row in rows])
        number = {group: index for index, group in enumerate(groups)}
        return Sharing(self.states.take(groups), [number[self.group_of[row]] for row in rows])

    def scores(self, layer: int, query_BKTD: torch.Tensor) -> torch.Tensor:
        """Returns the scores of the shared tokens, shape (B, K, Q * T, L), from scaled queries (B, K, Q * T, D)."""
        return self._product(query_BKTD, self.states.keys[layer], self.states.bias)

    def mix(self, layer: int, probs_BKTL: torch.Tensor) -> torch.Tensor:
        """Returns the shared values weighted by (B, K, Q * T, L), shape (B, K, Q * T, D)."""
        return self._product(probs_BKTL, self.states.values[layer])

    def _product(
        self, rows_BKTX: torch.Tensor, shared_GKXY: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Multiplies every row by what its prefix shares, one matrix product a prefix; shape (B, K, Q * T, Y)."""
        num_groups, num_heads = shared_GKXY.shape[:2]
        tokens, size = rows_BKTX.shape[2:]
        grouped = rows_BKTX.index_select(0, self._padded).view(num_groups, self._room, num_heads, tokens, size)
        grouped = grouped.transpose(1, 2).reshape(num_groups, num_heads, self._room * tokens, size)
        product = torch.matmul(grouped, shared_GKXY)
        if bias is not None:
            product.add_(bias)
        product = product.view(num_groups, num_heads, self._room, tokens, -1).transpose(1, 2)
        return product.reshape(num_groups * self._room, num_heads, tokens, -1).index_select(0, self._back)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function of `transformers` that reads the active sharing; without one, plain SDPA.

    Args:
        module: The attention layer, with its ``layer_idx``.
        query: Shape (B, K * Q, T, D).
        key: The rows' own, shape (B, K, C, D).
        value: The same.
        attention_mask: Added to the scores of the own columns, shape (B, 1, T, C).
        scaling: Of the scores; 1 / sqrt(D) if None.
        dropout: Unused: nothing is trained here.
        **kwargs: What plain SDPA takes.
    """
    sharing = _active.get()
    if sharing is None:
        return cast(
            tuple[torch.Tensor, None],
            sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs),
        )
    layer = cast(int, module.layer_idx)
    sharing.layers += 1
    rows, heads, tokens, size = query.shape
    num_heads = key.shape[1]
    query_BKTD = (query * (size**-0.5 if scaling is None else scaling)).reshape(rows, num_heads, -1, size)
    shared = sharing.scores(layer, query_BKTD)
    own = torch.matmul(query_BKTD, key.transpose(2, 3))
    if attention_mask is not None:
        own.view(rows, num_heads, heads // num_heads, tokens, -1).add_(attention_mask[:, :, None])
    probs = torch.softmax(torch.cat([shared, own], dim=-1), dim=-1)
    length = shared.shape[-1]
    mixed = sharing.mix(layer, probs[..., :length]).add_(torch.matmul(probs[..., length:], value))
    return mixed.view(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attend)


@contextlib.contextmanager
def sharing_attention(model: PreTrainedModel) -> Iterator[None]:
    """Lets a model's layers call `attend`, and puts its own attention back."""
    config: Any = model.config.get_text_config(decoder=True)
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def forward(model: PreTrainedModel, sharing: Sharing, **inputs: Any) -> Any:
    """Runs a model whose rows continue shared prefixes; positions and a four-dimensional mask are among the inputs."""
    token = _active.set(sharing)
    try:
        return model(**inputs)
    finally:
        _active.reset(token)


def own_bias(lengths: Sequence[int], longest: int, like: torch.Tensor, *, padded_left: bool = True) -> torch.Tensor:
    """Returns the causal mask among the rows' own tokens, added to scores, shape (B, 1, T, T) with T = ``longest``."""
    columns_T = torch.arange(longest, device=like.device)
    lengths_B1 = torch.tensor([[length] for length in lengths], device=like.device)
    there_BT = columns_T >= longest - lengths_B1 if padded_left else columns_T < lengths_B1
    seen_BTT = (columns_T[:, None] >= columns_T) & there_BT[:, None]
    bias_BTT = torch.zeros(seen_BTT.shape, dtype=like.dtype, device=like.device)
    return bias_BTT.masked_fill_(~seen_BTT, lowest(like.dtype))[:, None]


def lowest(dtype: torch.dtype) -> float:
    """Returns the number that hides a column: far below any score, and finite, so that no row becomes NaN."""
    return max(_HIDDEN, torch.finfo(dtype).min / 2)
