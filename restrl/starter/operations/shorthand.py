"""Shorthands for the forms that most operations share: a comprehension, and the loop that does the same.

``keep = CONDITION``, ``map = EXPRESSION``, ``count = CONDITION`` and ``add = EXPRESSION`` in an operation's TOML table
stand for two forms each.
"""

from __future__ import annotations

from restrl.starter.operations.base import VARIABLES, Type

SHORTHANDS = ("keep", "map", "count", "add")

_ELEMENTS: dict[Type, str] = {"numbers": "x", "words": "w", "text": "c", "table": "v", "index": "v"}


def forms_of(shorthand: str, source: Type, code: str) -> tuple[str, str]:
    """Returns the two forms that a shorthand stands for.

    Args:
        shorthand: One of `SHORTHANDS`.
        source: The type of the operation's input.
        code: The condition or expression over the element (``x``, ``w``, ``c``, or ``key`` and ``v``).
    """
    if shorthand in ("keep", "map") and source in ("table", "index"):
        return _table_forms(shorthand, code)
    if shorthand == "keep" and source == "text":
        return (
            f"s = ''.join(c for c in s if {code})",
            f"out = ''\nfor c in s:\n    if {code}:\n        out += c\ns = out",
        )
    element = _ELEMENTS[source]
    items = "d.values()" if source in ("table", "index") else VARIABLES[source]
    if shorthand == "keep":
        return (
            f"{items} = [{element} for {element} in {items} if {code}]",
            f"out = []\nfor {element} in {items}:\n    if {code}:\n        out.append({element})\n{items} = out",
        )
    if shorthand == "map":
        return (
            f"{items} = [{code} for {element} in {items}]",
            f"out = []\nfor {element} in {items}:\n    out.append({code})\n{items} = out",
        )
    if shorthand == "count":
        return (
            f"n = sum(1 for {element} in {items} if {code})",
            f"count = «0|1»\nfor {element} in {items}:\n    if {code}:\n        count += 1\nn = count",
        )
    return (
        f"n = sum({code} for {element} in {items})",
        f"total = «0|1»\nfor {element} in {items}:\n    total «+=|=» {code}\nn = total",
    )


def _table_forms(shorthand: str, code: str) -> tuple[str, str]:
    if shorthand == "keep":
        return (
            f"d = {{key: v for key, v in d.items() if {code}}}",
            f"out = {{}}\nfor key, v in d.items():\n    if {code}:\n        out[key] = v\nd = out",
        )
    return (
        f"d = {{key: {code} for key, v in d.items()}}",
        f"out = {{}}\nfor key, v in d.items():\n    out[key] = {code}\nd = out",
    )
