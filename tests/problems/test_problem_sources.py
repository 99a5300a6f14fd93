"""Named sets from files, folders and (a local copy of) the hub: what is read, and what is said where it is wrong."""

import gzip
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from restrl.errors import ProblemError
from restrl.problems import registry
from restrl.problems.problem_set import HubSource, ProblemSet, Refusal, field, strings
from restrl.problems.registry import describe_source, load_problems, load_set
from restrl.problems.sources import Spec, find_places, read_place, read_records
from restrl.types import Case, Problem, Tests

ROWS = [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 3}]


def to_problem(record: Mapping[str, Any], where: str) -> Problem | Refusal | None:
    number = field(record, "n", int, where)
    if number == 0:
        return Refusal("without a number")
    if number == -1:
        return None
    if number == -2:
        raise ValueError("n is -2")
    name = field(record, "name", str, where)
    return Problem(
        name, "s", "", "f", Tests("call", (Case("t", expected=number),)), split=field(record, "split", str, where, "")
    )


TOY = ProblemSet(
    "a toy",
    to_problem=to_problem,
    files={"": ("toy/toy.jsonl.gz", "toy/*.jsonl")},
    hub=HubSource("nobody/toy", {"train": "train", "test": "validation"}),
    splits=("train", "test"),
)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.PROBLEM_SETS, "toy", TOY)
    monkeypatch.delenv("RESTRL_BENCHMARKS", raising=False)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("toy", ("toy", "", "")),
        ("toy/train", ("toy", "train", "")),
        ("toy@a/b.jsonl", ("toy", "", "a/b.jsonl")),
        ("toy/train@x@y", ("toy", "train", "x@y")),
    ],
)
def test_specifications(text: str, parts: tuple[str, str, str]) -> None:
    assert Spec.parse(text) == Spec(*parts)


def test_every_format_reads_the_same(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    paths = [
        write(tmp_path / "x.jsonl", lines(ROWS)),
        write(tmp_path / "x.jsonl.gz", lines(ROWS)),
        write(tmp_path / "x.json", json.dumps(ROWS)),
        write(tmp_path / "x.json.gz", json.dumps(ROWS)),
        tmp_path / "x.parquet",
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), paths[-1])
    for path in paths:
        assert list(read_records(path)) == [(f"{path}:{number}", row) for number, row in enumerate(ROWS, 1)]


def test_blank_lines_count_as_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '\n{"n": 1}\n\n{"n": 2}')
    assert [where for where, _ in read_records(path)] == [f"{path}:2", f"{path}:4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a"\n', r"x\.jsonl:2: not JSON"),
        ("x.jsonl", b"[1]\n", r"x\.jsonl:1: a record must be a JSON object, got list"),
        ("x.jsonl", b'{"a": 1}\n\xff\n', r"x\.jsonl:2: not UTF-8"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n\xff\n', mtime=0), r"x\.jsonl\.gz:2: not UTF-8"),
        ("x.jsonl", b'{"a": 1}\n{"a":\r\x00}\n', r"x\.jsonl:2: not JSON"),
        ("x.jsonl", b'{"a": ' + b"[" * 100_000 + b"}", r"x\.jsonl:1: not (readable as )?JSON"),
        ("x.jsonl", b'{"a": ' + b"9" * 5000 + b"}", r"x\.jsonl:1: not readable as JSON"),
        ("x.jsonl.gz", b"no gzip", r"x\.jsonl\.gz: cannot be read after record 0"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:-9], r"x\.jsonl\.gz: cannot be read after record \d"),
        ("x.json", b'{"a": 1}', r"x\.json: a \.json file must be an array"),
        ("x.json", b"[1, 2]", r"x\.json:1: a record must be a JSON object, got int"),
        ("x.parquet", b"PAR1", r"x\.parquet: cannot be read as parquet"),
        ("x.csv", b"", r"x\.csv: unknown format; a data file ends in one of \.jsonl"),
    ],
)
def test_damaged_files_are_one_line_with_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProblemError, match=message) as caught:
        list(read_records(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"gone\.jsonl: no such file or folder"):
        load_problems(f"toy@{tmp_path}/gone.jsonl")


def test_the_path_comes_before_the_folder_and_the_folder_before_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [place.description for place in find_places("toy", TOY)] == [
        "hub:nobody/toy:train",
        "hub:nobody/toy:validation",
    ]
    assert [place.description for place in find_places("toy", TOY, "test")] == ["hub:nobody/toy:validation"]
    second = write(tmp_path / "toy" / "b.jsonl", lines(ROWS[1:]))
    first = write(tmp_path / "toy" / "a.jsonl", lines(ROWS[:1]))
    monkeypatch.setenv("RESTRL_BENCHMARKS", str(tmp_path))
    assert [place.path for place in find_places("toy", TOY)] == [first, second]
    assert [p.id for p in load_problems("toy")] == ["a", "b", "c"]
    assert describe_source("toy") == f"{first}, {second}"
    packed = write(tmp_path / "toy" / "toy.jsonl.gz", lines(ROWS))
    assert [place.path for place in find_places("toy", TOY)] == [packed]
    other = write(tmp_path / "other.jsonl", lines(ROWS[:2]))
    assert [p.id for p in load_problems(f"toy@{other}")] == ["a", "b"]


def test_a_folder_may_hold_the_hubs_layout(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00000-of-00002.jsonl", lines(ROWS[:1]))
    write(tmp_path / "data" / "train-00001-of-00002.jsonl", lines(ROWS[1:2]))
    write(tmp_path / "data" / "validation-00000-of-00001.jsonl", lines(ROWS[2:]))
    assert [(p.id, p.split) for p in load_problems(f"toy/train@{tmp_path}")] == [("a", "train"), ("b", "train")]
    assert [(p.id, p.split) for p in load_problems(f"toy/test@{tmp_path}")] == [("c", "test")]
    with pytest.raises(ProblemError, match="holds no data file"):
        load_problems(f"toy@{write(tmp_path / 'none' / 'x.txt', '').parent}")


def test_a_problems_own_split_decides(tmp_path: Path) -> None:
    rows = [{"name": "a", "n": 1, "split": "train"}, {"name": "b", "n": 1, "split": "test"}]
    path = write(tmp_path / "x.jsonl", lines(rows))
    assert [p.id for p in load_problems(f"toy/test@{path}")] == ["b"]
    with pytest.raises(ProblemError, match="no split 'dev'; its splits: train, test"):
        load_problems(f"toy/dev@{path}")
    with pytest.raises(ProblemError, match="nothing follows '@'"):
        load_problems("toy@")


def test_refusals_are_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [ROWS[0], {"n": 0}, {"n": -1}, {"n": 0}, ROWS[1]]
    path = write(tmp_path / "x.jsonl", lines(rows))
    with caplog.at_level(logging.WARNING):
        loaded = load_set(f"toy@{path}")
    assert [p.id for p in loaded.problems] == ["a", "b"]
    assert loaded.refusals == {"without a number": 2} and loaded.sources == (str(path),)
    assert "toy: 2 records refused: 2 without a number" in caplog.text


def test_a_count_stops_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", lines(ROWS) + "this is not JSON")
    assert [p.id for p in load_problems(f"toy@{path}", count=3)] == ["a", "b", "c"]
    with pytest.raises(ProblemError, match=r"x\.jsonl:4: not JSON"):
        load_problems(f"toy@{path}", count=4)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "z"}, r":2: the record has no 'n'; its keys are 'name'"),
        ({"name": "z", "n": True}, r":2: 'n' must be an integer, got true or false"),
        ({"name": ["z"], "n": 1}, r":2: 'name' must be a string, got an array"),
        ({"name": "z", "n": -2}, r":2: n is -2"),
        ({"name": "a", "n": 1}, r":2: the problem 'a' is already at .*:1; ids are unique"),
    ],
)
def test_a_malformed_record_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "x.jsonl", lines([ROWS[0], row]))
    with pytest.raises(ProblemError, match=message):
        load_problems(f"toy@{path}")


def test_arrays_of_strings_are_checked() -> None:
    assert strings({"a": ["x"]}, "a", "f:1") == ["x"]
    with pytest.raises(ProblemError, match=r"f:1: 'a'\[1\] must be a string, got int"):
        strings({"a": ["x", 2]}, "a", "f:1")


def test_the_hub_is_read_through_its_library(tmp_path: Path) -> None:
    """A local copy in the hub's layout: the same call, without the network."""
    root = tmp_path / "copy"
    write(root / "data" / "train.jsonl", lines(ROWS[:2]))
    write(root / "data" / "validation.jsonl", lines(ROWS[2:]))
    hub = HubSource(str(root), {"train": "train", "test": "validation"})
    entry = ProblemSet("x", to_problem=to_problem, hub=hub, splits=("train", "test"))
    (place,) = find_places("toy", entry, "test")
    assert [dict(record) for _, record in read_place("toy", entry, place)] == ROWS[2:]
    registry.PROBLEM_SETS["toy"] = entry
    assert [(p.id, p.split) for p in load_problems("toy")] == [("a", "train"), ("b", "train"), ("c", "test")]


def test_offline_it_says_what_to_download_and_where_to_put_it() -> None:
    with pytest.raises(ProblemError) as caught:
        load_problems("toy/train")
    message = str(caught.value)
    assert "\n" not in message and message.startswith("toy: the hub data set nobody/toy cannot be loaded")
    assert "download it from https://huggingface.co/datasets/nobody/toy and name it with toy@FILE" in message
    assert message.endswith("or put it at $RESTRL_BENCHMARKS/toy/toy.jsonl.gz")
