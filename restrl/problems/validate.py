"""Runs every canonical solution through a grader: problems whose own solution fails teach nothing but noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restrl.types import Grade, Grader, Problem


@dataclass(frozen=True, slots=True)
class ValidationFailure:
    """A problem whose canonical solution does not pass: the reward in [0, 1], and the first test that failed."""

    problem_id: str
    reward: float
    reason: str


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What a validation found.

    Attributes:
        num_problems: All the problems.
        num_passed: Canonical solutions that pass every test.
        failures: Those that do not.
        without_solution: Ids of the problems that have no canonical solution.
    """

    num_problems: int
    num_passed: int
    failures: tuple[ValidationFailure, ...]
    without_solution: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """No canonical solution failed."""
        return not self.failures


def _reason(grade: Grade) -> str:
    for verdict in grade.verdicts:
        if verdict.verdict != "pass":
            detail = f": {verdict.detail}" if verdict.detail else ""
            return f"{verdict.id} {verdict.verdict}{detail}"
    return "not passed"


def validate_problems(problems: Sequence[Problem], grader: Grader) -> ValidationReport:
    """Grades the canonical solution of every problem that has one.

    Raises:
        GraderError: The grader itself failed.
    """
    pairs = [(p, p.canonical_solution) for p in problems if p.canonical_solution is not None]
    grades = grader.grade(pairs)
    failures = tuple(
        ValidationFailure(grade.problem_id, grade.reward, _reason(grade)) for grade in grades if not grade.passed
    )
    missing = tuple(p.id for p in problems if p.canonical_solution is None)
    return ValidationReport(len(problems), len(grades) - len(failures), failures, missing)
