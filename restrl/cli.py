"""The command: parses, calls the pipeline, prints. Exit codes: 0 done, 2 the user's input is wrong, 1 anything else,
130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from restrl import launch, problem_commands, stopping
from restrl.errors import ArtifactError, RestRLError, UserError

STAGE_HELP = {
    "sample": "sample and grade solutions of the training problems",
    "assemble": "filter the problems and assemble training instances",
    "train-policy": "train the policy by GRPO from the assembled instances",
    "validate": "evaluate every policy so far on the validation problems, and choose the one to keep",
    "collect-values": "collect values of states by tree search with real rewards",
    "train-value": "train the value model on the collected values",
    "evaluate": "decode and grade: the held-out problems of a run, or any policy on any problem sets",
    "report": "write the table, the figures and the page",
}

EVALUATE_ABOUT = (
    "Without --policy: the evaluation stage of a run directory. With --policy and --problems: evaluates any policy on "
    "any problem sets, in a folder of its own; `restrl evaluate --out DIR` continues it."
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the whole command."""
    parser = _Parser(
        prog="restrl", description="ReST-RL: train a code model on its own graded solutions, decode by value"
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    run = commands.add_parser("run", help="the whole loop; without a recipe, the embedded starter")
    _recipe_arguments(run)
    run.set_defaults(handler=_run)
    for name, text in STAGE_HELP.items():
        about = EVALUATE_ABOUT if name == "evaluate" else f"One stage on a run directory: {text}."
        stage = commands.add_parser(name, help=text, description=about)
        _recipe_arguments(stage)
        stage.set_defaults(handler=_run, stage=name)
        if name == "train-value":
            stage.add_argument(
                "--kind",
                choices=("vm", "orm", "prm"),
                default="vm",
                help="a value model, or an outcome or process reward model from the same programs, which gets a folder "
                "of its own (default: vm)",
            )
        if name == "evaluate":
            _suite_arguments(stage)
            stage.set_defaults(handler=_evaluate)
    _add_tools(commands)
    return parser


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", nargs="?", help="a TOML file or the name of a shipped recipe (default: starter)")
    parser.add_argument("--out", type=Path, help="the run directory (default: runs/NAME)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    parser.add_argument(
        "--dry-run", action="store_true", help="check recipe, model and problems, print the plan and its memory, stop"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(stage=None)


def _suite_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("any policy on any problem sets")
    group.add_argument(
        "--policy",
        metavar="POLICY",
        help="a causal language model directory, vllm:DIR, or openai:MODEL@ADDRESS (an OpenAI-compatible server)",
    )
    group.add_argument(
        "--problems", metavar="SET,...", help="sets as NAME[/SPLIT][@PATH], or .jsonl files, separated by commas"
    )
    group.add_argument("--value-model", metavar="DIR", help="a value model directory")
    group.add_argument(
        "--decoder",
        help="greedy, sample, majority; with a value model best_of_n, best_of_n_prm, vm_mcts, orm_mcts, beam_search, "
        "dvts (default: vm_mcts with a value model, else sample)",
    )
    group.add_argument(
        "--budget",
        type=int,
        metavar="N",
        help="completions that an answer is chosen from (default: 30; greedy and sample: 1)",
    )
    group.add_argument(
        "--selection",
        choices=("score", "clusters"),
        help="the answer: the best-scored program, or that of the best cluster of equal outputs (default: score)",
    )
    group.add_argument(
        "--public-tests",
        action="store_true",
        default=None,
        help="rank by the examples that the problems show: another information regime, labelled in the results",
    )
    group.add_argument("--samples", type=int, metavar="N", help="independent answers per problem (default: 1)")
    group.add_argument("--count", type=int, metavar="N", help="the first N problems of each set (default: all)")
    group.add_argument("--seed", type=int, help="seed of everything random (default: 0)")
    group.add_argument("--temperature", type=float, help="sampling temperature (default: 0.7; 0 is greedy)")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help="tokens of a completion (default: 1024)")
    group.add_argument("--chunk-size", type=int, metavar="N", help="problems decoded together (default: 32)")
    group.add_argument(
        "--grade-unfinished",
        action="store_true",
        default=None,
        help="also run programs that the token limit cut off (default: they score 0)",
    )
    group.add_argument("--save-trees", action="store_true", default=None, help="keep every search, for restrl tree")


def _add_tools(commands: Any) -> None:
    _solve_arguments(commands.add_parser("solve", help="print the best program for one problem"))
    _reproduce_arguments(commands.add_parser("reproduce", help="the published tables and figures, made again"))
    tree = commands.add_parser("tree", help="show saved searches, as text or as a page")
    tree.add_argument("files", nargs="+", type=Path, metavar="FILE", help="trees of restrl solve or of a run")
    tree.add_argument("--html", type=Path, metavar="FILE", help="write a page with all of them, for a browser")
    tree.add_argument("--problem", metavar="ID", help="only this problem")
    tree.add_argument("--states", type=int, default=60, metavar="N", help="states of the text (default: 60)")
    tree.add_argument("--title", default="Search trees", help="title of the page")
    tree.set_defaults(handler=_tool("tree"))
    grade = commands.add_parser("grade", help="grade a samples file")
    grade.add_argument("--problems", required=True, help="a problem set's name or a JSONL file")
    grade.add_argument(
        "--samples", required=True, type=Path, help="JSONL: task_id or problem_id, solution or completion"
    )
    grade.add_argument("--out", required=True, type=Path, help="JSONL with one record per sample")
    grade.add_argument("--require", default="", help="isolation layers that must be in force, separated by commas")
    grade.add_argument("--python", default="", metavar="EXE", help=problem_commands.PYTHON_HELP)
    grade.add_argument("--count", type=int, default=0, help="problems to take from a generated set (0 = its default)")
    grade.add_argument("--json", action="store_true", help="print the summary as JSON")
    grade.add_argument("--quiet", action="store_true", help="no progress")
    grade.set_defaults(handler=_tool("grade"))
    problem_commands.add_parser(commands, _Parser)
    starter = commands.add_parser("starter", help="the embedded default")
    starter_actions = starter.add_subparsers(dest="action", metavar="ACTION", parser_class=_Parser, required=True)
    build = starter_actions.add_parser("build", help="remake the embedded checkpoint from nothing")
    build.add_argument("--out", type=Path, required=True, help="the model directory to make")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--steps", type=int, default=0, help="training steps (0 = those of the embedded checkpoint)")
    build.add_argument("--quiet", action="store_true", help="no progress")
    starter.set_defaults(handler=_tool("starter"))
    doctor = commands.add_parser("doctor", help="probe what isolation and hardware this machine offers")
    doctor.add_argument("--json", action="store_true")
    doctor.add_argument("--require", default="", metavar="LAYERS", help="fail if one of these layers is not in force")
    doctor.set_defaults(handler=_tool("doctor"))


def _reproduce_arguments(reproduce: argparse.ArgumentParser) -> None:
    reproduce.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        help="table1, table2, variance, training-efficiency, budget, or all of them",
    )
    reproduce.add_argument(
        "--scale",
        default="starter",
        help="starter: the embedded model, on this machine; paper: the published settings, for those who have the GPUs "
        "(default: starter)",
    )
    reproduce.add_argument("--quick", action="store_true", help="one seed and small counts: to see it work")
    reproduce.add_argument("--seeds", metavar="N,...", help="seeds, separated by commas (default: 0,1,2; quick: 0)")
    reproduce.add_argument("--out", type=Path, help="the folder of everything (default: runs/reproduce-SCALE)")
    reproduce.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="a setting of every arm, for example policy.model=DIR at --scale paper",
    )
    reproduce.add_argument("--train-only", action="store_true", help="train what is missing, measure nothing")
    reproduce.add_argument("--dry-run", action="store_true", help="print what would be run, and stop")
    reproduce.add_argument("--json", action="store_true", help="print the results as JSON")
    reproduce.add_argument("--quiet", action="store_true", help="no progress")
    reproduce.set_defaults(handler=_tool("reproduce"))


def _solve_arguments(solve: argparse.ArgumentParser) -> None:
    solve.add_argument(
        "--problem",
        required=True,
        help="a JSONL file with one problem, FILE.jsonl:ID, starter/SPLIT/NUMBER, or - for standard input",
    )
    solve.add_argument(
        "--policy",
        required=True,
        type=Path,
        help="a causal language model directory, starter, vllm:DIR, or openai:MODEL@ADDRESS (a server with that API)",
    )
    solve.add_argument("--value-model", type=Path, help="a value model directory")
    solve.add_argument(
        "--decoder",
        help="sample, greedy, best-of-n, vm-mcts or another (default: vm-mcts with a value model, else sample)",
    )
    solve.add_argument("--budget", type=int, default=30, help="completions to sample (default: 30)")
    solve.add_argument("--seed", type=int, default=0)
    solve.add_argument("--max-new-tokens", type=int, default=512, help="tokens per completion (default: 512)")
    solve.add_argument("--temperature", type=float, default=0.7)
    solve.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="any setting of [policy], [decode] or [grading]",
    )
    solve.add_argument(
        "--public-tests",
        action="store_true",
        help="let the examples that the problem itself shows take part in the choice (another regime: it is labelled)",
    )
    solve.add_argument("--grade", action="store_true", help="run the problem's tests afterwards; they choose nothing")
    solve.add_argument(
        "--show-tree",
        nargs="?",
        type=int,
        const=60,
        metavar="N",
        help="print the N most visited states of the search before the program (default: 60); all of it with --json",
    )
    solve.add_argument("--html", type=Path, metavar="FILE", help="write the search as a page for a browser")
    solve.add_argument("--save-tree", type=Path, metavar="FILE", help="save the search, for restrl tree")
    solve.add_argument("--json", action="store_true", help="the program, its value and the costs as JSON")
    solve.add_argument("--quiet", action="store_true", help="no progress")
    solve.set_defaults(handler=_tool("solve"))


def _tool(name: str) -> Callable[[argparse.Namespace], int]:
    def handler(args: argparse.Namespace) -> int:
        from restrl import tools

        command: Callable[[argparse.Namespace], int] = tools.TOOLS[name]
        return command(args)

    return handler


def _run(args: argparse.Namespace) -> int:
    from restrl.artifacts import open_run, read_manifest
    from restrl.config import load_recipe, recipe_from_dict
    from restrl.console import console_progress

    stored = read_manifest(args.out) if args.out is not None and args.recipe is None else None
    if stored is not None and "suite" in stored["recipe"]:
        raise ArtifactError(
            f"{args.out} holds the evaluation of a policy, not a run; continue: restrl evaluate --out {args.out}"
        )
    if stored is not None:
        tables = _with_overrides(stored["recipe"], args.overrides)
        recipe = recipe_from_dict(tables, name=stored["name"], where=f"recipe of {args.out}")
    else:
        recipe = load_recipe(args.recipe, args.overrides)
    if args.dry_run:
        from restrl.pipeline.dry_run import describe

        print(recipe.to_toml())
        print("\n".join(f"# {line}".rstrip() for line in describe(recipe)))
        return 0
    out = args.out or Path("runs") / recipe.name
    _use_threads(recipe)
    from restrl import pipeline

    if launch.index():
        pipeline.follow(recipe, out, args.stage)
        return 0
    if read_manifest(out) is None:
        pipeline.check(recipe)
    progress = console_progress(args.quiet)
    with (
        open_run(out, recipe.to_dict(), recipe.to_toml(), recipe.name) as run,
        pipeline.Pipeline(run, recipe, progress) as stages,
    ):
        result = stages.run(args.stage, getattr(args, "kind", "vm"))
    if args.json:
        print(json.dumps(result.data, ensure_ascii=False))
    else:
        print(result.text)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from restrl import suite_command

    if suite_command.is_stand_alone(args):
        set_threads(0)
        return suite_command.run(args)
    return _run(args)


def _with_overrides(recipe: dict[str, dict[str, Any]], overrides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Applies ``--set`` flags to a resolved recipe."""
    from restrl.config import parse_override

    tables = {section: dict(values) for section, values in recipe.items()}
    for flag in overrides:
        section, key, value = parse_override(flag)
        tables.setdefault(section, {})[key] = value
    return tables


def _use_threads(recipe: Any) -> None:
    """Sets the thread counts before the numerical libraries load."""
    set_threads(recipe.to_dict()["run"]["threads"])


def set_threads(threads: int) -> None:
    """Sets the thread counts of the numerical libraries, before they load; 0 = one per core."""
    threads = threads or os.cpu_count() or 1
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    for variable, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Threads that wait for each other by spinning lose most of their time where another process wants the core.
        "OMP_WAIT_POLICY": "PASSIVE",
    }.items():
        os.environ.setdefault(variable, value)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        from importlib.metadata import version

        print(f"restrl {version('restrl')}")
        return 0
    if args.command is None:
        parser.print_help()
        return 0
    launch.leave()
    if launch.index() and (getattr(args, "stage", "") not in (None, "train-policy") or args.dry_run):
        # The other processes of a launch are there for training; the first one does the rest.
        return 0
    who = f"restrl (process {launch.index()})" if launch.index() else "restrl"
    try:
        with stopping.handled():
            code: int = args.handler(args)
        return code
    except (RestRLError, OSError, KeyboardInterrupt) as error:
        return _ended(error, who)


def _ended(error: BaseException, who: str) -> int:
    """Says in one line why the command ended and returns its exit code; an error that has no such line goes on."""
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()
        return 1
    code, reason = 1, str(error)
    if isinstance(error, UserError):
        code = 2
    elif isinstance(error, stopping.Terminated):
        code, reason = stopping.EXIT_CODE, "asked to end (SIGTERM); the same command continues where it was"
    elif isinstance(error, KeyboardInterrupt):
        code, reason = 130, "stopped; the same command continues where it was"
    elif isinstance(error, OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise error
        reason = f"no space is left on the disk ({error.filename}); make room, the same command continues"
    print(f"{who}: {reason}", file=sys.stderr)
    return code


__all__ = ["build_parser", "main"]

if __name__ == "__main__":
    sys.exit(main())
