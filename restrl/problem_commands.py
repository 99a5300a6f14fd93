"""`restrl problems`: list and show problem sets, validate them, compare them, and templates for one's own."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restrl.errors import ConfigError, GraderError, ProblemError
from restrl.types import TEST_KINDS

if TYPE_CHECKING:
    from restrl.problems.survey import SetSurvey, SurveyOptions

SHOWN = 20
"""Lines of one sort that are printed for a set; --json has all."""
COLUMNS = ("set", "problems", "gradable", "checked", "pass", "known to fail", "fail", "other faults", "seconds")
_VALIDATE = """\
Reads problems and reports every fault by file and line; runs canonical solutions; runs wrong programs (trivial ones,
and mutants of the canonical solution) to find tests that nothing fails; looks for tests that repeat or contradict each
other. Exit code 0: nothing wrong; 1: something is; 2: the input cannot be read. Problems without a canonical solution,
and those that this machine cannot grade, are counted and are no fault."""

PYTHON_HELP = "interpreter that runs the programs, with the packages that their tests need (default: this one)"


def add_parser(commands: Any, parser_class: type[argparse.ArgumentParser]) -> None:
    """Adds the command with its actions."""
    problems = commands.add_parser("problems", help="list, show, validate and compare problem sets")
    actions = problems.add_subparsers(dest="action", metavar="ACTION", parser_class=parser_class, required=True)
    listing = actions.add_parser("list", help="the problem sets, or the problems of one")
    listing.add_argument("set", nargs="?")
    show = actions.add_parser("show", help="one problem, whole")
    show.add_argument("id")
    validate = actions.add_parser(
        "validate", help="check sets or files: schema, canonical solutions, tests", description=_VALIDATE
    )
    validate.add_argument("set", nargs="*", help="NAME[/SPLIT][@PATH], or a .jsonl file")
    validate.add_argument("--all", action="store_true", help="every benchmark whose data are at hand, in one table")
    validate.add_argument("--against", default="", metavar="SET", help="report statements that SET has too")
    validate.add_argument(
        "--solutions",
        default="",
        metavar="SET",
        help="run the canonical solutions of SET, which has the same problems, instead of the set's own",
    )
    validate.add_argument(
        "--probes",
        action=argparse.BooleanOptionalAction,
        help="run wrong programs to find tests that nothing fails (default: for .jsonl files and generated sets)",
    )
    validate.add_argument("--mutants", type=int, default=6, metavar="N", help="mutants per problem (default: 6)")
    validate.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[NAME=]EXE",
        help=PYTHON_HELP + "; NAME= : for the sets whose name begins so; may be repeated",
    )
    overlap = actions.add_parser("overlap", help="near-duplicates between two sets")
    overlap.add_argument("first", metavar="A", help="a set or a file")
    overlap.add_argument("second", metavar="B", help="another, or the same for duplicates within it")
    overlap.add_argument("--threshold", type=float, default=0.8, help="least Jaccard similarity (default: 0.8)")
    overlap.add_argument("--fail", action="store_true", help="exit code 1 if there is any")
    template = actions.add_parser("template", help="a valid file of problems to start from")
    template.add_argument("kind", choices=TEST_KINDS, metavar="KIND", help=", ".join(TEST_KINDS))
    template.add_argument("--out", type=Path, help="the file to write (default: standard output)")
    for action in (listing, show, validate, overlap):
        action.add_argument("--json", action="store_true")
    for action in (listing, validate, overlap):
        action.add_argument("--count", type=int, default=0, help="the first N problems of a set (default: all)")
    for action in (validate, overlap):
        action.add_argument("--quiet", action="store_true", help="no progress")
    problems.set_defaults(handler=run)


def run(args: argparse.Namespace) -> int:
    """Does one of the actions."""
    return ACTIONS[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from restrl.problems import PROBLEM_SETS, describe_source, load_problems

    if args.set is None:
        rows: list[dict[str, Any]] = [
            {"set": name, "what": entry.summary, "splits": ",".join(entry.splits) or "-", "data": describe_source(name)}
            for name, entry in PROBLEM_SETS.items()
        ]
    else:
        rows = [
            {"id": item.id, "band": item.band, "tests": len(item.tests.cases), "statement": item.statement.strip()}
            for item in load_problems(args.set, count=args.count or None)
        ]
    for row in rows:
        print(json.dumps(row, ensure_ascii=False) if args.json else "  ".join(str(value) for value in row.values()))
    return 0


def _show(args: argparse.Namespace) -> int:
    from restrl.problems.jsonl import record_of
    from restrl.tools import find_problem

    problem = find_problem(args.id)
    if args.json:
        print(json.dumps(record_of(problem), ensure_ascii=False))
        return 0
    print(f"{problem.id}  [{problem.band}]  {problem.tests.kind}, {len(problem.tests.cases)} tests\n")
    print(problem.canonical_solution or problem.initial_state)
    for case in problem.tests.cases:
        call = f"{problem.entry_point}({', '.join(map(repr, case.args))})"
        shown = call if problem.tests.kind == "call" else repr(case.stdin or case.code)
        print(f"  {case.id}: {shown} -> {case.expected!r}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    from restrl.console import console_progress, print_table
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader
    from restrl.problems.known import CROSS_CHECKS
    from restrl.problems.survey import sets_at_hand, survey

    specs, absent = _specs(args, sets_at_hand)
    options, pythons = _survey_options(args), _interpreters(args.python, specs)
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


def _interpreters(given: Sequence[str], specs: Sequence[str]) -> dict[str, str]:
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


def _overlap(args: argparse.Namespace) -> int:
    from restrl.console import console_progress
    from restrl.problems import load_problems
    from restrl.problems.overlap import find_overlaps

    first = load_problems(args.first, count=args.count or None)
    second = first if args.second == args.first else load_problems(args.second, count=args.count or None)
    found = find_overlaps(first, second, args.threshold, console_progress(args.quiet))
    if args.json:
        pairs = [dataclasses.asdict(pair) for pair in found]
        print(json.dumps({"first": len(first), "second": len(second), "overlaps": pairs}, ensure_ascii=False))
    else:
        for pair in found:
            print(f"{pair.similarity:.3f}  {pair.aspect:<9}  {pair.first}  {pair.second}")
        counts = Counter(pair.aspect for pair in found)
        said = ", ".join(f"{number} by {aspect}" for aspect, number in counts.items()) or "none"
        print(
            f"{len(first)} problems of {args.first} and {len(second)} of {args.second}: "
            f"pairs of similarity >= {args.threshold:g}: {said}"
        )
    return 1 if found and args.fail else 0


def _template(args: argparse.Namespace) -> int:
    from restrl.problems.template import template

    text = template(args.kind)
    if args.out is None:
        print(text, end="")
        return 0
    if args.out.exists():
        raise ConfigError(f"--out {args.out}: there is such a file; name another, or remove it")
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out {args.out}: cannot be written ({error.strerror}); name another file") from error
    print(f"wrote {args.out}; check it with: restrl problems validate {args.out}")
    return 0


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "show": _show,
    "validate": _validate,
    "overlap": _overlap,
    "template": _template,
}
