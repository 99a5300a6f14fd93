"""How fast a server may be asked: requests and tokens in any window of 60 seconds, and pauses that it asks for."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

WINDOW_S = 60.0


@dataclass(slots=True)
class Reservation:
    """A request in the window.

    Attributes:
        at: When it was let through, in seconds of the limiter's clock.
        tokens: The tokens booked for it: an upper bound, then the true number once it is known.
    """

    at: float
    tokens: int


class RateLimiter:
    """Lets requests through in order, as fast as the limits allow.

    Args:
        requests_per_minute: Most requests that start in any 60 seconds; 0 is no limit.
        tokens_per_minute: Most tokens of the requests of any 60 seconds; 0 is no limit. A request larger than that
            goes through alone.
        clock: Seconds, never going back.
        sleep: Waits for some seconds.

    Attributes:
        waited_s: Seconds that requests waited here, summed over requests.
    """

    def __init__(
        self,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._clock = clock
        self._sleep = sleep
        self._window: deque[Reservation] = deque()
        self._not_before = 0.0
        self._turn = asyncio.Lock()
        self.waited_s = 0.0

    async def acquire(self, tokens: int) -> Reservation:
        """Waits until a request may start, and books it.

        Args:
            tokens: The most tokens that the request may take, prompt and completions.
        """
        came = self._clock()
        async with self._turn:
            while (wait := self._wait(tokens)) > 0:
                await self._sleep(wait)
            now = self._clock()
            self.waited_s += now - came
            booked = Reservation(now, tokens)
            if self._requests or self._tokens:
                self._window.append(booked)
            return booked

    def pause(self, seconds: float) -> None:
        """Lets nothing through for a time: the server said so."""
        self._not_before = max(self._not_before, self._clock() + seconds)

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        if now < self._not_before:
            return self._not_before - now
        while self._window and self._window[0].at <= now - WINDOW_S:
            self._window.popleft()
        full = self._requests and len(self._window) >= self._requests
        heavy = self._tokens and self._window and sum(r.tokens for r in self._window) + tokens > self._tokens
        return self._window[0].at + WINDOW_S - now if full or heavy else 0.0
