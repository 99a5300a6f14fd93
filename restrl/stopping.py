"""SIGTERM: how a machine asks a run to end, as cluster schedulers, containers and `timeout` do.

Most stages write what is done piece by piece and may stop anywhere: there the signal raises `Terminated`. Training
stands in `deferred`: it finishes the step, saves it and stops by itself; a second signal stops it at once. `timeout`
sends its signal twice, to the process and to the process's group: signals that come together are one.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM
"""What the command ends with: 143, as a process that the signal has killed would show in a shell."""

TOGETHER_S = 1.0
"""Signals that follow the first within so many seconds are the same request."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end. Like Ctrl-C no `Exception`, so that nothing mistakes it for a failure."""


_requested = threading.Event()
_requested_at = 0.0
_depth = 0


def requested() -> bool:
    """Returns whether the process was asked to end."""
    return _requested.is_set()


def wait(seconds: float) -> bool:
    """Sleeps, at most until the process is asked to end; returns whether it was. For any thread."""
    return _requested.wait(seconds)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Listens to SIGTERM inside the block; does nothing outside of the main thread, which alone gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
        _requested.clear()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """The block asks `requested` by itself; it is `Terminated` at its end if the signal came while it ran."""
    global _depth
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
    if requested():
        raise Terminated


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _requested_at
    now, again = time.monotonic(), requested()
    if again and now - _requested_at < TOGETHER_S:
        return
    if not again:
        _requested_at = now
    _requested.set()
    if again or not _depth:
        raise Terminated
