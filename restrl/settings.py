"""How a stage declares its settings: one frozen dataclass beside its owner, one `setting` per field.

    @dataclass(frozen=True, slots=True)
    class RestConfig:
        sigma_0: float = setting(0.05, "drop problems whose rewards spread less than this", low=0.0, paper=0.05)

`restrl.config` turns TOML tables and ``--set`` flags into these dataclasses, checks every value, and prints them.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[Any, ...] | None = None,
    paper: Any = None,
    owner: str | None = None,
) -> Any:
    """Declares one field of a config dataclass.

    Args:
        default: The default value (immutable).
        help: What it means, with its unit.
        low: Smallest allowed value.
        high: Largest allowed value.
        above: The value must be greater than this.
        choices: The allowed values.
        paper: The published value, for display.
        owner: The section of a recipe that sets this field, where it is not the dataclass's own.
    """
    metadata = {
        "help": help,
        "low": low,
        "high": high,
        "above": above,
        "choices": choices,
        "paper": paper,
        "owner": owner,
    }
    return dataclasses.field(default=default, metadata=metadata)
