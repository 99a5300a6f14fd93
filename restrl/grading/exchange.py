"""Test code in one jailed process that calls the program in another: the parent between them.

Both kinds of tests that are graded like this (`examiner`, `proxied`) hold the same conversation: the test's process
asks for calls until it has a verdict, and the parent has each of them answered by the program's process.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from restrl.grading.jail import codec
from restrl.grading.modes import death, killed, unexplained_kill
from restrl.grading.watch import Ended, Fault, Frame, RunLimits, Watch
from restrl.grading.worker import Worker
from restrl.types import Problem, VerdictName

TEST_FACTOR = 10
"""The test code's time, in multiples of the program's."""
MAX_CALL_BYTES = 1 << 26
"""Longest call or answer that the test's process may send."""
MAX_NODES = 1_000_000

Verdict = tuple[VerdictName, str]


@dataclass(frozen=True, slots=True)
class Talk:
    """How a conversation went.

    Attributes:
        last: The last thing that the test's process said.
        ended: How its process ended; None where the parent broke off, or it is still there after its verdict.
        num_calls: How many calls it made.
    """

    last: Frame
    ended: Ended | None
    num_calls: int


def converse(
    worker: Worker, problem: Problem, factor: float, request: dict[str, Any], answer: Callable[[bytes], bytes | None]
) -> Talk:
    """Runs test code and has its calls answered.

    Args:
        worker: Of the program; its partner runs the test code.
        problem: Whose limits hold.
        factor: Wall time in multiples of CPU time.
        request: For the test's process.
        answer: Takes the arguments of a call, returns the reply, or None to break off.

    Raises:
        Fault: The run failed.
    """
    last = Frame(b"", 0, b"", 0.0)

    def on_frame(frame: Frame) -> bool:
        nonlocal last
        last = frame
        return frame.kind == b"C"

    seconds = TEST_FACTOR * problem.limits.cpu_s
    bounds = RunLimits(seconds, factor * seconds, MAX_CALL_BYTES)
    num_calls = 0
    partner = worker.partner
    with partner.open(codec.encode_request(request), bounds, on_frame) as examiner, partner.faults():
        ended = examiner.wait()
        while ended is None and last.kind == b"C":
            reply = answer(last.payload)
            num_calls += 1
            if reply is None:
                break
            ended = say(examiner, reply)
        examiner.stop()
    return Talk(last, ended, num_calls)


def say(watch: Watch, message: bytes) -> Ended | None:
    """Sends a message with its length in front; returns how the process ended, if it did before it answered."""
    return watch.ask(struct.pack("<I", len(message)) + message)


def max_nodes(problem: Problem) -> int:
    """Returns how many parts a value may have: a number in a list takes 6 bytes or more, so that what the limit of
    the output lets through can be decoded."""
    return max(MAX_NODES, problem.limits.output_bytes // 6)


def death_of_program(ended: Ended, problem: Problem, seconds: float, final: bool) -> Verdict:
    """Says what the end of the program's process means, of which an answer was expected.

    Args:
        ended: How it ended.
        problem: Whose limits hold.
        seconds: CPU time beyond which a kill explains itself.
        final: No further attempt follows.

    Raises:
        Fault: It may have been the machine's doing.
    """
    if ended.reason == "interrupted":  # killed, but what it was late for had been said in time
        if not final:
            raise Fault("a program was stopped after it had answered")
        return "timeout", "CPU or wall time limit"
    if not final and unexplained_kill(ended, ended.cpu_s, seconds):
        raise Fault("a program was killed by the system")
    if killed(ended) and ended.cpu_s >= seconds:
        return "timeout", "CPU time limit"  # of many calls together: the process's own net caught it
    return death(ended, problem.limits.memory_bytes)


def death_of_test(talk: Talk, problem: Problem, seconds: float, final: bool, *, may_be_silent: bool = False) -> Verdict:
    """Says what it means that the test's process ended without a verdict; see `death_of_program`.

    Args:
        talk: The conversation.
        problem: Whose limits hold.
        seconds: CPU time beyond which a kill of the *program* explains itself.
        final: No further attempt follows.
        may_be_silent: The test code may end before it has called the program: then it is no fault of the machine.

    Raises:
        Fault: It may have been the machine's doing.
    """
    ended = talk.ended
    own_s = TEST_FACTOR * problem.limits.cpu_s
    if ended is None or (not final and unexplained_kill(ended, ended.cpu_s, own_s)):
        raise Fault("the test's process ended without a verdict")
    if not talk.num_calls and not may_be_silent:
        raise Fault("the test's process ended before it called the program")
    # It was alive until it had the program's results: they kept the test code busy, or broke it.
    if ended.reason == "interrupted":
        return death_of_program(ended, problem, seconds, final)
    verdict, detail = death(ended, problem.limits.memory_bytes)
    return ("timeout" if verdict == "timeout" else "error"), f"in the test code: {detail}"
