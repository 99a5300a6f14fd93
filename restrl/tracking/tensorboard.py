"""Metrics as TensorBoard's event files, written by tensorboardX (a tenth of a megabyte, where TensorBoard has twenty).

A run that goes on copies the events up to its last step into a new file, with their times, and drops the old one: no
step stands there twice, for readers that know nothing of restarts either. The writer is the synchronous one: the usual
one writes in a thread, where a full disk would go unnoticed.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from restrl.tracking import TrackedRun


class TensorBoardTracker:
    """One event file in the run's folder; see `restrl.tracking.Tracker`."""

    id = ""

    def __init__(self, run: TrackedRun, identity: str = "", sent: int = 0) -> None:
        old = sorted(run.folder.glob("events.out.tfevents.*"))
        kept = [event for path in old for event in read_events(path) if 0 < event.step <= run.last_step]
        self.sent = max((int(event.step) for event in kept), default=0)
        self._writer = EventsWriter(str(run.folder / "events"))
        for event in kept:
            self._writer.write_event(event)
        self._writer.flush()
        new = Path(self._writer._file_name)
        for path in old:
            if path != new:
                path.unlink()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the metrics of a step, through to the disk."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._writer.write_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def read_events(path: Path) -> Iterator[Any]:
    """Yields the events of a file; a last one that was cut off by a kill is left out.

    A record is its length (8 bytes), a checksum (4), the event, a checksum (4).
    """
    data = path.read_bytes()
    start = 0
    while start + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + 12 + length
        if end + 4 > len(data):
            return
        yield Event.FromString(data[start + 12 : end])
        start = end + 4
