"""Packs the completions that are asked for into batches: like lengths together, beginnings that prompts share found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from restrl.types import SampleRequest


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a row's completion goes.

    Attributes:
        request: Number of the request.
        sample: Which of its completions.
    """

    request: int
    sample: int


def shared_lengths(requests: Sequence[SampleRequest], prompts: Sequence[tuple[int, ...]]) -> list[int]:
    """Returns for every request how many tokens of its prompt all requests of its problem begin with.

    At most all but the last: its logits are what sampling starts from.

    Args:
        requests: The requests.
        prompts: Their prompts' token ids.
    """
    of_problem: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        of_problem.setdefault(request.state.problem.id, []).append(index)
    shared = [0] * len(requests)
    for indices in of_problem.values():
        rows = [prompts[index] for index in indices]
        length = min(common_prefix(rows), min(map(len, rows)) - 1)
        for index in indices:
            shared[index] = length
    return shared


def pack(
    requests: Sequence[SampleRequest],
    prompts: Sequence[tuple[int, ...]],
    shared: Sequence[int],
    max_new_tokens: int,
    max_batch_size: int,
    max_batch_tokens: int,
) -> Iterator[list[Slot]]:
    """Packs completions by the length of what they do not share; samples of one state stay together: one prefill.

    Args:
        requests: The requests.
        prompts: Their prompts' token ids.
        shared: How many of them other rows begin with too.
        max_new_tokens: Most tokens of a completion.
        max_batch_size: Rows of a batch, >= 1.
        max_batch_tokens: Rows times (longest prompt + new tokens) of a batch.
    """
    order = sorted(range(len(requests)), key=lambda i: (len(prompts[i]) - shared[i], prompts[i], i))
    batch: list[Slot] = []
    longest = 0
    for index in order:
        longest = max(longest, len(prompts[index]))
        room = max(1, min(max_batch_size, max_batch_tokens // (longest + max_new_tokens)))
        for sample in range(requests[index].n):
            if len(batch) >= room:
                yield batch
                batch, longest = [], len(prompts[index])
            batch.append(Slot(index, sample))
    if batch:
        yield batch


def common_prefix(rows: Sequence[tuple[int, ...]]) -> int:
    """Returns how many tokens all rows begin with.

    >>> common_prefix([(1, 2, 3), (1, 2, 4, 5)])
    2
    """
    first, last = min(rows), max(rows)
    limit = min(len(first), len(last))
    return next((i for i in range(limit) if first[i] != last[i]), limit)
