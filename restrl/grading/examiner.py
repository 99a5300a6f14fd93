"""Tests of kind ``asserts``: test code that calls the program, such as HumanEval's ``check(candidate)``.

The test code runs in an *examiner*, a jailed process without the program. There the entry point's name (and
``candidate``) is bound to a proxy; a call travels through this parent to the program's process, and its result back as
plain data. So the program never shares a process with the test, and an object that claims to be equal to everything
never reaches it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from restrl.errors import ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.exchange import TEST_FACTOR, Verdict, converse, death_of_program, death_of_test, max_nodes, say
from restrl.grading.jail import codec
from restrl.grading.modes import Outcome, base_request, check_limits, printable
from restrl.grading.watch import Ended, Frame, RunLimits, Watch
from restrl.grading.worker import Worker
from restrl.types import Case, CaseVerdict, Problem, VerdictName


class AssertsJudge:
    """Grades by test code; every case is a piece of code that passes if it raises nothing."""

    def __init__(self, problem: Problem, config: GradingConfig) -> None:
        check_limits(problem)
        if not problem.entry_point.isidentifier():
            raise ProblemError(
                f"problem {problem.id} has the entry point {problem.entry_point!r}; asserts need a function's name"
            )
        self._problem = problem
        self._config = config
        rows = [(case.id, case.code) for case in problem.tests.cases]
        for case in problem.tests.cases:
            try:
                compile(case.code, "test.py", "exec", dont_inherit=True)
            except (SyntaxError, ValueError) as error:
                raise ProblemError(f"test {case.id} of problem {problem.id} is not Python: {error}") from None
        key = ("asserts", problem.entry_point, problem.initial_state, problem.limits, rows)
        self.digest = hashlib.blake2b(repr(key).encode("utf-8", "backslashreplace"), digest_size=16).digest()

    def grade(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        """Grades one program; see `Judge`."""
        verdicts: list[CaseVerdict] = []
        cpu_s, num_costly = 0.0, 0
        costly: VerdictName = "timeout"
        for case in self._problem.tests.cases:
            if num_costly >= self._config.max_timeouts:
                verdicts.append(CaseVerdict(case.id, costly, "not run: it failed like this before"))
                continue
            run = _Examination(self, worker, final)
            verdict, detail = run.examine(program, case)
            cpu_s += run.cpu_s
            if verdict in ("timeout", "memory"):
                num_costly, costly = num_costly + 1, verdict
            verdicts.append(CaseVerdict(case.id, verdict, detail))
        return Outcome(tuple(verdicts), cpu_s)


class _Examination:
    """One case: two processes, and this parent between them."""

    def __init__(self, judge: AssertsJudge, worker: Worker, final: bool) -> None:
        self.problem = judge._problem
        self.factor = judge._config.wall_factor
        self.worker = worker
        self.final = final
        self.cpu_s = 0.0
        self.claim = Frame(b"", 0, b"", 0.0)
        self.failure: Verdict | None = None

    def examine(self, program: str, case: Case) -> Verdict:
        limits = self.problem.limits
        request = base_request(self.problem, "serve", program, 1)
        request |= {"entry": self.problem.entry_point, "max_bytes": limits.output_bytes}
        bounds = RunLimits(limits.cpu_s, self.factor * limits.cpu_s, limits.output_bytes + 1024)
        # A fault on either side ends both: neither zygote may be left in the middle of a run.
        with self.worker.open(codec.encode_request(request), bounds, self._on_claim) as candidate, self.worker.faults():
            verdict = self._examine(candidate, case)
            self.cpu_s = candidate.stop().cpu_s
        return verdict

    def _examine(self, candidate: Watch, case: Case) -> Verdict:
        ended = candidate.wait()
        if ended is not None:
            return self._death(ended)
        if self.claim.kind != b"B":
            return self._exception()
        request = base_request(self.problem, "examine", case.code, TEST_FACTOR)
        request |= {"entry": self.problem.entry_point, "prelude": self.problem.initial_state}
        talk = converse(self.worker, self.problem, self.factor, request, lambda call: self._call(candidate, call))
        if self.failure is not None:
            return self.failure
        if talk.last.kind == b"P":
            return "pass", ""
        if talk.last.kind == b"F":
            return "wrong", ""
        if talk.last.kind in (b"E", b"M"):
            return "error", printable(talk.last.payload)
        return death_of_test(talk, self.problem, self.problem.limits.cpu_s, self.final)

    def _call(self, candidate: Watch, arguments: bytes) -> bytes | None:
        """Lets the program answer a call. None if it cannot: `failure` says why."""
        try:
            ended = say(candidate, arguments)
            if ended is not None:
                self.failure = self._death(ended)
            elif self.claim.cpu_s > self.problem.limits.cpu_s:
                self.failure = "timeout", "CPU time limit"
            elif self.claim.kind == b"V":
                return codec.encode(("value", codec.decode(self.claim.payload, max_nodes=max_nodes(self.problem))))
            elif self.claim.kind == b"I":
                return codec.encode(("spread", self._spread()))
            elif self.claim.kind == b"O":
                self.failure = "output", "the result is too large"
            elif self.claim.kind == b"M":
                self.failure = "memory", ""
            elif self.claim.kind == b"U":
                return codec.encode(("opaque", self.claim.payload[:1] == b"1"))
            else:
                return codec.encode(("error", printable(self.claim.payload)))
        except codec.CodecError:
            self.failure = "error", "malformed claim"
        return None

    def _spread(self) -> tuple[str, Any]:
        """Returns what the program's iterator, range or view yields.

        Raises:
            codec.CodecError: The claim is no such thing.
        """
        found = codec.decode(self.claim.payload, max_nodes=max_nodes(self.problem))
        if type(found) is tuple and len(found) == 2:
            name, items = found
            if name == "range" and type(items) is tuple and len(items) == 3 and all(type(n) is int for n in items):
                return name, items
            if name in ("keys", "values", "items", "iterator") and type(items) is list:
                return name, items
        raise codec.CodecError("not an iterator")

    def _on_claim(self, frame: Frame) -> bool:
        if frame.kind not in (b"B", b"V", b"U", b"I", b"O", b"E", b"M"):
            raise ValueError("an unknown claim")
        self.claim = frame
        return True

    def _exception(self) -> Verdict:
        return ("memory" if self.claim.kind == b"M" else "error"), printable(self.claim.payload)

    def _death(self, ended: Ended) -> Verdict:
        return death_of_program(ended, self.problem, self.problem.limits.cpu_s, self.final)
