"""The pre-training corpus: programs of the family with habit-like mistakes in them.

A document is a problem's initial state, a solution, and the end marker. It is careful or sloppy: that sets how likely
each line is to be a confusable variant. Rarer operations are mistaken more often; now and then a step is left out or
two are swapped. Some documents end in one review line that says whether the program is right, and in which line it
first goes wrong, as code in the wild is reviewed: a value model can build on it. Only train compositions appear.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

from restrl.seeds import derive_seed
from restrl.starter.composition import Band, Composition, draw_from_split
from restrl.starter.execution import run_steps, same
from restrl.starter.generator import function_of
from restrl.starter.inputs import draw_inputs
from restrl.starter.operations.base import Type
from restrl.starter.rendering import Mistake, Plan, draw_plan, draw_statement, initial_state, render_body, step_lines

END = "<|end|>"
BAND_SHARES: dict[Band, float] = {"easy": 0.25, "medium": 0.35, "hard": 0.40}
"""The bands of the documents: a little easier than the problems."""


@dataclass(frozen=True, slots=True)
class CorpusConfig:
    """How the corpus is made.

    Attributes:
        careful: Probability of a mistake per line in a careful document.
        sloppy: The same in a sloppy document.
        sloppy_share: Share of sloppy documents.
        rare_factor: Mistakes are this many times as likely in rare operations.
        habit: Share of the most habitual variant among the mistakes of a line.
        structural: Probability that a step is left out or two are swapped, times the document's sloppiness.
        review_share: Share of documents that end in a review line.
    """

    careful: float = 0.1
    sloppy: float = 0.35
    sloppy_share: float = 0.5
    rare_factor: float = 1.5
    habit: float = 0.65
    structural: float = 0.15
    review_share: float = 0.3


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its prompt part, the rest (review line and end marker included), and its composition."""

    prompt: str
    rest: str
    composition: Composition

    @property
    def text(self) -> str:
        """The whole document."""
        return self.prompt + self.rest


@cache
def _review_inputs(kind: Type, k_kind: str) -> tuple[tuple[Any, ...], ...]:
    rng = random.Random(derive_seed(0, "starter review inputs", kind, k_kind))
    return tuple(draw_inputs(rng, kind, k_kind, 24))


def _outcomes(composition: Composition, plan: Plan, mistakes: list[Mistake]) -> list[Any]:
    inputs = _review_inputs(composition.steps[0].operation.source, composition.k_kind)
    functions = [
        function_of(composition, i, plan.forms[i], [m for m in mistakes if m.step == i])
        for i in range(len(composition.steps))
    ]
    ks = [args[1] if len(args) > 1 else None for args in inputs]
    return run_steps(functions, [args[0] for args in inputs], ks)


def _draw_mistakes(
    rng: random.Random, composition: Composition, plan: Plan, rate: float, config: CorpusConfig
) -> list[Mistake]:
    mistakes = []
    for i, step in enumerate(composition.steps):
        for j, line in enumerate(step_lines(step.operation.name, plan.forms[i], step.value)):
            if line.mistakes and rng.random() < rate * (config.rare_factor if step.operation.rare else 1.0):
                variant = 0
                if len(line.mistakes) > 1 and rng.random() > config.habit:
                    variant = rng.randrange(1, len(line.mistakes))
                mistakes.append(Mistake(i, j, variant))
    return mistakes


def _restructure(rng: random.Random, composition: Composition, plan: Plan) -> tuple[Composition, Plan]:
    """Leaves a step out, or swaps two neighbours, where the types allow it."""
    steps, forms = list(composition.steps), list(plan.forms)
    loose = [i for i, s in enumerate(steps) if s.operation.source == s.operation.target]
    pairs = [(i, j) for i, j in pairwise(loose) if j == i + 1]
    if pairs and rng.random() < 0.5:
        i, j = rng.choice(pairs)
        steps[i], steps[j] = steps[j], steps[i]
        forms[i], forms[j] = forms[j], forms[i]
    elif loose and len(steps) > 1:
        i = rng.choice(loose)
        del steps[i], forms[i]
    return replace(composition, steps=tuple(steps)), replace(plan, forms=tuple(forms))


def _review(right: str, wrong: str) -> str:
    lines = zip(right.splitlines(), wrong.splitlines(), strict=False)
    first = next((i for i, (a, b) in enumerate(lines, 1) if a != b), len(wrong.splitlines()))
    return f"# review: bug in line {first}\n"


def document_at(index: int, seed: int = 0, config: CorpusConfig | None = None) -> Document:
    """Returns document ``index`` of the corpus of a seed."""
    config = config or CorpusConfig()
    rng = random.Random(derive_seed(seed, "starter document", index))
    composition = draw_from_split(rng, "train", BAND_SHARES)
    prompt = initial_state(composition, draw_statement(rng, composition))
    plan = draw_plan(rng, composition)
    rate = config.sloppy if rng.random() < config.sloppy_share else config.careful
    written, written_plan = composition, plan
    if rng.random() < rate * config.structural:
        written, written_plan = _restructure(rng, composition, plan)
    mistakes = _draw_mistakes(rng, written, written_plan, rate, config)
    body = render_body(written, written_plan, mistakes)
    review = ""
    if rng.random() < config.review_share:
        right = render_body(composition, plan)
        review = "# review: ok\n"
        if body != right:
            expected = _outcomes(composition, plan, [])
            actual = _outcomes(written, written_plan, mistakes)
            if not all(map(same, expected, actual)):
                review = _review(right, body)
    return Document(prompt, body + review + END, composition)


def documents(start: int, count: int, seed: int = 0, config: CorpusConfig | None = None) -> Iterator[Document]:
    """Yields the documents ``start`` .. ``start + count - 1``."""
    for index in range(start, start + count):
        yield document_at(index, seed, config)
