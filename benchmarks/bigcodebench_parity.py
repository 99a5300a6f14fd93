"""Grades the same programs with BigCodeBench's own package and with restrl and compares the verdicts, method by method.

    python benchmarks/bigcodebench_parity.py LAB_PYTHON --out DIR [--wrap "COMMAND ..."]

LAB_PYTHON is an interpreter that has the packages of the tests (`restrl/requirements/bigcodebench.txt`) and
``bigcodebench``. The programs are, for every gradable task: the canonical solution, mutants of it, and a body that does
nothing. They are written to a file with the name and layout of the sample files of ``restrl evaluate``, so this also
shows that the package reads those.

BigCodeBench runs programs without a sandbox; ``--wrap`` puts a command before its own, for example
``unshare --pid --net --fork --mount-proc setpriv --reuid 65534 --regid 65534 --clear-groups``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mutation import mutants

from restrl.evaluation.layouts import samples_path, samples_text
from restrl.grading import GradingConfig, SandboxGrader
from restrl.grading.places import missing_packages
from restrl.problems import PROBLEM_SETS, load_problems
from restrl.problems.sources import find_places, read_place
from restrl.types import Grade, Problem


def programs_of(problem: Problem, num_mutants: int) -> Iterator[tuple[str, str]]:
    """Yields (what it is, program)."""
    solution = problem.canonical_solution or ""
    yield "canonical", solution
    given = problem.initial_state.count("\n")
    for number, mutant in enumerate(mutants(solution, num_mutants, problem.id, given)):
        yield f"mutant {number}: {mutant.kind}", mutant.source
    yield "does nothing", problem.initial_state + "    pass\n"


def run_harness(samples: Path, data: Path, split: str, args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Runs BigCodeBench's evaluation of a samples file; returns its results by task."""
    result = Path(str(samples).replace(".jsonl", "_eval_results.json"))
    result.unlink(missing_ok=True)
    home = args.out / "home"
    home.mkdir(exist_ok=True)
    for folder in (args.out, home, samples.parent):
        folder.chmod(0o777)
    environment = os.environ | {"BIGCODEBENCH_OVERRIDE_PATH": str(data), "HOME": str(home), "TMPDIR": str(home)}
    environment |= {"MPLBACKEND": "Agg", "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*shlex.split(args.wrap), args.python, "-m", "bigcodebench.evaluate", "--execution", "local"]
    command += [
        "--split",
        split,
        "--subset",
        "hard",
        "--samples",
        str(samples),
        "--no_gt",
        "--pass_k",
        "1,2",
    ]
    command += ["--parallel", str(args.parallel), "--save_pass_rate", "False"]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, check=False)
    if not result.exists():
        sys.exit(f"BigCodeBench failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    print("\n".join(line for line in done.stdout.splitlines() if "pass@" in line))
    return dict(json.loads(result.read_text())["eval"])


def disagreement(grade: Grade, other: dict[str, Any]) -> str:
    """Returns what differs between the two gradings of a program; empty where nothing does."""
    mine = {verdict.id for verdict in grade.verdicts if verdict.verdict != "pass"}
    theirs = set(other["details"])
    whole = (not other["details"] and other["status"] != "pass") or "ALL" in theirs  # it never got to the methods
    if grade.passed != (other["status"] == "pass"):
        first = next((f"{v.id} {v.verdict} {v.detail}" for v in grade.verdicts if v.verdict != "pass"), "pass")
        return f"restrl {first[:150]}; BigCodeBench {other['status']} {str(other['details'])[-150:]!r}"
    if not whole and mine != theirs:
        return f"both fail, restrl {sorted(mine)}, BigCodeBench {sorted(theirs)}"
    return ""


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="interpreter that has bigcodebench and the packages of its tests")
    parser.add_argument("--out", type=Path, required=True, help="folder for samples and results")
    parser.add_argument("--set", default="bigcodebench/hard-complete")
    parser.add_argument("--slice", default="", help="gradable tasks A:B only")
    parser.add_argument("--mutants", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=2, help="BigCodeBench's processes")
    parser.add_argument("--wrap", default="", help="command that runs BigCodeBench's, to confine it")
    args = parser.parse_args()
    args.out = args.out.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    config = GradingConfig(python=args.python)
    low, _, high = args.slice.partition(":")
    problems = [problem for problem in load_problems(args.set) if not missing_packages(problem, config)]
    problems = problems[int(low or 0) : int(high) if high else None]
    chosen = [(problem, *item) for problem in problems for item in programs_of(problem, args.mutants)]
    samples = args.out / "samples" / samples_path(args.set, "parity", 0.0, 1 + args.mutants)
    samples.parent.mkdir(parents=True, exist_ok=True)
    samples.write_text(samples_text((problem.id, program) for problem, _, program in chosen), encoding="utf-8")
    data = args.out / "data.jsonl"
    names = {problem.id for problem in problems}
    entry = PROBLEM_SETS[args.set.partition("@")[0]]
    (place,) = find_places(args.set, entry, "", args.set.partition("@")[2])
    with data.open("w", encoding="utf-8") as file:
        for _, record in read_place(args.set, entry, place):
            if record["task_id"] in names:
                file.write(json.dumps(dict(record)) + "\n")
    began = time.monotonic()
    with SandboxGrader(config) as grader:
        grades = grader.grade([(problem, program) for problem, _, program in chosen])
    ours_s, began = time.monotonic() - began, time.monotonic()
    theirs = run_harness(samples, data, "complete" if "complete" in args.set else "instruct", args)
    seen: dict[str, int] = {}
    count = 0
    for (problem, label, _), grade in zip(chosen, grades, strict=True):
        number = seen[problem.id] = seen.get(problem.id, -1) + 1
        difference = disagreement(grade, theirs[problem.id][number])
        if difference:
            count += 1
            print(f"  {problem.id} {label}: {difference}")
    print(
        f"{args.set}: {len(problems)} tasks, {len(chosen)} programs, {sum(g.passed for g in grades)} pass (restrl), "
        f"{count} disagree; restrl {ours_s:.0f} s, BigCodeBench {time.monotonic() - began:.0f} s"
    )
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
