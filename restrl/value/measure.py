"""Measures any scorer of states on graded programs, as the training measures its own: an off-the-shelf model, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from restrl.errors import ProblemError
from restrl.types import Problem, State, ValueModel
from restrl.value.breakdown import full_report
from restrl.value.calibration import ValueReport
from restrl.value.calibrators import FITS, Calibrator, best_method, check_calibration
from restrl.value.data import predictions, targets_of
from restrl.value.kinds import StepLabel, ValueKind, trajectories_of_kind
from restrl.value.targets import Trajectory


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a scorer is worth.

    Attributes:
        report: Of the scorer as it is; the baseline is the mean of these very targets.
        calibrators: Maps of its scores to targets by method, fitted on all of the programs given.
    """

    report: ValueReport
    calibrators: Mapping[str, Calibrator]


def measure_scorer(
    scorer: ValueModel,
    trajectories: Sequence[Trajectory],
    problems: Mapping[str, Problem],
    kind: ValueKind = "orm",
    label: StepLabel = "hard",
) -> Measurement:
    """Scores graded programs and reports how well.

    Args:
        scorer: A value or reward model.
        trajectories: Graded programs, of problems that the scorer has not seen.
        problems: Their problems, by id.
        kind: Which states are scored against what; see `restrl.value.kinds`.
        label: For ``prm``, how steps are labelled.

    Raises:
        ProblemError: A problem is missing, or there is nothing to score.
        EngineError: The scorer fails.
    """
    targets = [
        target
        for number, trajectory in enumerate(trajectories_of_kind(trajectories, kind, label))
        for target in targets_of(trajectory, True, number)
    ]
    unknown = next((target.problem_id for target in targets if target.problem_id not in problems), None)
    if unknown is not None or not targets:
        what = f"problem {unknown!r} is not among the {len(problems)} given" if targets else "there is no graded state"
        raise ProblemError(f"{what}; give the programs of a value collection and their problem set")
    states = [State(problems[target.problem_id], target.code, target.finished) for target in targets]
    data = predictions(np.array(scorer.score_states(states), dtype=np.float64), targets)
    checks = check_calibration(data.predicted, data.target, data.weight, data.problem)
    report = replace(
        full_report(data, float(np.average(data.target, weights=data.weight))),
        kind=kind,
        calibration_checks=checks,
        calibration_method=best_method(checks),
    )
    fits = {name: fit(data.predicted, data.target, data.weight) for name, fit in FITS.items()}
    return Measurement(report, fits)
