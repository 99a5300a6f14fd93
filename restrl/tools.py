"""The commands beside the loop: solve one problem, grade a samples file, look at problem sets, remake the starter, doctor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from restrl.console import console_progress
from restrl.errors import ConfigError, ProblemError
from restrl.types import Problem

DECODER_NAMES = ("sample", "best-of-n", "vm-mcts")


def solve(args: argparse.Namespace) -> int:
    """Prints the best program that a decoder finds for one problem; no test is run."""
    decoder = args.decoder or ("vm-mcts" if args.value_model else "sample")
    if decoder.replace("_", "-") not in DECODER_NAMES:
        raise ConfigError(f"--decoder {decoder!r}: allowed: {', '.join(DECODER_NAMES)}")
    if decoder != "sample" and args.value_model is None:
        raise ConfigError(f"--decoder {decoder} needs a value model; give its directory with --value-model")
    if args.budget < 1:
        raise ConfigError(f"--budget {args.budget}: at least 1 completion")
    if args.temperature < 0 or args.max_new_tokens < 1:
        raise ConfigError(
            f"--temperature {args.temperature} and --max-new-tokens {args.max_new_tokens}: at least 0 and at least 1"
        )
    problem = _one_problem(args.problem)
    from restrl.policy.model_dir import check_model_dir

    check_model_dir(args.policy)
    if args.value_model is not None:
        check_model_dir(args.value_model)
    from restrl.decoding import decode
    from restrl.decoding.config import DecodeConfig
    from restrl.policy.transformers_engine import TransformersPolicy
    from restrl.types import SamplingParams

    value_model = None
    if args.value_model is not None:
        from restrl.value.model import TrainedValueModel

        value_model = TrainedValueModel(args.value_model)
    params = SamplingParams(temperature=args.temperature, max_new_tokens=args.max_new_tokens)
    config = DecodeConfig(budget=args.budget)
    decoded = decode(decoder, [problem], TransformersPolicy(args.policy), value_model, config, args.seed, params=params)[0]
    answer = decoded.answer
    program = problem.initial_state + answer.code
    if args.json:
        record = {
            "problem_id": problem.id,
            "program": program,
            "finished": answer.finished,
            "value": answer.score,
            "decoder": decoder,
            "cost": dataclasses.asdict(decoded.ledger),
        }
        print(json.dumps(record, ensure_ascii=False))
    else:
        print(program, end="" if program.endswith("\n") else "\n")
    return 0


def _one_problem(source: str) -> Problem:
    """Reads the one problem of a file or of standard input, or one of a set by its id."""
    from restrl.problems import find_problem, load_problems

    if source == "-":
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
            file.write(sys.stdin.read())
            file.flush()
            problems = load_problems(file.name)
    elif Path(source).suffix == ".jsonl":
        problems = load_problems(source)
    else:
        return find_problem(source)
    if len(problems) != 1:
        raise ProblemError(f"--problem {source}: holds {len(problems)} problems; give a file with exactly one")
    return problems[0]


def grade(args: argparse.Namespace) -> int:
    """Grades a samples file and prints the summary."""
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader
    from restrl.grading.samples import grade_samples
    from restrl.problems import load_problems

    problems = load_problems(args.problems, count=args.count or None)
    require = tuple(name.strip() for name in args.require.split(",") if name.strip())
    progress = console_progress(args.quiet)
    with SandboxGrader(GradingConfig(require=require)) as grader:
        summary = grade_samples(problems, args.samples, args.out, grader, progress=progress)
    plain = dataclasses.asdict(summary)
    if args.json:
        print(json.dumps(plain))
    else:
        print("\n".join(f"{name:<20} {_short(value)}" for name, value in plain.items()))
    return 0


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def problems(args: argparse.Namespace) -> int:
    """Lists, shows or validates problem sets."""
    return {"list": _list, "show": _show, "validate": _validate}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from restrl.problems import PROBLEM_SETS, load_problems

    if args.set is None:
        rows = [{"set": name, "what": entry.description} for name, entry in PROBLEM_SETS.items()]
    else:
        rows = [
            {"id": item.id, "band": item.band, "tests": len(item.tests.cases), "statement": item.statement.strip()}
            for item in load_problems(args.set, count=args.count or None)
        ]
    for row in rows:
        print(json.dumps(row, ensure_ascii=False) if args.json else "  ".join(str(value) for value in row.values()))
    return 0


def _show(args: argparse.Namespace) -> int:
    from restrl.problems import find_problem
    from restrl.problems.jsonl import problem_to_record

    problem = find_problem(args.id)
    record = problem_to_record(problem)
    if args.json:
        print(json.dumps(record, ensure_ascii=False))
        return 0
    print(f"{problem.id}  [{problem.band}]  {problem.tests.kind}, {len(problem.tests.cases)} tests\n")
    print(problem.canonical_solution or problem.initial_state)
    for case in problem.tests.cases:
        shown = f"{problem.entry_point}{case.args!r}" if problem.tests.kind == "call" else repr(case.stdin or case.code)
        print(f"  {case.id}: {shown} -> {case.expected!r}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader
    from restrl.problems import load_problems
    from restrl.problems.validate import validate_problems

    chosen = load_problems(args.set, count=args.count or None)
    with SandboxGrader(GradingConfig()) as grader:
        report = validate_problems(chosen, grader)
    if args.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        print(f"{report.passed} of {report.checked} canonical solutions pass all their tests")
        for failure in report.failures:
            print(f"  {failure}")
    return 0 if not report.failures else 2


def starter(args: argparse.Namespace) -> int:
    """Remakes the embedded checkpoint."""
    from restrl.starter.build import DEFAULT_STEPS, build_starter

    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        from restrl.starter.build import can_resume

        if not can_resume(args.out):
            raise ConfigError(f"--out {args.out}: exists and is not empty; give a new directory")
    steps = args.steps or DEFAULT_STEPS
    progress = console_progress(args.quiet)
    progress.start("train the starter policy", steps)

    def on_log(metrics: Mapping[str, float]) -> None:
        progress.advance(int(metrics["steps"]), loss=metrics["loss"])

    build_starter(args.out, seed=args.seed, steps=steps, on_log=on_log)
    progress.finish()
    print(args.out)
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Tries one attack per isolation layer and prints what holds, and what hardware there is."""
    from restrl.grading.layers import probe_layers

    layers = probe_layers()
    if args.json:
        print(json.dumps({"layers": [dataclasses.asdict(layer) for layer in layers], "machine": _machine()}))
        return 0
    print("isolation of the programs that are graded:")
    for layer in layers:
        print(f"  {'on ' if layer.active else 'OFF'}  {layer.name:<14} {layer.meaning}")
        if not layer.active:
            print(f"       {layer.detail}")
    for name, value in _machine().items():
        print(f"{name}: {value}")
    return 0


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
    "grade": grade,
    "problems": problems,
    "starter": starter,
    "doctor": doctor,
}
