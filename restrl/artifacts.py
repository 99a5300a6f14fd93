"""The run directory: human-readable files, one manifest, atomic writes, resume.

Layout of a run::

    manifest.json      recipe, seeds, versions, input hashes, state and seconds of every stage
    recipe.toml        the resolved recipe
    NAME.jsonl         one record a line; a table in progress lives in NAME.jsonl.part/, one file a chunk

A stage works through its problems in fixed chunks. A chunk is written in one atomic step, so a run that was killed
redoes the unfinished chunk only, with the same batches and seeds as before: its artifacts are those of an uninterrupted
run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from restrl.errors import ArtifactError

logger = logging.getLogger(__name__)

FORMAT = 1
PACKAGES = ("restrl", "torch", "transformers", "trl", "peft", "accelerate", "numpy")

T = TypeVar("T")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a whole file, or leaves the old one: a temporary file in the same folder, synced, then renamed."""
    raw = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def dump_json(value: Any) -> str:
    """Returns indented JSON text, for files that people read."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def dump_jsonl(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns one JSON object a line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Reads a table.

    Raises:
        ArtifactError: The file is missing, or a line is not a JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); give an existing table") from None
    records = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise ArtifactError(f"{path}:{number}: not JSON ({error.msg}); remove the file to remake it") from None
        if not isinstance(record, dict):
            raise ArtifactError(f"{path}:{number}: expected a JSON object; remove the file to remake it")
        records.append(record)
    return records


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file, or of a folder's files with their names."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    for item in files:
        if path.is_dir():
            digest.update(str(item.relative_to(path)).encode() + b"\0")
        with open(item, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


class RunDirectory:
    """A run directory with its manifest. Open it with `open_run`."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    def save(self) -> None:
        """Writes the manifest."""
        write_atomic(self.path / "manifest.json", dump_json(self.manifest))

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return bool(self.manifest["stages"].get(stage, {}).get("state") == "done")

    def need(self, relative: str, command: str) -> Path:
        """Returns the path of an artifact.

        Raises:
            ArtifactError: It does not exist; the message names the command that makes it.
        """
        path = self.path / relative
        if not path.exists():
            raise ArtifactError(f"{path} does not exist yet; make it with: restrl {command} --out {self.path}")
        return path

    @contextmanager
    def stage(self, name: str, inputs: Mapping[str, Path] | None = None) -> Iterator[None]:
        """Marks a stage as running, and as done when the block ends well; seconds add up over interruptions."""
        entry = self.manifest["stages"].setdefault(name, {"seconds": 0.0})
        entry["state"] = "running"
        if inputs:
            entry["inputs"] = {key: file_digest(path) for key, path in inputs.items()}
        self.save()
        before, started = float(entry["seconds"]), time.monotonic()
        try:
            yield
            entry["state"] = "done"
        finally:
            entry["seconds"] = round(before + time.monotonic() - started, 3)
            self.save()

    def table(
        self,
        relative: str,
        items: Sequence[T],
        chunk_size: int,
        make: Callable[[Sequence[T], int], Sequence[Mapping[str, Any]]],
        on_chunk: Callable[[int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Makes a table chunk by chunk, skipping the chunks that are already on disk, and returns it.

        Args:
            relative: Path of the finished table below the run directory.
            items: What the records are made from, in a fixed order.
            chunk_size: Items per chunk; the unit of resuming, part of the recipe.
            make: Turns (items of a chunk, index of the chunk) into records; a function of its arguments only.
            on_chunk: Called with the number of items of every chunk that is ready.
        """
        final = self.path / relative
        if final.exists():
            if on_chunk is not None:
                on_chunk(len(items))
            return read_jsonl(final)
        parts = final.with_name(final.name + ".part")
        texts = []
        for index, start in enumerate(range(0, len(items), chunk_size)):
            chunk = items[start : start + chunk_size]
            part = parts / f"{index:05d}.jsonl"
            if not part.exists():
                write_atomic(part, dump_jsonl(make(chunk, index)))
            texts.append(part.read_text(encoding="utf-8"))
            if on_chunk is not None:
                on_chunk(len(chunk))
        write_atomic(final, "".join(texts))
        shutil.rmtree(parts, ignore_errors=True)
        return read_jsonl(final)


@contextmanager
def open_run(path: Path, recipe: Mapping[str, Any], recipe_toml: str, name: str) -> Iterator[RunDirectory]:
    """Opens or makes a run directory and holds its lock.

    Raises:
        ArtifactError: The directory belongs to another recipe (the message names the keys), is in use by another
            process, or is not a run directory.
    """
    from restrl.config import FREE_SETTINGS, changed_keys

    manifest_path = path / "manifest.json"
    if path.exists() and not path.is_dir():
        raise ArtifactError(f"{path} is a file; give a directory with --out")
    if path.is_dir() and not manifest_path.exists() and any(_foreign(path)):
        raise ArtifactError(f"{path} is not empty and holds no manifest.json; give a new directory with --out")
    manifest = read_manifest(path)
    if manifest is not None:
        changes = [change for change in changed_keys(manifest["recipe"], recipe) if change[0] not in FREE_SETTINGS]
        if changes:
            said = "; ".join(f"{key}: {old!r} there, {new!r} here" for key, old, new in changes[:3])
            more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
            raise ArtifactError(
                f"{path} was made with another recipe ({said}{more}); give another --out, or leave out the recipe and "
                "the flags to go on with its own"
            )
    path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        for stray in path.rglob(".*.tmp"):
            stray.unlink(missing_ok=True)
        if manifest is None:
            manifest = {
                "format": FORMAT,
                "name": name,
                "recipe": {},
                "versions": package_versions(),
                "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
                "stages": {},
            }
        elif manifest["versions"] != package_versions():
            logger.warning("%s was begun with other package versions; results may differ from one run in one go", path)
        # Settings that are newer than the manifest are written down at the values that they have had from the start.
        manifest["recipe"] = json.loads(json.dumps(recipe))
        run = RunDirectory(path, manifest)
        run.save()
        write_atomic(path / "recipe.toml", recipe_toml)
        yield run


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Returns the manifest of a run directory, or None where there is none."""
    manifest_path = path / "manifest.json"
    if not manifest_path.exists():
        return None
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or not isinstance(manifest["recipe"], dict):
            raise KeyError("format")
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ArtifactError(
            f"{manifest_path} is not a manifest of this version ({error}); give another --out"
        ) from None
    return dict(manifest)


def package_versions() -> dict[str, str]:
    """Returns the versions of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _foreign(path: Path) -> Iterator[Path]:
    return (
        item for item in path.iterdir() if item.name not in ("lock", "recipe.toml") and not item.name.endswith(".tmp")
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ArtifactError(
                f"{path} is in use by another restrl process; wait for it, or give another --out"
            ) from None
        yield
