"""Where metrics go besides ``metrics.jsonl``: TensorBoard's event files, W&B, trackio, MLflow (``train.report_to``).

The log file is the truth and a tracker a copy of it. A tracker that fails is dropped with a warning, and training goes
on; opened again, it gets the steps that it missed. A step is sent once, whatever was killed and resumed in between.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from restrl.errors import ConfigError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """What a tracker is told about a run.

    Attributes:
        folder: For its files; part of the run directory.
        name: For display.
        section: Goes before every metric's name, with a slash: ``train`` or ``value``.
        settings: The settings of the run, for display.
        last_step: Where the run begins or continues: what was sent of later steps comes again.
    """

    folder: Path
    name: str
    section: str
    settings: Mapping[str, object] = field(default_factory=dict)
    last_step: int = 0


class Tracker(Protocol):
    """A copy of the log.

    Attributes:
        id: The run's name at the service, kept for resuming; empty where there is none.
        sent: The last step that it held when it was opened.
    """

    id: str
    sent: int

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends metrics of a step."""

    def close(self) -> None:
        """Sends the rest and ends."""


@dataclass(frozen=True, slots=True)
class TrackerKind:
    """A kind of tracker.

    Attributes:
        package: What it imports.
        extra: The extra of this package that installs it; empty: it is always there.
        owner: ``module:class``.
    """

    package: str
    extra: str
    owner: str


TRACKERS: dict[str, TrackerKind] = {
    "tensorboard": TrackerKind("tensorboardX", "", "restrl.tracking.tensorboard:TensorBoardTracker"),
    "wandb": TrackerKind("wandb", "wandb", "restrl.tracking.services:WandbTracker"),
    "trackio": TrackerKind("trackio", "trackio", "restrl.tracking.services:TrackioTracker"),
    "mlflow": TrackerKind("mlflow", "mlflow", "restrl.tracking.services:MlflowTracker"),
}


def check_names(names: Sequence[str]) -> None:
    """Checks that every name is a tracker's; ``none`` stands alone.

    Raises:
        ConfigError: One is not.
    """
    for name in names:
        if name not in TRACKERS and name != "none":
            raise ConfigError(f"train.report_to names {name!r}; allowed: {', '.join([*TRACKERS, 'none'])}")
    if "none" in names and len(names) > 1:
        raise ConfigError(f"train.report_to is {list(names)!r}; 'none' stands alone")


def check_installed(names: Sequence[str]) -> None:
    """Checks that the libraries of the named trackers are there, without loading them.

    Raises:
        ConfigError: One is missing; the message names the extra that installs it.
    """
    for name in names:
        kind = TRACKERS.get(name)
        if kind is not None and importlib.util.find_spec(kind.package) is None:
            source = f"'restrl[{kind.extra}]'" if kind.extra else kind.package
            raise ConfigError(
                f"train.report_to names {name!r}, but the package {kind.package} is not installed; install it with: "
                f"pip install {source}, or take {name!r} out of train.report_to"
            )


class Trackers:
    """The trackers of a run; a context manager. Only the process that writes the log has any."""

    def __init__(self, names: Sequence[str], run: TrackedRun, history: Sequence[Mapping[str, float]] = ()) -> None:
        """Opens them and sends what they miss of ``history``, the log so far.

        Raises:
            ConfigError: A name is not a tracker's, or its library is missing.
        """
        check_names(names)
        check_installed(names)
        self._run = run
        self._open: dict[str, Tracker] = {}
        self._state = run.folder / "trackers.json"
        wanted = [name for name in names if name != "none"]
        if wanted:
            run.folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            with self._tolerant(name):
                self._open[name] = self._start(name)
        for record in history:
            self.log(record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self, record: Mapping[str, float]) -> None:
        """Sends one record of the log: ``step`` and metrics."""
        step = int(record["step"])
        metrics = {f"{self._run.section}/{name}": float(value) for name, value in record.items() if name != "step"}
        for name, tracker in list(self._open.items()):
            if step > tracker.sent:
                if tracker.id:
                    # Noted first: after a kill in between the step is missing there, which is better than twice.
                    self._note(name, tracker.id, step)
                with self._tolerant(name):
                    tracker.log(step, metrics)

    def close(self) -> None:
        """Ends every tracker."""
        for name, tracker in list(self._open.items()):
            with self._tolerant(name):
                tracker.close()
        self._open.clear()

    def _start(self, name: str) -> Tracker:
        module, _, attribute = TRACKERS[name].owner.partition(":")
        known = self._known().get(name, {})
        make: Any = getattr(importlib.import_module(module), attribute)
        tracker: Tracker = make(self._run, str(known.get("id", "")), int(known.get("step", 0)))
        if tracker.id:
            self._note(name, tracker.id, tracker.sent)
        return tracker

    def _known(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def _note(self, name: str, identity: str, step: int) -> None:
        temporary = self._state.with_name(f".{self._state.name}.tmp")
        temporary.write_text(json.dumps(self._known() | {name: {"id": identity, "step": step}}), encoding="utf-8")
        os.replace(temporary, self._state)

    @contextlib.contextmanager
    def _tolerant(self, name: str) -> Iterator[None]:
        """Drops a tracker that fails for reasons that are none to end a training: a network, a service, a full disk."""
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            reason = str(error).strip().split("\n")[0]
            _log.warning(
                "%s gets no more metrics (%s: %s); metrics.jsonl has them all", name, type(error).__name__, reason
            )
