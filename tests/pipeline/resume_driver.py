"""Runs a recipe several times in forked children, killing some of them, and compares what they leave behind.

    python resume_driver.py WORKDIR SEED [--set ...]

Children are killed by SIGKILL inside an atomic write (before or after the temporary file is complete), inside an entry
of a journal, or after a fixed share of the uninterrupted run's time. Prints one JSON object. Heavy imports happen once,
before the forks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(
    OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1"
)

import torch
import trl  # noqa: F401

from restrl import artifacts, cli
from restrl.pipeline import journal

TIMING = {"seconds", "wall_s"}


def run_child(
    out: Path, overrides: list[str], kill_at_write: tuple[int, str] | None = None, kill_after_s: float = 0.0
) -> int:
    """Runs ``restrl run smoke`` in a fork; returns its wait status."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        os.setpgid(0, 0)
        if kill_at_write is not None:
            _arm(*kill_at_write)
        with open(out.with_suffix(".log"), "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = 1
        with contextlib.suppress(SystemExit):
            code = cli.main(["run", "smoke", "--out", str(out), "--quiet", *overrides])
        sys.stdout.flush()
        os._exit(code)
    if kill_after_s:
        time.sleep(kill_after_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def _arm(number: int, moment: str) -> None:
    """Kills this process in its n-th atomic write: before the temporary file is there, or just before the rename.

    With the moment ``journal`` it dies half-way through the n-th entry of a journal.
    """
    if moment == "journal":
        _arm_journal(number)
        return
    original, count = artifacts.write_atomic, 0

    def write(path: Path, data: bytes | str) -> None:
        nonlocal count
        count += 1
        if count == number:
            if moment == "before rename":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        original(path, data)

    for module in list(sys.modules.values()):
        if getattr(module, "write_atomic", None) is original:
            module.write_atomic = write  # type: ignore[attr-defined]


def _arm_journal(number: int) -> None:
    original, count = journal.append_line, 0

    def append(file: int, line: bytes) -> None:
        nonlocal count
        count += 1
        if count == number:
            original(file, line[: len(line) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        original(file, line)

    journal.append_line = append


def artifacts_of(run: Path) -> dict[str, str]:
    """Returns a digest of every artifact; times are taken out; report and event files are left out."""
    digests = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        watching = name.startswith("report/") or "/logs/" in name
        if not path.is_file() or name in ("lock", "manifest.json") or watching:
            continue
        if path.suffix in (".json", ".jsonl"):
            rows = (
                [json.loads(line) for line in path.read_text().split("\n") if line] if path.suffix == ".jsonl" else None
            )
            content = json.dumps(
                _without_times(rows if rows is not None else json.loads(path.read_text())), sort_keys=True
            )
            digests[name] = hashlib.sha256(content.encode()).hexdigest()
        elif path.suffix == ".bin" or "tfevents" in name:  # the times of the events are in it
            continue
        else:
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(item)
            for key, item in value.items()
            if key not in TIMING and not key.endswith("_s") and not key.endswith("_per_second")
        }
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    work, seed, overrides = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    status = run_child(work / "whole", overrides)
    whole_s = time.monotonic() - began
    reference = artifacts_of(work / "whole")
    rng = random.Random(seed)
    interruptions: list[list[tuple[tuple[int, str] | None, float]]] = [
        # One run that is killed in four of its writes, one that is killed at three moments.
        [
            ((n, moment), 0.0)
            for n, moment in zip(
                sorted(rng.sample(range(3, 16), 4)), ["before rename", "before write"] * 2, strict=True
            )
        ],
        [(None, whole_s * share) for share in (rng.uniform(0.15, 0.35), rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.6))],
        # One that is killed while the evaluation notes what the models have answered.
        [((n, "journal"), 0.0) for n in (2, 5, 9)],
    ]
    results = []
    for index, plan in enumerate(interruptions):
        out = work / f"killed-{index}"
        statuses = [run_child(out, overrides, at_write, after_s) for at_write, after_s in plan]
        final = run_child(out, overrides)
        found = artifacts_of(out)
        different = sorted(name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name))
        killed = [os.WIFSIGNALED(code) and os.WTERMSIG(code) == signal.SIGKILL for code in statuses]
        results.append({"killed": killed, "final": final, "different": different})
    print(json.dumps({"whole": status, "whole_s": whole_s, "files": sorted(reference), "results": results}))


if __name__ == "__main__":
    main()
