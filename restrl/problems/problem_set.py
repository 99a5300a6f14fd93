"""What a named problem set is: where its records come from, and how one record becomes one problem.

A benchmark is one module with a function ``to_problem(record, where)`` and a `ProblemSet`, and one line in
`restrl.problems.registry.PROBLEM_SETS`. The function returns the problem, or a `Refusal` for a record that is well
formed but of no use (no tests, say): refusals are counted and reported. A malformed record is a ``ValueError`` or
`ProblemError` (see `field`), which reaches the user as one line that names the file and the line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from restrl.errors import ProblemError
from restrl.types import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A record that is no problem, and why: a short reason, equal for all records that share it."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class HubSource:
    """A data set on the Hugging Face hub.

    Attributes:
        id: ``owner/name``, or the path of a local copy in the same layout.
        config: Name of the configuration; None for the default one.
        splits: Our split -> the hub's split. An empty key is a split without a name of ours.
        revision: Branch or commit; None for the newest.
        data_files: The hub's split -> its JSON-lines files in the repository, as a glob pattern: for a repository that
            has a loading script, which `datasets` no longer runs.
    """

    id: str
    splits: Mapping[str, str]
    config: str | None = None
    revision: str | None = None
    data_files: Mapping[str, str] = dataclasses.field(default_factory=dict)


Converter = Callable[[Mapping[str, Any], str], Problem | Refusal | None]
"""(record, "file:line") -> a problem, or why there is none; None for a record that belongs to another set."""
Generator = Callable[[int | None, int], list[Problem]]
"""(count or None for the set's usual number, seed) -> problems."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProblemSet:
    """A named set of problems: either made (`generate`) or read (`to_problem` and its sources).

    Attributes:
        summary: What it is, in a line.
        generate: Makes the problems.
        to_problem: Turns one record into one problem.
        files: Split (or an empty key: any) -> file names below the benchmarks' folder, as glob patterns; the first
            pattern that fits anything is read, all its files in order.
        hub: Where the records are on the hub.
        splits: Names that may follow ``NAME/``; a problem's own split decides, else the file that it comes from.
        default_split: The split that is loaded where none is named; empty: all.
        arrange: Sees the stream of all problems before the split and the count are applied (few-shot prompts that are
            made of some of them).
        finish: Completes the chosen problems (expected outputs that have to be computed).
        solutions: Returns every known solution of a record, where a set has several, in the converter's arguments.
        variant_of: Name of a set with the same tests and other prompts, or with more of the same problems: validating
            that one validates this one.
        licence: Licence and source, a line.
        url: Where a person finds the data.
    """

    summary: str
    generate: Generator | None = None
    to_problem: Converter | None = None
    files: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    hub: HubSource | None = None
    splits: tuple[str, ...] = ()
    default_split: str = ""
    arrange: Callable[[Iterator[Problem]], Iterator[Problem]] | None = None
    finish: Callable[[Sequence[Problem]], list[Problem]] | None = None
    solutions: Callable[[Mapping[str, Any], str], list[str]] | None = None
    variant_of: str = ""
    licence: str = ""
    url: str = ""


_KINDS: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    type(None): "null",
}
_MISSING = object()


def field(
    record: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str, default: Any = _MISSING
) -> Any:
    """Returns a field of a record, checked.

    Args:
        record: The record.
        key: Its field.
        kind: The allowed types. A bool is no integer and no number.
        where: ``file:line``, for the message.
        default: Returned where the field is absent; without it an absent field is an error.

    Raises:
        ProblemError: The field is absent, of another type, or a string that is no text.
    """
    if key not in record:
        if default is _MISSING:
            raise ProblemError(f"{where}: the record has no {key!r}; its keys are {_shown(record)}")
        return default
    value = record[key]
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_KINDS.get(item, item.__name__) for item in kinds)
        raise ProblemError(f"{where}: {key!r} must be {wanted}, got {_KINDS.get(type(value), type(value).__name__)}")
    if isinstance(value, str) and not _is_text(value):
        raise ProblemError(f"{where}: {key!r} holds half a surrogate pair, which is no text")
    return value


def _is_text(value: str) -> bool:
    """Whether a string can be written to a file."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def strings(record: Mapping[str, Any], key: str, where: str, default: Any = _MISSING) -> list[str]:
    """Returns a field that is an array of strings, checked as `field` does.

    Raises:
        ProblemError: The field is absent, or is something else.
    """
    values: list[Any] = field(record, key, list, where, default)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise ProblemError(f"{where}: {key!r}[{number}] must be a string, got {type(value).__name__}")
    return values


def _shown(record: Mapping[str, Any]) -> str:
    names = [repr(name)[:40] for name in record]
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "none"
