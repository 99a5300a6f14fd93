"""What a scalar scorer of programs learns, from the same collected trajectories: value, outcome, or steps.

- ``vm``, the value model (ReST-RL, section 3.3): every state, the mean reward of the policy's completions from it.
- ``orm``, an outcome reward model: finished programs only, their own reward.
- ``prm``, a process reward model: a label for every step. A step is a line; the end of a program, at the
  end-of-sequence token, is the last step, and the problem alone is none. Labels are Monte-Carlo estimates
  (Math-Shepherd, arXiv 2312.08935, section 3.3): ``hard``, 1 if any collected completion through the state is fully
  right, else 0; ``soft``, the mean reward of the policy's completions from it, which is the value model's target.

Deviations from Math-Shepherd: no completions are sampled for the labels; those of the value collection serve, so a
step has as many as passed through it, and all three kinds learn from the same programs. A soft label is the mean
*reward* of a program, which is a share of tests.

This module needs the standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, get_args

from restrl.errors import ConfigError
from restrl.value.targets import Trajectory

ValueKind = Literal["vm", "orm", "prm"]
StepLabel = Literal["hard", "soft"]

KINDS: tuple[ValueKind, ...] = get_args(ValueKind)
LONG_NAMES = {"vm": "value model", "orm": "outcome reward model", "prm": "process reward model"}

# Rewards are shares of tests, computed as floats.
_FULL = 1.0 - 1e-9


def check_kind(kind: str) -> ValueKind:
    """Returns the kind.

    Raises:
        ConfigError: There is no such kind.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise ConfigError(f"kind {kind!r} of scorer is unknown; allowed: {', '.join(KINDS)}")


def trajectories_of_kind(
    trajectories: Iterable[Trajectory], kind: ValueKind, label: StepLabel = "hard"
) -> list[Trajectory]:
    """Returns the trajectories with the targets that a kind learns; those without any are left out.

    Args:
        trajectories: Programs with the value targets of their states; all of a problem's together.
        kind: What is learned.
        label: For ``prm``, how steps are labelled.
    """
    given = list(trajectories)
    if kind == "vm":
        return given
    made = [_outcome(item) for item in given] if kind == "orm" else steps(given, label)
    return [trajectory for trajectory in made if trajectory.targets]


def _outcome(trajectory: Trajectory) -> Trajectory:
    end = len(trajectory.code) + 1
    return replace(trajectory, targets=tuple(target for target in trajectory.targets if target[0] == end))


def steps(trajectories: Sequence[Trajectory], label: StepLabel = "hard") -> list[Trajectory]:
    """Returns the trajectories with a label per step (see the module); weights stay as they are.

    >>> right = Trajectory("p", "a\\nb\\n", True, ((0, 0.5, 2.0), (2, 0.5, 2.0), (4, 1.0, 1.0), (5, 1.0, 1.0)))
    >>> wrong = Trajectory("p", "a\\nc\\n", True, ((4, 0.0, 1.0), (5, 0.0, 1.0)))
    >>> [item.targets for item in steps([right, wrong])]
    [((2, 1.0, 2.0), (4, 1.0, 1.0), (5, 1.0, 1.0)), ((4, 0.0, 1.0), (5, 0.0, 1.0))]
    """
    reached = _reached(trajectories)
    result = []
    for trajectory in trajectories:
        labelled = []
        for offset, value, weight in trajectory.targets:
            if offset == 0:
                continue
            if label == "hard":
                finished = offset > len(trajectory.code)
                state = (trajectory.problem_id, trajectory.code[:offset], finished)
                value = 1.0 if state in reached else 0.0
            labelled.append((offset, value, weight))
        result.append(replace(trajectory, targets=tuple(labelled)))
    return result


def _reached(trajectories: Iterable[Trajectory]) -> set[tuple[str, str, bool]]:
    """The states, with whether they are finished programs, that some fully right program passes through.

    A right program passes through every whole line of its own, whichever trajectory carries the state's target.
    """
    states = set()
    for trajectory in trajectories:
        if not trajectory.targets:
            continue
        offset, reward, _ = trajectory.targets[-1]
        if offset != len(trajectory.code) + 1 or reward < _FULL:
            continue
        states.add((trajectory.problem_id, trajectory.code, True))
        end = trajectory.code.find("\n") + 1
        while end > 0:
            states.add((trajectory.problem_id, trajectory.code[:end], False))
            end = trajectory.code.find("\n", end) + 1
    return states
