"""SIGTERM: the stage stops with exit code 143, nothing that was done is lost, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

from restrl import cli
from restrl.starter import POLICY_DIR

sys.path.insert(0, str(Path(__file__).parents[1] / "grpo"))
from grpo_helpers import resume_run

GRPO = Path(__file__).parents[1] / "grpo"

SMALL = [
    "run.chunk_size=2",
    "problems.train_count=6",
    "problems.value_count=4",
    "problems.test_count=1",
    "evaluate.validation_samples=0",
    "collect.budget=3",
    "run.iterations=0",
    "policy.max_new_tokens=48",
    "train.report_to=none",
]

pytestmark = pytest.mark.slow


def command(*words: str) -> list[str]:
    return [*words, "--quiet", *(word for option in SMALL for word in ("--set", option))]


def terminated(words: list[str], when: Callable[[], bool]) -> int:
    """Runs the command in this process, which gets the signal as soon as a condition holds; returns the exit code."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set() and not when():
            time.sleep(0.002)
        if not ended.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        return cli.main(words)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize(
    ("stage", "options", "table"),
    [
        ("sample", ["--set", "run.iterations=1"], "iteration-1/samples.jsonl"),
        ("collect-values", [], "values-base/trajectories.jsonl"),
    ],
)
def test_a_stage_keeps_its_finished_chunks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str, options: list[str], table: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = command(stage, "smoke")
    assert cli.main([*words, *options, "--out", str(whole)]) == 0
    capsys.readouterr()
    parts = cut / f"{table}.part"
    code = terminated([*words, *options, "--out", str(cut)], lambda: parts.is_dir() and any(parts.glob("0*.jsonl")))
    assert code == 143
    assert capsys.readouterr().err == "restrl: asked to end (SIGTERM); the same command continues where it was\n"
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.jsonl")}
    assert kept and not (cut / table).exists()
    states = {name: entry["state"] for name, entry in json.loads((cut / "manifest.json").read_text())["stages"].items()}
    assert "running" in states.values()
    assert cli.main([*words, *options, "--out", str(cut)]) == 0
    assert (cut / table).read_bytes() == (whole / table).read_bytes()


def test_an_evaluation_of_any_policy_keeps_its_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "evaluate",
        "--policy",
        str(POLICY_DIR),
        "--problems",
        "starter/test",
        "--count",
        "4",
        "--decoder",
        "sample",
    ]
    words += ["--chunk-size", "2", "--max-new-tokens", "48", "--quiet", "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert cli.main([*words, str(whole)]) == 0
    capsys.readouterr()
    assert terminated([*words, str(cut)], lambda: cut.is_dir() and any(cut.rglob("*.journal"))) == 143
    assert "asked to end (SIGTERM)" in capsys.readouterr().err
    assert cli.main(["evaluate", "--quiet", "--out", str(cut)]) == 0
    names = {path.relative_to(whole) for path in whole.rglob("*.jsonl")}
    assert names and all((cut / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_a_training_process_ends_with_its_state_saved(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", bos=True)
    resume_run(model, tmp_path / "whole")
    script = (
        "import sys; from pathlib import Path; from grpo_helpers import resume_run\n"
        "from restrl import stopping\n"
        "try:\n"
        "    with stopping.handled():\n"
        "        resume_run(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except stopping.Terminated:\n"
        "    sys.exit(stopping.EXIT_CODE)\n"
    )
    cut = tmp_path / "cut"
    words = [sys.executable, "-c", script, str(model), str(cut)]
    process = subprocess.Popen(words, cwd=GRPO, stderr=subprocess.PIPE, text=True)
    metrics = cut / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.005)
    for _ in range(2):  # as `timeout` does
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    _, error = process.communicate()
    assert process.returncode == 143, error
    steps = len(metrics.read_text().splitlines())
    assert 0 < steps < 5
    assert [path.name for path in (cut / "checkpoints").glob(f"checkpoint-{steps}/COMPLETE")] == ["COMPLETE"]
    assert resume_run(model, cut).steps == 5
    weights = [(path / "model" / "model.safetensors").read_bytes() for path in (tmp_path / "whole", cut)]
    assert weights[0] == weights[1]
