"""Checks problems before anything is trained on them: a problem whose own solution fails teaches nothing but noise, and
so does a test that nothing fails.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from restrl.errors import NotGradable, ProblemError
from restrl.grading.each import grade_each
from restrl.problems.checks import Finding, check_tests
from restrl.problems.probes import Probe, mutants, trivial_programs
from restrl.progress import Progress, Silent
from restrl.types import Grade, Grader, Problem

DEFAULT_MUTANTS = 6
CHUNK = 16


@dataclass(frozen=True, slots=True)
class ValidationFailure:
    """A reference solution that does not pass: its number, the reward in [0, 1], and the first test that failed."""

    problem_id: str
    reward: float
    reason: str
    solution: int = 0


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What a validation found.

    Attributes:
        num_problems: All the problems.
        num_passed: Problems whose every reference solution passes every test.
        failures: Reference solutions that do not.
        without_solution: Ids of the problems that have no reference solution.
        num_solutions: Reference solutions that were run.
        num_solutions_passed: Those that pass.
        solved: Gradable problem -> (reference solutions that pass, those that were run).
        not_gradable: Problem -> what is missing. They are in no denominator.
        missing_packages: Import that is not there -> how many problems need it.
        findings: Everything else that is wrong, in the order of the problems.
        num_mutants: Mutants of canonical solutions that were run.
        num_killed: Those that some test fails.
        survivors: Problem -> mutants that pass all its tests. They may be equivalent to the solution.
        seconds: Wall time.
    """

    num_problems: int
    num_passed: int
    failures: tuple[ValidationFailure, ...]
    without_solution: tuple[str, ...]
    num_solutions: int = 0
    num_solutions_passed: int = 0
    solved: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    not_gradable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    missing_packages: Mapping[str, int] = dataclasses.field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    num_mutants: int = 0
    num_killed: int = 0
    survivors: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    @property
    def num_gradable(self) -> int:
        """Problems that this machine can grade."""
        return self.num_problems - len(self.not_gradable)

    @property
    def num_checked(self) -> int:
        """Gradable problems with a reference solution: the denominator of ``num_passed``."""
        return self.num_gradable - len([name for name in self.without_solution if name not in self.not_gradable])

    @property
    def ok(self) -> bool:
        """No reference solution failed and nothing else was found."""
        return not self.failures and not self.findings


def validate_problems(
    problems: Sequence[Problem],
    grader: Grader,
    *,
    probes: bool = False,
    num_mutants: int = DEFAULT_MUTANTS,
    static: bool = False,
    solutions: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
    label: str = "validate",
) -> ValidationReport:
    """Grades the reference solutions of every problem that has any, and looks for tests that test nothing.

    Args:
        problems: The problems.
        grader: Grades.
        probes: Run trivial programs and mutants of the canonical solution too.
        num_mutants: Mutants per problem, at most.
        static: Look for tests that repeat or contradict each other, and for test code that is not Python.
        solutions: Problem -> all its known solutions, where those are more than the canonical one.
        progress: Told about every problem.
        label: Name of the task for the progress.

    Raises:
        GraderError: The grader itself failed.
    """
    progress = progress or Silent()
    progress.start(label, len(problems))
    begun = time.monotonic()
    state = _Validation(grader, num_mutants if probes else -1, solutions or {})
    # Those that need the same packages together: the grader keeps few interpreters warm.
    ordered = sorted(problems, key=lambda problem: (problem.tests.profile, problem.tests.packages))
    for start in range(0, len(ordered), CHUNK):
        chunk = ordered[start : start + CHUNK]
        if static:
            state.findings += [finding for problem in chunk for finding in check_tests(problem)]
        state.run(chunk)
        progress.advance(len(chunk), failed=len(state.failures))
    progress.finish()
    return state.report(problems, time.monotonic() - begun)


class _Validation:
    """The counts while the problems are gone through."""

    def __init__(self, grader: Grader, num_mutants: int, several: Mapping[str, Sequence[str]]) -> None:
        self.grader = grader
        self.several = several
        self.num_mutants = num_mutants
        self.num_passed = self.solutions = self.solutions_passed = self.mutants = self.killed = 0
        self.failures: list[ValidationFailure] = []
        self.solved: dict[str, tuple[int, int]] = {}
        self.without: list[str] = []
        self.not_gradable: dict[str, str] = {}
        self.missing: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.survivors: dict[str, tuple[str, ...]] = {}

    def run(self, problems: Sequence[Problem]) -> None:
        """Grades one chunk of problems."""
        pairs = [(problem, program) for problem in problems for program in self._known(problem) or ("",)]
        graded = iter(grade_each(self.grader, pairs))
        probed: list[tuple[Problem, Probe]] = []
        for problem in problems:
            known = self._known(problem)
            grades = [next(graded) for _ in known or ("",)]  # without one, an empty program tells if it is gradable
            if not known:
                self.without.append(problem.id)
            if self._refused(problem, grades[0]):
                continue
            good = [item for item in grades if isinstance(item, Grade)]
            if known:
                self._solutions(problem, good)
            if self.num_mutants >= 0 and all(item.passed for item in good if known):
                limited = _limited(problem, good[0].cpu_s if known else 0.0)
                wrong = trivial_programs(problem) + mutants(problem.canonical_solution, self.num_mutants)
                probed += [(limited, probe) for probe in wrong]
        self._probes(probed)

    def _known(self, problem: Problem) -> Sequence[str]:
        canonical = problem.canonical_solution
        return self.several.get(problem.id) or (() if canonical is None else (canonical,))

    def _refused(self, problem: Problem, grade: Grade | ProblemError) -> bool:
        if isinstance(grade, NotGradable):
            self.not_gradable[problem.id] = str(grade)
            self.missing.update(grade.packages)
        elif isinstance(grade, ProblemError) and not self._is_known_broken(problem):
            self.findings.append(Finding("test code", problem.id, str(grade)))
        return isinstance(grade, ProblemError)

    def _is_known_broken(self, problem: Problem) -> bool:
        return any(finding.kind == "test code" and finding.problem_id == problem.id for finding in self.findings)

    def _solutions(self, problem: Problem, grades: Sequence[Grade]) -> None:
        passed = sum(grade.passed for grade in grades)
        self.solved[problem.id] = (passed, len(grades))
        self.solutions += len(grades)
        self.solutions_passed += passed
        self.num_passed += passed == len(grades)
        for number, grade in enumerate(grades):
            if not grade.passed:
                self.failures.append(ValidationFailure(problem.id, grade.reward, _reason(grade), number))

    def _probes(self, probed: Sequence[tuple[Problem, Probe]]) -> None:
        graded = grade_each(self.grader, [(problem, probe.program) for problem, probe in probed])
        outcomes: dict[str, list[tuple[Problem, Probe, Grade]]] = {}
        for (problem, probe), grade in zip(probed, graded, strict=True):
            if isinstance(grade, Grade):
                outcomes.setdefault(problem.id, []).append((problem, probe, grade))
        for name, results in outcomes.items():
            problem = results[0][0]
            trivial = [probe.name for _, probe, grade in results if probe.trivial and grade.passed]
            if trivial:
                text = f"a program that {trivial[0]} passes every test" + (
                    f", and {len(trivial) - 1} more like it" if len(trivial) > 1 else ""
                )
                self.findings.append(Finding("trivial program", name, text))
            for number, case in enumerate(problem.tests.cases):
                if all(grade.verdicts[number].verdict == "pass" for _, _, grade in results):
                    text = f"{case.id} passes for each of {len(results)} wrong programs"
                    self.findings.append(Finding("idle test", name, text))
            alive = tuple(probe.name for _, probe, grade in results if not probe.trivial and grade.passed)
            self.mutants += sum(not probe.trivial for _, probe, _ in results)
            self.killed += sum(not probe.trivial and not grade.passed for _, probe, grade in results)
            if alive:
                self.survivors[name] = alive

    def report(self, problems: Sequence[Problem], seconds: float) -> ValidationReport:
        """Returns the result, in the order of the problems."""
        place = {problem.id: number for number, problem in enumerate(problems)}
        self.findings.sort(key=lambda finding: place[finding.problem_id])
        self.failures.sort(key=lambda failure: place[failure.problem_id])
        return ValidationReport(
            num_problems=len(problems),
            num_passed=self.num_passed,
            failures=tuple(self.failures),
            without_solution=tuple(sorted(self.without, key=place.__getitem__)),
            num_solutions=self.solutions,
            num_solutions_passed=self.solutions_passed,
            solved={problem.id: self.solved[problem.id] for problem in problems if problem.id in self.solved},
            not_gradable=self.not_gradable,
            missing_packages=dict(self.missing.most_common()),
            findings=tuple(self.findings),
            num_mutants=self.mutants,
            num_killed=self.killed,
            survivors=self.survivors,
            seconds=seconds,
        )


def _limited(problem: Problem, cpu_s: float) -> Problem:
    """Returns the problem with a CPU limit that ends a mutant's endless loop soon; its tests need ``cpu_s`` in all."""
    limit = min(problem.limits.cpu_s, max(0.5, 4 * cpu_s))
    return dataclasses.replace(problem, limits=dataclasses.replace(problem.limits, cpu_s=limit))


def _reason(grade: Grade) -> str:
    for verdict in grade.verdicts:
        if verdict.verdict != "pass":
            detail = f": {verdict.detail}" if verdict.detail else ""
            return f"{verdict.id} {verdict.verdict}{detail}"
    return "not passed"
