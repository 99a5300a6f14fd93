"""How a claim is compared with what is expected. Pure; runs in the trusted parent only.

Values: types as Python's ``==`` sees them, with two exceptions: a bool equals only a bool, and NaN equals NaN. So ``1
== 1.0`` but ``True != 1``, a list is not a tuple, a set is a frozenset. Floats are exact unless the task gives a
tolerance.

Output: the same number of lines (white space at the ends and blank lines at the start and end do not count), and in
each line the same tokens; two tokens are also equal if both are decimal numbers of equal value and at least one is
written with a point or an exponent.
"""

from __future__ import annotations

import math
import re
from collections import deque
from decimal import Decimal
from fractions import Fraction
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,9})?", re.ASCII)
_MAX_DIGITS = 4000
_NUMERIC = (int, float, complex, Decimal, Fraction)


def values_equal(expected: Any, actual: Any, atol: float = 0.0) -> bool:
    """Compares plain data (what `codec.decode` returns; never an instance of a candidate's class).

    Args:
        expected: The expected value.
        actual: The claim.
        atol: Absolute tolerance between floats or a float and an integer; 0 compares exactly.

    >>> values_equal([1, 2.0], [1.0, 2])
    True
    >>> values_equal(1, True) or values_equal([1], (1,))
    False
    >>> values_equal(float("nan"), float("nan"))
    True
    """
    if isinstance(expected, bool) or isinstance(actual, bool):
        return isinstance(expected, bool) and isinstance(actual, bool) and expected == actual
    if isinstance(expected, _NUMERIC):
        return isinstance(actual, _NUMERIC) and _numbers_equal(expected, actual, atol)
    if isinstance(expected, list | tuple | deque):
        return (
            type(expected) is type(actual)
            and len(expected) == len(actual)
            and all(values_equal(a, b, atol) for a, b in zip(expected, actual, strict=True))
        )
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or len(expected) != len(actual):
            return False
        found = {_canonical(key): value for key, value in actual.items()}
        return all(
            (name := _canonical(key)) in found and values_equal(value, found[name], atol)
            for key, value in expected.items()
        )
    if isinstance(expected, set | frozenset):
        return isinstance(actual, set | frozenset) and _canonical(expected) == _canonical(actual)
    if isinstance(expected, bytes | bytearray):
        return isinstance(actual, bytes | bytearray) and expected == actual
    return type(expected) is type(actual) and bool(expected == actual)


def _is_nan(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, complex):
        return math.isnan(value.real) or math.isnan(value.imag)
    return isinstance(value, Decimal) and value.is_nan()


def _numbers_equal(expected: Any, actual: Any, atol: float) -> bool:
    if _is_nan(expected) or _is_nan(actual):
        if isinstance(expected, complex) and isinstance(actual, complex):
            parts = ((expected.real, actual.real), (expected.imag, actual.imag))
            return all(_numbers_equal(a, b, atol) for a, b in parts)
        return _is_nan(expected) and _is_nan(actual)
    if expected == actual:
        return True
    if atol > 0 and (isinstance(expected, float | complex) or isinstance(actual, float | complex)):
        try:
            return bool(abs(expected - actual) <= atol)
        except (OverflowError, TypeError):
            return False
    return False


def _canonical(value: Any) -> Any:
    """Returns a hashable stand-in: equal exactly where `values_equal` holds without a tolerance."""
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, _NUMERIC):
        if _is_nan(value):
            return ("nan", repr(value) if isinstance(value, complex) else "")
        return ("number", value)
    if isinstance(value, list | tuple | deque):
        return (type(value).__name__, tuple(_canonical(item) for item in value))
    if isinstance(value, set | frozenset):
        return ("set", frozenset(_canonical(item) for item in value))
    if isinstance(value, bytes | bytearray):
        return ("bytes", bytes(value))
    return (type(value).__name__, value)


def outputs_equal(expected: str, actual: bytes, atol: float = 0.0) -> bool:
    """Compares standard output with the expected text.

    Args:
        expected: The expected text.
        actual: The bytes that the program wrote; not UTF-8 is not equal.
        atol: Absolute tolerance between decimal numbers; 0 compares exactly.

    >>> outputs_equal("3 4\\n", b"3  4.0 \\n\\n")
    True
    >>> outputs_equal("100000000", b"100000999") or outputs_equal("10", b"010")
    False
    """
    try:
        text = actual.decode("utf-8")
    except UnicodeDecodeError:
        return False
    expected_lines, lines = _lines(expected), _lines(text)
    if expected_lines == lines:
        return True
    if len(expected_lines) != len(lines):
        return False
    return all(_line_equal(a, b, atol) for a, b in zip(expected_lines, lines, strict=True))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _line_equal(expected: str, actual: str, atol: float) -> bool:
    if expected == actual:
        return True
    wanted, tokens = expected.split(), actual.split()
    return len(wanted) == len(tokens) and all(_token_equal(a, b, atol) for a, b in zip(wanted, tokens, strict=True))


def _token_equal(expected: str, actual: str, atol: float) -> bool:
    if expected == actual:
        return True
    if max(len(expected), len(actual)) > _MAX_DIGITS:
        return False
    if not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(actual)):
        return False
    if not any(mark in expected + actual for mark in ".eE"):
        return False
    wanted, number = Decimal(expected), Decimal(actual)
    if wanted == number:
        return True
    if atol > 0 and abs(wanted.adjusted()) < 400 and abs(number.adjusted()) < 400:
        return abs(Fraction(wanted) - Fraction(number)) <= Fraction(atol)
    return False
