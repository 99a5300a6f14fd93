"""Keys and values of earlier prompts, so that a state further down a path prefills only what is new.

A child's prompt begins with its parent's. The cache keeps the keys and values of whole prompts, the least recently used
dropped first, and answers with the longest one that a prompt begins with. The last token of a prompt is always run:
its logits are what sampling starts from.

Shapes: N layers, H key-value heads, L tokens, D head size; the 2 are keys and values.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Prefix:
    """The part of a prompt that needs no forward.

    Attributes:
        length: Its tokens, L.
        states: Keys and values, shape (N, 2, H, L, D); None for no token.
    """

    length: int
    states: torch.Tensor | None


class PathCache:
    """See the module.

    Args:
        max_tokens: Most tokens kept, over all prompts.

    Attributes:
        tokens: Tokens kept now.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._entries: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()
        self._count_of_length: dict[int, int] = {}
        self.tokens = 0

    def find(self, prompt: tuple[int, ...]) -> Prefix:
        """Returns the longest kept beginning of a prompt, at most all but its last token."""
        if prompt in self._entries:
            self._entries.move_to_end(prompt)
            if len(prompt) > 1:
                return Prefix(len(prompt) - 1, self._entries[prompt][:, :, :, :-1])
        for length in sorted(self._count_of_length, reverse=True):
            if length < len(prompt) and prompt[:length] in self._entries:
                self._entries.move_to_end(prompt[:length])
                return Prefix(length, self._entries[prompt[:length]])
        return Prefix(0, None)

    def keep(self, prompt: tuple[int, ...], states: torch.Tensor) -> None:
        """Keeps a copy of a prompt's keys and values, shape (N, 2, H, L, D), if it fits at all."""
        if prompt in self._entries or len(prompt) > self._max_tokens:
            return
        self._entries[prompt] = states.clone(memory_format=torch.contiguous_format)
        self._count(len(prompt), 1)
        while self.tokens > self._max_tokens:
            oldest, _ = self._entries.popitem(last=False)
            self._count(len(oldest), -1)

    def clear(self) -> None:
        """Forgets everything: the weights have changed."""
        self._entries.clear()
        self._count_of_length.clear()
        self.tokens = 0

    def _count(self, length: int, change: int) -> None:
        self.tokens += change * length
        left = self._count_of_length.get(length, 0) + change
        if left:
            self._count_of_length[length] = left
        else:
            del self._count_of_length[length]
