import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ProblemError
from restrl.problems.encoding import decode_value, encode_value
from restrl.problems.jsonl import read_problems, scan_problems, write_problems
from restrl.problems.schema import CASE_FIELDS, LIMIT_FIELDS, PROBLEM_FIELDS, TESTS_FIELDS
from restrl.types import Case, Limits, Problem, Tests

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(HASHABLE, inner, max_size=3),
    max_leaves=10,
)


def identical(first: object, second: object) -> bool:
    """Equality that also compares types, all the way down (True is not 1, 1.0 is not 1)."""
    if type(first) is not type(second):
        return False
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(identical, first, second))
    if isinstance(first, dict):
        return list(map(typed, first)) == list(map(typed, second)) and all(
            map(identical, first.values(), second.values())
        )
    if isinstance(first, set | frozenset):
        return {typed(item) for item in first} == {typed(item) for item in second}
    return first == second and repr(first) == repr(second)


def typed(item: object) -> object:
    if isinstance(item, tuple):
        return (tuple, tuple(map(typed, item)))
    if isinstance(item, frozenset):
        return (frozenset, frozenset(map(typed, item)))
    return (type(item), repr(item))


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_values_survive_json_exactly(value: object) -> None:
    text = json.dumps(encode_value(value), allow_nan=False)
    assert identical(decode_value(json.loads(text)), value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, complex(math.nan, -math.inf)])
def test_values_beyond_json_numbers(value: complex) -> None:
    assert repr(decode_value(json.loads(json.dumps(encode_value(value), allow_nan=False)))) == repr(value)


@pytest.mark.parametrize("value", [10**3900, 10**5000, -(3**20_000), "\ud800"], ids=["a", "b", "c", "d"])
def test_long_integers_and_lone_surrogates_survive(tmp_path: Path, value: object) -> None:
    problem = Problem("p", "s", "", "f", Tests("call", (Case("t", (value,), expected=value),)))
    write_problems(tmp_path / "p.jsonl", [problem])
    assert read_problems(tmp_path / "p.jsonl") == [problem]


def test_a_key_that_looks_like_a_tag_is_data() -> None:
    value = {"$tuple": [1]}
    assert decode_value(encode_value(value)) == value


@pytest.mark.parametrize(
    "data",
    [
        {"$what": 1},
        {"$tuple": 1},
        {"$tuple": [1], "x": 2},
        {"$bytes": "%"},
        {"$complex": [1]},
        {"$float": "1"},
        {"$complex": [10**400, 0]},
        {"$int": 5},
        {"$dict": ["ab"]},
        {"$set": [[]]},
    ],
)
def test_wrong_tags_are_refused(data: object) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        decode_value(data)


def test_what_is_not_plain_data_is_refused() -> None:
    with pytest.raises(TypeError, match="not plain data"):
        encode_value([object()])


TEXT = st.text(max_size=12)
CASES = st.one_of(
    st.tuples(
        st.just("call"),
        st.builds(Case, id=st.just(""), args=st.lists(VALUES, max_size=2).map(tuple), expected=VALUES),
    ),
    st.tuples(st.just("stdio"), st.builds(Case, id=st.just(""), stdin=TEXT, expected=TEXT)),
    st.tuples(st.just("asserts"), st.builds(Case, id=st.just(""), code=TEXT)),
    st.tuples(st.just("script"), st.builds(Case, id=st.just(""), code=TEXT, expected=VALUES)),
)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    kind, case = draw(CASES)
    count = draw(st.integers(1, 3))
    cases = tuple(
        Case(f"t{i}", case.args, case.stdin, case.expected, case.code)  # the same content under several ids
        for i in range(count)
    )
    return Problem(
        id=draw(st.text(min_size=1, max_size=8)),
        statement=draw(TEXT),
        initial_state=draw(st.sampled_from(["", "def f(x):\n", 'def f():\n    """é\u2028"""\n'])),
        entry_point=draw(st.sampled_from(["f", "Solution.f|f"])),
        tests=Tests(
            kind,
            cases,
            draw(st.sampled_from([0.0, 1e-6])),
            draw(st.booleans()),
            draw(st.sampled_from(["strict", "lab"])),
            draw(st.sampled_from([(), ("numpy", "scipy.stats")])),
            prelude=draw(TEXT),
        ),
        preamble=draw(TEXT),
        chat_message=draw(TEXT),
        chat_opening=draw(TEXT),
        chat_stop_strings=draw(st.sampled_from([None, (), ("\n#",)])),
        stop_strings=draw(st.sampled_from([(), ("\n#", "\ndef ")])),
        limits=draw(st.sampled_from([Limits(), Limits(cpu_s=0.5, memory_bytes=1 << 20, output_bytes=9)])),
        canonical_solution=draw(st.none() | TEXT),
        split=draw(TEXT),
        band=draw(TEXT),
        metadata=draw(st.dictionaries(TEXT, VALUES, max_size=2)),
    )


@settings(deadline=None, max_examples=60)
@given(problem=problems())
def test_problems_round_trip(tmp_path_factory: pytest.TempPathFactory, problem: Problem) -> None:
    path = tmp_path_factory.mktemp("problems") / "p.jsonl"
    write_problems(path, [problem])
    assert read_problems(path) == [problem]


GOOD = {
    "id": "p",
    "statement": "Return twice n.",
    "initial_state": "def f(n):\n",
    "entry_point": "f",
    "tests": {"kind": "call", "cases": [{"args": [2], "expected": 4}]},
}


def written(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    return path


def test_the_documented_minimum_is_read(tmp_path: Path) -> None:
    (problem,) = read_problems(written(tmp_path / "p.jsonl", GOOD))
    assert problem.tests.cases == (Case(id="test_0", args=(2,), expected=4),)
    assert problem.limits == Limits()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": 3}, "id is 3 (an integer); allowed: a string"),
        ({"id": ""}, 'id is "" (a string); allowed: a name'),
        ({"colour": 1}, "'colour' is not a field; allowed: id, statement, tests"),
        ({"entrypoint": "f"}, "'entrypoint' is not a field (did you mean entry_point?)"),
        (
            {"initial_state": "def f(n):"},
            'initial_state is "def f(n):" (a string); allowed: text that ends in a newline',
        ),
        ({"entry_point": ""}, "allowed: with tests of kind call: the name of the function"),
        ({"entry_point": "f(x)"}, 'entry_point is "f(x)" (a string); allowed: the name of a function'),
        ({"stop_strings": ["a", ""]}, 'stop_strings[1] is "" (a string); allowed: a non-empty string'),
        ({"limits": {"cpu_s": 0}}, "limits.cpu_s is 0 (an integer); allowed: more than 0, at most 86400"),
        ({"limits": {"cpu_s": True}}, "limits.cpu_s is true; allowed: an integer or a number"),
        ({"limits": {"memory_bytes": 10**400}}, "limits.memory_bytes is 1000"),
        ({"tests": None}, "tests is null; allowed: an object"),
        ({"tests": {"kind": "call", "cases": []}}, "tests.cases is [] (an array); allowed: at least one test"),
        (
            {"tests": {"kind": "guess", "cases": [{}]}},
            'tests.kind is "guess" (a string); allowed: call, stdio, asserts',
        ),
        (
            {"tests": {"kind": "call", "cases": [{"args": [1]}]}},
            "tests.cases[0].expected is missing; allowed: any plain",
        ),
        ({"tests": {"kind": "call", "cases": [7]}}, "tests.cases[0] is 7 (an integer); allowed: an object"),
        (
            {"tests": {"kind": "stdio", "cases": [{"stdin": "", "expected": 1}]}},
            "tests.cases[0].expected is 1 (an integer); allowed: a string",
        ),
        (
            {"tests": {"kind": "stdio", "cases": [{"stdin": "", "expected": "", "args": [1]}]}},
            "tests.cases[0].args is [1] (an array); allowed: no args in tests of kind stdio",
        ),
        ({"tests": {"kind": "asserts", "cases": [{"id": "a"}]}}, "tests.cases[0].code is missing; allowed: a string"),
        (
            {"tests": {"kind": "call", "cases": [{"args": [{"$x": 1}], "expected": 1}]}},
            "tests.cases[0].args[0] is {\"$x\": 1} (an object); unknown tag '$x'",
        ),
        (
            {"tests": {"kind": "asserts", "cases": [{"id": "a", "code": "1"}, {"id": "a", "code": "2"}]}},
            'tests.cases[1].id is "a" (a string); allowed: an id of its own; tests.cases[0] has this one',
        ),
        (
            {"tests": {"kind": "asserts", "atol": -1, "cases": [{"code": "1"}]}},
            "tests.atol is -1 (an integer); allowed: a finite number >= 0",
        ),
        (
            {"tests": {"kind": "asserts", "profile": "loose", "cases": [{"code": "1"}]}},
            'tests.profile is "loose" (a string); allowed: strict, lab',
        ),
        (
            {"tests": {"kind": "asserts", "packages": ["numpy", "a-b"], "cases": [{"code": "1"}]}},
            'tests.packages[1] is "a-b" (a string); allowed: the name of an import',
        ),
        ({"statement": "\ud800"}, 'statement is "\\ud800" (a string); allowed: text without lone surrogates'),
        ({"metadata": [1]}, "metadata is [1] (an array); allowed: an object"),
    ],
)
def test_wrong_records_name_file_line_field_value_and_what_is_allowed(
    tmp_path: Path, change: dict[str, object], says: str
) -> None:
    path = written(tmp_path / "p.jsonl", GOOD, GOOD | {"id": "q"} | change)
    with pytest.raises(ProblemError) as caught:
        read_problems(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ") and says in message and "\n" not in message


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[1]", "the record is [1] (an array); allowed: an object with id, statement and tests"),
        ('{"id": NaN}', 'a value is NaN, which is not JSON; allowed: {"$float": "nan"}'),
        ('{"id": 1e999}', "a number is 1e999, beyond a float"),
        ('{"id": "a", "id": "b"}', "'id' is there 2 times in one object; allowed: once"),
        ("[" * 100_000, "nested too deeply"),
        ('{"metadata": {"a": ' + "[" * 990 + "]" * 990 + "}}", "nested too deeply"),
        ("9" * 5000, "Exceeds the limit"),
    ],
)
def test_lines_that_are_not_strict_json(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(ProblemError) as caught:
        read_problems(path)
    assert str(caught.value).startswith(f"{path}:2: ") and says in str(caught.value)


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"p\.jsonl:3: id is 'p', which line 1 has already"):
        read_problems(written(tmp_path / "p.jsonl", GOOD, GOOD | {"id": "q"}, GOOD))


def test_a_scan_finds_every_fault_of_every_line_and_keeps_the_good_records(tmp_path: Path) -> None:
    bad = {"id": 3, "tests": {"kind": "call", "cases": [{"args": 1}, {"args": [], "expected": 1, "x": 2}]}, "limits": 1}
    path = written(tmp_path / "p.jsonl", GOOD, bad, GOOD, [], GOOD | {"id": "q"})
    scanned = scan_problems(path)
    assert [(p.id, line) for p, line in zip(scanned.problems, scanned.lines, strict=True)] == [("p", 1), ("q", 5)]
    assert [(fault.line, fault.text.split(";")[0]) for fault in scanned.faults] == [
        (2, "id is 3 (an integer)"),
        (2, "statement is missing"),
        (2, "limits is 1 (an integer)"),
        (2, "tests.cases[0].args is 1 (an integer)"),
        (2, "tests.cases[0].expected is missing"),
        (2, "tests.cases[1].'x' is not a field"),
        (2, 'entry_point is "" (a string)'),
        (3, "id is 'p', which line 1 has already"),
        (4, "the record is [] (an array)"),
    ]
    with pytest.raises(ProblemError, match=r"p\.jsonl:2: id is 3 .* \(8 more faults: restrl problems validate"):
        read_problems(path)


def test_bytes_that_are_not_utf8_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(ProblemError, match=r"p\.jsonl:2: byte \d+ of the line is 0xff, which is not UTF-8"):
        read_problems(path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert [problem.id for problem in read_problems(path)] == ["p"]


def test_the_tables_have_every_field_of_the_types() -> None:
    for cls, table in (
        (Problem, PROBLEM_FIELDS),
        (Tests, TESTS_FIELDS),
        (Case, CASE_FIELDS),
        (Limits, LIMIT_FIELDS),
    ):
        assert {field.name for field in dataclasses.fields(cls)} == set(table)


def test_the_documentation_names_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "problems.md").read_text(encoding="utf-8")
    for table in (PROBLEM_FIELDS, TESTS_FIELDS, CASE_FIELDS, LIMIT_FIELDS):
        for name in table:
            assert f"`{name}`" in page, name


@pytest.mark.parametrize("text", ["{", "[1]", "", "\n\n"])
def test_files_without_problems_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(ProblemError):
        read_problems(path)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"cannot read the problem file .*No such file"):
        read_problems(tmp_path / "none.jsonl")
