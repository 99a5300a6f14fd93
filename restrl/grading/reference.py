"""Runs a trusted program in the sandbox to learn what it returns: expected outputs that a data set does not carry.

The program is the set's own solution, but it runs where every program runs, and what comes back is a claim like any
other: the numbers in a result are then those of the interpreter that will run the candidates.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from restrl.errors import GraderError, ReferenceFailed
from restrl.grading.checkers import Opaque
from restrl.grading.config import GradingConfig
from restrl.grading.jail import codec
from restrl.grading.modes import base_request, death, printable
from restrl.grading.places import place_of
from restrl.grading.watch import Fault, Frame, RunLimits
from restrl.grading.worker import Worker
from restrl.types import Problem

_MAX_FRAME = 1 << 28
CASE_S = 120.0
"""CPU seconds that a reference may take for one input."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reference returned for one input.

    Attributes:
        value: The value, or an `Opaque` where it is not plain data.
        cpu_s: CPU seconds that it took.
    """

    value: Any
    cpu_s: float


def run_references(
    problems: Sequence[Problem],
    config: GradingConfig | None = None,
    on_answers: Callable[[int, list[Answer]], None] | None = None,
) -> list[list[Answer]]:
    """Calls the canonical solution of every problem with the arguments of every one of its tests (kind ``call``).

    Args:
        problems: Problems with a canonical solution; what their tests expect is not looked at.
        config: Settings of the grader.
        on_answers: Called with (index, answers) as they come, from the threads that wait for them.

    Returns:
        For each problem, one answer per test.

    Raises:
        ReferenceFailed: A canonical solution fails on an input.
        GraderError: The sandbox failed.
    """
    config = config if config is not None else GradingConfig()
    results: list[list[Answer]] = [[] for _ in problems]
    errors: list[Exception] = []
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(problems)):
        waiting.put(index)

    def serve() -> None:
        worker = Worker(config)
        try:
            while not errors:
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                results[index] = _attempt(worker, problems[index], config)
                if on_answers is not None:
                    on_answers(index, results[index])
        except Exception as error:
            errors.append(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(config.num_workers(), len(problems)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def _attempt(worker: Worker, problem: Problem, config: GradingConfig) -> list[Answer]:
    place = worker.at(place_of(problem, config))
    for attempt in range(config.retries + 1):
        try:
            return _run(place, problem, config)
        except Fault as fault:
            if attempt == config.retries:
                raise GraderError(f"the reference of {problem.id} could not be run: {fault}") from None
    raise AssertionError("unreachable")


def _run(worker: Worker, problem: Problem, config: GradingConfig) -> list[Answer]:
    cases = problem.tests.cases
    request = base_request(problem, "call", problem.canonical_solution or "", len(cases))
    request |= {
        "cpu_s": int(CASE_S * (len(cases) + 1)),
        "entry": problem.entry_point,
        "prelude": problem.tests.prelude,
        "start": 0,
        "args": [codec.encode(case.args) for case in cases],
        "max_bytes": _MAX_FRAME,
    }
    answers: list[Answer] = []
    failure = ""
    defined = False

    def on_frame(frame: Frame) -> bool:
        nonlocal failure, defined
        if frame.kind == b"B":
            defined = True
        elif frame.kind == b"V":
            answers.append(Answer(codec.decode(frame.payload), frame.cpu_s))
        elif frame.kind == b"U":
            answers.append(Answer(Opaque(frame.payload[:1] == b"1"), frame.cpu_s))
        else:
            failure = printable(frame.payload) or "too large a result"
        return not failure and len(answers) < len(cases)

    limits = RunLimits(CASE_S, config.wall_factor * CASE_S, _MAX_FRAME)
    ended = worker.run(codec.encode_request(request), limits, on_frame)
    if len(answers) == len(cases):
        return answers
    where = f"test {cases[len(answers)].id}" if defined else "its definition"
    reason = failure or death(ended, problem.limits.memory_bytes)[1]
    raise ReferenceFailed(f"the canonical solution of {problem.id} fails in {where}: {reason}", problem.id)
