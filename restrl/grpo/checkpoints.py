"""Checkpoints that a kill cannot spoil, and the identity of a training run.

The engine writes a checkpoint file by file. A marker is put in after the last one, so a directory without it is the
trace of a kill and is removed. The engine drops older checkpoints only while a complete one other than the newest
remains.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from restrl.errors import ArtifactError
from restrl.grpo.config import GRPOConfig
from restrl.grpo.offline_config import OfflineConfig
from restrl.grpo.report import write_json
from restrl.types import State

_MARKER = "COMPLETE"
_NAME = re.compile(r"checkpoint-(\d+)")
# Settings that may differ between the start of a run and its resumption: they change how it is computed, not what.
FREE = (
    "save_every",
    "keep_checkpoints",
    "micro_batch",
    "rollout_chunks",
    "max_batch_tokens",
    "gradient_checkpointing",
    "grader_patience_s",
    "report_to",
    "log_completions",
    "vllm_memory",
)


def mark_complete(checkpoint: Path) -> None:
    """Marks a checkpoint as fully written; call after everything else is in it."""
    for path in (*checkpoint.rglob("*"), checkpoint):
        # The marker must not reach the disk before the data that it vouches for.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    (checkpoint / _MARKER).touch()


def latest_complete(folder: Path) -> Path | None:
    """Returns the complete checkpoint with the most steps, or None."""
    complete = [path for path in _checkpoints(folder) if (path / _MARKER).exists()]
    return max(complete, key=checkpoint_step, default=None)


def remove_incomplete(folder: Path) -> None:
    """Removes checkpoints that a kill left half-written."""
    for path in _checkpoints(folder):
        if not (path / _MARKER).exists():
            shutil.rmtree(path)


def checkpoint_step(checkpoint: Path) -> int:
    """Returns the optimizer step of a checkpoint directory.

    >>> checkpoint_step(Path("run/checkpoint-20"))
    20
    """
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint.name!r} is not the name of a checkpoint")
    return int(match[1])


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if path.is_dir() and _NAME.fullmatch(path.name)]


def check_identity(
    output_dir: Path, states: Sequence[State], config: GRPOConfig | OfflineConfig, seed: int, prompt_style: str
) -> None:
    """Writes down what is trained, or checks it against what an earlier call wrote.

    A setting that the earlier call did not have yet had its default then.

    Raises:
        ArtifactError: The directory belongs to another training run; the message names what differs.
    """
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in FREE}
    digest = hashlib.blake2b(digest_size=16)
    for state in states:
        for text in (state.problem.id, state.program):
            digest.update(f"{len(text)}:{text}".encode())
    identity = {**settings, "seed": seed, "prompt_style": prompt_style, "instances": digest.hexdigest()}
    path = output_dir / "identity.json"
    if not path.exists():
        write_json(path, identity)
        return
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    old = {**defaults, **json.loads(path.read_text(encoding="utf-8"))}
    for key in sorted({*identity, *old} - set(FREE)):
        if identity.get(key) != old.get(key):
            raise ArtifactError(
                f"{output_dir} holds a training run with {key} = {old.get(key)!r}, not {identity.get(key)!r}; "
                "restore the setting to continue it, or train in an empty directory"
            )
