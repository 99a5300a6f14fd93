"""Out of memory: which settings to change, and what they are now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch

from restrl.errors import EngineError

# What the allocators say; those of the CPU raise a plain RuntimeError.
_SAYINGS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "not enough memory",
    "bad_alloc",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that memory ran out.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    True
    >>> is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    False
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error).lower() for saying in _SAYINGS)


def advice(settings: Mapping[str, bool | int | float]) -> str:
    """Says what to do about settings: numbers are lowered, switches that are off are put on.

    >>> advice({"grpo.micro_batch": 16, "grpo.gradient_checkpointing": False, "grpo.bf16": True})
    'lower grpo.micro_batch (now 16), set grpo.gradient_checkpointing = true (now false)'
    """
    steps = []
    for name, value in settings.items():
        if isinstance(value, bool):
            if not value:
                steps.append(f"set {name} = true (now false)")
        else:
            steps.append(f"lower {name} (now {value:g})")
    return ", ".join(steps)


@contextlib.contextmanager
def memory_advice(doing: str, settings: Mapping[str, bool | int | float]) -> Iterator[None]:
    """Turns an allocator's error into one that names the settings to change.

    Args:
        doing: What ran out of memory, for example ``sampling``.
        settings: Those that help, best first, with the values in force.

    Raises:
        EngineError: Memory ran out in the block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise EngineError(f"out of memory while {doing}: {advice(settings)} ({reason})") from error
