"""Turns a composition into a statement in words and into programs, right or with mistakes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from restrl.starter.composition import Composition, Step
from restrl.starter.operations import OPERATIONS
from restrl.starter.operations.base import VARIABLES, Line, Operation, parse_form, say

ENTRY_POINT = "solve"
STOP_STRINGS = ("\n#", "\ndef ", "\nclass ", "\nif ", "\nprint")

_LINKS = ("then ", "then ", "next, ", "after that, ", "")
_VERBS = ("compute ", "find ", "take ")
_LOOP_SHARE = 0.35
_FOLD_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Plan:
    """How a solution is written: the form of every step, and whether the last assignment becomes the ``return``."""

    forms: tuple[int, ...]
    fold: bool


@dataclass(frozen=True, slots=True)
class Mistake:
    """A line of a step replaced by one of its confusable variants."""

    step: int
    line: int
    variant: int


@cache
def step_lines(name: str, form: int, value: str) -> tuple[Line, ...]:
    """The lines of one step, unindented."""
    return parse_form(OPERATIONS[name].forms[form], value)


def signature(composition: Composition) -> str:
    """The ``def`` line.

    The argument ``k`` is there if a step uses it.
    """
    variable = VARIABLES[composition.steps[0].operation.source]
    return f"def {ENTRY_POINT}({variable}{', k' if composition.k_kind else ''}):"


def draw_statement(rng: random.Random, composition: Composition) -> str:
    """Says the composition in words, one sentence a line."""
    sentences = []
    last = len(composition.steps) - 1
    for i, step in enumerate(composition.steps):
        phrase = say(rng.choice(step.operation.phrases), step.value)
        link = rng.choice(_LINKS) if i else ""
        if i < last:
            verb = rng.choice(_VERBS) if step.operation.noun else ""
            sentence = f"{link}{verb}{phrase}."
        elif step.operation.noun:
            sentence = f"return {phrase}."
        else:
            sentence = f"{link}{phrase} and return the result."
        sentences.append(sentence[0].upper() + sentence[1:])
    return "\n".join(sentences)


def initial_state(composition: Composition, statement: str) -> str:
    """The signature and the docstring that holds the statement."""
    body = statement.replace("\n", "\n    ")
    return f'{signature(composition)}\n    """{body}\n    """\n'


def draw_plan(rng: random.Random, composition: Composition) -> Plan:
    """Draws how a solution is written; the first form of an operation is the usual one."""
    forms = tuple(
        rng.randrange(1, len(step.operation.forms))
        if len(step.operation.forms) > 1 and rng.random() < _LOOP_SHARE
        else 0
        for step in composition.steps
    )
    return Plan(forms, rng.random() < _FOLD_SHARE)


def block(step: Step, form: int, mistakes: Sequence[Mistake] = ()) -> list[str]:
    """The lines of one step, with the given mistakes in them."""
    lines = step_lines(step.operation.name, form, step.value)
    texts = [line.text for line in lines]
    for mistake in mistakes:
        texts[mistake.line] = lines[mistake.line].mistakes[mistake.variant]
    return texts


def render_body(composition: Composition, plan: Plan, mistakes: Sequence[Mistake] = ()) -> str:
    """The lines of a solution after its docstring, indented by four spaces."""
    lines: list[str] = []
    for i, step in enumerate(composition.steps):
        lines += block(step, plan.forms[i], [m for m in mistakes if m.step == i])
    variable = VARIABLES[composition.steps[-1].operation.target]
    if plan.fold and lines[-1].startswith(f"{variable} = "):
        lines[-1] = "return " + lines[-1].removeprefix(f"{variable} = ")
    else:
        lines.append(f"return {variable}")
    return "".join(f"    {line}\n" for line in lines)


def all_mistakes(operation: Operation, form: int, value: str, step: int) -> list[Mistake]:
    """Every mistake that one step can hold in one form."""
    return [
        Mistake(step, i, v)
        for i, line in enumerate(step_lines(operation.name, form, value))
        for v in range(len(line.mistakes))
    ]
