"""Value targets: what the value model learns (ReST-RL, section 3.3: mean reward of the completions below a state).

Every state that a graded completion passes through gets a target; a program carries the targets of all its states, so
that one forward of the value model serves them all.

Which completions count for a state S:

- ``own`` (default): those that pass through S and were sampled from S or from an ancestor of S. From S on they are
  plain samples of the policy. How *many* there are depends on what the search saw before, hence the weights: with
  weight = count, the sum of rewards and the count have expectations in the ratio V(S) (Wald's identity), so a
  weighted fit is unbiased.
- ``subtree`` (the paper): all that pass through S, also those that were sampled further down. UCT samples more where
  the rewards were good, so their mean lies above the policy's value; in a small tree that has run out of good leaves,
  below it.

Deviations from the paper:
1. ``own`` instead of ``subtree``; the latter is one setting away.
2. A completion that was cut off counts as reward 0 for the states that it passed through.
3. A finished program and the same lines unfinished have two targets: the finished one has its own place,
   ``len(code) + 1``.
4. A state counts once in all: its weight is shared among the programs that pass through it.

This module is pure: the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from restrl.actions import boundaries, finish

TargetKind = Literal["own", "subtree"]
TargetWeight = Literal["count", "state"]


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
                raise ValueError(
                    f"target weight {weight} of {self.problem_id} at offset {offset} is not > 0 and finite"
                )
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


@dataclass(frozen=True, slots=True)
class GradedPath:
    """A graded completion.

    Attributes:
        code: The code after the problem's initial state, as sampled.
        finished: The policy ended it; else it was cut off and its reward is 0.
        reward: In [0, 1].
        start: Characters of ``code`` that were there before sampling: its states from there on are the policy's own.
    """

    code: str
    finished: bool
    reward: float
    start: int = 0


class GradedSample(Protocol):
    """A graded solution that was sampled from the problem alone, for example `restrl.rest.assembly.Sample`."""

    @property
    def code(self) -> str:
        """The code after the problem's initial state."""

    @property
    def reward(self) -> float:
        """In [0, 1]."""

    @property
    def finished(self) -> bool:
        """The policy ended it."""


def whole_action_offsets(code: str) -> list[int]:
    """Returns 0 and the end of every action of ``code`` whose lines are whole, ascending.

    These are the states that a completion passed through. A last line without newline is not one: the completion ended,
    or was cut off, before the line did.

    >>> whole_action_offsets("a\\nb")
    [0, 2]
    >>> whole_action_offsets("a\\nb\\n# done\\n")
    [0, 2, 4]
    """
    whole = code[: code.rfind("\n") + 1]
    # The sentinel takes trailing blank and comment lines, which would else join the last action.
    return [0, *boundaries(whole + "x")[:-1]]


def targets_from_paths(
    problem_id: str, paths: Iterable[GradedPath], kind: TargetKind = "own", weight: TargetWeight = "count"
) -> list[Trajectory]:
    """Returns one trajectory per distinct program, with the targets of its states.

    A value is the mean reward of the completions that count for the state (``kind``, see the module). Its weight
    is their number (``count``) or 1 (``state``, the paper), divided by the number of trajectories that carry it. An
    unfinished program whose states are all carried by others is left out.

    Args:
        problem_id: The problem.
        paths: Graded completions of one problem, in any order; the order of the result follows theirs.
        kind: Which completions count for a state.
        weight: What a state weighs.
    """
    sums: dict[tuple[str, bool], list[float]] = {}
    programs: dict[tuple[str, bool], None] = {}
    for path in paths:
        reward = path.reward if path.finished else 0.0
        offsets = whole_action_offsets(path.code)
        states = [(path.code[:offset], False) for offset in offsets if kind == "subtree" or offset >= path.start]
        if path.finished:
            states.append((finish(path.code), True))
            programs[finish(path.code), True] = None
        else:
            programs[path.code[: offsets[-1]], False] = None
        for state in states:
            sums.setdefault(state, []).append(reward)
    carried: dict[tuple[str, bool], list[tuple[str, bool]]] = {}
    for code, terminal in programs:
        states = [(code[:offset], False) for offset in (0, *boundaries(code)) if (code[:offset], False) in sums]
        carried[code, terminal] = [*states, (code, True)] if terminal else states
    carriers: dict[tuple[str, bool], int] = {}
    for states in carried.values():
        for state in states:
            carriers[state] = carriers.get(state, 0) + 1
    for program, states in carried.items():
        if not program[1] and all(carriers[state] > 1 for state in states):
            for state in states:
                carriers[state] -= 1
            states.clear()
    trajectories = []
    for (code, terminal), states in carried.items():
        targets = []
        for state_code, state_terminal in states:
            rewards = sums[state_code, state_terminal]
            mass = len(rewards) if weight == "count" else 1
            share = mass / carriers[state_code, state_terminal]
            offset = len(state_code) + (1 if state_terminal else 0)
            targets.append(ValueTarget(offset, math.fsum(rewards) / len(rewards), share))
        if targets:
            trajectories.append(Trajectory(problem_id, code, terminal, tuple(targets)))
    return trajectories


def targets_from_samples(
    problem_id: str, samples: Iterable[GradedSample], weight: TargetWeight = "count"
) -> list[Trajectory]:
    """Returns the targets that plain graded samples of the policy give: a state's value is the mean reward through it.

    Args:
        problem_id: The problem.
        samples: Solutions that were sampled from the problem alone.
        weight: What a state weighs, see `targets_from_paths`.
    """
    paths = (GradedPath(sample.code, sample.finished, sample.reward) for sample in samples)
    return targets_from_paths(problem_id, paths, "own", weight)
