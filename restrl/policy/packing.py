"""Packs the completions that are asked for into batches: like lengths together; and what prompts share."""

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


def fresh_tokens(requests: Sequence[SampleRequest], prompts: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Returns how many tokens of each prompt no other prompt of its problem has already brought, each path once.

    The sum over a problem's prompts is the number of distinct paths of tokens among them, which is what has to be run
    at most, whatever else is asked in the same call. Every prompt has at least one.

    Args:
        requests: The requests.
        prompts: Their prompts' token ids.
    """
    of_problem: dict[str, set[tuple[int, ...]]] = {}
    for request, prompt in zip(requests, prompts, strict=True):
        of_problem.setdefault(request.state.problem.id, set()).add(prompt)
    fresh: dict[tuple[int, ...], int] = {}
    for distinct in of_problem.values():
        before: tuple[int, ...] = ()
        for prompt in sorted(distinct):
            fresh[prompt] = len(prompt) - common_prefix([before, prompt])
            before = prompt
    return fresh


def pack(
    requests: Sequence[SampleRequest],
    prompts: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    max_batch_size: int,
    max_batch_tokens: int,
) -> Iterator[list[Slot]]:
    """Packs completions by the length of their prompts; samples of one state stay together: one prefill.

    Args:
        requests: The requests.
        prompts: Their prompts' token ids.
        max_new_tokens: Most tokens of a completion.
        max_batch_size: Rows of a batch, >= 1.
        max_batch_tokens: Rows times (longest prompt + new tokens) of a batch.
    """
    order = sorted(range(len(requests)), key=lambda i: (len(prompts[i]), prompts[i], i))
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
