"""The named problem sets, and the one function that loads problems."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from restrl.errors import ProblemError, ReferenceFailed
from restrl.problems import apps, bigcodebench, codecontests, ds1000, evalplus, humaneval, livecodebench, mbpp, starter
from restrl.problems.jsonl import read_problems
from restrl.problems.problem_set import ProblemSet, Refusal
from restrl.problems.sources import Spec, find_places, read_place
from restrl.types import Problem

_log = logging.getLogger(__name__)

PROBLEM_SETS: dict[str, ProblemSet] = {
    "starter": ProblemSet("all three splits of the embedded family, 1:1:1", starter.load_all),
    "starter/train": ProblemSet("embedded family, training split (endless)", starter.of_split("train")),
    "starter/validation": ProblemSet("embedded family, validation split (endless)", starter.of_split("validation")),
    "starter/test": ProblemSet("embedded family, test split (endless)", starter.of_split("test")),
    "starter-long/train": ProblemSet("six operations, training split (endless)", starter.of_split("train", "long")),
    "starter-long/validation": ProblemSet(
        "six operations, validation split (endless)", starter.of_split("validation", "long")
    ),
    "starter-long/test": ProblemSet("six operations, test split (endless)", starter.of_split("test", "long")),
    "humaneval": humaneval.HUMANEVAL,
    "humaneval+": evalplus.HUMANEVAL_PLUS,
    "humaneval+mini": evalplus.HUMANEVAL_PLUS_MINI,
    "humaneval+/one-program": evalplus.HUMANEVAL_PLUS_ONE_PROGRAM,
    "mbpp": mbpp.MBPP,
    "mbpp-3shot": mbpp.MBPP_THREE_SHOT,
    "mbpp-challenge": mbpp.MBPP_CHALLENGE,
    "mbpp-sanitized": mbpp.MBPP_SANITIZED,
    "mbpp+": evalplus.MBPP_PLUS,
    "mbpp+/one-program": evalplus.MBPP_PLUS_ONE_PROGRAM,
    "apps/train": apps.TRAIN,
    "apps/test": apps.TEST,
    "apps/test-500": apps.TEST_500,
    "apps/sample": apps.SAMPLE,
    "livecodebench": livecodebench.LIVECODEBENCH,
    "livecodebench/sample": livecodebench.SAMPLE,
    "codecontests": codecontests.CODECONTESTS,
    "bigcodebench": bigcodebench.INSTRUCT,
    "bigcodebench/complete": bigcodebench.COMPLETE,
    "bigcodebench/hard": bigcodebench.HARD,
    "bigcodebench/hard-complete": bigcodebench.HARD_COMPLETE,
    "bigcodebench/sample": bigcodebench.SAMPLE,
    "ds1000": ds1000.DS1000,
}


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedSet:
    """Problems, and what became of the rest.

    Attributes:
        problems: The problems, in the order of their source.
        refusals: Reason -> number of records that are no problems.
        sources: Where the records came from; empty for sets that are made.
        solutions: Problem -> all its known solutions, where they were asked for and the set has several.
    """

    problems: list[Problem]
    refusals: Mapping[str, int] = dataclasses.field(default_factory=dict)
    sources: tuple[str, ...] = ()
    solutions: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def load_problems(spec: str, *, count: int | None = None, seed: int = 0) -> list[Problem]:
    """Loads problems.

    Args:
        spec: ``NAME[/SPLIT][@PATH]`` with a name in `PROBLEM_SETS`, or the path of a ``.jsonl`` file.
        count: The first ``count`` problems; None takes a file's every problem, or a set's usual number.
        seed: For the sets that are generated.

    Raises:
        ProblemError: The set is unknown, its data are missing or wrong, or it holds fewer problems than asked for.
    """
    return load_set(spec, count=count, seed=seed).problems


def load_set(spec: str, *, count: int | None = None, seed: int = 0, references: bool = False) -> LoadedSet:
    """Loads problems as `load_problems` does, and says what was refused; with ``references``, every known solution."""
    if count is not None and count < 1:
        raise ProblemError(f"count is {count}: ask for at least 1 problem")
    name, entry, parts = _find(spec)
    if entry is None:
        loaded = LoadedSet(read_problems(Path(spec)), sources=(spec,))
    elif entry.generate is not None:
        loaded = LoadedSet(entry.generate(count, seed))
    else:
        loaded = _read(name, entry, parts, count, references)
    if count is None:
        return loaded
    if len(loaded.problems) < count:
        raise ProblemError(f"{spec} has {len(loaded.problems)} problems, {count} were asked for: lower the count")
    return dataclasses.replace(loaded, problems=loaded.problems[:count])


def _find(spec: str) -> tuple[str, ProblemSet | None, Spec]:
    """Returns (name, set or None for a file of problems, parts)."""
    name, marked, path = spec.partition("@")
    if name in PROBLEM_SETS and (not marked or (path and PROBLEM_SETS[name].to_problem is not None)):
        return name, PROBLEM_SETS[name], Spec(name, path=path)
    parts = Spec.parse(spec)
    entry = PROBLEM_SETS.get(parts.name)
    if entry is not None and entry.to_problem is not None:
        if parts.split and parts.split not in entry.splits:
            allowed = ", ".join(entry.splits) or "none"
            raise ProblemError(f"{spec}: the set {parts.name} has no split {parts.split!r}; its splits: {allowed}")
        if "@" in spec and not parts.path:
            raise ProblemError(f"{spec}: nothing follows '@'; name a data file or a folder")
        return parts.name, entry, parts
    if spec.endswith(".jsonl"):
        return spec, None, parts
    raise ProblemError(f"unknown problem set {spec!r}: {_hint(spec)}")


def _hint(spec: str) -> str:
    """Returns what can be done about a name that is none: a file in another format, or a word with a slip in it."""
    if spec and Path(spec).exists():
        return (
            "a file of your own problems is JSON lines and its name ends in .jsonl (to start from one: restrl problems "
            "template call); the data of a benchmark are named with it, as in humaneval@FILE"
        )
    near = difflib.get_close_matches(spec.partition("@")[0], PROBLEM_SETS, n=3)
    meant = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"{meant}Allowed: the path of a .jsonl file, or NAME[/SPLIT][@FILE] with one of {', '.join(PROBLEM_SETS)}; "
        "restrl problems list says what they are"
    )


def _read(name: str, entry: ProblemSet, spec: Spec, count: int | None, references: bool) -> LoadedSet:
    split = spec.split or entry.default_split
    places = find_places(name, entry, split, spec.path)
    refusals: Counter[str] = Counter()
    sources: list[str] = []
    solutions: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}

    def stream() -> Iterator[Problem]:
        for place in places:
            sources.append(place.description)
            for where, record in read_place(name, entry, place):
                assert entry.to_problem is not None
                try:
                    item = entry.to_problem(record, where)
                except ValueError as error:
                    raise ProblemError(f"{where}: {error}") from error
                if item is None:
                    continue
                if isinstance(item, Refusal):
                    refusals[item.reason] += 1
                    continue
                if not item.id.strip():
                    raise ProblemError(f"{where}: the problem's id is empty; allowed: a name that no other one has")
                if item.id in seen:
                    raise ProblemError(
                        f"{where}: the problem {item.id!r} is already at {seen[item.id]}; ids are unique"
                    )
                seen[item.id] = where
                if references and entry.solutions is not None:
                    solutions[item.id] = tuple(entry.solutions(record, where))
                yield item if item.split or not place.split else dataclasses.replace(item, split=place.split)

    arranged = entry.arrange(stream()) if entry.arrange is not None else stream()
    problems: list[Problem] = []
    for item in arranged:
        if split and item.split and item.split != split:
            continue
        problems.append(item)
        if count is not None and len(problems) == count:
            break
    if refusals:
        reasons = ", ".join(f"{number} {reason}" for reason, number in refusals.most_common())
        _log.warning("%s: %d records refused: %s", name, refusals.total(), reasons)
    if not problems:
        raise ProblemError(f"{', '.join(sources)}: no problem of {name}{f'/{split}' if split else ''} in it")
    if entry.finish is not None:
        try:
            problems = entry.finish(problems)
        except ReferenceFailed as error:
            raise ProblemError(f"{seen[error.problem_id]}: {error}") from error
    return LoadedSet(problems, dict(refusals), tuple(sources), solutions)


def describe_source(name: str) -> str:
    """Returns where the data of a set would come from now, in words."""
    entry = PROBLEM_SETS[name]
    if entry.generate is not None:
        return "made here"
    try:
        return ", ".join(place.description for place in find_places(name, entry, entry.default_split))
    except ProblemError as error:
        return str(error)
