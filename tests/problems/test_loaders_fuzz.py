"""Malformed records of every set, read as a user's file is read: an error of one line with file and line, or a problem;
nothing else happens.

A record is damaged where its values are, also inside the JSON that some fields hold as text, and then as bytes.
"""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import golden_prompts
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restrl.errors import ProblemError
from restrl.problems import PROBLEM_SETS
from restrl.problems.jsonl import read_problems, write_problems
from restrl.problems.registry import load_set

SETS = sorted(golden_prompts.SETS)
TEXTS = ("", " ", "\x00", "\ud800", "def f(:", "class", "a\nb", "[", "{}", "[[]]", "gASVAAAA", "9" * 5000, "(" * 300)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from((*TEXTS, 10**400)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)
FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def no_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sets whose expected outputs are computed are loaded without: that is no reading."""
    monkeypatch.delenv("RESTRL_BENCHMARKS", raising=False)
    for name in SETS:
        monkeypatch.setitem(PROBLEM_SETS, name, dataclasses.replace(PROBLEM_SETS[name], finish=None))
    yield


def opened(value: Any) -> Any:
    """A value with the JSON texts in it as (marked) values, so that their insides are damaged too."""
    if isinstance(value, dict):
        return {key: opened(item) for key, item in value.items()}
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return {"json text": json.loads(value)}
        except ValueError:
            return value
    return value


def closed(value: Any) -> Any:
    """The opposite of `opened`."""
    if isinstance(value, dict):
        if set(value) == {"json text"}:
            return json.dumps(value["json text"])
        return {key: closed(item) for key, item in value.items()}
    return [closed(item) for item in value] if isinstance(value, list) else value


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a value but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [place for key, item in inner for place in places(item, (*path, key))]
    return [path, *below] if path else below


@st.composite
def damaged(draw: st.DrawFn, record: dict[str, Any]) -> dict[str, Any]:
    """A record with one or two places replaced or dropped."""
    found = opened(copy.deepcopy(record))
    for _ in range(draw(st.integers(1, 2))):
        spots = places(found)
        if not spots:
            break
        *way, last = draw(st.sampled_from(spots))
        parent = found
        for key in way:
            parent = parent[key]
        if draw(st.booleans()):
            del parent[last]
        else:
            parent[last] = draw(JUNK)
    return {key: closed(item) for key, item in found.items()}


def check(folder: Path, name: str, bad_line: bytes) -> None:
    """Reads good records and a last line; what is wrong with that is said, and the folder stays as it is."""
    good = golden_prompts.records_of(name)
    path = folder / "data.jsonl"
    content = b"".join(json.dumps(record).encode() + b"\n" for record in good) + bad_line + b"\n"
    path.write_bytes(content)
    try:
        loaded = load_set(f"{name}@{path}", references=True)
    except ProblemError as error:
        message = str(error)
        assert message.startswith(f"{path}:{len(good) + 1}: "), message
        assert "\n" not in message and len(message) < 1000
        message.encode("utf-8")
    else:
        assert len(loaded.problems) + sum(loaded.refusals.values()) <= len(good) + 1
        assert len(loaded.problems) >= len(golden_prompts.SETS[name])
        # What was made of it can be kept: it is a problem like any of one's own.
        again = folder / "again.jsonl"
        write_problems(again, loaded.problems)
        assert [problem.id for problem in read_problems(again)] == [problem.id for problem in loaded.problems]
        again.unlink()
    assert [item.name for item in folder.iterdir()] == ["data.jsonl"] and path.read_bytes() == content


@pytest.mark.parametrize("name", SETS)
def test_the_good_records_load(name: str, tmp_path: Path) -> None:
    """The other tests would be idle if the undamaged records were refused."""
    good = golden_prompts.records_of(name)
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in good))
    loaded = load_set(f"{name}@{path}", references=True)
    assert len(loaded.problems) == len(good) and not loaded.refusals


@pytest.mark.parametrize("name", SETS)
@FUZZ
@given(data=st.data())
def test_damaged_records(name: str, data: st.DataObject, tmp_path: Path) -> None:
    record = data.draw(damaged(golden_prompts.records_of(name)[-1]))
    check(tmp_path, name, json.dumps(record).encode())


@pytest.mark.parametrize("name", SETS)
@FUZZ
@given(data=st.data())
def test_damaged_text(name: str, data: st.DataObject, tmp_path: Path) -> None:
    line = bytearray(json.dumps(golden_prompts.records_of(name)[-1]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(line)))
        end = min(len(line), start + data.draw(st.integers(0, 12)))
        line[start:end] = data.draw(st.binary(max_size=4)).replace(b"\n", b"")
    check(tmp_path, name, bytes(line))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json", ".json.gz", ".parquet"])
@FUZZ
@given(cut=st.integers(0, 400), junk=st.binary(max_size=6), place=st.floats(0, 1))
@example(cut=10**6, junk=b"", place=0.0)
def test_damaged_files_of_every_format(suffix: str, cut: int, junk: bytes, place: float, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    record = golden_prompts.records_of("humaneval")[0]
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), path)
        content = path.read_bytes()
    else:
        text = json.dumps([record] if suffix.startswith(".json") and "l" not in suffix else record).encode()
        content = gzip.compress(text, mtime=0) if suffix.endswith(".gz") else text
    start = int(place * len(content))
    path.write_bytes(content[:start] + junk + content[start + cut :])
    try:
        loaded = load_set(f"humaneval@{path}")
    except ProblemError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert len(loaded.problems) == 1
