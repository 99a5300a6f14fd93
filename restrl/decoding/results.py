"""What every decoder returns: candidates in the order of sampling, an answer at every budget, and what it cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restrl.actions import finish
from restrl.types import Completion


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sampled completion as a whole solution.

    Attributes:
        code: The code after the problem's initial state; normalised if finished.
        finished: False where the token limit cut it off.
        score: The value model's value of the finished program; None without one.
        index: Place in the order of sampling, from 0.
        public: Share of the problem's public examples that the program passes, in [0, 1]; None where they were not
            used.
        cluster: Number of the programs that did the same on all inputs; None where programs were not compared.
    """

    code: str
    finished: bool
    score: float | None
    index: int
    public: float | None = None
    cluster: int | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """What one problem cost.

    Attributes:
        completions: Sampled completions.
        unique_completions: Distinct programs among them.
        cut_off: Completions that the token limit ended.
        requests: Sampling requests.
        generated_tokens: Tokens of the completions.
        prompt_tokens: Prompt tokens that went through the policy.
        reused_prompt_tokens: Prompt tokens whose keys and values another sample of the state, or a cache, had.
        value_states: States that were scored.
        repeated_scores: States that were wanted again and had their score: hits of the cache.
        value_calls: Scoring rounds that this problem took part in.
        value_tokens: Tokens that went through the value model; a round's are shared by its states.
        reused_suffixes: Rests of earlier completions that stood in for new samples.
        cost: What the policy's server charged, in the currency of the prices given (`policy.price_per_million_*`).
        wall_s: This problem's share of the wall-clock seconds; not compared, since it is never the same twice.
    """

    completions: int = 0
    unique_completions: int = 0
    cut_off: int = 0
    requests: int = 0
    generated_tokens: int = 0
    prompt_tokens: int = 0
    reused_prompt_tokens: int = 0
    value_states: int = 0
    repeated_scores: int = 0
    value_calls: int = 0
    value_tokens: float = 0.0
    reused_suffixes: int = 0
    cost: float = 0.0
    wall_s: float = field(default=0.0, compare=False)

    @staticmethod
    def total(ledgers: Iterable[Ledger]) -> Ledger:
        """Returns the sum over problems."""
        rows = list(ledgers)
        return Ledger(**{f.name: sum(getattr(row, f.name) for row in rows) for f in dataclasses.fields(Ledger)})

    @property
    def prompt_reuse(self) -> float:
        """Share of the prompt tokens that took no forward, in [0, 1]."""
        return self.reused_prompt_tokens / max(1, self.prompt_tokens + self.reused_prompt_tokens)

    @property
    def score_reuse(self) -> float:
        """Share of the wanted scores that the cache had, in [0, 1]."""
        return self.repeated_scores / max(1, self.value_states + self.repeated_scores)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder gives for one problem.

    Attributes:
        problem_id: The problem.
        candidates: Every sampled completion, in the order of sampling.
        answers: Index of the answer among the first b candidates, for every budget b = 1..N.
        ledger: What it cost.
        public_tests: How many public examples of the problem had a part in the answers: 0 in the usual regime.
    """

    problem_id: str
    candidates: tuple[Candidate, ...]
    answers: tuple[int, ...]
    ledger: Ledger
    public_tests: int = 0

    @property
    def answer(self) -> Candidate:
        """The answer at the full budget."""
        return self.candidates[self.answers[-1]]

    def to_json(self, *, timing: bool = False) -> dict[str, Any]:
        """Returns plain data that `from_json` reads back; without ``timing`` equal results are equal data."""
        record = dataclasses.asdict(self)
        if not timing:
            del record["ledger"]["wall_s"]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Decoded:
        """Reads what `to_json` wrote."""
        candidates = tuple(Candidate(**candidate) for candidate in record["candidates"])
        return cls(
            record["problem_id"],
            candidates,
            tuple(record["answers"]),
            Ledger(**record["ledger"]),
            int(record.get("public_tests", 0)),
        )


def candidate_of(prefix: str, completion: Completion, score: float | None, index: int) -> Candidate:
    """Returns the candidate that a completion of ``prefix`` gives."""
    finished = completion.finish_reason == "stop"
    code = prefix + completion.text
    return Candidate(finish(code) if finished else code, finished, score, index)


Rank = tuple[bool, float, float]


def rank_of(candidate: Candidate) -> Rank:
    """Returns what candidates are ranked by, best last: finished, public examples passed, score."""
    score = candidate.score if candidate.score is not None else float("-inf")
    return candidate.finished, candidate.public or 0.0, score


def best_answers(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """Returns the index of the best candidate among the first b, for b = 1..N.

    Finished before cut off, then more public examples passed where they were used, then the higher score, then the
    earlier one.

    >>> one, two = Candidate("a", True, 0.2, 0), Candidate("b", True, 0.7, 1)
    >>> best_answers([one, two, Candidate("c", False, None, 2)])
    (0, 1, 1)
    """
    answers: list[int] = []
    best: Rank | None = None
    for candidate in candidates:
        rank = rank_of(candidate)
        if best is None or rank > best:
            best = rank
            answers.append(candidate.index)
        else:
            answers.append(answers[-1])
    return tuple(answers)
