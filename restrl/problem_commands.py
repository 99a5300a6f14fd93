"""`restrl problems`: list and show problem sets, validate them, compare them, and templates for one's own."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from restrl import validate_command
from restrl.errors import ConfigError
from restrl.types import TEST_KINDS

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
    "validate": validate_command.run,
    "overlap": _overlap,
    "template": _template,
}
