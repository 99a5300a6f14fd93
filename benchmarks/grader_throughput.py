"""How many programs a second the grader runs, beside a bare fork and a grader that starts a process per check.

    python benchmarks/grader_throughput.py [--programs N] [--rounds N] [--json FILE]

Contenders take turns in short rounds of one run, so that a loaded machine slows them all alike; the ratios mean more
than the rates. Each uses one worker. ``bare fork`` forks an interpreter with the zygote's warm modules and waits for
it: the floor of any fork-per-program design, without a program, limits or results. ``process per check`` is the
design of the HumanEval harness: a `multiprocessing` process with a manager's list for its result per program,
expected values in the same process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from restrl.grading import LAYERS, GradingConfig, SandboxGrader
from restrl.grading.jail.zygote import WARM
from restrl.grading.watch import cpu_clock
from restrl.types import Case, Limits, Problem, Tests

Cost = tuple[float, float]  # wall and CPU seconds

PROGRAM = "def f(x):\n    return x + 1\n"

_FORKER = """
import gc, importlib, os, sys, time
for name in sys.argv[1].split(","):
    importlib.import_module(name)
gc.collect(); gc.freeze()
for line in sys.stdin:
    started, cpu = time.perf_counter(), sum(os.times()[:4])
    for _ in range(int(line)):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    print(time.perf_counter() - started, sum(os.times()[:4]) - cpu, flush=True)
"""


def call_problem(num_tests: int) -> Problem:
    """Returns a trivial problem: f(x) = x + 1."""
    cases = tuple(Case(str(i), args=(i,), expected=i + 1) for i in range(num_tests))
    return Problem("call", "", "", "f", Tests("call", cases), limits=Limits())


def stdio_problem() -> Problem:
    """Returns a trivial problem with one stdio test."""
    return Problem("stdio", "", "", "", Tests("stdio", (Case("0", stdin="1\n", expected="2\n"),)))


class BareFork:
    """Forks a fresh interpreter that has the zygote's modules."""

    def __init__(self) -> None:
        python = getattr(sys, "_base_executable", sys.executable)
        command = [python, "-s", "-P", "-S", "-c", _FORKER, ",".join([*WARM, "ctypes", "socket", "json"])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, count: int) -> Cost:
        """Forks `count` times."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        wall_s, cpu_s = map(float, self.process.stdout.readline().split())
        return wall_s, cpu_s

    def close(self) -> None:
        """Ends the interpreter."""
        self.process.communicate()


def _check_in_process(program: str, result: Any) -> None:
    namespace: dict[str, Any] = {}
    exec(program, namespace)
    for i in range(10):
        assert namespace["f"](i) == i + 1
    result.append("passed")


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def process_per_check(count: int) -> Cost:
    """Runs `count` checks of 10 tests, each in a process of its own with a manager."""
    started, cpu_s = time.perf_counter(), time.process_time() + _cpu_of_children()
    for _ in range(count):
        with multiprocessing.Manager() as manager:
            result = manager.list()
            process = multiprocessing.Process(target=_check_in_process, args=(PROGRAM, result))
            process.start()
            process.join(timeout=5)
            assert list(result) == ["passed"]
    return time.perf_counter() - started, time.process_time() + _cpu_of_children() - cpu_s


def graded(grader: SandboxGrader, problem: Problem, program: str) -> Callable[[int], Cost]:
    """Returns a contender that grades `count` copies of a program."""

    def run(count: int) -> Cost:
        zygote = grader.zygotes[0]
        started, cpu_s = time.perf_counter(), time.process_time() + (cpu_clock(zygote) or 0.0)
        grades = grader.grade([(problem, program)] * count)
        elapsed, spent_s = time.perf_counter() - started, time.process_time() + (cpu_clock(zygote) or 0.0) - cpu_s
        assert all(grade.reward == 1.0 for grade in grades)
        return elapsed, spent_s + sum(grade.cpu_s for grade in grades)

    return run


def measure(num_programs: int, rounds: int) -> dict[str, Any]:
    """Runs all contenders in turns and returns their rates and ratios to the bare fork."""
    layered = SandboxGrader(GradingConfig(workers=1, cache=False))
    naked = SandboxGrader(GradingConfig(workers=1, cache=False, disable=tuple(LAYERS)))
    forker = BareFork()
    with layered, naked:
        contenders: dict[str, tuple[Callable[[int], Cost], int]] = {
            "bare fork": (forker.run, num_programs),
            "grader, 1 call test": (graded(layered, call_problem(1), PROGRAM), num_programs),
            "grader, 10 call tests": (graded(layered, call_problem(10), PROGRAM), num_programs),
            "grader, 100 call tests": (graded(layered, call_problem(100), PROGRAM), num_programs),
            "grader, 1 stdio test": (graded(layered, stdio_problem(), "print(int(input()) + 1)"), num_programs),
            "grader without layers, 10 call tests": (graded(naked, call_problem(10), PROGRAM), num_programs),
            "process per check, 10 tests": (process_per_check, max(2, num_programs // 10)),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in contenders}
        for number in range(rounds + 1):
            for name, (run, count) in contenders.items():
                wall_s, cpu_s = run(count)
                if number:  # the first round warms up
                    costs[name].append((wall_s / count, cpu_s / count))
        layers = list(layered.layers)
    forker.close()
    floor_wall_s, floor_cpu_s = (statistics.median(column) for column in zip(*costs["bare fork"], strict=True))
    rows = []
    for name, cost in costs.items():
        wall_s, cpu_s = (statistics.median(column) for column in zip(*cost, strict=True))
        rows.append(
            {
                "contender": name,
                "programs_per_s": round(1 / wall_s, 1),
                "rate_to_bare_fork": round(floor_wall_s / wall_s, 3),
                "cpu_ms_per_program": round(1000 * cpu_s, 3),
                "cpu_to_bare_fork": round(cpu_s / floor_cpu_s, 3),
            }
        )
    machine = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
    return {
        "machine": machine,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "layers": layers,
        "programs_per_round": num_programs,
        "rounds": rounds,
        "rows": rows,
    }


def main() -> None:
    """Parses the command line, measures, prints the table."""
    parser = argparse.ArgumentParser(description="throughput of the grader on one worker")
    parser.add_argument("--programs", type=int, default=100, help="programs per contender and round")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds")
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()
    result = measure(arguments.programs, arguments.rounds)
    print(f"{result['machine']}, python {result['python']}, load {result['load']}")
    print(f"layers: {', '.join(result['layers']) or 'none'}\n")
    print("| contender | programs/s | rate, of a bare fork's | CPU ms/program | CPU, of a bare fork's |")
    print("|---|---|---|---|---|")
    for row in result["rows"]:
        cells = (
            f"{row['programs_per_s']:.0f}",
            row["rate_to_bare_fork"],
            row["cpu_ms_per_program"],
            row["cpu_to_bare_fork"],
        )
        print(f"| {row['contender']} | {' | '.join(map(str, cells))} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
