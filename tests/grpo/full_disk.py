"""Run in a mount namespace of its own by the test of full disks: trains on a file system that is too small.

Usage: full_disk.py MODEL MOUNT_POINT SMALL_BYTES; prints what happened as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import RESUME, CharGrader, make_states

from restrl.errors import EngineError
from restrl.grpo.checkpoints import latest_complete
from restrl.grpo.trainer import train_policy


def main() -> None:
    model, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    config, output_dir = dataclasses.replace(RESUME, keep_checkpoints=0), folder / "run"

    def train() -> None:
        train_policy(model, make_states(), CharGrader(), config, output_dir, 3)

    try:
        train()
        error = ""
    except EngineError as caught:
        error = str(caught)
    left = sorted(path.name for path in (output_dir / "checkpoints").iterdir())
    good = latest_complete(output_dir / "checkpoints")
    subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)
    train()
    weights = (output_dir / "model" / "model.safetensors").read_bytes().hex()
    print(json.dumps({"error": error, "left": left, "good": good.name if good else "", "weights": weights}))


if __name__ == "__main__":
    main()
