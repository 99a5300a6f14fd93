"""A disk that is really full: a file system of its own, with room for one checkpoint and a half."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny_model

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import resume_run

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def can_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_old_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    if not can_mount(mount):
        pytest.skip("this machine lets no process mount a file system of its own")
    model = save_tiny_model(tmp_path / "model", bos=True)
    whole = tmp_path / "whole"
    resume_run(model, whole)
    # A checkpoint has the weights, twice as much for the optimizer, and small files; the model is written at the end.
    checkpoint = 3 * (whole / "model" / "model.safetensors").stat().st_size
    script = Path(__file__).with_name("full_disk.py")
    command = [*NAMESPACE, sys.executable, str(script), str(model), str(mount), str(checkpoint * 3 // 2)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout.split("\n")[-2])
    assert "checkpoint-4 could not be written" in outcome["error"] and "\n" not in outcome["error"]
    assert "checkpoint-2 is intact and the same command continues from it" in outcome["error"]
    assert outcome["left"] == ["checkpoint-2"] and outcome["good"] == "checkpoint-2"
    assert bytes.fromhex(outcome["weights"]) == (whole / "model" / "model.safetensors").read_bytes()
