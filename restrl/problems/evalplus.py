"""HumanEval+ and MBPP+ (arXiv 2305.01210) as EvalPlus grades them: base and plus inputs, one call each; pass or fail.

A record's expected outputs come from its canonical solution (`restrl.problems.expected`); a test's time limit is four
times what that solution took, at least a second. The records of the hub hold the same tests as one program
(``OriginFmt``): they load too, as tests of kind ``asserts``, without the special oracles and without telling base and
plus tests apart.

``contract`` (the assertions that an input has to meet) is kept in the problem's metadata: the inputs that are released
meet it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from restrl.errors import ProblemError
from restrl.grading.checkers import Opaque
from restrl.grading.evalplus import tolerances
from restrl.grading.reference import Answer
from restrl.problems import humaneval, mbpp
from restrl.problems.expected import answers_of
from restrl.problems.mbpp_inputs import restore_inputs
from restrl.problems.problem_set import HubSource, ProblemSet, field
from restrl.types import Case, Limits, Problem, Tests

MIN_TIME_LIMIT_S = 1.0
GT_TIME_LIMIT_FACTOR = 4.0
MAX_GROUP_S = 60.0
"""All inputs of one group (base, plus) together."""
_MEMORY_BYTES = 4 << 30

_ORACLES: dict[str, dict[str, str]] = {
    "HumanEval": {"find_zero": "evalplus-root"},
    "Mbpp": {
        "are_equivalent": "evalplus-any",
        "sum_div": "evalplus-or-zero",
        "surface_Area": "evalplus-surface-area",
        "digit_distance_nums": "evalplus-digit-distance",
        "check_str": "evalplus-not-none",
        "text_match_three": "evalplus-not-none",
        "text_starta_endb": "evalplus-not-none",
        "similar_elements": "evalplus-set",
        "find_char_long": "evalplus-set",
        "common_in_nested_lists": "evalplus-set",
        "extract_singly": "evalplus-set",
        "larg_nnum": "evalplus-set",
        "intersection_array": "evalplus-set",
        "find_dissimilar": "evalplus-set",
        "Diff": "evalplus-set",
    },
}


def humaneval_plus(record: Mapping[str, Any], where: str) -> Problem:
    """Turns a record of HumanEval+ into a problem; its tests expect nothing yet (see `with_expected`).

    Raises:
        ProblemError: The record is malformed.
    """
    if "base_input" not in record:
        return humaneval.to_problem(record, where)
    prompt, entry_point = field(record, "prompt", str, where), field(record, "entry_point", str, where)
    state = humaneval.initial_state(prompt)
    return Problem(
        id=field(record, "task_id", str, where),
        statement=prompt.strip(),
        initial_state=state,
        entry_point=entry_point,
        tests=_tests(record, where, _ORACLES["HumanEval"].get(entry_point, "evalplus")),
        stop_strings=humaneval.STOPS,
        limits=Limits(memory_bytes=_MEMORY_BYTES),
        canonical_solution=state + field(record, "canonical_solution", str, where).lstrip("\n"),
        split="test",
        metadata=_metadata(record, where),
        chat_message=humaneval.chat_message(prompt),
        chat_opening=humaneval.CHAT_OPENING,
        chat_stop_strings=humaneval.CHAT_STOPS,
    )


def mbpp_plus(record: Mapping[str, Any], where: str) -> Problem:
    """Turns a record of MBPP+ into a problem; its tests expect nothing yet (see `with_expected`).

    Raises:
        ProblemError: The record is malformed.
    """
    if "base_input" not in record:
        return mbpp.program_to_problem(record, where)
    prompt, entry_point = field(record, "prompt", str, where), field(record, "entry_point", str, where)
    return Problem(
        id=field(record, "task_id", str, where),
        statement=prompt.strip().strip('"').strip(),
        initial_state="",
        entry_point=entry_point,
        tests=_tests(record, where, _ORACLES["Mbpp"].get(entry_point, "evalplus")),
        preamble=prompt.strip() + "\n",
        stop_strings=mbpp.STOPS,
        limits=Limits(memory_bytes=_MEMORY_BYTES),
        canonical_solution=mbpp.normalise(field(record, "canonical_solution", str, where)),
        split="test",
        metadata=_metadata(record, where),
        chat_message=humaneval.chat_message(prompt),
        chat_opening=humaneval.CHAT_OPENING,
        chat_stop_strings=humaneval.CHAT_STOPS,
    )


def _tests(record: Mapping[str, Any], where: str, checker: str) -> Tests:
    task = field(record, "task_id", str, where)
    cases = []
    for group in ("base", "plus"):
        rows = field(record, f"{group}_input", list, where)
        for number, arguments in enumerate(restore_inputs(task, rows, where)):
            cases.append(Case(f"{group}_{number}", args=tuple(arguments)))
    if not cases:
        raise ProblemError(f"{where}: {task} has no inputs")
    atol = float(field(record, "atol", (int, float), where))
    if not 0 <= atol < 1e300:
        raise ProblemError(f"{where}: 'atol' is {atol}; a finite number of at least 0 is needed")
    return Tests("call", tuple(cases), atol=atol, all_or_nothing=True, checker=checker)


def _metadata(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    groups = {group: len(field(record, f"{group}_input", list, where)) for group in ("base", "plus")}
    return {"groups": groups, "contract": field(record, "contract", str, where, "")}


def with_expected(problems: Sequence[Problem]) -> list[Problem]:
    """Completes problems: expected outputs, tolerances and time limits from a run of the canonical solutions.

    Raises:
        ProblemError: A canonical solution fails.
        GraderError: The sandbox failed.
    """
    open_ones = [problem for problem in problems if "groups" in problem.metadata]
    answers = dict(zip((problem.id for problem in open_ones), answers_of(open_ones), strict=True))
    return [_completed(item, answers[item.id]) if item.id in answers else item for item in problems]


def _completed(problem: Problem, answers: Sequence[Answer]) -> Problem:
    tests = problem.tests
    cases: list[Case] = []
    total_s = 0.0
    for size in problem.metadata["groups"].values():
        rows = list(zip(tests.cases, answers, strict=True))[len(cases) : len(cases) + size]
        expected = [_expected(answer.value, tests.checker) for _, answer in rows]
        seconds = [max(MIN_TIME_LIMIT_S, round(GT_TIME_LIMIT_FACTOR * answer.cpu_s, 1)) for _, answer in rows]
        for (case, _), value, atol, cpu_s in zip(
            rows, expected, tolerances(expected, tests.atol), seconds, strict=True
        ):
            cases.append(dataclasses.replace(case, expected=value, atol=atol, cpu_s=cpu_s))
        total_s += min(MAX_GROUP_S, sum(seconds)) + 2.0
    limits = dataclasses.replace(problem.limits, total_cpu_s=total_s)
    return dataclasses.replace(problem, tests=dataclasses.replace(tests, cases=tuple(cases)), limits=limits)


def _expected(value: Any, checker: str) -> Any:
    if checker == "evalplus-not-none":
        return value is not None
    return None if isinstance(value, Opaque) else value


HUMANEVAL_PLUS = ProblemSet(
    "HumanEval+: HumanEval with 80 times the tests",
    to_problem=humaneval_plus,
    files={"test": ("humaneval_plus/HumanEvalPlus.jsonl.gz", "humaneval_plus/HumanEvalPlus.jsonl")},
    hub=HubSource("evalplus/humanevalplus", {"test": "test"}),
    splits=("test",),
    finish=with_expected,
    licence="Apache-2.0, github.com/evalplus/humanevalplus_release; base problems MIT (OpenAI)",
    url="https://github.com/evalplus/humanevalplus_release/releases",
)
HUMANEVAL_PLUS_MINI = dataclasses.replace(
    HUMANEVAL_PLUS,
    summary="HumanEval+ with the few tests that find what all of them find",
    files={"test": ("humaneval_plus/HumanEvalPlus-Mini.jsonl.gz", "humaneval_plus/HumanEvalPlus-Mini.jsonl")},
    hub=None,
)
HUMANEVAL_PLUS_ONE_PROGRAM = dataclasses.replace(
    HUMANEVAL_PLUS,
    summary="HumanEval+ as the hub has it: all tests of a problem in one program, without the special oracle",
    files={"test": ("humaneval_plus/HumanEvalPlus-OriginFmt.jsonl.gz", "humaneval_plus/HumanEvalPlus-OriginFmt.jsonl")},
)
MBPP_PLUS = ProblemSet(
    "MBPP+: 378 problems of MBPP with 35 times the tests",
    to_problem=mbpp_plus,
    files={"test": ("mbpp_plus/MbppPlus.jsonl.gz", "mbpp_plus/MbppPlus.jsonl", "mbpp_plus/MbppPlus-first25.jsonl.gz")},
    hub=HubSource("evalplus/mbppplus", {"test": "test"}),
    splits=("test",),
    finish=with_expected,
    licence="Apache-2.0, github.com/evalplus/mbppplus_release; base problems CC-BY-4.0 (MBPP)",
    url="https://github.com/evalplus/mbppplus_release/releases",
)
MBPP_PLUS_ONE_PROGRAM = dataclasses.replace(
    MBPP_PLUS,
    summary="MBPP+ as the hub has it: all tests of a problem in one program, without the special oracles",
    files={"test": ("mbpp_plus/MbppPlus-OriginFmt*.jsonl.gz", "mbpp_plus/MbppPlus-OriginFmt*.jsonl")},
)
