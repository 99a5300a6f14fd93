"""Breaks every canonical solution mechanically and grades the mutants: how many survive, and does any undeservedly?

    python benchmarks/grader_mutants.py [--sets humaneval mbpp] [--per-problem N] [--json FILE]

Each mutant has one change: a comparison, an operator, a constant, a returned value, a condition, the arguments of a
call, a statement. Some are equivalent to the original and many sets have few tests, so some survive. Every survivor is
run again directly, in a bare process beside its tests, without the grader: it must pass there too, neither crash nor
hang. A sample of the others is run directly as well: they must not pass. Either kind of difference ends the script with
status 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutation import mutants

from restrl.grading import GradingConfig, SandboxGrader
from restrl.problems import load_problems
from restrl.types import Grade, Problem

MEMORY_BYTES = 2 << 30


def _run(problem: Problem, program: str) -> None:
    """The program and its tests in one namespace, as the sets' own harnesses do."""
    space: dict[str, Any] = {"__name__": "solution"}
    exec(compile(problem.tests.prelude, "prelude.py", "exec"), space)
    exec(compile(program, "solution.py", "exec"), space)
    if problem.tests.kind == "call":
        for case in problem.tests.cases:
            assert space[problem.entry_point](*case.args) == case.expected
        return
    space["candidate"] = space[problem.entry_point]
    for case in problem.tests.cases:
        exec(compile(case.code, "test.py", "exec"), space)


def run_directly(problem: Problem, program: str, cpu_s: int) -> str:
    """Returns ``pass``, ``assertion``, ``exception``, ``crash`` or ``hang``."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            signal.alarm(10 * cpu_s)
            random.seed(0)
            _run(problem, program)
        except AssertionError:
            code = 1
        except BaseException:
            code = 2
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return "hang" if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL, signal.SIGALRM) else "crash"
    return ("pass", "assertion", "exception")[os.WEXITSTATUS(status)]


def worst(grade: Grade) -> str:
    """The verdict of a whole program: the first that is no pass."""
    return next((case.verdict for case in grade.verdicts if case.verdict != "pass"), "pass")


def _grade(grader: SandboxGrader, pairs: Sequence[tuple[Problem, str]], chunk: int = 400) -> list[Grade]:
    grades: list[Grade] = []
    for start in range(0, len(pairs), chunk):
        grades += grader.grade(pairs[start : start + chunk])
        print(f"\r  {len(grades)}/{len(pairs)}", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    return grades


def measure(name: str, grader: SandboxGrader, per_problem: int, cpu_s: int, sample: int) -> dict[str, Any]:
    """Mutates, grades and checks one set."""
    problems = [problem for problem in load_problems(name) if problem.canonical_solution]
    rows, pairs = [], []
    for problem in problems:
        assert problem.canonical_solution is not None
        limited = dataclasses.replace(problem, limits=dataclasses.replace(problem.limits, cpu_s=float(cpu_s)))
        for mutant in mutants(problem.canonical_solution, per_problem, problem.id, problem.initial_state.count("\n")):
            rows.append((problem, mutant))
            pairs.append((limited, mutant.source))
    started = time.perf_counter()
    grades = _grade(grader, pairs)
    elapsed = time.perf_counter() - started
    survivors = [number for number, grade in enumerate(grades) if grade.passed]
    killed = [number for number, grade in enumerate(grades) if worst(grade) not in ("pass", "timeout")]
    checked = random.Random(0).sample(killed, min(sample, len(killed)))
    faults, direct = [], Counter[str]()
    for number in survivors + checked:
        problem, mutant = rows[number]
        outcome = run_directly(problem, mutant.source, 3 * cpu_s)
        direct[("survivor: " if grades[number].passed else "killed: ") + outcome] += 1
        if (outcome == "pass") != grades[number].passed:
            faults.append({"problem": problem.id, "kind": mutant.kind, "line": mutant.line, "direct": outcome,
                           "verdict": worst(grades[number]), "source": mutant.source})  # fmt: skip
    per_problem_counts = Counter(problem.id for problem, _ in rows)
    kinds: dict[str, list[int]] = {}
    for (_, mutant), grade in zip(rows, grades, strict=True):
        entry = kinds.setdefault(mutant.kind, [0, 0])
        entry[0] += 1
        entry[1] += grade.passed
    return {
        "set": name,
        "problems": len(problems),
        "problems_with_5_mutants": sum(count >= 5 for count in per_problem_counts.values()),
        "mutants": len(rows),
        "survivors": len(survivors),
        "survivor_share": round(len(survivors) / len(rows), 4),
        "verdicts": dict(Counter(map(worst, grades))),
        "by_kind": {kind: {"mutants": made, "survivors": left} for kind, (made, left) in sorted(kinds.items())},
        "run_directly": dict(sorted(direct.items())),
        "faults": faults,
        "grading_s": round(elapsed, 1),
    }


def main() -> None:
    """Parses the command line, measures, prints the tables."""
    parser = argparse.ArgumentParser(description="mutants of canonical solutions that the grader passes")
    parser.add_argument("--sets", nargs="+", default=["humaneval", "mbpp"], help="problem sets with solutions")
    parser.add_argument("--per-problem", type=int, default=6, help="mutants per problem, at most")
    parser.add_argument("--cpu-s", type=int, default=2, help="CPU limit per test, seconds")
    parser.add_argument("--sample", type=int, default=300, help="killed mutants per set that are run directly too")
    parser.add_argument("--workers", type=int, default=0, help="programs graded at once; 0 = the grader's default")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    results = []
    with SandboxGrader(GradingConfig(workers=arguments.workers, cache=False, max_timeouts=1)) as grader:
        for name in arguments.sets:
            result = measure(name, grader, arguments.per_problem, arguments.cpu_s, arguments.sample)
            results.append(result | {"layers": list(grader.layers)})
            print(json.dumps({key: value for key, value in result.items() if key != "faults"}, indent=1))
            for fault in result["faults"]:
                print(f"DIFFERENCE {fault['problem']} {fault['kind']} at line {fault['line']}: "
                      f"the grader says {fault['verdict']}, run directly: {fault['direct']}")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if any(result["faults"] for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
