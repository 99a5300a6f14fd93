"""A test method in one jailed process, the program in another, and this parent between them (kind ``unittest``).

As for the kind ``asserts``, the program never shares a process with the test. What it returns or raises, and what it
does to its arguments, crosses as plain data; each of these claims is something that a program could do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from restrl.grading.config import GradingConfig
from restrl.grading.exchange import (
    MAX_CALL_BYTES,
    TEST_FACTOR,
    Talk,
    Verdict,
    converse,
    death_of_program,
    death_of_test,
    max_nodes,
    say,
)
from restrl.grading.jail import codec
from restrl.grading.modes import base_request, printable
from restrl.grading.shared import Report
from restrl.grading.watch import Ended, Frame, RunLimits, Watch
from restrl.grading.worker import Worker
from restrl.types import Problem

_ANSWERS = (b"B", b"V", b"U", b"N", b"X", b"S", b"O", b"E", b"M")


@dataclass(frozen=True, slots=True)
class Method:
    """One declared test: its source, its class and its name, and what runs before the source."""

    code: str
    owner: str
    name: str
    prelude: str


class ProxiedRun:
    """One test method of one program.

    Args:
        problem: Whose limits hold.
        config: Settings of the grader.
        worker: Runs the program; its partner runs the test.
        final: No further attempt follows.
        trial: Results must be of exact plain types: does the proxy show this program as it is?
    """

    def __init__(
        self, problem: Problem, config: GradingConfig, worker: Worker, *, final: bool, trial: bool = False
    ) -> None:
        self._problem = problem
        self._factor = config.wall_factor
        self._worker = worker
        self._final = final
        self._trial = trial
        self._cpu_s = 0.0
        self._changed = False
        self._claim = Frame(b"", 0, b"", 0.0)
        self._failure: Verdict | None = None
        self._left = (0.0, 0.0)  # CPU and wall seconds for the calls that are still to come

    def run(self, program: str, method: Method) -> Report:
        """Runs the method; a program that changes its arguments must pass whether the test sees that or not.

        Raises:
            Fault: A run, not the program, failed.
        """
        verdict, detail = self._run(program, method, write_back=True)
        if verdict == "pass" and self._changed:
            verdict, detail = self._run(program, method, write_back=False)
        return Report(verdict, detail, self._cpu_s, ())

    def _run(self, program: str, method: Method, *, write_back: bool) -> Verdict:
        limits = self._problem.limits
        self._failure = None
        self._left = limits.cpu_s, self._factor * limits.cpu_s
        request = base_request(self._problem, "answer", program, 2)
        request |= {"entry": self._problem.entry_point, "max_bytes": limits.output_bytes, "exact": self._trial}
        bounds = RunLimits(*self._left, 2 * limits.output_bytes + MAX_CALL_BYTES)
        # A fault on either side ends both: neither zygote may be left in the middle of a run.
        with self._worker.open(codec.encode_request(request), bounds, self._on_claim) as watch, self._worker.faults():
            verdict = self._examine(watch, method, write_back)
            self._cpu_s += watch.stop().cpu_s
        return verdict

    def _examine(self, candidate: Watch, method: Method, write_back: bool) -> Verdict:
        ended = candidate.wait()
        if ended is not None:
            return self._death(ended)
        if self._claim.kind != b"B":
            return ("memory" if self._claim.kind == b"M" else "error"), printable(self._claim.payload)
        request = base_request(self._problem, "question", method.code, TEST_FACTOR)
        request |= {"entry": self._problem.entry_point, "prelude": method.prelude, "write_back": write_back}
        request |= {"owner": method.owner, "method": method.name}
        talk = converse(self._worker, self._problem, self._factor, request, lambda call: self._call(candidate, call))
        return self._conclude(talk) if self._failure is None else self._failure

    def _conclude(self, talk: Talk) -> Verdict:
        """Says what the end of the test's process means."""
        last = talk.last
        if last.kind == b"P":
            return "pass", ""
        if last.kind == b"F":
            return "wrong", printable(last.payload)
        if last.kind in (b"E", b"M"):
            return ("memory" if last.kind == b"M" else "error"), printable(last.payload)
        if last.kind == b"N":
            return "error", "an argument is not plain data"
        seconds = 2 * self._problem.limits.cpu_s
        return death_of_test(talk, self._problem, seconds, self._final, may_be_silent=self._trial)

    def _call(self, candidate: Watch, arguments: bytes) -> bytes | None:
        """Lets the program answer a call. None if it cannot: `_failure` says why."""
        cpu_s, wall_s = self._left
        candidate.limits = RunLimits(cpu_s, wall_s, candidate.limits.max_frame)
        before = candidate._cpu_s(), time.monotonic() - candidate._waited_s()
        ended = say(candidate, arguments)
        spent = time.monotonic() - candidate._waited_s() - before[1]
        cpu_s -= max(0.0, candidate._cpu_s() - before[0])
        self._left = cpu_s, max(0.05, wall_s - max(0.0, spent))
        if ended is not None:
            self._failure = self._death(ended)
        elif cpu_s <= 0:
            self._failure = "timeout", "CPU time limit"
        else:
            try:
                reply = self._reply()
                return None if reply is None else codec.encode(reply)
            except codec.CodecError:
                self._failure = "error", "malformed claim"
        return None

    def _reply(self) -> tuple[str, Any, Any] | None:
        """Turns the program's claim into what the proxy is to do."""
        kind, payload = self._claim.kind, self._claim.payload
        if kind == b"V":
            value, changed = self._pair(payload)
            if changed is not None:
                _check_arguments(changed)
                self._changed = True
            return "value", value, changed
        if kind == b"X":
            name, arguments = self._pair(payload)
            if type(name) is not str or type(arguments) is not tuple:
                raise codec.CodecError("not an exception")
            return "error", name, arguments
        if kind == b"U" and not self._trial:
            return "opaque", payload[:1] == b"1", None
        if kind == b"O":
            self._failure = "output", "the result is too large"
        elif kind == b"M":
            self._failure = "memory", ""
        elif kind == b"S":
            self._failure = "error", printable(payload)
        elif kind in (b"N", b"U"):
            self._failure = "error", "the result or an argument is not plain data"
        else:
            self._failure = "error", "malformed claim"
        return None

    def _pair(self, payload: bytes) -> tuple[Any, Any]:
        found = codec.decode(payload, max_nodes=max_nodes(self._problem))
        if type(found) is not tuple or len(found) != 2:
            raise codec.CodecError("not a pair")
        return found[0], found[1]

    def _on_claim(self, frame: Frame) -> bool:
        if frame.kind not in _ANSWERS:
            raise ValueError("an unknown claim")
        self._claim = frame
        return True

    def _death(self, ended: Ended) -> Verdict:
        return death_of_program(ended, self._problem, 2 * self._problem.limits.cpu_s, self._final)


def _check_arguments(changed: Any) -> None:
    if type(changed) is tuple and len(changed) == 2 and type(changed[0]) is tuple and type(changed[1]) is dict:
        return
    raise codec.CodecError("not arguments")
