"""How tests of the kinds ``call`` and ``stdio`` are run and judged.

A judge holds the expected values (it lives in the trusted parent), asks a worker for runs, and compares the claims.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import tempfile
from dataclasses import dataclass
from typing import Any, Protocol

from restrl.errors import ProblemError
from restrl.grading.checkers import CHECKERS, Opaque
from restrl.grading.compare import outputs_equal
from restrl.grading.config import GradingConfig
from restrl.grading.jail import codec
from restrl.grading.prelude import Prelude
from restrl.grading.watch import Ended, Fault, Frame, RunLimits, Watch
from restrl.grading.worker import Worker
from restrl.types import Assurance, Case, CaseVerdict, Problem, VerdictName

_DETAIL = 200
_MIN_MEMORY_BYTES = 64 << 20
_MAX_NODES = 1 << 18
_MIN_LEFT_S = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdicts of one program, without the problem's name: what the cache keeps. See `Grade`.

    ``layers`` is None where they are those of the grader.
    """

    verdicts: tuple[CaseVerdict, ...]
    cpu_s: float
    assurance: Assurance = "isolated"
    tampering: tuple[str, ...] = ()
    layers: tuple[str, ...] | None = None


class Judge(Protocol):
    """Grades programs on one problem."""

    digest: bytes

    def grade(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        """Grades one program.

        Args:
            worker: Runs it.
            program: The whole program.
            final: No further attempt follows: a kill by the system now counts as an error of the program.

        Raises:
            Fault: The run, not the program, failed.
        """
        ...


def death(ended: Ended, memory_bytes: int) -> tuple[VerdictName, str]:
    """Says what the end of a process means for the case that it was running."""
    if ended.reason == "timeout":
        return "timeout", "CPU or wall time limit"
    if ended.reason == "memory":
        return "memory", "the memory of all processes"
    if ended.reason == "output":
        return "output", "the result is too large"
    if ended.reason == "protocol":
        return "error", "malformed claim"
    if not os.WIFSIGNALED(ended.status):
        return "error", f"the process ended with status {os.WEXITSTATUS(ended.status)}"
    number = os.WTERMSIG(ended.status)
    if number == signal.SIGXFSZ:
        return "output", "output limit"
    if ended.peak_bytes > 0.8 * memory_bytes:
        return "memory", "memory limit"
    return "error", f"killed by {signal.Signals(number).name}"


def killed(ended: Ended) -> bool:
    """A SIGKILL that the parent did not send."""
    return ended.reason == "ended" and os.WIFSIGNALED(ended.status) and os.WTERMSIG(ended.status) == signal.SIGKILL


def unexplained_kill(ended: Ended, spent_s: float, allowed_s: float) -> bool:
    """One that the CPU limit did not send either: the machine ran out of memory, or someone meddled."""
    return killed(ended) and spent_s < allowed_s


def base_request(problem: Problem, mode: str, program: str, num_cases: int) -> dict[str, Any]:
    cpu_s = problem.limits.cpu_s
    return {
        "mode": mode,
        "program": program.removeprefix("\ufeff"),  # the byte order mark of a file, as the interpreter does
        # A net below the parent's clock. The kernel counts whole ticks for it, under load a few per cent too many.
        "cpu_s": int(1.25 * cpu_s * num_cases) + 2,
        "memory_bytes": max(problem.limits.memory_bytes, _MIN_MEMORY_BYTES),
        "file_bytes": problem.limits.output_bytes + 1,
        "timer_s": 0.0 if os.uname().sysname == "Linux" else cpu_s,
    }


def check_limits(problem: Problem) -> None:
    limits = problem.limits
    if not problem.tests.cases:
        raise ProblemError(f"problem {problem.id} has no tests; give it at least one")
    if limits.cpu_s <= 0 or limits.memory_bytes <= 0 or limits.output_bytes <= 0:
        raise ProblemError(f"problem {problem.id} has the limits {limits}; each must be above 0")


def printable(payload: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in payload.decode("utf-8", "replace")[:_DETAIL])


class CallJudge:
    """Tests of kind ``call``: one process for all cases; after a death, a new one from the next case on."""

    def __init__(self, problem: Problem, config: GradingConfig) -> None:
        check_limits(problem)
        for name in problem.entry_point.split("|"):
            parts = name.split(".")
            if len(parts) > 2 or not all(part.isidentifier() for part in parts):
                raise ProblemError(
                    f"problem {problem.id} has the entry point {problem.entry_point!r}; allowed: f, Class.method, or "
                    "alternatives as in Class.f|f"
                )
        if problem.tests.checker not in CHECKERS:
            known = ", ".join(filter(None, CHECKERS))
            raise ProblemError(
                f"problem {problem.id} names the comparator {problem.tests.checker!r}; allowed: {known}, or none"
            )
        self._problem = problem
        self._config = config
        self._ids = [case.id for case in problem.tests.cases]
        self._check = CHECKERS[problem.tests.checker]
        self._prelude = Prelude(problem.tests.prelude)
        try:
            self._args = [codec.encode(case.args) for case in problem.tests.cases]
            self._wanted = [codec.encode(case.expected) for case in problem.tests.cases]
        except codec.CodecError as error:
            raise ProblemError(f"problem {problem.id} has a test that is not plain data: {error}") from None
        # An equal value has as many parts as the expected one: a claim never costs more than that to decode. A named
        # comparator may accept another number of them.
        floor = _MAX_NODES if problem.tests.checker else 0
        self._nodes = [max(floor, codec.count_nodes(case.expected)) for case in problem.tests.cases]
        self._seconds = [case.cpu_s or problem.limits.cpu_s for case in problem.tests.cases]
        largest = max(map(len, self._wanted))
        self._max_frame = max(problem.limits.output_bytes, 1 << (2 * largest).bit_length())
        tests = problem.tests
        rules = [(case.cpu_s, case.atol) for case in tests.cases if case.cpu_s or case.atol]
        how = ("call", problem.entry_point, problem.limits, tests.atol, tests.checker, tests.prelude)
        self.digest = hashlib.blake2b(
            repr((*how, self._ids, self._args, self._wanted, rules)).encode("utf-8", "backslashreplace"),
            digest_size=16,
        ).digest()

    def grade(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        """Grades one program; see `Judge`."""
        return _CallRun(self, worker, program, final).grade()

    def request(self, program: str, start: int) -> bytes:
        """Returns the request for a run of the cases from `start` on."""
        request = base_request(self._problem, "call", program, len(self._ids) - start)
        request |= {
            "cpu_s": int(self.seconds(start)) + 2,
            "entry": self._problem.entry_point,
            "prelude": self._prelude.for_program(program),
            "start": start,
            "args": self._args[start:],
            "max_bytes": self._max_frame,
        }
        return codec.encode_request(request)

    def seconds(self, start: int) -> float:
        """Returns the CPU seconds that the cases from `start` on may take together, the program's body included."""
        return self._problem.limits.cpu_s + sum(self._seconds[start:])

    def judge_value(self, index: int, claim: bytes) -> tuple[VerdictName, str]:
        """Compares a claimed return value with the expected one."""
        if claim == self._wanted[index]:
            return "pass", ""
        try:
            value = codec.decode(claim, max_nodes=self._nodes[index])
            equal = self._agrees(index, value)
        except (codec.CodecError, RecursionError):
            equal = False
        return ("pass", "") if equal else ("wrong", "")

    def judge_opaque(self, index: int, payload: bytes) -> tuple[VerdictName, str]:
        """Judges a returned value that is not plain data: its truth value, and why it cannot be sent."""
        equal = self._agrees(index, Opaque(payload[:1] == b"1"))
        return ("pass", "") if equal else ("wrong", printable(payload[1:]))

    def _agrees(self, index: int, value: object) -> bool:
        case, tests = self._problem.tests.cases[index], self._problem.tests
        return self._check(case, value, case.atol or tests.atol)


class _CallRun:
    """The state of grading one program by calls."""

    def __init__(self, judge: CallJudge, worker: Worker, program: str, final: bool) -> None:
        self.final = final
        self.judge = judge
        self.worker = worker
        self.program = program
        self.verdicts: list[CaseVerdict] = []
        self.defined = False
        self.timeouts = 0
        self.cpu_s = 0.0  # of the runs before this one
        self.run_s = 0.0  # of this one, as far as it has claimed
        self.watch: Watch | None = None

    def grade(self) -> Outcome:
        judge, problem = self.judge, self.judge._problem
        num_cases = len(judge._ids)
        while len(self.verdicts) < num_cases:
            start = len(self.verdicts)
            ended = self._run(start)
            if len(self.verdicts) == num_cases or ended.reason == "interrupted":
                continue
            if not self.final and unexplained_kill(ended, ended.cpu_s, judge.seconds(start)):
                raise Fault("a program was killed by the system")
            verdict, detail = death(ended, problem.limits.memory_bytes)
            self._add(verdict, detail)
            if not self.defined or self.timeouts >= judge._config.max_timeouts or self._left_s() <= 0:
                self._fill(verdict, detail)
        return Outcome(tuple(self.verdicts), self.cpu_s)

    def _run(self, start: int) -> Ended:
        """One process, from a case on."""
        self.defined, self.run_s = False, 0.0
        limits = self._limits(self.judge._problem.limits.cpu_s)
        worker, request = self.worker, self.judge.request(self.program, start)
        with worker.open(request, limits, self._on_frame) as self.watch, worker.faults():
            ended = self.watch.run()
        self.cpu_s += ended.cpu_s
        self.run_s = 0.0
        return ended

    def _left_s(self) -> float:
        """CPU seconds that are left of all tests' together."""
        total = self.judge._problem.limits.total_cpu_s
        return total - self.cpu_s - self.run_s if total else math.inf

    def _limits(self, cpu_s: float) -> RunLimits:
        cpu_s = max(_MIN_LEFT_S, min(cpu_s, self._left_s()))
        return RunLimits(cpu_s, self.judge._config.wall_factor * cpu_s, self.judge._max_frame)

    def _add(self, verdict: VerdictName, detail: str) -> None:
        self.timeouts += verdict in ("timeout", "memory")
        self.verdicts.append(CaseVerdict(self.judge._ids[len(self.verdicts)], verdict, detail))

    def _fill(self, verdict: VerdictName, detail: str) -> None:
        while len(self.verdicts) < len(self.judge._ids):
            self._add(verdict, detail)

    def _on_frame(self, frame: Frame) -> bool:
        index = len(self.verdicts)
        if frame.index != index:
            raise ValueError("a claim for another case")
        kind = frame.kind
        self.run_s += frame.cpu_s
        if not self.defined:
            if kind == b"B":
                self.defined = True
            elif kind in (b"E", b"M"):
                self._fill("memory" if kind == b"M" else "error", printable(frame.payload))
            else:
                raise ValueError("a claim before the program's body has run")
        elif frame.cpu_s > self.judge._seconds[index]:
            self._add("timeout", "CPU time limit")
        elif kind == b"V":
            self._add(*self.judge.judge_value(index, frame.payload))
        elif kind == b"U":
            self._add(*self.judge.judge_opaque(index, frame.payload))
        elif kind == b"O":
            self._add("output", "the result is too large")
        elif kind in (b"E", b"M"):
            self._add("memory" if kind == b"M" else "error", printable(frame.payload))
        else:
            raise ValueError("an unknown claim")
        if self._left_s() <= 0:
            self._fill("timeout", "CPU time limit of all tests together")
        more = len(self.verdicts) < len(self.judge._ids)
        if more and self.watch is not None:
            self.watch.limits = self._limits(self.judge._seconds[len(self.verdicts)])
        return more


class StdioJudge:
    """Tests of kind ``stdio``: a fresh process per test; its standard output is compared after it has ended."""

    def __init__(self, problem: Problem, config: GradingConfig) -> None:
        check_limits(problem)
        for case in problem.tests.cases:
            if not isinstance(case.expected, str):
                raise ProblemError(
                    f"test {case.id} of problem {problem.id} expects a {type(case.expected).__name__}; "
                    "a stdio test expects a str"
                )
        self._problem = problem
        self._config = config
        tests = problem.tests
        self._prelude = Prelude(tests.prelude)
        rows = [(case.id, case.stdin, case.expected) for case in tests.cases]
        self.digest = hashlib.blake2b(
            repr(("stdio", problem.limits, tests.atol, tests.prelude, rows)).encode("utf-8", "backslashreplace"),
            digest_size=16,
        ).digest()

    def grade(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        """Grades one program; see `Judge`."""
        verdicts: list[CaseVerdict] = []
        timeouts, cpu_s = 0, 0.0
        costly: VerdictName = "timeout"
        for case in self._problem.tests.cases:
            if timeouts >= self._config.max_timeouts:
                verdicts.append(CaseVerdict(case.id, costly, "not run: it failed like this before"))
                continue
            verdict, detail, used_s = self._run_case(worker, program, case, final)
            if verdict in ("timeout", "memory"):
                timeouts, costly = timeouts + 1, verdict
            cpu_s += used_s
            verdicts.append(CaseVerdict(case.id, verdict, detail))
        return Outcome(tuple(verdicts), cpu_s)

    def _run_case(self, worker: Worker, program: str, case: Case, final: bool) -> tuple[VerdictName, str, float]:
        problem, expected = self._problem, str(case.expected)
        cpu_s, cap = problem.limits.cpu_s, max(problem.limits.output_bytes, 2 * len(expected.encode()))
        request = base_request(problem, "stdio", program, 1)
        request |= {"stdin": case.stdin.encode("utf-8", "surrogateescape"), "file_bytes": cap + 1}
        request["prelude"] = self._prelude.for_program(program)
        claims: list[Frame] = []

        def on_frame(frame: Frame) -> bool:
            if frame.kind not in (b"E", b"M") or len(claims) > 2:
                raise ValueError("an unknown claim")
            claims.append(frame)
            return True

        limits = RunLimits(cpu_s, self._config.wall_factor * cpu_s, 1000)
        output = _anonymous_file()
        try:
            ended = worker.run(codec.encode_request(request), limits, on_frame, output)
            size = os.fstat(output).st_size
            written = os.pread(output, min(size, cap + 1), 0)
        finally:
            os.close(output)
        if not final and unexplained_kill(ended, ended.cpu_s, cpu_s):
            raise Fault("a program was killed by the system")
        verdict, detail = self._judge(ended, claims, written, cap, expected)
        return verdict, detail, ended.cpu_s

    def _judge(
        self, ended: Ended, claims: list[Frame], written: bytes, cap: int, expected: str
    ) -> tuple[VerdictName, str]:
        if ended.reason == "timeout" or ended.cpu_s > self._problem.limits.cpu_s + 0.25:
            return "timeout", "CPU or wall time limit"
        if len(written) > cap:
            return "output", "output limit"
        if claims:
            return "memory" if claims[0].kind == b"M" else "error", printable(claims[0].payload)
        if ended.reason != "ended" or ended.status != 0:
            return death(ended, self._problem.limits.memory_bytes)
        return ("pass", "") if outputs_equal(expected, written, self._problem.tests.atol) else ("wrong", "")


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stdout")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
