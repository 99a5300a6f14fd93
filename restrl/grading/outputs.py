"""What programs answer: runs them in the sandbox for their outputs instead of for verdicts.

Nothing is expected here. An *outcome* is one text per input: ``=`` and the canonical form of the returned value (of the
standard output, for programs that read standard input), or ``!`` and how the run failed. Equal values have equal
outcomes as the grader's comparison sees them (``1`` and ``1.0``, sets and dictionaries in any order), but floats are
rounded to ten significant digits, so that two ways of computing a number agree. Long forms are hashed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from restrl.errors import ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.grading.jail import codec
from restrl.grading.modes import CallJudge, Judge, StdioJudge
from restrl.grading.placed import Placed
from restrl.grading.places import place_of
from restrl.grading.watch import Ended, Frame
from restrl.types import Problem, VerdictName

_MAX_NODES = 1 << 16
_MAX_TEXT = 96
_MAX_JUDGES = 4096
_EXACT = 10**15


class SandboxRunner(SandboxGrader):
    """Runs programs on inputs in confined processes. Thread-safe; a context manager; equal runs are made once.

    It has the isolation, limits and retries of the grader. The inputs are the ``args`` or ``stdin`` of a problem's
    cases, whose expected values are not looked at. After one timeout a program is not run again.

    Args:
        config: Settings of the sandbox; ``max_timeouts`` is 1 here.
    """

    def __init__(self, config: GradingConfig | None = None) -> None:
        super().__init__(dataclasses.replace(config or GradingConfig(), max_timeouts=1))

    def outputs(self, pairs: Sequence[tuple[Problem, str]]) -> list[tuple[str, ...]]:
        """Runs programs, all workers at once.

        Args:
            pairs: Problems that hold the inputs (kinds ``call`` and ``stdio``), and whole programs.

        Returns:
            For each pair, one outcome per case.

        Raises:
            GraderError: The sandbox or the machine failed.
            ProblemError: The inputs cannot be given to a program.
        """
        return [
            tuple(
                verdict.detail if verdict.verdict == "pass" else f"!{verdict.verdict}:{verdict.detail}"
                for verdict in grade.verdicts
            )
            for grade in self.grade(pairs)
        ]

    def _judge(self, problem: Problem) -> Judge:
        known = self._judges.get(id(problem))
        if known is None or known[0] is not problem:
            self._judges[id(problem)] = known = (problem, _judge_of(problem, self))
            if len(self._judges) > _MAX_JUDGES:
                self._judges.popitem(last=False)
        return known[1]


class _CallOutputs(CallJudge):
    """Takes down every returned value."""

    def judge_value(self, index: int, claim: bytes) -> tuple[VerdictName, str]:
        """Returns the value's outcome; what cannot be decoded is an error of the program."""
        try:
            return "pass", outcome(codec.decode(claim, max_nodes=_MAX_NODES))
        except (codec.CodecError, RecursionError):
            return "error", "malformed claim"

    def judge_opaque(self, index: int, payload: bytes) -> tuple[VerdictName, str]:
        """What is no plain data cannot be compared."""
        return "error", "not plain data"


class _StdioOutputs(StdioJudge):
    """Takes down what a program prints."""

    def _judge(
        self, ended: Ended, claims: list[Frame], written: bytes, cap: int, expected: str
    ) -> tuple[VerdictName, str]:
        verdict, detail = super()._judge(ended, claims, written, cap, expected)
        if verdict not in ("pass", "wrong"):
            return verdict, detail
        lines = written.decode("utf-8", "replace").strip().split("\n")
        return "pass", outcome("\n".join(" ".join(line.split()) for line in lines))


def _judge_of(problem: Problem, runner: SandboxRunner) -> Judge:
    kinds: dict[str, type[CallJudge] | type[StdioJudge]] = {"call": _CallOutputs, "stdio": _StdioOutputs}
    if problem.tests.kind not in kinds:
        raise ProblemError(
            f"problem {problem.id}: outputs of programs with tests of kind {problem.tests.kind!r} cannot be taken; "
            f"allowed: {', '.join(kinds)}"
        )
    place = place_of(problem, runner.config)
    judge: Judge = kinds[problem.tests.kind](problem, runner.config)
    return judge if place is None else Placed(judge, place, runner.config)


def outcome(value: Any) -> str:
    """Returns the outcome of a plain value: equal for equal values, short for large ones.

    >>> outcome({2, 1}) == outcome({1.0, 2}), outcome(True) == outcome(1), outcome([1]) == outcome((1,))
    (True, False, False)
    """
    text = canonical(value)
    if len(text) > _MAX_TEXT:
        text = f"{text[:16]}...{hashlib.blake2b(text.encode('utf-8', 'backslashreplace'), digest_size=16).hexdigest()}"
    return f"={text}"


def canonical(value: Any) -> str:
    """Returns a text that equal plain values share.

    >>> canonical({"b": 0.1 + 0.2, "a": {3, 1.0}})
    "{'a': {1, 3}, 'b': 0.3}"
    """
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{canonical(key)}: {canonical(item)}" for key, item in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + (", ".join(sorted(map(canonical, value))) or ",") + "}"
    for kind, opening, closing in ((list, "[", "]"), (tuple, "(", ")"), (deque, "deque[", "]")):
        if isinstance(value, kind):
            return opening + ", ".join(map(canonical, value)) + closing
    if isinstance(value, bool) or not isinstance(value, int | float | complex | Decimal | Fraction):
        return repr(bytes(value) if isinstance(value, bytearray) else value)
    return _number(value)


def _number(value: int | float | complex | Decimal | Fraction) -> str:
    if isinstance(value, complex):
        return _number(value.real) if value.imag == 0 else f"{_number(value.real)}+{_number(value.imag)}j"
    if isinstance(value, int):
        return str(value) if abs(value) < _EXACT else hex(value)
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return str(value)
    if not math.isfinite(number):
        return "nan" if math.isnan(number) else str(number)
    if number.is_integer() and abs(number) < _EXACT:
        return str(int(number))
    return f"{number:.10g}"
