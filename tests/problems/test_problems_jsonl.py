import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ProblemError
from restrl.problems.encoding import decode_value, encode_value
from restrl.problems.jsonl import read_problems, write_problems
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


def test_a_key_that_looks_like_a_tag_is_data() -> None:
    value = {"$tuple": [1]}
    assert decode_value(encode_value(value)) == value


@pytest.mark.parametrize(
    "data", [{"$what": 1}, {"$tuple": 1}, {"$tuple": [1], "x": 2}, {"$bytes": "%"}, {"$complex": [1]}, {"$float": "1"}]
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
        entry_point="f",
        tests=Tests(kind, cases, draw(st.sampled_from([0.0, 1e-6])), draw(st.booleans())),
        preamble=draw(TEXT),
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
        ({"id": 3}, "'id' in the problem must be a string, got an integer"),
        ({"id": ""}, "id is empty"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"initial_state": "def f(n):"}, "must end in a newline"),
        ({"entry_point": ""}, "need entry_point"),
        ({"stop_strings": [""]}, "stop_strings"),
        ({"limits": {"cpu_s": 0}}, "limits.cpu_s is 0"),
        ({"limits": {"cpu_s": True}}, "'cpu_s' in limits must be an integer or a number"),
        ({"tests": {"kind": "call", "cases": []}}, "needs at least one test"),
        ({"tests": {"kind": "guess", "cases": [{}]}}, "use one of call, stdio"),
        ({"tests": {"kind": "call", "cases": [{"args": [1]}]}}, "tests.cases[0] has no 'expected'"),
        ({"tests": {"kind": "stdio", "cases": [{"stdin": "", "expected": 1}]}}, "expected must be a string"),
        ({"tests": {"kind": "asserts", "cases": [{"id": "a"}]}}, "has no 'code'"),
        ({"tests": {"kind": "call", "cases": [{"args": [{"$x": 1}], "expected": 1}]}}, "unknown tag '$x'"),
        (
            {"tests": {"kind": "asserts", "cases": [{"id": "a", "code": "1"}, {"id": "a", "code": "2"}]}},
            "the id 'a' twice",
        ),
    ],
)
def test_wrong_records_name_file_and_line(tmp_path: Path, change: dict[str, object], says: str) -> None:
    path = written(tmp_path / "p.jsonl", GOOD, GOOD | {"id": "q"} | change)
    with pytest.raises(ProblemError) as caught:
        read_problems(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:2: ") and says in message and "\n" not in message


def test_duplicate_ids_name_both_lines(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"p\.jsonl:3: id 'p' is already used on line 1"):
        read_problems(written(tmp_path / "p.jsonl", GOOD, GOOD | {"id": "q"}, GOOD))


@pytest.mark.parametrize("text", ["{", "[1]", "", "\n\n"])
def test_files_without_problems_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    with pytest.raises(ProblemError):
        read_problems(path)


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"cannot read the problem file .*No such file"):
        read_problems(tmp_path / "none.jsonl")
