"""The log of a value model's training: ``metrics.jsonl`` beside it, and the trackers of ``train.report_to``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from restrl.grpo.metrics import MetricsLog, read_metrics
from restrl.tracking import TrackedRun, Trackers

VALUE_METRICS: dict[str, str] = {
    "step": "Optimizer steps done, counted from 1.",
    "loss": "Mean loss of the step's targets: squared error, or cross-entropy for kinds that learn classes.",
    "grad_norm": "Norm of the gradient before clipping to max_grad_norm.",
    "lr": "Learning rate of the step.",
    "validation_mse": "After every epoch: mean squared error on the validation problems.",
    "baseline_mse": "After every epoch: that of predicting the training targets' mean everywhere.",
    "ece": "After every epoch: expected calibration error on the validation problems.",
    "ranking_accuracy": "After every epoch: how often the better of two finished programs of a validation problem has "
    "the higher value.",
}
# Names in the engine's log, and ours.
_ENGINE_KEYS = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
    "eval_mse": "validation_mse",
    "eval_baseline_mse": "baseline_mse",
    "eval_ece": "ece",
    "eval_ranking_accuracy": "ranking_accuracy",
}


class ValueLog:
    """Takes what `restrl.value.train` says (its ``on_log``); a context manager.

    Args:
        output_dir: Of the training.
        report_to: Trackers.
        settings: Of the training, for display.
    """

    def __init__(self, output_dir: Path, report_to: Sequence[str], settings: Mapping[str, object]) -> None:
        self._folder = output_dir
        self._report_to = report_to
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._log: MetricsLog | None = None
        self._trackers: Trackers | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, metrics: Mapping[str, float]) -> None:
        """Takes one call of ``on_log``; the first says where training begins or continues."""
        if "total_steps" in metrics:
            self._open(int(metrics["step"]))
            return
        record = {ours: metrics[theirs] for theirs, ours in _ENGINE_KEYS.items() if theirs in metrics}
        if record and self._log is not None and self._trackers is not None:
            record = {"step": int(metrics["step"]), **record}
            self._log.append(record)
            self._trackers.log(record)

    def _open(self, last_step: int) -> None:
        path = self._folder / "metrics.jsonl"
        self._log = MetricsLog(path, last_step)
        name = "/".join(self._folder.resolve().parts[-2:])
        run = TrackedRun(self._folder / "logs", name, "value", self._settings, last_step)
        self._trackers = self._stack.enter_context(Trackers(self._report_to, run, read_metrics(path)))
