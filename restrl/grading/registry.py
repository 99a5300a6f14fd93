"""The kinds of tests that can be graded: a judge for each, in the literal dict `MODES`. A new kind is one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from restrl.errors import ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.examiner import AssertsJudge
from restrl.grading.modes import CallJudge, Judge, StdioJudge
from restrl.types import Problem

MODES: Mapping[str, Callable[[Problem, GradingConfig], Judge]] = {
    "call": CallJudge,
    "stdio": StdioJudge,
    "asserts": AssertsJudge,
}


def judge_for(problem: Problem, config: GradingConfig) -> Judge:
    """Returns the judge of a problem.

    Raises:
        ProblemError: Tests of this kind, or these tests, cannot be graded.
    """
    kind = problem.tests.kind
    if kind not in MODES:
        raise ProblemError(
            f"problem {problem.id} has tests of kind {kind!r}, which cannot be graded yet; allowed: {', '.join(MODES)}"
        )
    return MODES[kind](problem, config)
