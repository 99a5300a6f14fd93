"""The operations that the starter's problems are composed of, one TOML file per type of input.

A table of a file is an operation: ``say`` or ``noun`` holds its phrasings, ``form``, ``form_2`` or a shorthand its
code, and the other keys are the fields of `restrl.starter.operations.base.Operation`. The order of the files and
tables is part of the family: draws depend on it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from restrl.starter.operations.base import Operation, Type
from restrl.starter.operations.shorthand import SHORTHANDS, forms_of

_SOURCES: tuple[Type, ...] = ("numbers", "words", "text", "table", "index", "number")


def _operation(name: str, source: Type, table: dict[str, Any]) -> Operation:
    forms = [table[key].strip("\n") for key in ("form", "form_2") if key in table]
    for shorthand in SHORTHANDS:
        if shorthand in table:
            forms += forms_of(shorthand, source, table[shorthand])
    return Operation(
        name=f"{source}.{name}",
        source=source,
        target=table.get("target", source),
        parameter=table.get("parameter", ""),
        phrases=tuple(table["noun"] if "noun" in table else table["say"]),
        forms=tuple(forms),
        noun="noun" in table,
        rare=table.get("rare", False),
        guard=table.get("guard", False),
        first_only=table.get("first_only", False),
    )


def _load() -> dict[str, Operation]:
    operations: dict[str, Operation] = {}
    for source in _SOURCES:
        text = (Path(__file__).parent / f"{source}.toml").read_text(encoding="utf-8")
        for name, table in tomllib.loads(text).items():
            operation = _operation(name, source, table)
            operations[operation.name] = operation
    return operations


OPERATIONS: dict[str, Operation] = _load()
