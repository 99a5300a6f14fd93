"""What an operation of the starter family is, and the small notation that its code is written in.

An operation turns a value of one type into a value of another (``numbers`` to ``numbers``, ``words`` to ``text``). It
has several phrasings and one or two *forms*, each a few lines of Python. A form is written once, with its confusable
variants in place:

    xs = [x for x in xs if x «>|>=|<» {k}]

The first alternative between the guillemets is right; the others are mistakes, the most habitual one first. ``{k}``,
``{k-1}`` and ``{k+1}`` stand for the operation's parameter, a literal or the argument ``k``. The operations themselves
are in the TOML files beside this module, one per type of input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Type = Literal["numbers", "words", "text", "number", "table", "index", "truth"]
"""``table`` maps strings to integers, ``index`` maps integers to integers."""

VARIABLES: dict[Type, str] = {
    "numbers": "xs",
    "words": "words",
    "text": "s",
    "number": "n",
    "table": "d",
    "index": "d",
    "truth": "ok",
}

PARAMETERS: dict[str, tuple[str, ...]] = {
    "": (),
    "threshold": tuple(str(k) for k in range(1, 9)),
    "count": ("1", "2", "3", "4"),
    "length": ("2", "3", "4", "5"),
    "factor": ("2", "3", "4", "5"),
    "letter": tuple("aeiorst"),
    "separator": ("-", ",", "_", "+"),
}
"""The literal values of each kind of parameter."""

SYMBOLIC = frozenset({"threshold", "count", "length"})
"""Kinds of parameters that may also be the argument ``k``."""

_SLOT = re.compile(r"«([^»]*)»")
_PARAMETER = re.compile(r"\{k([+-]1)?\}")
_PLURAL = re.compile(r"\b1 (number|word|character|letter)s\b")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a form: its right text and its confusable variants, the most habitual first."""

    text: str
    mistakes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the family.

    Attributes:
        name: Unique name.
        source: Type of its input.
        target: Type of its result.
        parameter: Kind of its parameter, a key of `PARAMETERS`; empty for none.
        phrases: Ways to say it: a command, or a noun phrase if ``noun``.
        forms: Ways to write it, in the notation of this module.
        noun: The phrases name a value ("the sum of the numbers").
        rare: Appears in the hard band only, and is mistaken more often.
        guard: It only returns early; it never comes last.
        first_only: It may only open a program (its cost grows with its input).
    """

    name: str
    source: Type
    target: Type
    parameter: str
    phrases: tuple[str, ...]
    forms: tuple[str, ...]
    noun: bool = False
    rare: bool = False
    guard: bool = False
    first_only: bool = False


def fill(template: str, value: str) -> str:
    """Puts the parameter's value into a template.

    >>> fill("xs[:{k-1}]", "3"), fill("xs[:{k-1}]", "k"), fill("'{k}' in w", "a")
    ('xs[:2]', 'xs[:k - 1]', "'a' in w")
    """

    def replace(match: re.Match[str]) -> str:
        shift = match.group(1)
        if shift is None:
            return value
        return str(int(value) + int(shift)) if value.isdigit() else f"{value} {shift[0]} 1"

    return _PARAMETER.sub(replace, template)


def say(phrase: str, value: str) -> str:
    """Puts the parameter's value into a phrasing.

    >>> say("keep the first {k} words", "1"), say("keep the first {k} words", "k")
    ('keep the first 1 word', 'keep the first k words')
    """
    return _PLURAL.sub(r"1 \1", fill(phrase, value))


def _right(template: str) -> str:
    return _SLOT.sub(lambda match: match.group(1).split("|")[0], template)


def parse_form(form: str, value: str) -> tuple[Line, ...]:
    """Returns the lines of a form, with the parameter's value filled in.

    >>> parse_form("n = «sum|len»(xs)", "")
    (Line(text='n = sum(xs)', mistakes=('n = len(xs)',)),)
    """
    lines = []
    for raw in form.split("\n"):
        template = fill(raw, value)
        text = _right(template)
        mistakes = [
            _right(template[: slot.start()]) + wrong + _right(template[slot.end() :])
            for slot in _SLOT.finditer(template)
            for wrong in slot.group(1).split("|")[1:]
        ]
        lines.append(Line(text, tuple(mistake for mistake in dict.fromkeys(mistakes) if mistake != text)))
    return tuple(lines)
