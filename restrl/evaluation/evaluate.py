"""Grades what a decoder produced and sums it up, at every budget (ReST-RL, section 4).

The decoder never saw the tests; here they decide. One batch grades every distinct program of every problem once.

Numbered deviations from the published evaluation:

1. A completion that was cut off by the token limit is not a finished program: it scores 0 without being run, and the
   share of such answers is reported (``grade_unfinished=True`` runs them all the same).
2. Accuracy comes at every budget 1..N from the same run, with intervals, beside the oracle that always picks a passing
   candidate where there is one: the room that the choice among the candidates leaves.
3. Budgets are counts of sampled completions, exactly; a decoder that answers from outside its budget is an error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from restrl.errors import EngineError, GraderError
from restrl.evaluation.results import CandidateResult, EvaluationResult, ProblemResult
from restrl.types import Grade, Grader, Problem


class CandidateLike(Protocol):
    """One sampled completion as a whole solution."""

    @property
    def code(self) -> str:
        """The solution after the problem's initial state."""
        ...

    @property
    def finished(self) -> bool:
        """False where the token limit cut it off."""
        ...


class DecodedLike(Protocol):
    """What a decoder gives for one problem (see `restrl.decoding`)."""

    @property
    def problem_id(self) -> str:
        """The problem."""
        ...

    @property
    def candidates(self) -> Sequence[CandidateLike]:
        """The sampled completions, in the order in which they were sampled: candidate ``b - 1`` completes budget b."""
        ...

    @property
    def answers(self) -> Sequence[int | None]:
        """Index of the chosen candidate at budgets 1..N; None where there was nothing to choose."""
        ...


def evaluate_decoded(
    problems: Iterable[Problem],
    decoded: Sequence[DecodedLike],
    grader: Grader,
    *,
    independent: bool = False,
    grade_unfinished: bool = False,
    seed: int = 0,
    num_resamples: int = 10_000,
    confidence: float = 0.95,
) -> EvaluationResult:
    """Grades all candidates of a decoder's output and returns the evaluation.

    Args:
        problems: At least the decoded problems.
        decoded: One per problem, in any order; kept in this order.
        grader: Runs the programs; every distinct (problem, program) is graded once, all in one batch.
        independent: The candidates are independent samples (the ``sample`` and best-of-n decoders): pass@k is defined.
        grade_unfinished: Also run programs that the token limit cut off, instead of scoring them 0.
        seed: Seed of the bootstrap.
        num_resamples: Resamples of the bootstrap.
        confidence: Of the intervals, in (0, 1).

    Raises:
        EngineError: The decoder's output breaks its contract: an unknown or repeated problem, no answer, or an answer
            that is not among the candidates of its budget.
        GraderError: The grader could not grade.
    """
    by_id = {problem.id: problem for problem in problems}
    _check(decoded, by_id)
    keys = dict.fromkeys(
        (item.problem_id, candidate.code)
        for item in decoded
        for candidate in item.candidates
        if candidate.finished or grade_unfinished
    )
    pairs = [(by_id[name], by_id[name].initial_state + code) for name, code in keys]
    grades = grader.grade(pairs) if pairs else []
    if len(grades) != len(pairs):
        raise GraderError(f"the grader returned {len(grades)} grades for {len(pairs)} programs: one each is needed")
    graded: dict[tuple[str, str], Grade] = dict(zip(keys, grades, strict=True))
    results = tuple(_result(item, by_id[item.problem_id].band, graded, grade_unfinished) for item in decoded)
    return EvaluationResult(results, independent, seed, num_resamples, confidence)


def _check(decoded: Sequence[DecodedLike], by_id: Mapping[str, Problem]) -> None:
    if not decoded:
        raise EngineError("the decoder returned no problem: there is nothing to evaluate")
    seen: set[str] = set()
    for item in decoded:
        name = item.problem_id
        if name not in by_id:
            raise EngineError(f"the decoder returned problem {name!r}, which is not among the {len(by_id)} problems")
        if name in seen:
            raise EngineError(f"the decoder returned problem {name!r} twice: one result per problem is needed")
        seen.add(name)
        if not item.answers:
            raise EngineError(f"the decoder gave no answer for problem {name!r}: at least one budget is needed")
        for budget, index in enumerate(item.answers, 1):
            limit = min(budget, len(item.candidates))
            if index is not None and not 0 <= index < limit:
                raise EngineError(
                    f"the decoder answered problem {name!r} with candidate {index} at budget {budget}: "
                    f"only candidates 0..{limit - 1} were sampled by then"
                )


def _result(
    item: DecodedLike, band: str, graded: Mapping[tuple[str, str], Grade], grade_unfinished: bool
) -> ProblemResult:
    candidates = []
    for candidate in item.candidates:
        # The same text may be finished in one candidate and cut off in another, so the flag decides, not the cache.
        grade = graded[item.problem_id, candidate.code] if candidate.finished or grade_unfinished else None
        reward, passed = (grade.reward, grade.passed) if grade else (0.0, False)
        score = getattr(candidate, "score", None)
        candidates.append(CandidateResult(candidate.code, candidate.finished, reward, passed, score))
    return ProblemResult(item.problem_id, band, tuple(candidates), tuple(item.answers), _ledger(item))


def _ledger(item: DecodedLike) -> dict[str, float]:
    """Returns the numeric fields of the decoder's ledger, if it keeps one."""
    ledger = getattr(item, "ledger", None)
    if ledger is None:
        return {}
    pairs = dataclasses.asdict(ledger) if dataclasses.is_dataclass(ledger) else dict(ledger)  # type: ignore[arg-type]
    return {name: value for name, value in pairs.items() if isinstance(value, int | float)}
