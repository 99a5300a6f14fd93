"""Runs steps of the family in this process.

Only code that the family wrote itself is run here; programs of a policy go to the grader's sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from restrl.starter.operations.base import VARIABLES, Type

Input = tuple[Any, Any]
"""The value that a step receives, and the argument ``k`` (None if there is none)."""

StepFunction = Callable[[Any, Any], Any]


class Returned:
    """A value that a step returned from the function, or the error it raised: the later steps do not run."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Returned) and same(self.value, other.value)

    __hash__ = None  # type: ignore[assignment]


class Failed:
    """The step raised."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failed)

    __hash__ = None  # type: ignore[assignment]


def same(first: Any, second: Any) -> bool:
    """Equal values of the same type, as an exact grader sees them."""
    return type(first) is type(second) and bool(first == second)


@lru_cache(maxsize=16384)
def step_function(source: Type, target: Type, code: str) -> StepFunction:
    """Compiles the lines of one step.

    The function gets the step's input and ``k``; it gives a 1-tuple of the step's result, or, where the step returns
    from the program, what it returns.
    """
    body = "".join(f"    {line}\n" for line in code.split("\n"))
    program = f"def step({VARIABLES[source]}, k):\n{body}    return ({VARIABLES[target]},)\n"
    scope: dict[str, Any] = {}
    exec(compile(program, "<starter step>", "exec"), scope)
    function: StepFunction = scope["step"]
    return function


def run_step(function: StepFunction, values: Sequence[Any], ks: Sequence[Any]) -> list[Any]:
    """Runs one step on many inputs; inputs that already `Returned` pass through."""
    results: list[Any] = []
    for value, k in zip(values, ks, strict=True):
        if isinstance(value, Returned):
            results.append(value)
            continue
        try:
            result = function(value, k)
        except Exception:
            results.append(Returned(Failed()))
            continue
        results.append(result[0] if type(result) is tuple else Returned(result))
    return results


def run_steps(functions: Sequence[StepFunction], values: Sequence[Any], ks: Sequence[Any]) -> list[Any]:
    """Runs a sequence of steps on many inputs and unwraps what was returned early."""
    for function in functions:
        values = run_step(function, values, ks)
    return [value.value if isinstance(value, Returned) else value for value in values]
