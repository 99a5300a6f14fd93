"""The commands beside the loop: solve one problem, show searches, grade samples, remake the starter, doctor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from restrl.console import console_progress
from restrl.errors import ConfigError, ProblemError
from restrl.types import Problem

if TYPE_CHECKING:
    from restrl.grading.layers import LayerReport


def solve(args: argparse.Namespace) -> int:
    """Prints the best program that a decoder finds for one problem."""
    from restrl import solve_command

    return solve_command.run(args)


def reproduce(args: argparse.Namespace) -> int:
    """Makes published tables and figures again."""
    from restrl import reproduce_command

    return reproduce_command.run(args)


def tree(args: argparse.Namespace) -> int:
    """Shows saved searches."""
    from restrl import solve_command

    return solve_command.view(args)


def find_problem(name: str) -> Problem:
    """Returns one problem by ``SPLIT/NUMBER`` of the starter, or by ``FILE.jsonl:ID``.

    Raises:
        ProblemError: There is no such problem.
    """
    from restrl.problems import load_problems
    from restrl.starter.generator import problem_at

    source, colon, wanted = name.rpartition(":")
    if colon and source.endswith(".jsonl"):
        problems = load_problems(source)
        for problem in problems:
            if problem.id == wanted:
                return problem
        raise ProblemError(
            f"{source} has no problem {wanted!r}; its {len(problems)} problems begin with {problems[0].id!r}"
        )
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "starter" and parts[2].isdigit():
        return problem_at(cast(Any, parts[1]), int(parts[2]))
    raise ProblemError(
        f"problem {name!r}: expected starter/SPLIT/NUMBER or FILE.jsonl:ID, for example starter/test/00003"
    )


def grade(args: argparse.Namespace) -> int:
    """Grades a samples file and prints the summary."""
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader
    from restrl.grading.samples import grade_samples, pass_at_1
    from restrl.problems import load_problems

    problems = load_problems(args.problems, count=args.count or None)
    require = tuple(name.strip() for name in args.require.split(",") if name.strip())
    progress = console_progress(args.quiet)
    shown: list[int] = []

    def on_progress(done: int, total: int) -> None:
        if not shown:
            progress.start("grade", total)
        progress.advance(done - (shown[-1] if shown else 0))
        shown.append(done)

    with SandboxGrader(GradingConfig(require=require, python=args.python)) as grader:
        everything = grade_samples(problems, args.samples, args.out, grader, on_progress)
    progress.finish()
    records = [record for record in everything if record["reward"] is not None]
    reasons = {record["problem_id"]: record["not_gradable"] for record in everything if record["reward"] is None}
    summary = {
        "samples": len(records),
        "problems": len({record["problem_id"] for record in records}),
        "mean_reward": sum(record["reward"] for record in records) / max(1, len(records)),
        "passed": sum(record["passed"] for record in records),
        "pass@1": pass_at_1(records),
        "layers": records[0]["layers"] if records else [],
        "not_gradable": reasons,
        "tampering": sum(bool(record.get("tampering")) for record in records),
    }
    if args.json:
        print(json.dumps(summary))
    else:
        rates = ", ".join(
            f"{rate:.3f}" + (f" ({name} tests)" if name != "all" else "") for name, rate in summary["pass@1"].items()
        )
        print(
            f"{summary['samples']} samples of {summary['problems']} problems: {summary['passed']} pass every test, "
            f"mean reward {summary['mean_reward']:.4f}\npass@1: {rates or 'no sample'}\n"
            f"isolation: {', '.join(summary['layers']) or 'none'}\n"
            f"records: {args.out}"
        )
        if summary["tampering"]:
            print(f"tampering: detectors fired in {summary['tampering']} samples; each record names them")
        if reasons:
            left = len(everything) - len(records)
            print(f"{left} samples of {len(reasons)} problems are not graded and count in nothing; the first:")
            print(f"  {next(iter(reasons.values()))}")
    return 0


def starter(args: argparse.Namespace) -> int:
    """Remakes the embedded checkpoint."""
    from restrl.starter.build import BuildConfig, build_starter

    if args.out.exists() and not args.out.is_dir():
        raise ConfigError(f"--out {args.out}: is a file; give a directory")
    steps = args.steps or BuildConfig().steps
    progress = console_progress(args.quiet)
    progress.start("train the starter policy", steps)
    done = 0

    def on_log(metrics: Mapping[str, float]) -> None:
        nonlocal done
        progress.advance(int(metrics["step"]) - done, loss=metrics["loss"])
        done = int(metrics["step"])

    product = build_starter(args.out, seed=args.seed, steps=steps, on_log=on_log)
    progress.finish()
    print(product)
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Tries one attack per isolation layer and prints what holds, and what hardware there is."""
    from restrl.grading.config import GradingConfig
    from restrl.grading.layers import probe_layers

    required = tuple(name for name in args.require.split(",") if name)
    GradingConfig(require=required).check()
    layers = probe_layers()
    missing = [layer.name for layer in layers if layer.name in required and not layer.active]
    if args.json:
        print(json.dumps({"layers": [dataclasses.asdict(layer) for layer in layers], "machine": _machine()}))
    else:
        _print_layers(layers)
        for name, value in _machine().items():
            print(f"{name}: {value}")
    if missing:
        print(f"required and not in force: {', '.join(missing)}", file=sys.stderr)
    return 2 if missing else 0


def _print_layers(layers: Sequence[LayerReport]) -> None:
    print("isolation of the programs that are graded; each layer was attacked by a program in it:")
    for layer in layers:
        print(f"  {'on ' if layer.active else 'OFF'}  {layer.name:<10} {layer.meaning}")
        if layer.active:
            print(f"       tried in vain: {layer.attack}")
        else:
            print(f"       {layer.detail}; {layer.consequence}")


def _machine() -> dict[str, str]:
    import torch

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cores": str(os.cpu_count()),
        "cuda device": device,
    }


TOOLS: dict[str, Callable[[argparse.Namespace], int]] = {
    "solve": solve,
    "reproduce": reproduce,
    "tree": tree,
    "grade": grade,
    "starter": starter,
    "doctor": doctor,
}
