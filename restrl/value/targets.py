"""Value targets: what the value model learns (ReST-RL, section 3.3: mean reward of the completions below a state).

This module is pure: the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class ValueTarget(NamedTuple):
    """The target of one state of a trajectory.

    Attributes:
        offset: Character offset in the trajectory's ``code`` of the action boundary where the state ends: 0 is the root
            state, ``len(code)`` the state after the last action, ``len(code) + 1`` the finished program (the
            end-of-program marker of a terminal trajectory).
        value: The target, in [0, 1].
        weight: How much the target counts, > 0.
    """

    offset: int
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One (partial) program and the value targets of its states: one forward of the value model.

    Attributes:
        problem_id: The problem.
        code: The code after the problem's initial state; whole actions.
        terminal: The program is finished; only then may a target sit at ``len(code) + 1``.
        targets: ``(offset, value, weight)``, ascending in the offset; see `ValueTarget`.
    """

    problem_id: str
    code: str
    terminal: bool
    targets: tuple[tuple[int, float, float], ...]

    def __post_init__(self) -> None:
        """Raises ValueError if a target lies outside the code or the ranges, or the offsets do not ascend."""
        last = len(self.code) + (1 if self.terminal else 0)
        previous = -1
        for offset, value, weight in self.targets:
            if not previous < offset <= last:
                raise ValueError(f"target offset {offset} of {self.problem_id} is not in ({previous}, {last}]")
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"target value {value} of {self.problem_id} at offset {offset} is not in [0, 1]")
            if not (weight > 0.0 and math.isfinite(weight)):
                raise ValueError(f"target weight {weight} of {self.problem_id} at offset {offset} is not > 0 and finite")
            previous = offset

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `from_json` reads back."""
        return {
            "problem_id": self.problem_id,
            "code": self.code,
            "terminal": self.terminal,
            "targets": [[offset, value, weight] for offset, value, weight in self.targets],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trajectory:
        """Reads what `to_json` wrote.

        Raises:
            KeyError: A field is missing.
            ValueError: A target is out of range.
        """
        targets = tuple(ValueTarget(int(o), float(v), float(w)) for o, v, w in record["targets"])
        return cls(str(record["problem_id"]), str(record["code"]), bool(record["terminal"]), targets)
