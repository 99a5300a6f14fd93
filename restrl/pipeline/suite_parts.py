"""Small parts of a stand-alone evaluation: what can be graded, grading with the failures apart, scores, a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from restrl.decoding.results import Candidate
from restrl.errors import ProblemError
from restrl.evaluation.suite import Part, ScoredAnswer, has_base, is_base, part_of
from restrl.grading.config import GradingConfig
from restrl.grading.registry import judge_for
from restrl.types import Grade, Grader, Problem


def no_answer() -> Candidate:
    """What stands for the answer to a problem whose prompt leaves no room for one."""
    return Candidate("", finished=False, score=None, index=0)


def why_not_gradable(problem: Problem, grading: GradingConfig) -> str:
    """Why a problem cannot be graded on this machine; empty where it can."""
    try:
        judge_for(problem, grading)
    except ProblemError as error:
        return str(error)
    return ""


def grade_all(grader: Grader, pairs: Sequence[tuple[Problem, str]]) -> tuple[list[Grade | None], dict[int, str]]:
    """Grades (problem, code) pairs; problems that turn out not to be gradable come back by id with the reason."""
    programs = [(problem, problem.initial_state + code) for problem, code in pairs]
    try:
        return list(grader.grade(programs)), {}
    except ProblemError:
        # One of them: find out which, problem by problem.
        grades: list[Grade | None] = []
        failures: dict[int, str] = {}
        for problem, program in programs:
            try:
                grades += grader.grade([(problem, program)])
            except ProblemError as error:
                grades.append(None)
                failures[id(problem)] = str(error)
        return grades, failures


def score_answer(problem: Problem, finished: bool, grade: Grade | None) -> ScoredAnswer:
    """Returns the scores of an answer; without a grade it was not run, because it is unfinished."""
    split = has_base(problem.tests)
    if grade is None:
        return ScoredAnswer(finished, Part(0.0, False), Part(0.0, False) if split else None, "unfinished")
    bad = next((f"{v.id}: {v.verdict}" for v in grade.verdicts if v.verdict != "pass"), "")
    base = part_of(problem.tests, grade.verdicts, is_base) if split else None
    return ScoredAnswer(finished, Part(grade.reward, grade.passed), base, bad)


def digest_of(problems: Sequence[Problem]) -> str:
    """Returns a hash of what the problems ask and where their solutions start."""
    digest = hashlib.sha256()
    for problem in problems:
        prompts = (problem.statement, problem.preamble, problem.initial_state, problem.chat_message)
        more = (problem.chat_opening, problem.stop_strings, problem.chat_stop_strings)
        digest.update(json.dumps([problem.id, *prompts, *more, len(problem.tests.cases)]).encode())
    return digest.hexdigest()
