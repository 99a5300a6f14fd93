"""Metrics at W&B, trackio and MLflow. Where they go is set as their own pages say, by environment variables or a login:
``WANDB_PROJECT``, ``WANDB_MODE=offline``, ``TRACKIO_PROJECT``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

from restrl.tracking import TrackedRun

PROJECT = "restrl"


class WandbTracker:
    """A run at W&B, or in an offline folder; see `restrl.tracking.Tracker`."""

    def __init__(self, run: TrackedRun, identity: str = "", sent: int = 0) -> None:
        import wandb

        self.id, self.sent = identity or uuid.uuid4().hex[:12], sent
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=self.id,
            resume="allow",
            name=run.name,
            dir=str(run.folder),
            config=dict(run.settings),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Waits until everything is sent."""
        self._run.finish()


class TrackioTracker:
    """A run of trackio, on this machine unless told otherwise; see `restrl.tracking.Tracker`."""

    def __init__(self, run: TrackedRun, identity: str = "", sent: int = 0) -> None:
        import trackio

        # Its runs are told apart by name.
        self.id, self.sent = identity or f"{run.name}-{uuid.uuid4().hex[:6]}", sent
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        # It prints; standard output is for results.
        with contextlib.redirect_stdout(sys.stderr):
            self._run: Any = trackio.init(project=project, name=self.id, resume="allow", config=dict(run.settings))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends the metrics of a step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Waits until everything is sent."""
        with contextlib.redirect_stdout(sys.stderr):
            self._run.finish()


class MlflowTracker:
    """A run of an MLflow server or store; see `restrl.tracking.Tracker`."""

    def __init__(self, run: TrackedRun, identity: str = "", sent: int = 0) -> None:
        import mlflow

        self._client: Any = mlflow.MlflowClient()
        self.id, self.sent = identity, sent
        if self.id:
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(name)
        self.id = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
        for key, value in run.settings.items():
            self._client.log_param(self.id, key, value)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends the metrics of a step."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def close(self) -> None:
        """Marks the run as finished."""
        self._client.set_terminated(self.id)
