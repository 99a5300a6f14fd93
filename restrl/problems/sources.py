"""Where the records of a named problem set come from: a file, the benchmarks' folder, or the Hugging Face hub.

A specification is ``NAME[/SPLIT][@PATH]``. The records come from the file or folder after ``@``; else from the folder
named by the environment variable ``RESTRL_BENCHMARKS``; else from the hub. Files are JSON lines, a JSON array, either
of them gzipped, or parquet. Every record comes with its place, ``file:line``, for the errors that follow.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from restrl.errors import ProblemError
from restrl.problems.problem_set import HubSource, ProblemSet

FOLDER_VARIABLE = "RESTRL_BENCHMARKS"
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")

Record = tuple[str, Mapping[str, Any]]
"""("file:line", record)"""


@dataclass(frozen=True, slots=True)
class Spec:
    """``NAME[/SPLIT][@PATH]`` in its parts; ``split`` and ``path`` may be empty."""

    name: str
    split: str = ""
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Takes a specification apart."""
        name, _, path = text.partition("@")
        name, _, split = name.partition("/")
        return cls(name, split, path)


@dataclass(frozen=True, slots=True)
class Place:
    """One place that records are read from.

    Attributes:
        split: The split that the place holds; empty where the records know.
        path: A file, or None.
        hub: A data set on the hub, or None.
        hub_split: The hub's name of the split.
    """

    split: str
    path: Path | None = None
    hub: HubSource | None = None
    hub_split: str = ""

    @property
    def description(self) -> str:
        """The place in words."""
        if self.path is not None:
            return str(self.path)
        assert self.hub is not None
        return f"hub:{self.hub.id}" + (f"/{self.hub.config}" if self.hub.config else "") + f":{self.hub_split}"


def find_places(name: str, entry: ProblemSet, split: str = "", path: str = "") -> list[Place]:
    """Returns the places of a set's records, in the order in which they are read.

    Args:
        name: The set's name, for messages.
        entry: The set.
        split: The wanted split; empty for all.
        path: A file or folder to read instead of the usual places.

    Raises:
        ProblemError: The path does not exist or holds no data, or there is no place at all.
    """
    if path:
        return _given(name, entry, split, Path(path).expanduser())
    root = os.environ.get(FOLDER_VARIABLE, "")
    if root:
        places = _in_folder(entry, split, Path(root).expanduser())
        if places:
            return places
    if entry.hub is not None:
        hub = entry.hub
        chosen = {ours: theirs for ours, theirs in hub.splits.items() if not split or ours in ("", split)}
        if chosen:
            return [Place(ours, None, hub, theirs) for ours, theirs in chosen.items()]
    raise ProblemError(_advice(name, entry, split, "no data found"))


def _given(name: str, entry: ProblemSet, split: str, path: Path) -> list[Place]:
    if path.is_file():
        return [Place(split, path)]
    if not path.is_dir():
        raise ProblemError(
            f"{name}@{path}: no such file or folder; give a data file ({', '.join(SUFFIXES)}) or a folder"
        )
    for root in (path, path.parent):
        places = [place for place in _in_folder(entry, split, root) if path in (place.path or path).parents]
        if places:
            return places
    hub_names = {split, (entry.hub.splits.get(split, split) if entry.hub else split)} - {""}
    found = sorted(item for item in (*path.glob("*"), *path.glob("data/*")) if item.name.endswith(SUFFIXES))
    if hub_names:
        named = [item for item in found if item.name.startswith(tuple(hub_names))]
        found = named or found
    if not found:
        raise ProblemError(f"{name}@{path}: the folder holds no data file ({', '.join(SUFFIXES)})")
    return [Place(split, item) for item in found]


def _in_folder(entry: ProblemSet, split: str, root: Path) -> list[Place]:
    places = []
    for own, patterns in entry.files.items():
        if split and own not in ("", split):
            continue
        for pattern in patterns:
            found = sorted(root.glob(pattern))
            if found:
                places += [Place(own, item) for item in found]
                break
    return places


def _advice(name: str, entry: ProblemSet, split: str, problem: str) -> str:
    of_split = entry.files.get(split or entry.default_split) or next(iter(entry.files.values()), ())
    usual = next(iter(of_split), "").replace(".jsonl*", ".jsonl")
    source = entry.url or (f"https://huggingface.co/datasets/{entry.hub.id}" if entry.hub else "its authors")
    where = f" or put it at ${FOLDER_VARIABLE}/{usual}" if usual else ""
    return f"{name}: {problem}; download it from {source} and name it with {name}@FILE{where}"


def read_place(name: str, entry: ProblemSet, place: Place) -> Iterator[Record]:
    """Yields the records of one place.

    Raises:
        ProblemError: It cannot be read; the message names file and line, or says what to download and where to put it.
    """
    if place.path is not None:
        yield from read_records(place.path)
        return
    assert place.hub is not None
    try:
        rows = _load_from_hub(place.hub, place.hub_split)
    except Exception as error:  # the library has no common class for "offline", "not found" and "no such split"
        reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        message = f"the hub data set {place.hub.id} cannot be loaded ({reason[:200]})"
        raise ProblemError(_advice(name, entry, place.split, message)) from error
    for number, row in enumerate(rows, 1):
        yield f"{place.description}:{number}", row


def _load_from_hub(hub: HubSource, split: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    local = Path(hub.id).is_dir()
    with contextlib.nullcontext() if local or _hub_answers() else _offline():
        if split in hub.data_files:
            root = hub.id if local else f"hf://datasets/{hub.id}@{hub.revision or 'main'}"
            return datasets.load_dataset("json", data_files=f"{root}/{hub.data_files[split]}", split="train")
        return datasets.load_dataset(hub.id, hub.config, split=split, revision=hub.revision)


def _hub_answers() -> bool:
    """Has the hub an address from here? Where a proxy is set, it will know."""
    if any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    host = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Only what the cache on this machine has; else the library would try for a minute, and complain each time."""
    import datasets.config
    import huggingface_hub.constants

    holders: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    try:
        for holder in holders:
            holder.HF_HUB_OFFLINE = True
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value


def read_records(path: Path) -> Iterator[Record]:
    """Yields the records of a file with their places, ``file:line`` (in an array or a parquet file: ``file:record``).

    Raises:
        ProblemError: The file is missing, of an unknown format or damaged, or a record is no JSON object.
    """
    if not path.name.endswith(SUFFIXES):
        raise ProblemError(f"{path}: unknown format; a data file ends in one of {', '.join(SUFFIXES)}")
    if path.name.endswith(".parquet"):
        yield from _read_parquet(path)
        return
    number = 0
    try:
        with _open(path) as file:
            if path.name.endswith((".json", ".json.gz")):
                rows: Iterator[tuple[int, Any]] = enumerate(_array(path, file), 1)
            else:
                rows = _lines(path, file)
            for number, row in rows:
                if not isinstance(row, dict):
                    raise ProblemError(f"{path}:{number}: a record must be a JSON object, got {type(row).__name__}")
                yield f"{path}:{number}", row
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProblemError(f"{path}: cannot be read after record {number}: {reason}") from error


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.name.endswith(".gz") else path.open("rb")


def _lines(path: Path, file: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    # As bytes: text is decoded in blocks, so that an error would name an earlier line, and a lone return would end one.
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, _parse(line, f"{path}:{number}")


def _array(path: Path, file: gzip.GzipFile | BufferedReader) -> list[Any]:
    rows = _parse(file.read(), str(path))
    if not isinstance(rows, list):
        raise ProblemError(f"{path}: a .json file must be an array of records, got {type(rows).__name__}; use .jsonl")
    return rows


def _parse(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProblemError(f"{where}: not UTF-8 text ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise ProblemError(f"{where}: not JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(f"{where}: not readable as JSON: {str(error)[:100]}") from error


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:{number}", row
    except (OSError, pyarrow.ArrowException) as error:
        raise ProblemError(f"{path}: cannot be read as parquet: {str(error).splitlines()[0][:200]}") from error
