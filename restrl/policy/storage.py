"""Writing weights to a disk that may be full."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError

from restrl.errors import EngineError
from restrl.policy.memory import is_out_of_memory


@contextlib.contextmanager
def written(folder: Path, otherwise: Callable[[], str], *, main: bool = True) -> Iterator[None]:
    """A block that writes a folder: whole, or it is removed.

    Args:
        folder: What is written.
        otherwise: Says what remains, and how to go on.
        main: Whether this is the process that writes.

    Raises:
        EngineError: It could not be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        if main:
            shutil.rmtree(folder, ignore_errors=True)
        free = shutil.disk_usage(folder.parent).free / 1e6
        reason = " ".join(str(error).split())[:160]
        raise EngineError(
            f"{folder} could not be written ({type(error).__name__}: {reason}); {free:.0f} MB are free there: make "
            f"room; {otherwise()}"
        ) from error
