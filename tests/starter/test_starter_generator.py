import ast
import copy
import random
from collections import Counter
from typing import Any

import pytest

from restrl.actions import split_actions
from restrl.errors import ProblemError
from restrl.problems.jsonl import read_problems, write_problems
from restrl.starter.composition import SPLITS, draw_composition, draw_from_split, split_of
from restrl.starter.generator import BAND_SHARES, build_problem, generate, problem_at
from restrl.starter.inputs import draw_inputs
from restrl.starter.rendering import Plan, all_mistakes, initial_state, render_body
from restrl.types import Problem


def outcome(program: str, args: tuple[Any, ...]) -> Any:
    """Runs a whole program of the family: an oracle that knows nothing of steps."""
    scope: dict[str, Any] = {}
    exec(program, scope)
    try:
        return scope["solve"](*copy.deepcopy(args))
    except Exception as error:
        return type(error)


def fraction(problem: Problem, program: str) -> float:
    verdicts = []
    for case in problem.tests.cases:
        result = outcome(program, case.args)
        verdicts.append(type(result) is type(case.expected) and result == case.expected)
    return sum(verdicts) / len(verdicts)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return generate("train", 60)


def test_generation_is_deterministic_and_addressable_by_index(problems: list[Problem]) -> None:
    assert generate("train", 3, start=17) == problems[17:20]
    assert problem_at("train", 5) == problems[5]


def test_seeds_and_bands_give_other_problems(problems: list[Problem]) -> None:
    assert problem_at("train", 0, seed=1).statement != problems[0].statement
    assert problem_at("train", 0, seed=1).id == "starter/train/seed1/00000"
    assert {p.band for p in generate("train", 4, band="hard")} == {"hard"}
    with pytest.raises(ProblemError, match="unknown starter split 'dev'"):
        problem_at("dev", 0)  # type: ignore[arg-type]


def test_splits_are_disjoint_by_composition() -> None:
    seen = {split: {p.metadata["composition"] for p in generate(split, 20)} for split in SPLITS}
    for split, compositions in seen.items():
        assert {split_of(c) for c in compositions} == {split}
    assert not seen["train"] & seen["test"] and not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_the_split_shares_are_80_10_10() -> None:
    rng = random.Random(3)
    counts = Counter(draw_composition(rng, "medium").split for _ in range(1500))
    assert 0.76 < counts["train"] / 1500 < 0.84
    assert 0.07 < counts["validation"] / 1500 < 0.13


def test_problems_are_complete(problems: list[Problem]) -> None:
    for problem in problems:
        assert len(problem.tests.cases) >= 8
        assert len({repr(case.args) for case in problem.tests.cases}) == len(problem.tests.cases)
        assert problem.initial_state.startswith("def solve(")
        docstring = ast.get_docstring(ast.parse(problem.initial_state + "    pass").body[0])  # type: ignore[arg-type]
        assert docstring == problem.statement
        assert problem.canonical_solution is not None
        assert problem.canonical_solution.startswith(problem.initial_state)
        body = problem.canonical_solution.removeprefix(problem.initial_state)
        assert 2 <= len(split_actions(body)) <= 40
        assert not any(stop in body for stop in problem.stop_strings)
    assert len({p.initial_state for p in problems}) == len(problems)
    assert {p.band for p in problems} == {"easy", "medium", "hard"}


def test_canonical_solutions_pass_and_do_not_change_their_arguments(problems: list[Problem]) -> None:
    for problem in problems:
        assert problem.canonical_solution is not None
        assert fraction(problem, problem.canonical_solution) == 1.0
        scope: dict[str, Any] = {}
        exec(problem.canonical_solution, scope)
        for case in problem.tests.cases:
            args = copy.deepcopy(case.args)
            scope["solve"](*args)
            assert args == case.args


def test_problems_survive_json(problems: list[Problem], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("starter") / "p.jsonl"
    write_problems(path, problems)
    assert read_problems(path) == problems


def test_every_mistake_that_matters_fails_a_test() -> None:
    """Whole programs with one mistake each, against fresh inputs that the generator never saw."""
    rng = random.Random(11)
    checked = caught = partial = 0
    while checked < 250:
        composition = draw_from_split(rng, "train", BAND_SHARES)
        problem = build_problem(composition, "p", rng)
        if problem is None:
            continue
        start = initial_state(composition, "x")
        opening = composition.steps[0].operation.source
        fresh = draw_inputs(random.Random(99), opening, composition.k_kind, 60)
        for i, step in enumerate(composition.steps):
            forms = tuple(rng.randrange(len(s.operation.forms)) for s in composition.steps)
            right = start + render_body(composition, Plan(forms, True))
            for mistake in all_mistakes(step.operation, forms[i], step.value, i):
                wrong = start + render_body(composition, Plan(forms, True), [mistake])
                if all(outcome(right, args) == outcome(wrong, args) for args in fresh):
                    continue
                checked += 1
                reward = fraction(problem, wrong)
                caught += reward < 1.0
                partial += 0.0 < reward < 1.0
    assert caught / checked > 0.97
    assert partial / checked > 0.5
