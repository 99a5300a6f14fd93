"""The starter's problems: an endless, seeded, index-addressable supply with discriminating tests.

Problem ``i`` of a split depends on (seed, split, i) only. A drawn composition becomes a problem if its results vary, if
every step matters, and if a few tests tell the right program from all of its confusable variants.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from restrl.errors import ProblemError
from restrl.seeds import derive_seed
from restrl.starter.composition import SPLITS, Band, Composition, Split, draw_from_split
from restrl.starter.execution import Failed, Returned, StepFunction, run_step, run_steps, same, step_function
from restrl.starter.inputs import draw_inputs
from restrl.starter.rendering import (
    ENTRY_POINT,
    STOP_STRINGS,
    Mistake,
    all_mistakes,
    block,
    draw_plan,
    draw_statement,
    initial_state,
    render_body,
)
from restrl.types import Case, Limits, Problem, Tests

BAND_SHARES: dict[Band, float] = {"easy": 0.15, "medium": 0.35, "hard": 0.50}
"""The bands of the usual problems; a long one comes only where its band is named."""
NUM_TESTS = 9
_MAX_TESTS = 12
_CANDIDATES = 44
_LIMITS = Limits(cpu_s=2.0, memory_bytes=512 << 20, output_bytes=1 << 16)


def function_of(composition: Composition, step: int, form: int, mistakes: Sequence[Mistake] = ()) -> StepFunction:
    """Returns one step of a composition as a function, with the given mistakes in it."""
    operation = composition.steps[step].operation
    return step_function(operation.source, operation.target, "\n".join(block(composition.steps[step], form, mistakes)))


def variants(composition: Composition, inputs: Sequence[tuple[Any, ...]]) -> tuple[list[Any], list[list[Any]], bool]:
    """Runs the right program and every confusable variant of it.

    Returns:
        The expected results, the results of each variant (one mistake in one line of one form; two neighbouring steps
        swapped; one step left out), and whether every step that can be left out matters.
    """
    ks = [args[1] if len(args) > 1 else None for args in inputs]
    functions = [function_of(composition, i, 0) for i in range(len(composition.steps))]
    before: list[list[Any]] = [[args[0] for args in inputs]]
    for function in functions:
        before.append(run_step(function, before[-1], ks))
    expected = [value.value if isinstance(value, Returned) else value for value in before[-1]]
    results: list[list[Any]] = []
    matters = True
    for i, step in enumerate(composition.steps):
        operation, rest = step.operation, functions[i + 1 :]
        for form in range(len(operation.forms)):
            for mistake in all_mistakes(operation, form, step.value, i):
                wrong = function_of(composition, i, form, [mistake])
                results.append(run_steps([wrong, *rest], before[i], ks))
        if operation.source == operation.target:
            skipped = run_steps(rest, before[i], ks)
            matters = matters and not all(map(same, skipped, expected))
            results.append(skipped)
            if i and composition.steps[i - 1].operation.source == operation.source:
                swapped = [functions[i], functions[i - 1], *rest]
                results.append(run_steps(swapped, before[i - 1], ks))
    return expected, results, matters


def choose_tests(expected: Sequence[Any], wrong: Sequence[Sequence[Any]], rng: random.Random) -> list[int] | None:
    """Chooses inputs on which every variant that differs anywhere differs, or None if too many would be needed.

    The first input, the emptiest, is always among them.
    """
    kills = [{v for v, results in enumerate(wrong) if not same(results[i], expected[i])} for i in range(len(expected))]
    chosen = [0]
    open_ = set().union(*kills) - kills[0]
    while open_:
        best = max(range(len(kills)), key=lambda i: (len(kills[i] & open_), -i))
        chosen.append(best)
        open_ -= kills[best]
    if len(chosen) > _MAX_TESTS:
        return None
    rest = [i for i in range(len(expected)) if i not in chosen]
    rng.shuffle(rest)
    chosen += rest[: max(0, NUM_TESTS - len(chosen))]
    return sorted(chosen)


def _interesting(expected: Sequence[Any]) -> bool:
    if any(isinstance(value, Failed) for value in expected):
        return False
    if any(isinstance(value, int) and abs(value) > 10**9 for value in expected):
        return False
    counts: dict[str, int] = {}
    for value in expected:
        counts[repr(value)] = counts.get(repr(value), 0) + 1
    return max(counts.values()) <= 0.6 * len(expected)


def build_problem(composition: Composition, problem_id: str, rng: random.Random) -> Problem | None:
    """Makes the problem of a composition, or returns None if it would be a poor one."""
    opening = composition.steps[0].operation.source
    inputs = draw_inputs(rng, opening, composition.k_kind, _CANDIDATES)
    expected, wrong, matters = variants(composition, inputs)
    if not matters or not _interesting(expected):
        return None
    chosen = choose_tests(expected, wrong, rng)
    if chosen is None:
        return None
    statement = draw_statement(rng, composition)
    start = initial_state(composition, statement)
    cases = tuple(Case(id=f"test_{n}", args=inputs[i], expected=expected[i]) for n, i in enumerate(chosen))
    return Problem(
        id=problem_id,
        statement=statement,
        initial_state=start,
        entry_point=ENTRY_POINT,
        tests=Tests(kind="call", cases=cases),
        stop_strings=STOP_STRINGS,
        limits=_LIMITS,
        canonical_solution=start + render_body(composition, draw_plan(rng, composition)),
        split=composition.split,
        band=composition.band,
        metadata={"composition": composition.names},
    )


def problem_at(split: Split, index: int, seed: int = 0, band: Band | None = None) -> Problem:
    """Returns problem ``index`` of a split.

    Args:
        split: ``train``, ``validation`` or ``test``.
        index: Number of the problem, >= 0.
        seed: Another seed gives other problems, with the seed in their ids.
        band: Only problems of this band; None draws the band.
    """
    if split not in SPLITS:
        raise ProblemError(f"unknown starter split {split!r}: use one of {', '.join(SPLITS)}")
    prefix = f"starter/{split}/" + (f"seed{seed}/" if seed else "") + (f"{band}/" if band else "")
    rng = random.Random(derive_seed(seed, "starter problem", split, index, band or ""))
    wanted = rng.choices(list(BAND_SHARES), list(BAND_SHARES.values()))[0] if band is None else band
    while True:
        composition = draw_from_split(rng, split, {wanted: 1.0})
        problem = build_problem(composition, f"{prefix}{index:05d}", rng)
        if problem is not None:
            return problem


def generate(split: Split, count: int, seed: int = 0, start: int = 0, band: Band | None = None) -> list[Problem]:
    """Returns the problems ``start`` .. ``start + count - 1`` of a split."""
    return list(iterate(split, count, seed, start, band))


def iterate(split: Split, count: int, seed: int = 0, start: int = 0, band: Band | None = None) -> Iterator[Problem]:
    """The same, one at a time."""
    for index in range(start, start + count):
        yield problem_at(split, index, seed, band)
