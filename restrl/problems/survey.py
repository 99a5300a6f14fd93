"""Validates whole sets, by name or file: what `restrl problems validate` does, without the printing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from restrl.errors import ProblemError
from restrl.problems.checks import Finding, shared_statements
from restrl.problems.jsonl import ScannedFile, scan_problems
from restrl.problems.known import known_failure
from restrl.problems.registry import PROBLEM_SETS, LoadedSet, load_set
from restrl.problems.sources import find_places
from restrl.problems.validate import ValidationFailure, ValidationReport, validate_problems
from restrl.progress import Progress
from restrl.types import Grader, Problem

LIGHT = frozenset({"numpy", "scipy"})
"""Packages that most machines have: what passes with no more is reported apart."""


@dataclass(frozen=True, slots=True)
class SurveyOptions:
    """What is looked for.

    Attributes:
        probes: Run wrong programs to find tests that nothing fails.
        num_mutants: Mutants per problem.
        static: Look at the tests' text.
        count: The first so many problems; None for all.
        against: Name of another set, whose statements must not be there; empty for none.
        others: The problems of that set.
        solutions_of: Another set of the same problems, whose canonical solutions are run instead; empty for the own.
    """

    probes: bool = True
    num_mutants: int = 6
    static: bool = True
    count: int | None = None
    against: str = ""
    others: tuple[Problem, ...] = ()
    solutions_of: str = ""


@dataclass(frozen=True, slots=True)
class SetSurvey:
    """What was found in one set.

    Attributes:
        name: The specification; ``SPEC<OTHER`` where the solutions of OTHER were run.
        sources: Where the records came from.
        report: The validation; its findings begin with those of the file.
        refusals: Reason -> records that are no problems by the set's own rules.
        expected: Failures that are known to be the benchmark's own fault, with the cause.
        unexpected: The other failures.
        lines: Problem -> its line in the file; empty for named sets.
        light: (passed, checked) of the problems that need no package beyond `LIGHT`; None where no problem needs more.
        seconds: Wall time, with loading.
    """

    name: str
    sources: tuple[str, ...]
    report: ValidationReport
    refusals: Mapping[str, int]
    expected: tuple[tuple[ValidationFailure, str], ...]
    unexpected: tuple[ValidationFailure, ...]
    lines: Mapping[str, int]
    light: tuple[int, int] | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Nothing was found but what is known."""
        return not self.unexpected and not self.report.findings


def sets_at_hand() -> tuple[list[str], list[str]]:
    """Returns the names of the benchmarks whose data lie in the benchmarks' folder, and of the others.

    Sets that are another one's variants are in neither list.
    """
    here: list[str] = []
    absent: list[str] = []
    for name, entry in PROBLEM_SETS.items():
        if entry.generate is not None or entry.variant_of:
            continue
        try:
            places = find_places(name, entry)
        except ProblemError:
            places = []
        (here if places and all(place.path is not None for place in places) else absent).append(name)
    return here, absent


def survey(spec: str, grader: Grader, options: SurveyOptions, progress: Progress) -> SetSurvey:
    """Validates one set or file.

    Raises:
        ProblemError: The set is unknown or cannot be read at all.
        GraderError: The grader itself failed.
    """
    begun = time.monotonic()
    loaded, scanned = _load(spec, options.count)
    name = spec
    if options.solutions_of:
        name = f"{spec}<{options.solutions_of}"
        loaded = _with_solutions(loaded, spec, options.solutions_of)
    lines = {} if scanned is None else {p.id: n for p, n in zip(scanned.problems, scanned.lines, strict=True)}
    findings = [] if scanned is None else [Finding("schema", "", fault.text, fault.line) for fault in scanned.faults]
    if options.against:
        findings += shared_statements(loaded.problems, options.others, options.against)
    report = validate_problems(
        loaded.problems,
        grader,
        probes=options.probes,
        num_mutants=options.num_mutants,
        static=options.static,
        solutions=loaded.solutions,
        progress=progress,
        label=f"validate {name}" if len(name) <= 24 else f"validate ...{name[-21:]}",
    )
    findings = [
        item if item.line else dataclasses.replace(item, line=lines.get(item.problem_id, 0))
        for item in (*findings, *report.findings)
    ]
    expected: list[tuple[ValidationFailure, str]] = []
    unexpected: list[ValidationFailure] = []
    for failure in report.failures:
        cause = known_failure(failure.problem_id, failure.solution, name)
        if cause:
            expected.append((failure, cause))
        else:
            unexpected.append(failure)
    return SetSurvey(
        name=name,
        sources=loaded.sources,
        report=dataclasses.replace(report, findings=tuple(findings)),
        refusals=loaded.refusals,
        expected=tuple(expected),
        unexpected=tuple(unexpected),
        lines=lines,
        light=_light(loaded.problems, report),
        seconds=time.monotonic() - begun,
    )


def others(spec: str) -> tuple[Problem, ...]:
    """Returns the good problems of a set or file that another one is compared with."""
    return tuple(_load(spec, None)[0].problems)


def _with_solutions(loaded: LoadedSet, spec: str, other: str) -> LoadedSet:
    """Returns the problems that the other set solves too, with its solutions."""
    theirs = {problem.id: problem.canonical_solution for problem in others(other)}
    shared = [problem for problem in loaded.problems if theirs.get(problem.id) is not None]
    if not shared:
        raise ProblemError(f"no problem of {spec} has a solution in {other}; name a set of the same problems")
    return dataclasses.replace(
        loaded, problems=shared, solutions={problem.id: (theirs[problem.id] or "",) for problem in shared}
    )


def _light(problems: Sequence[Problem], report: ValidationReport) -> tuple[int, int] | None:
    if all(LIGHT.issuperset(problem.tests.packages) for problem in problems):
        return None
    chosen = [
        report.solved[problem.id]
        for problem in problems
        if problem.id in report.solved and LIGHT.issuperset(problem.tests.packages)
    ]
    return sum(passed == run for passed, run in chosen), len(chosen)


def _load(spec: str, count: int | None) -> tuple[LoadedSet, ScannedFile | None]:
    if not spec.endswith(".jsonl") or "@" in spec or spec in PROBLEM_SETS:
        return load_set(spec, count=count, references=True), None
    scanned = scan_problems(Path(spec))
    problems = list(scanned.problems)
    if count is not None and len(problems) < count:
        raise ProblemError(f"{spec} has {len(problems)} problems, {count} were asked for: lower the count")
    return LoadedSet(problems[:count], sources=(spec,)), scanned
