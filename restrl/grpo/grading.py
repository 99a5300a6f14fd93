"""Grading beside sampling: what has ended is graded in a thread while the other completions of the step are sampled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from restrl.grpo.config import GRPOConfig
from restrl.grpo.rewards import Score, score
from restrl.types import Completion, Grader, State


class Grading:
    """Grades completions in a thread, all at once that have come in since it was last free.

    Attributes:
        seconds: Spent grading so far.
    """

    def __init__(self, states: Sequence[State], grader: Grader, config: GRPOConfig, thread: ThreadPoolExecutor) -> None:
        self._states, self._grader, self._config, self._thread = states, grader, config, thread
        self._waiting: deque[tuple[int, int, Completion]] = deque()
        self._tasks: list[Future[None]] = []
        self._scores: dict[tuple[int, int], Score] = {}
        self._failed = False
        self.seconds = 0.0

    def add(self, start: int, done: Sequence[tuple[int, int, Completion]]) -> None:
        """Takes completions: place of the state after ``start``, which of its completions, and the completion."""
        self._waiting += [(start + place, sample, completion) for place, sample, completion in done]
        self._tasks.append(self._thread.submit(self._grade))

    def scores(self) -> dict[tuple[int, int], Score]:
        """Waits for all; returns the scores by place and number.

        Raises:
            GraderError: The grader failed.
        """
        for task in self._tasks:
            task.result()
        return self._scores

    def _grade(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken or self._failed:
            return
        begin = time.perf_counter()
        # Stays so if the grader fails: then nothing more of this step is graded, and nobody waits for it.
        self._failed = True
        states = [self._states[place] for place, _, _ in taken]
        scores = score(states, [completion for _, _, completion in taken], self._grader, self._config)
        self._scores.update(((place, sample), item) for (place, sample, _), item in zip(taken, scores, strict=True))
        self._failed = False
        self.seconds += time.perf_counter() - begin
