"""What the tests of ``restrl problems validate`` share."""

import json

import pytest

from restrl.cli import main
from restrl.types import Case, Problem, Tests

ABSENT = "no_such_package_of_ours"


def call_problem(
    name: str, solution: str | None, *cases: tuple[tuple[object, ...], object], statement: str = ""
) -> Problem:
    tests = Tests("call", tuple(Case(f"t{i}", args, expected=out) for i, (args, out) in enumerate(cases)))
    return Problem(name, statement or f"Do {name}.", "", "f", tests, canonical_solution=solution)


def validated(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, object]]:
    code = main(["problems", "validate", *argv, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)
