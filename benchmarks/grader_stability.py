"""Grades every canonical solution again and again: do two gradings of one program ever disagree?

    python benchmarks/grader_stability.py [--sets humaneval mbpp ...] [--mutants N] [--python [NAME=]EXE]
        [--slice A:B] [--json FILE]

Four gradings without the cache: in order, again, in a shuffled order while other processes burn every core, and in
reverse order on one worker (of problems that need other packages, always one kind after the other). Compared are the
verdicts of every test and what the detectors said. Graded are all known solutions; for LiveCodeBench's sample, which
has none, programs of our own; with ``--mutants`` broken variants too, so that verdicts other than a pass are compared
as well. Ends with status 1 where two gradings disagree, or a solution does not pass that is not known to fail
(`restrl.problems.known`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutation import mutants

from restrl.grading import GradingConfig, SandboxGrader
from restrl.grading.places import missing_packages
from restrl.problems import load_set
from restrl.problems.known import known_failure
from restrl.types import Problem
from restrl.validate_command import interpreters

SETS = ("humaneval", "mbpp", "mbpp-challenge", "mbpp-sanitized")
Verdicts = tuple[str, ...]
# Our own programs for the sample of LiveCodeBench, which has no solutions: one that is right, one that is wrong.
OWN = {
    "livecodebench/codeforces/1873_A": (
        "for _ in range(int(input())):\n    card = input().strip()\n"
        "    print('YES' if sum(a != b for a, b in zip(card, 'abc')) < 3 else 'NO')\n",
        "for _ in range(int(input())):\n    print('YES' if input() == 'abc' else 'NO')\n",
    ),
    "livecodebench/leetcode/2727": (
        "class Solution:\n    def countSeniors(self, details: List[str]) -> int:\n"
        "        return sum(int(d[11:13]) > 60 for d in details)\n",
        "class Solution:\n    def countSeniors(self, details):\n        return sum(d[11] >= '6' for d in details)\n",
    ),
    "livecodebench/atcoder/abc301_a": (
        "n, s = int(input()), input()\na, t = s.count('A'), s.count('T')\n"
        "print('T' if t > a else 'A' if a > t else 'A' if s[-1] == 'T' else 'T')\n",
        "n, s = int(input()), input()\nprint('T' if s.count('T') >= s.count('A') else 'A')\n",
    ),
}


def _burn() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Keeps processors busy meanwhile."""
    processes = [multiprocessing.get_context("spawn").Process(target=_burn, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.join()


def grade(pairs: Sequence[tuple[Problem, str]], order: Sequence[int], config: GradingConfig) -> list[Verdicts]:
    """Returns the verdicts in the order of the pairs, graded in the given order by a fresh grader."""
    with SandboxGrader(config) as grader:
        grades = grader.grade([pairs[number] for number in order])
    found = {
        number: (*(v.verdict for v in grade.verdicts), *grade.tampering)
        for number, grade in zip(order, grades, strict=True)
    }
    return [found[number] for number in range(len(pairs))]


@dataclass(frozen=True)
class Program:
    """What is graded: `cause` is why it is known to fail, or empty where it has to pass."""

    problem: Problem
    label: str
    source: str
    cause: str = ""


def programs_of(name: str, config: GradingConfig, num_mutants: int, part: slice) -> tuple[list[Program], int]:
    """Returns the programs of a part of a set, and the number of problems whose packages are missing."""
    loaded = load_set(name, references=True)
    chosen = loaded.problems[part]
    problems = [problem for problem in chosen if not missing_packages(problem, config)]
    found = []
    for problem in problems:
        canonical = (problem.canonical_solution,) if problem.canonical_solution else ()
        for number, source in enumerate(loaded.solutions.get(problem.id) or canonical):
            found.append(Program(problem, f"solution {number}", source, known_failure(problem.id, number, name)))
        for number, source in enumerate(OWN.get(problem.id, ())):
            found.append(Program(problem, f"own {number}", source, "wrong on purpose" if number else ""))
        for mutant in mutants(str(problem.canonical_solution), num_mutants, problem.id) if canonical else ():
            found.append(Program(problem, f"mutant: {mutant.kind}", mutant.source, "a mutant"))
    return found, len(chosen) - len(problems)


def measure(name: str, num_mutants: int, python: str, part: slice) -> dict[str, Any]:
    """Grades one set four times and compares."""
    config = GradingConfig(cache=False, python=python)
    programs, not_gradable = programs_of(name, config, num_mutants, part)
    pairs = [(program.problem, program.source) for program in programs]
    straight = list(range(len(pairs)))
    shuffled = random.Random(0).sample(straight, len(straight))
    started = time.perf_counter()
    rounds = [grade(pairs, straight, config), grade(pairs, straight, config)]
    with burners(len(os.sched_getaffinity(0))):
        rounds.append(grade(pairs, shuffled, config))
    rounds.append(grade(pairs, straight[::-1], dataclasses.replace(config, workers=1)))
    differences = [
        {"problem": program.problem.id, "program": program.label, "verdicts": [r[number] for r in rounds]}
        for number, program in enumerate(programs)
        if len({r[number] for r in rounds}) > 1
    ]
    failed = [number for number in straight if set(rounds[0][number]) != {"pass"}]
    return {
        "set": name,
        "not_gradable": not_gradable,
        "programs": len(pairs),
        "passed": len(pairs) - len(failed),
        "unexpected": [f"{programs[n].problem.id} {programs[n].label}" for n in failed if not programs[n].cause],
        "gradings": len(rounds),
        "disagreements": len(differences),
        "differences": differences,
        "seconds": round(time.perf_counter() - started, 1),
    }


def main() -> None:
    """Parses the command line, measures, prints the table."""
    parser = argparse.ArgumentParser(description="disagreements between gradings of the same programs")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="problem sets with solutions")
    parser.add_argument("--mutants", type=int, default=0, help="broken variants per problem")
    parser.add_argument("--json", type=Path, help="also write the result here")
    python_help = (
        "interpreter that has the packages of the tests; NAME= : for the sets whose name begins so; repeatable"
    )
    parser.add_argument("--python", action="append", default=[], metavar="[NAME=]EXE", help=python_help)
    parser.add_argument("--slice", default=":", metavar="A:B", help="only problems A to B - 1")
    parser.add_argument("--every", type=int, default=1, help="only each N-th problem")
    arguments = parser.parse_args()
    first, _, last = arguments.slice.partition(":")
    part = slice(int(first or 0), int(last) if last else None, arguments.every)
    pythons = interpreters(arguments.python, arguments.sets)
    results = []
    print(
        "| set | not gradable | programs | pass | gradings | disagreements | seconds |\n|---|---|---|---|---|---|---|"
    )
    for name in arguments.sets:
        row = measure(name, arguments.mutants, pythons[name], part)
        results.append(row)
        print(
            f"| {name} | {row['not_gradable']} | {row['programs']} | {row['passed']} | {row['gradings']} "
            f"| {row['disagreements']} | {row['seconds']} |",
            flush=True,
        )
        for difference in row["differences"]:
            print(f"DIFFERENCE {difference}", file=sys.stderr)
        for program in row["unexpected"]:
            print(f"NOT PASSED {program}", file=sys.stderr)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if any(row["disagreements"] or row["unexpected"] for row in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
