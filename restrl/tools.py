"""The commands beside the loop: solve one problem, grade samples, remake the starter, doctor."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from restrl.console import console_progress
from restrl.errors import ConfigError, ProblemError
from restrl.types import Problem

if TYPE_CHECKING:
    from restrl.grading.layers import LayerReport

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
    decoded = decode(
        decoder, [problem], TransformersPolicy(args.policy), value_model, config, args.seed, params=params
    )[0]
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
    from restrl.problems import load_problems

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
    "grade": grade,
    "starter": starter,
    "doctor": doctor,
}
