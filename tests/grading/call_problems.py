"""Small problems and programs that many tests of the grader share."""

from __future__ import annotations

from restrl.types import Case, Limits, Problem, Tests


def call_problem(expected=lambda x: x * x + 7, args=range(6), entry="f", **limits) -> Problem:
    cases = tuple(Case(str(x), args=x if isinstance(x, tuple) else (x,), expected=expected(x)) for x in args)
    return Problem("call", "", "", entry, Tests("call", cases), limits=Limits(**limits))


def stdio_problem(**limits) -> Problem:
    cases = tuple(Case(str(n), stdin=f"{n}\n", expected=f"{n * n + 7}\n") for n in (2, 3))
    return Problem("stdio", "", "", "", Tests("stdio", cases), limits=Limits(**limits))


def burning(seconds: float) -> str:
    """A correct program that uses this much CPU time per call."""
    loop = f"end = time.process_time() + {seconds}\n while time.process_time() < end: pass"
    return f"import time\ndef f(x):\n {loop}\n return x * x + 7"
