"""`restrl problems validate`: whole sets and files, in one table with the faults above it."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from restrl.errors import ConfigError, GraderError, ProblemError

if TYPE_CHECKING:
    from restrl.problems.survey import SetSurvey, SurveyOptions

SHOWN = 20
"""Lines of one sort that are printed for a set; --json has all."""
COLUMNS = ("set", "problems", "gradable", "checked", "pass", "known to fail", "fail", "other faults", "seconds")


def run(args: argparse.Namespace) -> int:
    """Validates what the arguments name and prints the findings; the exit code is 0 if there are none."""
    from restrl.console import console_progress, print_table
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader
    from restrl.problems.known import CROSS_CHECKS
    from restrl.problems.survey import sets_at_hand, survey

    specs, absent = _specs(args, sets_at_hand)
    options, pythons = _survey_options(args), interpreters(args.python, specs)
    progress = console_progress(args.quiet)
    done: list[SetSurvey] = []
    stopped: list[str] = []
    with contextlib.ExitStack() as stack:
        graders = {
            python: stack.enter_context(SandboxGrader(GradingConfig(python=python)))
            for python in dict.fromkeys(pythons.values())
        }
        for spec, of_set in _jobs(specs, args.solutions, CROSS_CHECKS if args.all else {}):
            try:
                done.append(survey(spec, graders[pythons[spec]], options(spec, of_set), progress))
            except ProblemError as error:
                if not args.all:
                    raise
                absent.append(f"{spec}: {error}")
            except GraderError as error:
                if len(specs) == 1:
                    raise
                stopped.append(f"{spec}: {error}")  # the other sets' results are worth having
    ok = all(item.ok for item in done) and not stopped
    if args.json:
        result = {"ok": ok, "sets": [_record(item) for item in done], "absent": absent, "stopped": stopped}
        print(json.dumps(result, ensure_ascii=False))
        return 0 if ok else 1
    for item in done:
        for line in _details(item, pythons[item.name.partition("<")[0]]):
            print(line)
    print_table(COLUMNS, [_row(item) for item in done])
    for name in absent:
        print(f"no data at hand: {name}")
    for line in stopped:
        print(f"not finished: {line}")
    return 0 if ok else 1


def _jobs(specs: Sequence[str], solutions: str, cross_checks: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns (set, the set whose solutions are run on its tests; empty for its own)."""
    jobs = []
    for spec in specs:
        jobs.append((spec, solutions))
        if not solutions and cross_checks.get(spec) in specs:
            jobs.append((spec, cross_checks[spec]))
    return jobs


def _survey_options(args: argparse.Namespace) -> Callable[[str, str], SurveyOptions]:
    """Returns what is looked for in a set."""
    from restrl.problems.survey import SurveyOptions, others

    if args.mutants < 0:
        raise ConfigError(f"--mutants {args.mutants}: allowed: at least 0")
    twins = others(args.against) if args.against else ()

    def of(spec: str, solutions_of: str) -> SurveyOptions:
        own = spec.startswith("starter") or (spec.endswith(".jsonl") and "@" not in spec)
        return SurveyOptions(
            probes=own if args.probes is None else args.probes,
            num_mutants=args.mutants,
            static=own,
            count=args.count or None,
            against=args.against,
            others=twins,
            solutions_of=solutions_of,
        )

    return of


def interpreters(given: Sequence[str], specs: Sequence[str]) -> dict[str, str]:
    """Returns the interpreter of every set: the last ``NAME=EXE`` whose name its own begins with, else the last
    ``EXE``, else an empty string."""
    found = dict.fromkeys(specs, "")
    for text in sorted(given, key=lambda text: "=" in text):
        name, named, python = text.rpartition("=")
        chosen = [spec for spec in specs if not named or spec.startswith(name)]
        if not chosen or not python or (named and not name):
            raise ConfigError(
                f"--python {text}: allowed: EXE for all sets, or NAME=EXE for those whose name begins with NAME; "
                f"here: {', '.join(specs)}"
            )
        found |= dict.fromkeys(chosen, python)
    return found


def _specs(args: argparse.Namespace, at_hand: Callable[[], tuple[list[str], list[str]]]) -> tuple[list[str], list[str]]:
    """Returns what to validate, and the named sets that have no data here."""
    if not args.all:
        if not args.set:
            raise ConfigError("nothing to validate; name a set or a .jsonl file, or give --all")
        return list(args.set), []
    here, absent = at_hand()
    given = {spec.partition("@")[0].partition("/")[0]: spec for spec in args.set}
    specs = [name for name in here if name not in given] + list(args.set)
    if not specs:
        raise ProblemError(
            "no benchmark's data are at hand; name their folder in the environment variable RESTRL_BENCHMARKS, "
            "or sets as NAME@PATH"
        )
    return specs, [name for name in absent if name not in given]


def _row(item: SetSurvey) -> tuple[str, ...]:
    report = item.report
    checked, passed = str(report.num_checked), str(report.num_passed)
    if report.num_solutions > report.num_checked:
        checked += f" ({report.num_solutions} solutions)"
        passed += f" ({report.num_solutions_passed})"
    numbers = (len(item.expected), len(item.unexpected), len(report.findings))
    return (
        item.name,
        str(report.num_problems),
        str(report.num_gradable),
        checked,
        passed,
        *map(str, numbers),
        f"{item.seconds:.1f}",
    )


def _details(item: SetSurvey, python: str) -> list[str]:
    """Returns the lines about a set: what is wrong, then what is only to be known."""
    from restrl.problems.survey import LIGHT

    report = item.report
    wrong = [
        f"{item.name}{f':{finding.line}' if finding.line else ''}: {f'{name}: ' if name else ''}"
        + (finding.text if finding.kind == "schema" else f"{finding.kind}: {finding.text}")
        for finding in report.findings
        for name in (finding.problem_id,)
    ]
    wrong += [
        f"{item.name}{f':{line}' if (line := item.lines.get(failure.problem_id)) else ''}: {failure.problem_id}"
        f"{f' (solution {failure.solution})' if failure.solution else ''}: canonical solution: "
        f"reward {failure.reward:.3f}, {failure.reason}"
        for failure in item.unexpected
    ]
    lines = _cut(wrong)
    lines += _cut(
        [
            f"{item.name}: known to fail: {failure.problem_id}"
            f"{f' (solution {failure.solution})' if failure.solution else ''}: {cause}"
            for failure, cause in item.expected
        ]
    )
    if report.num_solutions > report.num_checked:
        lines += _cut(
            [f"{item.name}: {name}: {good} of {run} solutions pass" for name, (good, run) in report.solved.items()]
        )
    if item.light is not None:
        lines.append(
            f"{item.name}: {item.light[0]} of the {item.light[1]} gradable problems that need no package beyond "
            f"{' and '.join(sorted(LIGHT))} pass"
        )
    if report.missing_packages:
        from restrl.grading.packages import install_command

        needs = ", ".join(f"{name} ({number})" for name, number in report.missing_packages.items())
        command = install_command(report.missing_packages, python)
        lines.append(f"{item.name}: {len(report.not_gradable)} problems not gradable: needs {needs}; {command}")
    elif report.not_gradable:
        first = next(iter(report.not_gradable.values()))
        lines.append(f"{item.name}: {len(report.not_gradable)} problems not gradable, for example: {first}")
    for reason, number in item.refusals.items():
        lines.append(f"{item.name}: {number} records refused: {reason}")
    missing = [name for name in report.without_solution if name not in report.not_gradable]
    if missing:
        lines.append(f"{item.name}: {len(missing)} problems without a canonical solution, first {missing[0]!r}")
    if report.num_mutants:
        alive = "; ".join(f"{name}: {', '.join(mutants)}" for name, mutants in list(report.survivors.items())[:3])
        lines.append(
            f"{item.name}: the tests fail {report.num_killed} of {report.num_mutants} mutants"
            + (f"; not {alive}{', ...' if len(report.survivors) > 3 else ''}" if alive else "")
        )
    return lines


def _cut(lines: Sequence[str]) -> list[str]:
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], *([f"... and {more} more; --json has them all"] if more > 0 else [])]


def _record(item: SetSurvey) -> dict[str, Any]:
    record = dataclasses.asdict(item.report)
    record.pop("failures")
    return {
        "set": item.name,
        "ok": item.ok,
        "sources": item.sources,
        "num_gradable": item.report.num_gradable,
        "num_checked": item.report.num_checked,
        **record,
        "refusals": dict(item.refusals),
        "light": item.light,
        "known_failures": [{**dataclasses.asdict(failure), "cause": cause} for failure, cause in item.expected],
        "failures": [dataclasses.asdict(failure) for failure in item.unexpected],
        "seconds": item.seconds,
    }
