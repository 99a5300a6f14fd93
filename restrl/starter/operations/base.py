"""What an operation of the starter family is, and the small notation that its code is written in.

An operation turns a value of one type into a value of another (``numbers`` to ``numbers``, ``words`` to ``text`` ...). It has
several phrasings and one or several *forms*, each a few lines of Python. A form is written once, with its confusable
variants in place:

    xs = [x for x in xs if x «>|>=|<» {k}]

The first alternative between the guillemets is right; the others are mistakes, the most habitual one first. ``{k}``,
``{k-1}`` and ``{k+1}`` stand for the operation's parameter, a literal or the argument ``k``.
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


def parse_form(form: str, value: str) -> tuple[Line, ...]:
    """Returns the lines of a form, with the parameter's value filled in.

    >>> parse_form("n = «sum|len»(xs)", "")
    (Line(text='n = sum(xs)', mistakes=('n = len(xs)',)),)
    """
    lines = []
    for raw in form.split("\n"):
        template = fill(raw, value)
        slots = list(_SLOT.finditer(template))
        text = _SLOT.sub(lambda m: m.group(1).split("|")[0], template)
        variants: list[str] = []
        for slot in slots:
            for wrong in slot.group(1).split("|")[1:]:
                before = _SLOT.sub(lambda m: m.group(1).split("|")[0], template[: slot.start()])
                after = _SLOT.sub(lambda m: m.group(1).split("|")[0], template[slot.end() :])
                variants.append(before + wrong + after)
        lines.append(Line(text, tuple(v for v in dict.fromkeys(variants) if v != text)))
    return tuple(lines)


def filtered(variable: str, element: str, condition: str) -> tuple[str, str]:
    """The two forms of keeping the elements that meet a condition."""
    return (
        f"{variable} = [{element} for {element} in {variable} if {condition}]",
        f"out = []\nfor {element} in {variable}:\n    if {condition}:\n        out.append({element})\n{variable} = out",
    )


def mapped(variable: str, element: str, expression: str) -> tuple[str, str]:
    """The two forms of changing every element."""
    return (
        f"{variable} = [{expression} for {element} in {variable}]",
        f"out = []\nfor {element} in {variable}:\n    out.append({expression})\n{variable} = out",
    )


def counted(source: str, element: str, condition: str) -> tuple[str, str]:
    """The two forms of counting the elements that meet a condition."""
    return (
        f"n = sum(1 for {element} in {source} if {condition})",
        f"count = «0|1»\nfor {element} in {source}:\n    if {condition}:\n        count += 1\nn = count",
    )


def added(source: str, element: str, expression: str) -> tuple[str, str]:
    """The two forms of adding up an expression over the elements."""
    return (
        f"n = sum({expression} for {element} in {source})",
        f"total = «0|1»\nfor {element} in {source}:\n    total «+=|=» {expression}\nn = total",
    )
