"""What the models and the grader have answered so far, on disk: a killed stage goes on where it was.

Every answer of the policy, the value model and the grader is appended to one file as soon as it is there. A stage that
starts again asks the same questions in the same order, gets the answers that the file has, and asks the models only
what comes after. So at most one batch is lost, whatever the number of problems under way, and the rest is sampled and
scored in the same batches as without the interruption: the artifacts are the same to the byte even where a model's
numbers depend on the batch.

Answers are kept by their question, in order: the same question twice gets its two answers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from restrl.decoding.driver import scored_tokens
from restrl.types import (
    CaseVerdict,
    Completion,
    Grade,
    Grader,
    Policy,
    Problem,
    SampleRequest,
    SamplingParams,
    State,
    ValueModel,
)

GRADES_AT_ONCE = 256
"""Programs that are graded between two entries: enough to keep every core busy."""


class Journal:
    """The answers of one chunk of work; a context manager that closes its file.

    Args:
        path: The file; made if missing. An entry that was cut off by a kill is dropped.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._known: dict[str, deque[tuple[Any, Fraction]]] = defaultdict(deque)
        whole = self._read(path) if path.exists() else 0
        # A number and no file object: SIGTERM may come between here and the `with`, and a number is nobody's to close.
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.ftruncate(self._file, whole)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def layer(self, policy: Policy, value_model: ValueModel | None) -> tuple[Policy, ValueModel | None]:
        """Returns the models as a decoder sees them: with a memory (see `restrl.decoding.decode`)."""
        return JournalledPolicy(policy, self), value_model and JournalledValueModel(value_model, self)

    def grader(self, grader: Grader) -> JournalledGrader:
        """Returns a grader with a memory."""
        return JournalledGrader(grader, self)

    def answer(
        self, keys: Sequence[str], ask: Callable[[list[int]], list[Any]], tokens: Callable[[], int] = lambda: 0
    ) -> tuple[list[Any], Fraction]:
        """Returns the answers to questions, from the file or by asking, and the tokens that they took.

        Args:
            keys: One per question.
            ask: From the places of the questions that the file has no answer to, to their answers as plain data.
            tokens: A counter; what it gains while asking is booked in equal shares.
        """
        answers: list[Any] = [None] * len(keys)
        spent, missing = Fraction(0), []
        with self._lock:
            for place, key in enumerate(keys):
                if self._known[key]:
                    answers[place], share = self._known[key].popleft()
                    spent += share
                else:
                    missing.append(place)
        if missing:
            before = tokens()
            found = ask(missing)
            gained = tokens() - before
            self._append([keys[place] for place in missing], found, gained)
            for place, item in zip(missing, found, strict=True):
                answers[place] = item
            spent += gained
        return answers, spent

    def _append(self, keys: list[str], answers: list[Any], tokens: int) -> None:
        entry = json.dumps({"keys": keys, "answers": answers, "tokens": tokens}, separators=(",", ":"))
        with self._lock:
            append_line(self._file, entry.encode("ascii") + b"\n")

    def _read(self, path: Path) -> int:
        """Takes in the whole entries and returns how many bytes they have."""
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True):
            try:
                entry = json.loads(line)
                pairs = list(zip(entry["keys"], entry["answers"], strict=True))
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            for key, item in pairs:
                self._known[key].append((item, Fraction(entry["tokens"], len(pairs))))
            whole += len(line)
        return whole


def append_line(file: int, line: bytes) -> None:
    """Writes one entry and waits until the disk has it."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(file, rest) :]
    os.fsync(file)


class _Journalled:
    """A model or grader with a memory; everything else is its own."""

    def __init__(self, inner: Any, journal: Journal) -> None:
        self._inner, self._journal = inner, journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class JournalledPolicy(_Journalled):
    """A policy that answers what it has answered before from the journal."""

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Returns the completions of every request."""
        keys = [
            _key("sample", r.state.problem.id, r.state.code, r.n, r.seed, *dataclasses.astuple(params))
            for r in requests
        ]

        def ask(places: list[int]) -> list[Any]:
            answers = self._inner.sample([requests[place] for place in places], params)
            return [[_fields(completion) for completion in completions] for completions in answers]

        answers, _ = self._journal.answer(keys, ask)
        return [[Completion(**_with_tuples(fields)) for fields in completions] for completions in answers]


class JournalledValueModel(_Journalled):
    """A value model that answers what it has answered before from the journal.

    Attributes:
        tokens: Tokens that the answers took, those from the journal included.
    """

    def __init__(self, inner: Any, journal: Journal) -> None:
        super().__init__(inner, journal)
        self._tokens = Fraction(0)

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return int(self._tokens)

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns one value per state."""
        return self._scores("value", states, lambda some: [float(value) for value in self._inner.score_states(some)])

    def __getattr__(self, name: str) -> Any:
        # Only a model that scores boundaries has these methods; its memory must not promise more.
        found = super().__getattr__(name)
        own = {"score_boundaries": self._boundaries, "score_paths": self._paths}
        return own[name] if name in own and found is not None else found

    def _boundaries(self, states: Sequence[State]) -> list[list[float]]:
        return self._scores(
            "boundaries", states, lambda some: [list(map(float, row)) for row in self._inner.score_boundaries(some)]
        )

    def _paths(self, states: Sequence[State]) -> list[list[tuple[int, float]]]:
        rows = self._scores(
            "paths",
            states,
            lambda some: [[[int(at), float(value)] for at, value in path] for path in self._inner.score_paths(some)],
        )
        return [[(at, value) for at, value in row] for row in rows]

    def _scores(self, kind: str, states: Sequence[State], score: Callable[[list[State]], list[Any]]) -> list[Any]:
        keys = [_key(kind, state.problem.id, state.code, state.terminal) for state in states]
        answers, spent = self._journal.answer(
            keys, lambda places: score([states[place] for place in places]), lambda: scored_tokens(self._inner)
        )
        self._tokens += spent
        return answers


class JournalledGrader(_Journalled):
    """A grader that grades nothing twice; it also keeps what it has graded.

    Attributes:
        grades: By (problem id, program).
    """

    def __init__(self, inner: Any, journal: Journal) -> None:
        super().__init__(inner, journal)
        self.grades: dict[tuple[str, str], Grade] = {}

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """Returns one grade per pair."""
        grades: list[Grade] = []
        for start in range(0, len(pairs), GRADES_AT_ONCE):
            part = pairs[start : start + GRADES_AT_ONCE]
            grades += self._grade(part)
        self.grades.update(
            ((problem.id, program), grade) for (problem, program), grade in zip(pairs, grades, strict=True)
        )
        return grades

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The same; it waits."""
        return self.grade(pairs)

    def _grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        keys = [_key("grade", problem.id, program) for problem, program in pairs]

        def ask(places: list[int]) -> list[Any]:
            return [dataclasses.asdict(grade) for grade in self._inner.grade([pairs[place] for place in places])]

        answers, _ = self._journal.answer(keys, ask)
        return [_grade_of(fields) for fields in answers]


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()[:32]


def _fields(completion: Completion) -> dict[str, Any]:
    """Returns the fields that are not at their default."""
    return {
        field.name: value
        for field in dataclasses.fields(completion)
        if (value := getattr(completion, field.name)) != field.default
    }


def _with_tuples(value: Any) -> Any:
    """JSON has lists only, our values tuples only."""
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _grade_of(fields: dict[str, Any]) -> Grade:
    plain: dict[str, Any] = _with_tuples(fields)
    return Grade(**{**plain, "verdicts": tuple(CaseVerdict(**verdict) for verdict in plain["verdicts"])})
