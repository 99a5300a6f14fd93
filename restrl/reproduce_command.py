"""`restrl reproduce`: flags -> workspace -> experiments -> tables and figures."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from restrl.errors import ConfigError

if TYPE_CHECKING:
    from restrl.reproduce.workspace import Workspace


def run(args: argparse.Namespace) -> int:
    """Trains what is missing, measures, and writes the tables and figures."""
    from restrl.cli import set_threads
    from restrl.console import console_progress
    from restrl.reproduce.arms import scale_named

    scale = scale_named(args.scale, args.quick)
    seeds = scale.seeds if args.seeds is None else parse_seeds(args.seeds)
    label = args.scale + ("-quick" if args.quick else "")
    out = args.out or Path("runs") / f"reproduce-{label}"
    # Before anything loads the numerical libraries.
    set_threads(0)
    from restrl.reproduce.experiments import named
    from restrl.reproduce.workspace import Workspace

    names = named(args.experiment)
    workspace = Workspace(out, scale, label, seeds, tuple(args.overrides), progress=console_progress(args.quiet))
    if args.dry_run:
        from restrl.reproduce.plan import plan_text

        print(plan_text(workspace, names))
        return 0
    workspace.begin()
    compute(workspace, names, measure=not args.train_only)
    if not args.train_only:
        report(workspace, names, _command(args), as_json=args.json)
    return 0


def compute(workspace: Workspace, names: Sequence[str], *, measure: bool) -> None:
    """Trains what the experiments need and measures it, seed by seed; what is done is skipped."""
    from restrl.reproduce.arms import METHODS
    from restrl.reproduce.experiments import EXPERIMENTS

    chosen = [EXPERIMENTS[name] for name in names]
    for seed in workspace.seeds:
        for arm in METHODS:
            if any(arm in experiment.arms for experiment in chosen):
                workspace.train(seed, arm)
        if any(experiment.scorers for experiment in chosen):
            workspace.prepare_values(seed)
        for experiment in chosen if measure else ():
            experiment.measure(workspace, seed)


def report(workspace: Workspace, names: Sequence[str], command: str, *, as_json: bool) -> None:
    """Writes every experiment and prints its orderings."""
    from restrl.reproduce.experiments import EXPERIMENTS
    from restrl.reproduce.outcome import text
    from restrl.reproduce.workspace import SHARED_FROM
    from restrl.reproduce.write import write_outcome

    records = {}
    for name in names:
        outcome = EXPERIMENTS[name].summarise(workspace)
        page = write_outcome(workspace, outcome, EXPERIMENTS[name].arms or (SHARED_FROM,), command)
        records[name] = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
        if as_json:
            continue
        print(f"{outcome.title}: {page}")
        for item in outcome.orderings:
            where = f" ({item.where})" if item.where else ""
            print(f"  {item.mark:<12} {item.better} over {item.worse}{where}: {text(item.difference, True)}")
    if as_json:
        print(json.dumps(records))


def _command(args: argparse.Namespace) -> str:
    parts = ["restrl", "reproduce", args.experiment, "--scale", args.scale]
    parts += ["--quick"] if args.quick else []
    parts += ["--seeds", args.seeds] if args.seeds else []
    for flag in args.overrides:
        parts += ["--set", flag]
    return shlex.join(parts)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parses ``0,1,2``.

    Raises:
        ConfigError: Not different whole numbers from 0 on, separated by commas.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len({int(part) for part in parts}) < len(parts):
        raise ConfigError(f"--seeds {text!r}: expected different whole numbers from 0 on, for example --seeds 0,1,2")
    return tuple(int(part) for part in parts)
