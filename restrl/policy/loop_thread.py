"""An event loop in a thread of its own, so that asynchronous work can be called from anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from restrl.errors import EngineError

_T = TypeVar("_T")


class LoopThread:
    """Runs coroutines for callers that have no event loop, or another one; the thread starts with the first."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine to its end, or cancels it if the caller is interrupted.

        Raises:
            EngineError: The thread was closed.
        """
        with self._lock:
            if self._closed:
                work.close()
                raise EngineError("the policy was closed; open it again")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="restrl-loop", daemon=True)
                self._thread.start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs a last coroutine, if any ran before, and ends the thread; later calls do nothing."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop, self._thread, self._closed = None, None, True
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(last(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
