"""Malformed problem files: a `ProblemError` that names file and line, or a problem that survives; nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from restrl.errors import ProblemError
from restrl.problems.jsonl import read_problems, scan_problems, write_problems
from restrl.problems.template import TEMPLATES, template
from restrl.types import TEST_KINDS

GOOD_LINE = template("call").splitlines()[0]
RECORDS = {kind: [json.loads(line) for line in template(kind).splitlines()] for kind in TEST_KINDS}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "\ud800", "a\x00b", "\n", "$tuple", "call", "0x1", "nan", "f|", "class", "1" * 300, 10**400])
    | st.text(max_size=8)
)
KEYS = st.text(max_size=5) | st.sampled_from(
    [
        "$tuple",
        "$set",
        "$frozenset",
        "$dict",
        "$bytes",
        "$complex",
        "$float",
        "$int",
        "$x",
        "id",
        "args",
        "cpu_s",
        "code",
    ]
)
JUNK = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2), max_leaves=6
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A good record of any kind with one to three places replaced, dropped or added to."""
    record = copy.deepcopy(draw(st.sampled_from(RECORDS[draw(st.sampled_from(TEST_KINDS))])))
    for _ in range(draw(st.integers(1, 3))):
        spots = [place for place in places(record) if place]
        if not spots:
            break
        place = draw(st.sampled_from(spots))
        parent = record
        for key in place[:-1]:
            parent = parent[key]
        what = draw(st.sampled_from(["replace", "drop", "add"]))
        if what == "drop":
            del parent[place[-1]]
        elif what == "add" and isinstance(parent, dict):
            parent[draw(KEYS)] = draw(JUNK)
        else:
            parent[place[-1]] = draw(JUNK)
    return record


def check(folder: Path, content: bytes, bad_line: int) -> None:
    """Reads a file; whatever is wrong with it is a `ProblemError` for the line, and the folder stays as it is."""
    path = folder / "p.jsonl"
    path.write_bytes(content)
    try:
        problems = read_problems(path)
    except ProblemError as error:
        message = str(error)
        assert message.startswith(f"{path}:{bad_line}: "), message
        assert "\n" not in message and len(message) < 1200
        message.encode("utf-8")
        scanned = scan_problems(path)
        assert scanned.faults and {fault.line for fault in scanned.faults} == {bad_line}
        assert [problem.id for problem in scanned.problems] == [json.loads(GOOD_LINE)["id"]]
    else:
        again = folder / "again.jsonl"
        write_problems(again, problems)
        assert read_problems(again) == problems
        again.unlink()
    assert [item.name for item in folder.iterdir()] == ["p.jsonl"]
    assert path.read_bytes() == content


FUZZ = settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(damaged())
@example({"id": "x", "statement": "", "tests": {"kind": [], "cases": {}}})
@example(
    {
        "id": "x",
        "statement": "",
        "tests": {"kind": "script", "cases": [{"code": "", "id": []}]},
        "metadata": {"": {"$a": 1}},
    }
)
def test_damaged_records(tmp_path: Path, record: Any) -> None:
    line = json.dumps(record).encode()
    check(tmp_path, GOOD_LINE.encode() + b"\n\n" + line + b"\n", 3)


def test_a_lone_carriage_return_ends_no_line(tmp_path: Path) -> None:
    check(tmp_path, GOOD_LINE.encode() + b'\n{"id":\r3}\n', 2)


@FUZZ
@given(st.data())
def test_damaged_text(tmp_path: Path, data: st.DataObject) -> None:
    line = bytearray(template(data.draw(st.sampled_from(TEST_KINDS))).splitlines()[-1].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(line)))
        end = min(len(line), start + data.draw(st.integers(0, 12)))
        line[start:end] = data.draw(st.binary(max_size=4)).replace(b"\n", b"")
    if line.strip():
        check(tmp_path, GOOD_LINE.encode() + b"\n" + bytes(line) + b"\n", 2)


@pytest.mark.parametrize("kind", TEST_KINDS)
def test_every_needed_field_is_missed_and_every_field_is_checked_for_its_type(tmp_path: Path, kind: str) -> None:
    record = RECORDS[kind][0]
    for place in places(record)[1:]:
        if "args" in place or "expected" in place or "metadata" in place:
            continue
        wrong = copy.deepcopy(record)
        parent = wrong
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = 7j.imag if isinstance(parent[place[-1]], str | list | dict | bool) else "7"
        path = tmp_path / "p.jsonl"
        path.write_text(json.dumps(wrong))
        field = str(place[-1]) if isinstance(place[-1], str) else f"[{place[-1]}]"
        with pytest.raises(ProblemError) as caught:
            read_problems(path)
        assert str(caught.value).startswith(f"{path}:1: ") and f"{field} is" in str(caught.value)


@pytest.mark.parametrize("kind", TEST_KINDS)
def test_templates_are_valid(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(template(kind), encoding="utf-8")
    assert tuple(read_problems(path)) == TEMPLATES[kind]
    assert {problem.tests.kind for problem in TEMPLATES[kind]} == {kind}
