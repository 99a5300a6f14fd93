"""Keys and values of beginnings, kept as a tree of tokens: what was run once is not run again further down a path.

All states of a search tree begin with the same prompt, and each begins with its parent's code. A `PrefixTree` holds
the keys and values of every distinct token path once, finds the longest known beginning of a sequence at any token,
and runs only what comes after it: in few forwards, of sequences of like length (`buckets`), which attend to what is
known (`restrl.policy.shared_prefix`). Of texts after a prompt it can keep notes on every token too, whatever is made
of the logits there; the logits of prompts are not computed.

Shapes: N layers, G sequences, K key-value heads, T new tokens, L known tokens, D head size, V vocabulary, F numbers of
a note.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from restrl.policy.shared_prefix import PrefixStates, Sharing, forward, lowest, own_bias, sharing_attention

Tokens = tuple[int, ...]
# Which tree, and the tokens.
Path = tuple[int, Tokens]
Note = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# What a forward costs besides its tokens, in tokens: a bucket more must save as many.
_FORWARD_TOKENS = 48
# Most memory of the keys and values that are kept between calls: of a large model, fewer tokens than allowed.
_MAX_BYTES = 1 << 30


class _Node:
    """A stretch of tokens that follows its parent's.

    Attributes:
        parent: The node before; None for the root.
        tokens: The stretch.
        keys: Shape (N, K, D, tokens).
        values: Shape (N, K, tokens, D).
        notes: Shape (tokens, F), or None.
        children: By their first token.
        used: When it was last asked for.
    """

    __slots__ = ("children", "keys", "notes", "parent", "tokens", "used", "values")

    def __init__(
        self, parent: _Node | None, tokens: Tokens, keys: Any, values: Any, notes: torch.Tensor | None, used: int
    ) -> None:
        self.parent, self.tokens, self.used = parent, tokens, used
        self.keys, self.values, self.notes = keys, values, notes
        self.children: dict[int, _Node] = {}

    def split(self, count: int) -> None:
        """Leaves the first ``count`` tokens here and moves the others to a child."""
        notes = None if self.notes is None else self.notes[count:].clone()
        keys, values = self.keys[..., count:].contiguous(), self.values[:, :, count:].contiguous()
        rest = _Node(self, self.tokens[count:], keys, values, notes, self.used)
        rest.children = self.children
        for child in rest.children.values():
            child.parent = rest
        self.tokens = self.tokens[:count]
        self.keys, self.values = self.keys[..., :count].contiguous(), self.values[:, :, :count].contiguous()
        self.notes = None if self.notes is None else self.notes[:count].clone()
        self.children = {rest.tokens[0]: rest}


class PrefixTree:
    """See the module.

    Args:
        max_tokens: Most tokens kept between calls, a gibibyte at most, the least recently used dropped first; 0
            keeps none.
        max_batch_tokens: Tokens of one forward, padding included.

    Attributes:
        tokens: Tokens kept now, each path once.
        run_tokens: Tokens run so far, padding excluded.
    """

    def __init__(self, max_tokens: int, max_batch_tokens: int = 16_384) -> None:
        self._max_tokens, self._max_batch_tokens = max_tokens, max_batch_tokens
        # One tree for sequences without notes, 0, and one for every length of the prompt, after which notes begin.
        self._roots: dict[int, _Node] = {}
        self._clock = 0
        self._token_bytes = 1
        self.tokens = 0
        self.run_tokens = 0

    def states(self, model: PreTrainedModel, prefixes: Sequence[Tokens]) -> PrefixStates:
        """Returns the keys and values of sequences, in order; runs what is not kept.

        Args:
            model: A causal language model in evaluation mode, always the same one (`clear` when its weights change).
            prefixes: Distinct sequences of at least one token.
        """
        self._clock += 1
        paths = [(0, prefix) for prefix in prefixes]
        self._extend(model, paths, None)
        states = self._gather(paths)
        self._shrink()
        return states

    def read(
        self, model: PreTrainedModel, rows: Sequence[Tokens], starts: Sequence[int], note: Note
    ) -> list[torch.Tensor]:
        """Returns the notes on every row's tokens from the last one of its prompt on, shape (length - start + 1, F).

        Args:
            model: As in `states`.
            rows: Sequences; what they begin with in common with an earlier row, whose prompt was as long, is not run
                again.
            starts: How many tokens of each row are the prompt's, in [1, length].
            note: Makes the notes (B, T, F) on tokens (B, T) from the logits (B, T, V) after each of them. The note on
                a token may depend on the logits before and after it; before the last of the prompt there are none.
        """
        self._clock += 1
        paths = list(zip(starts, rows, strict=True))
        self._extend(model, [(start, row[: start - 1]) for start, row in paths], None)
        self._extend(model, paths, note)
        notes = []
        for path in paths:
            pieces = [node.notes[:count] for node, count in self._walk(path) if node.notes is not None]
            notes.append(torch.cat(pieces))
        self._shrink()
        return notes

    def clear(self) -> None:
        """Forgets everything: the weights have changed."""
        self._roots.clear()
        self.tokens = 0

    def _root(self, start: int) -> _Node:
        return self._roots.setdefault(start, _Node(None, (), None, None, None, 0))

    def _walk(self, sequence: Path) -> list[tuple[_Node, int]]:
        """Returns the nodes that a sequence begins with, and how many tokens of each."""
        start, row = sequence
        node, at = self._root(start), 0
        path: list[tuple[_Node, int]] = []
        while at < len(row):
            child = node.children.get(row[at])
            if child is None:
                break
            piece = row[at : at + len(child.tokens)]
            count = len(piece)
            if piece != child.tokens:
                count = next((i for i in range(count) if piece[i] != child.tokens[i]), count)
            child.used = self._clock
            path.append((child, count))
            at += count
            if count < len(child.tokens):
                break
            node = child
        return path

    def _extend(self, model: PreTrainedModel, paths: Sequence[Path], note: Note | None) -> None:
        """Runs what is missing of sequences and keeps it."""
        todo: list[tuple[Path, int]] = []
        for start, row in dict.fromkeys(paths):
            known = sum(count for _, count in self._walk((start, row)))
            if known < len(row):
                # A note on the first new token needs the logits before it, but on the last of the prompt.
                todo.append(((start, row), known if note is None else max(start - 1, known - 1)))
        for bucket in buckets([len(row) - begin for (_, row), begin in todo], self._max_batch_tokens):
            self._run(model, [todo[i][0] for i in bucket], [todo[i][1] for i in bucket], note)

    def _run(self, model: PreTrainedModel, paths: Sequence[Path], begins: Sequence[int], note: Note | None) -> None:
        """Runs every sequence from its ``begin`` on, and keeps what is new."""
        rests = [row[begin:] for (_, row), begin in zip(paths, begins, strict=True)]
        self.run_tokens += sum(map(len, rests))
        longest = max(map(len, rests))
        ids_BT = torch.tensor([[*rest, *([0] * (longest - len(rest)))] for rest in rests], device=model.device)
        cache = DynamicCache()
        inputs: dict[str, Any] = {"input_ids": ids_BT, "past_key_values": cache, "use_cache": True}
        inputs["logits_to_keep"] = 1 if note is None else longest
        if any(begins):
            group_of: dict[Path, int] = {}
            known = [(start, row[:begin]) for (start, row), begin in zip(paths, begins, strict=True)]
            groups = [group_of.setdefault(path, len(group_of)) for path in known]
            states = self._gather(list(group_of))
            begins_B1 = torch.tensor([[begin] for begin in begins], device=model.device)
            # Padding has places too, and a model with learned ones has no more than its context.
            lasts_B1 = torch.tensor([[len(row) - 1] for _, row in paths], device=model.device)
            inputs["position_ids"] = torch.minimum(begins_B1 + torch.arange(longest, device=model.device), lasts_B1)
            lengths = list(map(len, rests))
            inputs["attention_mask"] = own_bias(lengths, longest, states.bias, padded_left=False)
            with sharing_attention(model):
                output = forward(model, Sharing(states, groups), **inputs)
        else:
            # No mask: in a causal model nothing before the padding sees it.
            output = model(**inputs)
        layers: list[Any] = cache.layers
        keys_NBKTD = torch.stack([layer.keys for layer in layers])
        values_NBKTD = torch.stack([layer.values for layer in layers])
        notes_BTF = None if note is None else note(output.logits, ids_BT)
        for number, (path, begin) in enumerate(zip(paths, begins, strict=True)):
            notes = None if notes_BTF is None else notes_BTF[number]
            self._keep(path, begin, keys_NBKTD[:, number], values_NBKTD[:, number], notes)

    def _keep(self, sequence: Path, begin: int, keys: Any, values: Any, notes: torch.Tensor | None) -> None:
        """Adds what is new of a sequence: its keys and values (N, K, T, D) and notes (T, F) from ``begin`` on."""
        start, row = sequence
        path = self._walk(sequence)
        at = sum(count for _, count in path)
        if at == len(row):
            return
        node, count = path[-1] if path else (self._root(start), 0)
        if count < len(node.tokens):
            node.split(count)
        new = slice(at - begin, len(row) - begin)
        own_keys = keys[:, :, new].transpose(2, 3).contiguous()
        own_notes = None if notes is None else notes[new].clone()
        own_values = values[:, :, new].clone(memory_format=torch.contiguous_format)
        node.children[row[at]] = _Node(node, row[at:], own_keys, own_values, own_notes, self._clock)
        self.tokens += len(row) - at
        self._token_bytes = (own_keys.nbytes + own_values.nbytes) // (len(row) - at)

    def _gather(self, prefixes: Sequence[Path]) -> PrefixStates:
        """Puts the keys and values of known sequences side by side, padded on the left."""
        paths = [self._walk(prefix) for prefix in prefixes]
        some = next(node for path in paths for node, _ in path)
        lengths = [len(prefix) for _, prefix in prefixes]
        longest = max(lengths)
        num_layers, num_heads, size, _ = some.keys.shape
        keys_NGKDL = some.keys.new_zeros(num_layers, len(prefixes), num_heads, size, longest)
        values_NGKLD = some.values.new_zeros(num_layers, len(prefixes), num_heads, longest, some.values.shape[-1])
        bias_G11L = keys_NGKDL.new_zeros(len(prefixes), 1, 1, longest)
        for number, (path, length) in enumerate(zip(paths, lengths, strict=True)):
            at = longest - length
            bias_G11L[number, ..., :at] = lowest(keys_NGKDL.dtype)
            for node, count in path:
                keys_NGKDL[:, number, ..., at : at + count] = node.keys[..., :count]
                values_NGKLD[:, number, :, at : at + count] = node.values[:, :, :count]
                at += count
        return PrefixStates(tuple(keys_NGKDL), tuple(values_NGKLD), bias_G11L, tuple(lengths))

    def _shrink(self) -> None:
        """Drops ends of paths until no more is kept than allowed, those not used for longest first."""
        limit = min(self._max_tokens, _MAX_BYTES // self._token_bytes)
        if self.tokens <= limit:
            return
        order = itertools.count()
        ends = [(node.used, next(order), node) for node in self._nodes() if not node.children]
        heapq.heapify(ends)
        while self.tokens > limit:
            _, _, node = heapq.heappop(ends)
            parent = node.parent
            assert parent is not None
            del parent.children[node.tokens[0]]
            self.tokens -= len(node.tokens)
            if parent.parent is not None and not parent.children:
                heapq.heappush(ends, (parent.used, next(order), parent))

    def _nodes(self) -> Iterator[_Node]:
        waiting = [node for root in self._roots.values() for node in root.children.values()]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.children.values()


def buckets(lengths: Sequence[int], max_tokens: int, forward_tokens: int = _FORWARD_TOKENS) -> list[list[int]]:
    """Divides sequences among forwards so that padding and the forwards themselves cost least.

    A forward costs its rows times its longest, plus ``forward_tokens``. Of all divisions by length this is the
    cheapest, but that a forward of more than ``max_tokens`` is cut.

    Returns:
        Indices of each forward's sequences, shortest first.

    >>> buckets([3, 90, 4, 2, 88], 1000)
    [[3, 0, 2], [4, 1]]
    >>> buckets([5, 5, 5], 10)
    [[0, 1], [2]]
    """
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    # Sequences of the same length stay together: ends[k] of them are not longer than sizes[k].
    sizes = sorted(set(lengths))
    ends = list(itertools.accumulate(sum(1 for _ in same) for _, same in itertools.groupby(order, lengths.__getitem__)))
    # cost[k], begin[k]: of the cheapest division of the first k lengths, and where its last forward begins.
    cost, begin = [0], [0]
    for k in range(1, len(sizes) + 1):
        best = min(
            (cost[j] + (ends[k - 1] - (ends[j - 1] if j else 0)) * sizes[k - 1] + forward_tokens, j) for j in range(k)
        )
        cost.append(best[0])
        begin.append(best[1])
    found: list[list[int]] = []
    k = len(sizes)
    while k:
        j = begin[k]
        rows = order[ends[j - 1] if j else 0 : ends[k - 1]]
        room = max(1, max_tokens // sizes[k - 1])
        found += [rows[at : at + room] for at in range(0, len(rows), room)][::-1]
        k = j
    return found[::-1]
