"""Searches kept beside their results: the tree, the task, and how its programs were graded; one JSON object a line.

A file is gzip if its name ends in ``.gz``, and the same entries give the same bytes. Several files put end to end are
one file, which is how a run writes its own chunk by chunk.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from restrl.errors import ArtifactError
from restrl.search.beam import BeamSearch
from restrl.search.mcts import SearchTree
from restrl.search.saved import SavedDraw, SavedNode, SavedTree, tree_to_record
from restrl.search.tree import next_step
from restrl.types import Grade, Problem


class CandidateLike(Protocol):
    """One sampled completion as a whole solution (see `restrl.decoding.results.Candidate`)."""

    @property
    def code(self) -> str:
        """The solution after the problem's initial state."""
        ...

    @property
    def finished(self) -> bool:
        """False where the token limit cut it off."""
        ...

    @property
    def score(self) -> float | None:
        """What the decoder thought of it."""
        ...


@dataclass(frozen=True, slots=True)
class ProgramGrade:
    """How a program did: its reward in [0, 1], whether every test passed, and the verdict of every test."""

    reward: float
    passed: bool
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class TreeEntry:
    """One problem's search with what is needed to read it.

    Attributes:
        tree: The search.
        method: The decoder, and whose policy it was, in words.
        statement: What was asked.
        initial_state: The code that every solution starts with.
        answer: Index of the completion that was chosen; None without one.
        tests: Names of the problem's tests.
        grades: By index of the completion; completions of the same program share theirs.
    """

    tree: SavedTree
    method: str = ""
    statement: str = ""
    initial_state: str = ""
    answer: int | None = None
    tests: tuple[str, ...] = ()
    grades: Mapping[int, ProgramGrade] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Returns plain data that `from_record` reads; every distinct grade stands there once."""
        groups: dict[ProgramGrade, list[int]] = {}
        for index in sorted(self.grades):
            groups.setdefault(self.grades[index], []).append(index)
        grades = [
            {"draws": draws, "reward": grade.reward, "passed": grade.passed, "verdicts": list(grade.verdicts)}
            for grade, draws in groups.items()
        ]
        return {
            "tree": self.tree.to_record(),
            "method": self.method,
            "statement": self.statement,
            "initial_state": self.initial_state,
            "answer": self.answer,
            "tests": list(self.tests),
            "grades": grades,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TreeEntry:
        """Reads an entry, or the record of a tree alone (`restrl.search.saved.tree_to_record`).

        Raises:
            ArtifactError: It is neither.
        """
        if "tree" not in record:
            tree = SavedTree.from_record(record)
            return cls(tree, answer=tree.answer())
        try:
            tree = SavedTree.from_record(record["tree"])
            grades = {
                int(index): ProgramGrade(float(item["reward"]), bool(item["passed"]), tuple(item["verdicts"]))
                for item in record["grades"]
                for index in item["draws"]
            }
            answer = record["answer"]
            if any(not 0 <= index < len(tree.draws) for index in (*grades, *(() if answer is None else (answer,)))):
                raise ValueError("a grade or the answer is of a completion that is not there")
            return cls(
                tree,
                str(record["method"]),
                str(record["statement"]),
                str(record["initial_state"]),
                answer,
                tuple(map(str, record["tests"])),
                grades,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"saved tree: {type(error).__name__} {error}; it is not an entry that restrl writes; search again"
            ) from None

    @property
    def chosen_path(self) -> tuple[int, ...]:
        """The numbers of the nodes that the answer passes through, from the root."""
        return () if self.answer is None else self.tree.path(self.tree.draws[self.answer].node)


def entry_of(
    problem: Problem,
    tree: SavedTree,
    method: str,
    answer: int | None,
    grades: Mapping[str, Grade] | None = None,
) -> TreeEntry:
    """Returns the entry of one search.

    Args:
        problem: What was searched.
        tree: The search.
        method: In words.
        answer: Index of the chosen completion.
        grades: By code after the initial state; of the finished programs that were graded.
    """
    by_draw = {}
    for draw, code in zip(tree.draws, tree.programs, strict=True):
        grade = (grades or {}).get(code) if draw.finished else None
        if grade is not None:
            verdicts = tuple(verdict.verdict for verdict in grade.verdicts)
            by_draw[draw.index] = ProgramGrade(grade.reward, grade.passed, verdicts)
    names = next((tuple(v.id for v in grade.verdicts) for grade in (grades or {}).values()), ())
    return TreeEntry(tree, method, problem.statement, problem.initial_state, answer, names, by_draw)


def tree_of_search(search: Any, problem_id: str, method: str) -> SavedTree:
    """Returns a search as it is now: its own tree, or for one that keeps none the tree of its completions' lines.

    Args:
        search: A `SearchTree` or `BeamSearch`, something around one (as its ``search``), or anything whose ``draws``
            have a ``program``, ``finished`` and ``score``.
        problem_id: What is searched.
        method: In words.
    """
    search = search if isinstance(search, SearchTree | BeamSearch) else getattr(search, "search", search)
    if isinstance(search, SearchTree | BeamSearch):
        return SavedTree.from_record(tree_to_record(search))
    return tree_of_candidates(problem_id, [_Drawn(d.program, d.finished, d.score) for d in search.draws], method)


@dataclass(frozen=True, slots=True)
class _Drawn:
    code: str
    finished: bool
    score: float | None


def tree_of_candidates(problem_id: str, candidates: Sequence[CandidateLike], method: str) -> SavedTree:
    """Returns the tree of the lines of independent candidates, for methods that grow none themselves.

    A state's visits are the candidates that pass through it, its value the mean score of those that have one.
    """
    parents: list[int | None] = [None]
    codes, terminals, children = [""], [False], [dict[tuple[str, bool], int]()]
    through: list[list[int]] = [[]]
    tips: list[int] = []
    for index, candidate in enumerate(candidates):
        at = 0
        through[0].append(index)
        while not terminals[at]:
            key = next_step(codes[at], candidate.code, candidate.finished)
            if key is None:
                break
            if key not in children[at]:
                children[at][key] = len(parents)
                parents.append(at)
                codes.append(key[0])
                terminals.append(key[1])
                children.append({})
                through.append([])
            at = children[at][key]
            through[at].append(index)
        tips.append(at)
    nodes = []
    for number, parent in enumerate(parents):
        before = "" if parent is None else codes[parent]
        kept = len(before if codes[number].startswith(before) else before.rstrip())
        scores = [candidates[i].score for i in through[number]]
        known = [score for score in scores if score is not None]
        value = sum(known) / len(known) if known else 0.0
        nodes.append(
            SavedNode(
                parent=parent,
                action=codes[number][kept:],
                terminal=terminals[number],
                visits=len(through[number]),
                value=value,
                scored_value=value if terminals[number] and known else None,
                line_prior=None,
                draws=0 if number else len(candidates),
                pruned=False,
                order=number,
                trim=len(before) - kept,
            )
        )
    draws = [
        SavedDraw(i, 0, tip, c.finished, c.score, 0, "" if terminals[tip] else c.code[len(codes[tip]) :])
        for i, (c, tip) in enumerate(zip(candidates, tips, strict=True))
    ]
    return SavedTree(problem_id, {"method": method}, 0, tuple(nodes), tuple(draws))


def trees_bytes(entries: Iterable[TreeEntry], *, compressed: bool = True) -> bytes:
    """Returns the bytes of a file of entries; the same entries give the same bytes."""
    lines = [json.dumps(entry.to_record(), separators=(",", ":")) + "\n" for entry in entries]
    raw = "".join(lines).encode("ascii")
    return gzip.compress(raw, 6, mtime=0) if compressed else raw


def read_trees(path: Path) -> list[TreeEntry]:
    """Reads a file of entries, compressed or not, in its order.

    Raises:
        ArtifactError: The file is missing or broken, or a line is no saved tree; the message names the line.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise ArtifactError(f"{path}: cannot be read ({error}); give a file of saved trees") from None
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ArtifactError("expected a JSON object")
            entries.append(TreeEntry.from_record(record))
        except (ValueError, ArtifactError) as error:
            raise ArtifactError(f"{path}:{number}: {error}") from None
    if not entries:
        raise ArtifactError(f"{path}: holds no saved tree; make some with restrl solve --save-tree FILE")
    return entries
