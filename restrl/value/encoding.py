"""States as token sequences for the value model: as few forwards as possible, the same values as one by one.

A causal model's value at a boundary depends on the tokens before it only, so one forward over a program gives the value
at every boundary. Where the tokenizer merges the end of a line with what follows, the boundary gets a sequence of its
own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from restrl.actions import boundaries
from restrl.policy.prompting import encode_boundaries, encode_state
from restrl.types import State

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ValueSequence:
    """One row of a forward.

    Attributes:
        ids: Token ids.
        positions: Indices into ``ids`` at which the scalar head is read.
        slots: For each position, the number of the output that it fills.
        start: How many tokens are the prompt's, before any code.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    slots: tuple[int, ...]
    start: int = 1


def encode_outputs(
    state: State,
    offsets: Sequence[int],
    slots: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    style: str,
) -> list[ValueSequence]:
    """Encodes a state so that the value at ``offsets[i]`` fills output ``slots[i]``.

    Args:
        state: The state.
        offsets: Character offsets into its code; ``len(code) + 1`` is the end marker of a terminal state.
        slots: One output number per offset.
        tokenizer: The value model's tokenizer.
        style: The prompt style.
    """
    return encode_path(state, offsets, slots, tokenizer, style)[0]


def encode_path(
    state: State,
    offsets: Sequence[int],
    slots: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    style: str,
    next_slot: int | None = None,
) -> tuple[list[ValueSequence], list[int]]:
    """Encodes a state like `encode_outputs`, and reads on the way what the same forward says of its other boundaries.

    Args:
        state: The state.
        offsets: As in `encode_outputs`.
        slots: As there.
        tokenizer: The value model's tokenizer.
        style: The prompt style.
        next_slot: Output number of the first boundary read on the way, the others follow; None reads none.

    Returns:
        The sequences, and the offsets read on the way, in order.
    """
    inner = [] if next_slot is None else [end for end in boundaries(state.code) if end not in offsets]
    encoded = encode_boundaries(state, tokenizer, style, [*offsets, *inner, 0])
    start = encoded.positions[-1] + 1
    together = [i for i in range(len(offsets)) if encoded.exact[i]]
    sequences: list[ValueSequence] = []
    on_the_way: list[int] = []
    if together:
        positions = [encoded.positions[i] for i in together]
        # Nothing after the last position that is asked for matters to a causal model.
        ids = encoded.ids[: max(positions) + 1]
        filled = [slots[i] for i in together]
        for i, offset in enumerate(inner, start=len(offsets)):
            if encoded.exact[i] and encoded.positions[i] < len(ids):
                positions.append(encoded.positions[i])
                filled.append((next_slot or 0) + len(on_the_way))
                on_the_way.append(offset)
        sequences.append(ValueSequence(ids, tuple(positions), tuple(filled), start))
    for i in range(len(offsets)):
        if not encoded.exact[i]:
            ids = tuple(encode_state(State(state.problem, state.code[: offsets[i]]), tokenizer, style))
            sequences.append(ValueSequence(ids, (len(ids) - 1,), (slots[i],), min(start, len(ids))))
    return sequences, on_the_way


def host_states(states: Sequence[State]) -> Iterator[tuple[State, list[int], list[int]]]:
    """Groups states so that a state whose code begins another's is read from the other's forward.

    Equal states share one output slot's value: each is listed at the same offset.

    Yields:
        A state to encode, character offsets into its code, and for each the index of the state whose value it is.
    """
    by_problem: dict[str, list[int]] = {}
    for index, state in enumerate(states):
        by_problem.setdefault(state.problem.id, []).append(index)
    for indices in by_problem.values():
        # In this order a state comes right after the states that it begins, up to others that it begins too; the last
        # host is therefore enough to look at.
        indices.sort(key=lambda i: (states[i].code, states[i].terminal, i), reverse=True)
        host: State | None = None
        offsets: list[int] = []
        slots: list[int] = []
        for i in indices:
            state = states[i]
            fits = host is not None and (
                state == host if state.terminal else host.problem == state.problem and host.code.startswith(state.code)
            )
            if host is None or not fits:
                if host is not None:
                    yield host, offsets, slots
                host, offsets, slots = state, [], []
            offsets.append(len(state.code) + (1 if state.terminal else 0))
            slots.append(i)
        if host is not None:
            yield host, offsets, slots


def length_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Packs sequences of like length: indices per batch, with rows times longest length at most ``max_tokens``.

    >>> list(length_batches([3, 9, 4, 2], 10))
    [[3, 0], [2], [1]]
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[index] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
