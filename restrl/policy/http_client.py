"""A client of one server: JSON in, JSON out, many requests at once, with retries, rate limits and clear errors.

It needs `httpx` (the extra ``openai``), or its successor `httpx2`, which the Hugging Face hub's client brings along.
"""

from __future__ import annotations

import asyncio
import email.utils
import importlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from restrl.errors import ConfigError, EngineError
from restrl.policy.rate_limit import RateLimiter

# Answers that another attempt may turn into a good one.
_TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
# ... but no attempt fills an empty account.
_SPENT = ("insufficient_quota", "billing_hard_limit", "insufficient_balance", "exceeded your current quota")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Retrying:
    """How failures are met.

    Attributes:
        attempts: Attempts per request, >= 1.
        base_s: The wait after the first failure is drawn from [base/2, base], then the range doubles each time.
        cap_s: The longest such wait. A longer one that the server asks for is kept to, up to ``patience_s``.
        timeout_s: Seconds without an answer after which an attempt has failed.
        patience_s: The longest wait that a server may ask for.
    """

    attempts: int = 6
    base_s: float = 0.5
    cap_s: float = 30.0
    timeout_s: float = 120.0
    patience_s: float = 900.0


class Refused(Exception):
    """The server refused a request for good.

    Attributes:
        status: The HTTP status.
        message: What the server said, in one line, without the key.
        code: The error's code or type, where there is one.
    """

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.code = code


class Garbled(Exception):
    """An answer that is not what it should be; another attempt may give a good one."""


@dataclass(slots=True)
class Traffic:
    """Counters: requests sent, how many repeated a failed one, seconds waited for the next attempt."""

    calls: int = 0
    retries: int = 0
    waited_s: float = 0.0


class HttpClient:
    """See the module. Bound to the event loop that it is first used in.

    Args:
        base_url: For example ``http://localhost:8000/v1``.
        api_key: Sent as a bearer token if not empty; never part of a message.
        concurrency: Requests under way at once, >= 1.
        retrying: How failures are met.
        limiter: Rate limits.
    """

    def __init__(
        self, base_url: str, api_key: str, *, concurrency: int, retrying: Retrying, limiter: RateLimiter
    ) -> None:
        self._library = _library()
        self.base_url = base_url.rstrip("/")
        self._key = api_key
        self._retrying = retrying
        self._limiter = limiter
        self._places = asyncio.Semaphore(concurrency)
        self._jitter = random.Random()
        self.traffic = Traffic()
        library: Any = self._library
        self._client = library.AsyncClient(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=library.Timeout(retrying.timeout_s),
            limits=library.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def get(self, path: str) -> Any:
        """Returns the JSON of a path, or None where the server has nothing to say there."""
        try:
            answer = await self._client.get(self.base_url + path)
            return answer.json() if answer.status_code == 200 else None
        except (self._library.HTTPError, ValueError):
            return None

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Any], tokens: int) -> Any:
        """Sends a body and returns what ``read`` makes of the answer.

        Args:
            path: After the base address.
            body: Plain data.
            read: Turns the answer's JSON into a result; raises `Garbled` for what makes no sense.
            tokens: The most tokens that the request may take, for the rate limit.

        Raises:
            Refused: The server refused it for good.
            EngineError: Every attempt failed.
        """
        last = ""
        for attempt in range(self._retrying.attempts):
            async with self._places:
                booked = await self._limiter.acquire(tokens)
                self.traffic.calls += 1
                self.traffic.retries += attempt > 0
                try:
                    answer = await self._client.post(self.base_url + path, json=body)
                    self._heed(answer.headers)
                    if answer.status_code == 200:
                        record = json.loads(answer.content)
                        booked.tokens = _used(record, tokens)
                        return read(record)
                    refused = self._refusal(answer)
                    if answer.status_code not in _TRANSIENT or _is_spent(refused):
                        raise refused
                    last, asked = f"status {refused}", _retry_after(answer.headers)
                except self._library.TimeoutException:
                    last, asked = f"no answer within {self._retrying.timeout_s:g} s", None
                except self._library.TransportError as error:
                    last, asked = f"{type(error).__name__}: {self._clean(str(error)) or 'connection lost'}", None
                except (ValueError, Garbled) as error:
                    last, asked = f"an answer that makes no sense ({self._clean(str(error))})", None
            if attempt + 1 < self._retrying.attempts:
                await self._rest(attempt, asked)
        raise EngineError(
            f"{self.base_url}{path} failed {self._retrying.attempts} times, last with {last}; check that the server "
            "runs and is not overloaded, then run the same command again"
        )

    async def _rest(self, attempt: int, asked: float | None) -> None:
        """Waits before the next attempt: as long as the server asked for, else longer every time, and never alike."""
        longest = min(self._retrying.cap_s, self._retrying.base_s * 2**attempt)
        wait = longest * (0.5 + 0.5 * self._jitter.random())
        if asked is not None:
            if asked > self._retrying.patience_s:
                raise EngineError(
                    f"{self.base_url} asks to come back in {asked:.0f} s, longer than {self._retrying.patience_s:.0f} "
                    "s; run the same command again then"
                )
            # All requests wait, and start again spread over a moment.
            self._limiter.pause(asked)
            wait = asked + wait
        began = time.monotonic()
        await asyncio.sleep(wait)
        self.traffic.waited_s += time.monotonic() - began

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Stops before the limit that the server counts down to is overrun."""
        for kind in ("requests", "tokens"):
            if headers.get(f"x-ratelimit-remaining-{kind}") == "0":
                reset = parse_duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
                if reset is not None:
                    self._limiter.pause(min(reset, self._retrying.patience_s))

    def _refusal(self, answer: Any) -> Refused:
        message, code = "", ""
        try:
            record = answer.json()
            error = record.get("error", record.get("detail", record)) if isinstance(record, dict) else record
            if isinstance(error, dict):
                message = str(error.get("message", "")) or json.dumps(error)
                code = str(error.get("code") or error.get("type") or "")
            else:
                message = error if isinstance(error, str) else json.dumps(error)
        except ValueError:
            message = answer.text
        return Refused(answer.status_code, self._clean(message), code)

    def _clean(self, text: str) -> str:
        """One line of at most 300 characters, without the key."""
        text = text.replace(self._key, "***") if self._key else text
        return " ".join(text.split())[:300]


def _library() -> Any:
    for name in ("httpx", "httpx2"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigError("policy.engine is 'openai' but httpx is not installed; pip install 'restrl[openai]'")


def _is_spent(refused: Refused) -> bool:
    said = f"{refused.code} {refused.message}".lower()
    return refused.status == 429 and any(sign in said for sign in _SPENT)


def _used(record: Any, reserved: int) -> int:
    usage = record.get("usage") if isinstance(record, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) else reserved


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: a number, a date, or OpenAI's milliseconds."""
    milliseconds = headers.get("retry-after-ms", "")
    if re.fullmatch(r"\d+(\.\d+)?", milliseconds):
        return float(milliseconds) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def parse_duration(text: str) -> float | None:
    """Returns the seconds of a duration, None if it is none.

    >>> [parse_duration(text) for text in ("1s", "6m0s", "20ms", "1h2m3s", "12", "soon")]
    [1.0, 360.0, 0.02, 3723.0, 12.0, None]
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)
