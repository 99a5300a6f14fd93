"""Tests that share the program's process (`Grade.assurance` is ``in_process``): one run, and what may count of it.

The parent sends the test code and a random token after the program's own body has run, sealed with a key that the
process had before; only a verdict that carries key and token, from a process that then ends in the ordinary way,
counts. A detector that fired leaves no credit.
"""

from __future__ import annotations

import ast
import hmac
import os
import secrets
import struct
from dataclasses import dataclass
from typing import Any

from restrl.errors import ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.jail import codec
from restrl.grading.jail.seal import seal
from restrl.grading.modes import Outcome, base_request, death, printable, unexplained_kill
from restrl.grading.watch import Ended, Fault, Frame, RunLimits
from restrl.grading.worker import Worker
from restrl.types import Case, CaseVerdict, Problem, VerdictName

_TOKEN_BYTES = 16
_MAX_FRAME = 1 << 12
_VERDICTS: dict[str, VerdictName] = {"pass": "pass", "wrong": "wrong", "error": "error", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Report:
    """What one run in the shared process came to."""

    verdict: VerdictName
    detail: str
    cpu_s: float
    tampering: tuple[str, ...]


def parse_tests(problem: Problem, case: Case, code: str) -> ast.Module:
    """Returns the syntax tree of test code.

    Raises:
        ProblemError: It is not Python.
    """
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ProblemError(f"test {case.id} of problem {problem.id} is not Python: {error}") from None


def imports_of(tree: ast.AST) -> list[str]:
    """Returns the modules that code imports, sorted.

    >>> imports_of(ast.parse("import os.path\\nfrom json import loads"))
    ['json', 'os.path']
    """
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return sorted(names)


class SharedRun:
    """One test of one program.

    Args:
        problem: Whose limits hold.
        config: Settings of the grader.
        final: No further attempt follows.
    """

    def __init__(self, problem: Problem, config: GradingConfig, *, final: bool) -> None:
        self._problem = problem
        self._wall_factor = config.wall_factor
        self._final = final
        self._key, self._token = secrets.token_bytes(_TOKEN_BYTES), secrets.token_bytes(_TOKEN_BYTES)
        self._loaded = False
        self._claim: tuple[VerdictName, str] | None = None
        self._tampering: set[str] = set()

    def run(self, worker: Worker, request: dict[str, Any], rest: dict[str, Any]) -> Report:
        """Runs the program, then sends it the test code.

        Args:
            worker: Of a place that shares processes.
            request: What the process gets before the program is loaded, without the limits.
            rest: What it gets after.

        Raises:
            Fault: The run, not the program, failed.
        """
        limits = self._problem.limits
        bounds = RunLimits(limits.cpu_s, self._wall_factor * limits.cpu_s, _MAX_FRAME)
        message = codec.encode(
            base_request(self._problem, request["mode"], request["program"], 2) | request | {"key": self._key}
        )
        question = seal(self._key, codec.encode((self._token, rest)))
        with worker.open(message, bounds, self._on_frame) as watch, worker.faults():
            while watch.ended is None and not self._loaded and self._claim is None:
                watch.num_claims = 0
                watch.wait()
            if self._loaded and watch.ended is None:
                watch.ask(struct.pack("<I", len(question)) + question)
            ended = watch.run()
        verdict, detail = self._judge(ended)
        if verdict == "pass" and self._tampering:
            verdict, detail = "error", "tampering: " + ", ".join(sorted(self._tampering))
        return Report(verdict, detail, ended.cpu_s, tuple(sorted(self._tampering)))

    def _judge(self, ended: Ended) -> tuple[VerdictName, str]:
        limits = self._problem.limits
        if not self._final and unexplained_kill(ended, ended.cpu_s, 2 * limits.cpu_s):
            raise Fault("a program was killed by the system")
        if ended.reason == "ended" and ended.status == 0 and self._claim is not None:
            if ended.cpu_s > 2 * limits.cpu_s + 0.25:
                return "timeout", "CPU time limit, child processes included"
            return self._claim
        if ended.reason == "ended" and os.WIFEXITED(ended.status) and self._claim is None:
            self._tampering.add("ends the process early")
        return death(ended, limits.memory_bytes)

    def _on_frame(self, frame: Frame) -> bool:
        kind, payload = frame.kind, frame.payload
        if self._claim is not None:
            raise ValueError("a claim after the verdict")
        if kind == b"T":
            self._tampering.add(printable(payload)[:60])
        elif kind == b"B" and not self._loaded and hmac.compare_digest(payload, self._key):
            self._loaded = True
        elif kind in (b"E", b"M") and not self._loaded:
            self._claim = ("memory" if kind == b"M" else "error"), printable(payload)
        elif (
            kind == b"Q" and self._loaded and hmac.compare_digest(payload[: 2 * _TOKEN_BYTES], self._key + self._token)
        ):
            verdict, detail = codec.decode(payload[2 * _TOKEN_BYTES :], max_nodes=3)
            self._claim = _VERDICTS.get(verdict, "error"), printable(str(detail).encode())
        else:
            self._tampering.add("forges claims")
            raise ValueError("a forged claim")
        return True


def outcome_of(cases: tuple[Case, ...], reports: list[Report]) -> Outcome:
    """Joins the reports of the cases, in order; cases beyond them were not run and count as the last costly one."""
    verdicts = [CaseVerdict(c.id, r.verdict, r.detail) for c, r in zip(cases, reports, strict=False)]
    costly: VerdictName = next((r.verdict for r in reversed(reports) if r.verdict in ("timeout", "memory")), "timeout")
    for case in cases[len(reports) :]:
        verdicts.append(CaseVerdict(case.id, costly, "not run: it failed like this before"))
    tampering = tuple(sorted({name for report in reports for name in report.tampering}))
    cpu_s = sum(report.cpu_s for report in reports)
    return Outcome(tuple(verdicts), cpu_s, assurance="in_process", tampering=tampering)
