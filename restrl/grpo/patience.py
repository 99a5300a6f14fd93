"""A grader that is out of order: training waits for it instead of taking its silence for a reward of 0."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from restrl import stopping
from restrl.errors import GraderError
from restrl.types import Grade, Grader, Problem

_log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0


class PatientGrader:
    """Asks again, after longer and longer waits, while the grader fails. Used by one thread at a time.

    Args:
        grader: The grader.
        patience_s: From the first failure on; 0 = fail at once.
        wait: Sleeps some seconds, or less; returns whether the process was asked to end.
    """

    def __init__(self, grader: Grader, patience_s: float, wait: Callable[[float], bool] = stopping.wait) -> None:
        self._grader = grader
        self._patience_s = patience_s
        self._wait = wait
        self._outage_s = 0.0

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """Returns one grade per pair, in order, as the grader does.

        Raises:
            GraderError: It failed for longer than the patience, or the process was asked to end meanwhile.
        """
        began: float | None = None
        pause = FIRST_WAIT_S
        while True:
            try:
                grades = self._grader.grade(pairs)
            except GraderError as error:
                now = time.monotonic()
                began = now if began is None else began
                left = self._patience_s - (now - began)
                if left <= 0 or stopping.requested():
                    raise self._given_up(error, now - began) from error
                pause_now = min(pause, left)
                _log.warning(
                    "the grader failed (%s); training waits and asks again in %.3g s, for up to %.3g s more",
                    error,
                    pause_now,
                    left,
                )
                self._wait(pause_now)
                pause = min(2 * pause, LONGEST_WAIT_S)
            else:
                if began is not None:
                    outage_s = time.monotonic() - began
                    self._outage_s += outage_s
                    _log.warning("the grader is back after %.3g s", outage_s)
                return grades

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self.grade, pairs)

    def take_outage(self) -> float:
        """Returns the seconds of outage since the last call."""
        outage_s, self._outage_s = self._outage_s, 0.0
        return outage_s

    def _given_up(self, error: GraderError, waited_s: float) -> GraderError:
        if not self._patience_s or stopping.requested():
            return error
        return GraderError(f"the grader has failed for {waited_s:.3g} s (grpo.grader_patience_s): {error}")
