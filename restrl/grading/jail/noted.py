"""What the detectors note of modules before a program runs, and what they find in compiled code."""

from __future__ import annotations

import sys
import types
from typing import Any

Row = tuple[Any, str, Any]
"""A holder, a name in it, and what the name stood for."""

_vars, _isinstance, _type, _callable, _id = vars, isinstance, type, callable, id
_Descriptor = (property, staticmethod, classmethod)


def rows_of(module: Any, top: str) -> list[Row]:
    """Rows of what can be called in a module, and of the members of its own package's classes."""
    rows: list[Row] = []
    for key, value in list(_vars(module).items()):
        if not _callable(value):
            continue
        rows.append((module, key, value))
        if _isinstance(value, type) and value.__module__.split(".")[0] == top:
            members = _vars(value).items()
            rows += [(value, name, member) for name, member in members if is_code(member)]
    return rows


def used_by(values: list[Any], depth: int = 2) -> list[Row]:
    """Rows of what functions themselves call by a global name, and what those call."""
    rows: list[Row] = []
    seen: set[tuple[int, str]] = set()
    for _ in range(depth):
        found = []
        for value in values:
            function = getattr(value, "__wrapped__", value)
            if not _isinstance(function, types.FunctionType):
                continue
            names = function.__globals__
            holder = sys.modules.get(names.get("__name__", ""))
            if holder is None or _vars(holder) is not names:
                continue
            for name in function.__code__.co_names:
                if name in names and _callable(names[name]) and (_id(holder), name) not in seen:
                    seen.add((_id(holder), name))
                    found.append((holder, name, names[name]))
        rows += found
        values = [value for _, _, value in found]
    return rows


def is_code(member: Any) -> bool:
    """Is this member of a class one that does something?"""
    return _isinstance(member, _Descriptor) or _callable(member)


def global_names(code: types.CodeType) -> set[str]:
    """Returns the names that code, and the functions in it, may look up outside of themselves."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if _isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return names


def strings(code: types.CodeType) -> list[str]:
    """Returns the texts in code and in the functions in it."""
    found = [constant for constant in code.co_consts if _type(constant) is str]
    for constant in code.co_consts:
        if _isinstance(constant, types.CodeType):
            found += strings(constant)
    return found


def codes_in(code: types.CodeType) -> set[int]:
    """Returns the identities of all code objects in a compiled module."""
    found = {_id(code)}
    for constant in code.co_consts:
        if _isinstance(constant, types.CodeType):
            found |= codes_in(constant)
    return found
