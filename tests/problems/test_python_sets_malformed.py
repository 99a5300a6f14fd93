"""Damaged records of HumanEval, MBPP and their plus sets: an error with its place, or a problem, and nothing else."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_records import HUMANEVAL, MBPP, MBPP_PLUS, PLUS

from restrl.errors import ProblemError
from restrl.problems.evalplus import humaneval_plus, mbpp_plus
from restrl.problems.humaneval import to_problem as humaneval
from restrl.problems.mbpp import to_problem as mbpp
from restrl.problems.mbpp import with_challenge
from restrl.problems.problem_set import Refusal
from restrl.types import Problem


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTRL_CACHE", str(tmp_path / "cache"))


RECORDS = [
    (humaneval, HUMANEVAL),
    (humaneval_plus, PLUS),
    (humaneval_plus, HUMANEVAL),
    (mbpp, MBPP),
    (with_challenge, MBPP),
    (mbpp_plus, MBPP_PLUS),
]
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["def f(", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_record_is_an_error_with_its_place_or_a_problem(data: st.DataObject) -> None:
    convert, good = data.draw(st.sampled_from(RECORDS))
    record = copy.deepcopy(good)
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from(sorted(good)))
        if data.draw(st.booleans()):
            record.pop(key, None)
        else:
            record[key] = data.draw(JUNK)
    try:
        found = convert(record, "file:7")
    except ProblemError as error:
        assert str(error).startswith("file:7: ") and "\n" not in str(error)
    else:
        assert found is None or isinstance(found, Problem | Refusal)


@pytest.mark.parametrize(
    ("convert", "good", "change", "message"),
    [
        (humaneval, HUMANEVAL, {"prompt": 1}, "f:1: 'prompt' must be a string, got an integer"),
        (humaneval, HUMANEVAL, {"test": "def check(:"}, "f:1: the record's code is not Python"),
        (humaneval_plus, PLUS, {"base_input": {}}, "f:1: 'base_input' must be an array, got an object"),
        (humaneval_plus, PLUS, {"base_input": [3]}, "f:1: input 0 of HumanEval/900 does not fit"),
        (humaneval_plus, PLUS, {"base_input": [], "plus_input": []}, "f:1: HumanEval/900 has no inputs"),
        (humaneval_plus, PLUS, {"atol": -1}, "f:1: 'atol' is -1.0"),
        (mbpp, MBPP, {"task_id": "12"}, "f:1: 'task_id' must be an integer"),
        (mbpp, MBPP, {"test_list": []}, "f:1: the task 12 has no tests"),
        (
            mbpp,
            MBPP,
            {"test_list": ["assert other(1)"]},
            "f:1: the tests call no function that the record's code defines",
        ),
    ],
)
def test_malformed_records_are_named(
    convert: Callable[..., Any], good: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        convert(good | change, "f:1")
    assert str(caught.value).startswith(message)
