"""`restrl reproduce`: flags -> workspace -> experiments -> tables and figures."""

from __future__ import annotations

import argparse
from pathlib import Path

from restrl.errors import ConfigError


def run(args: argparse.Namespace) -> int:
    """Trains what is missing, measures, and writes the tables and figures."""
    from restrl.cli import set_threads
    from restrl.reproduce.arms import scale_named

    scale = scale_named(args.scale, args.quick)
    seeds = parse_seeds(args.seeds) if args.seeds is not None else scale.seeds
    label = args.scale + ("-quick" if args.quick else "")
    out = args.out or Path("runs") / f"reproduce-{label}"
    set_threads(0)
    from restrl.console import console_progress
    from restrl.reproduce.arms import METHODS
    from restrl.reproduce.workspace import Workspace

    workspace = Workspace(out, scale, label, seeds, tuple(args.overrides), progress=console_progress(args.quiet))
    workspace.begin()
    for seed in seeds:
        for arm in METHODS:
            workspace.train(seed, arm)
        workspace.measure_spread(seed)
        workspace.prepare_values(seed)
    return 0


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parses ``0,1,2``.

    Raises:
        ConfigError: Not different whole numbers from 0 on, separated by commas.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts) or len({int(part) for part in parts}) < len(parts):
        raise ConfigError(f"--seeds {text!r}: expected different whole numbers from 0 on, for example --seeds 0,1,2")
    return tuple(int(part) for part in parts)
