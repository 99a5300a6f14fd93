"""Watching one run: its claims, its CPU and wall clocks, the kill, its end. The program has no say in any of it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from restrl.grading.jail.runner import FRAME
from restrl.grading.jail.zygote import EVENT

SETUP_S = 20.0
_MAX_STRETCH = 10.0
_LINGER_S = 0.25
_DRAIN = 1 << 18

Reason = Literal["ended", "timeout", "memory", "interrupted", "output", "protocol", "done"]


class Fault(Exception):
    """A fault of the grader or the machine, not of the program: the run is repeated."""


@dataclass(slots=True)
class Frame:
    """One claim of the running program: kind, case index, payload, and the CPU time that it says the case took.

    The clock that kills is the parent's; the claimed time makes an honest program's timeout independent of how late the
    parent looked.
    """

    kind: bytes
    index: int
    payload: bytes
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: why, wait status, CPU seconds, peak memory in bytes."""

    reason: Reason
    status: int
    cpu_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits that the parent enforces: CPU and wall seconds per case, largest claim in bytes."""

    cpu_s: float
    wall_s: float
    max_frame: int


def cpu_clock(pid: int) -> float | None:
    """Returns the CPU seconds of a process (all threads), or None if it is gone or the system cannot tell."""
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def _runqueue_s(pid: int) -> float:
    """Returns the seconds that a process was ready to run but another one had the processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _sleeps(pid: int) -> bool:
    """Whether no thread of a process runs, or waits for a processor or for memory.

    The time in `_runqueue_s` grows only when a wait ends, so a wait that goes on is to be seen here.
    """
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
                if state in ("R", "D"):
                    return False
    except OSError:
        pass
    return True


class Watch:
    """Watches one run: frames, CPU time per case, wall time per case, the end.

    Most runs end within milliseconds. Until the zygote says that this one takes longer (event ``P``), nothing is
    looked at but its end; the claims wait in the socket, and carry the CPU time that they took.

    Args:
        control: The socket to the zygote.
        data: The socket to the program.
        request: What is to be sent to the program.
        limits: Limits of the case that runs; `on_frame` may change them for the next.
        on_frame: Called with every claim; returns False when it expects no more.
        over_budget: Asked when the run was killed, but not from here: has the system ended it for its memory?
    """

    def __init__(
        self,
        control: socket.socket,
        data: socket.socket,
        request: bytes,
        limits: RunLimits,
        on_frame: Callable[[Frame], bool],
        over_budget: Callable[[], bool] = lambda: False,
    ) -> None:
        self.control = control
        self.data = data
        self.pid: int | None = None
        self.limits = limits
        self.on_frame = on_frame
        self.over_budget = over_budget
        self.buffer = bytearray()
        self.reason: Reason = "ended"
        self.ready = False
        self.killed = False
        self.finished = False
        self.claimed_s = 0.0
        self.num_claims = 0
        self.ended: Ended | None = None
        self.unsent = memoryview(request)
        self.poller: select.poll | None = None
        self.group_cpu_s = 0.0  # of all processes of the run, where the zygote adds them up
        self.cpu_base = 0.0
        self.wall_base = time.monotonic()
        self._send()

    def _send(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.data.send(self.unsent) :]
        except BlockingIOError:
            self._look_closely()
        except (BrokenPipeError, ConnectionResetError):
            self.unsent = self.unsent[:0]

    def _look_closely(self) -> None:
        """From now on claims are read as they come, and the clocks are looked at."""
        if self.poller is None:
            self.poller = select.poll()
            self.poller.register(self.control, select.POLLIN)
        self.poller.register(self.data, select.POLLIN | (select.POLLOUT if self.unsent else 0))

    def _start_case(self) -> None:
        if self.poller is not None:
            self.cpu_base = self._cpu_s()
            self.wall_base = time.monotonic()

    def _cpu_s(self) -> float:
        own = (cpu_clock(self.pid) or 0.0) if self.pid is not None else 0.0
        return max(own, self.group_cpu_s)

    def run(self) -> Ended:
        """Watches until the run ends."""
        while self.ended is None:
            self._step()
        return self.ended

    def ask(self, question: bytes) -> Ended | None:
        """Sends a question to the program and watches until its next claim, or its end.

        Returns:
            None if a claim came (`on_frame` has it), else how the run ended.
        """
        self.num_claims = 0
        self._look_closely()
        self._start_case()
        self.unsent = memoryview(question)
        self._send()
        return self.wait()

    def wait(self) -> Ended | None:
        """Watches until the next claim (returns None) or the end."""
        self._look_closely()
        while self.ended is None and not self.num_claims:
            self._step()
        return self.ended if not self.num_claims else None

    def stop(self) -> Ended:
        """Kills the program and waits for its end."""
        self._kill("done")
        return self.run()

    def _step(self) -> None:
        if self.poller is None:
            self._hear()
            return
        events = self.poller.poll(self._patience_ms())
        for descriptor, event in events:
            if descriptor == self.data.fileno():
                if event & select.POLLOUT:
                    self._send()
                    self._look_closely()
                if event & ~select.POLLOUT and not self._drain():
                    self.poller.unregister(self.data)
        for descriptor, _ in events:
            if descriptor == self.control.fileno():
                self._hear()
                if self.ended is not None:
                    return
        self._tick()  # also after events: a program that trickles bytes must not stop the clocks

    def _patience_ms(self) -> int:
        if self.finished or self.killed:
            return 250
        return max(10, min(1000, int(1000 * (self.limits.cpu_s - self._cpu_s() + self.cpu_base)) + 1))

    def _tick(self) -> None:
        """Is a limit exceeded?"""
        elapsed = time.monotonic() - self.wall_base
        if self.killed:
            if elapsed > self.limits.wall_s * _MAX_STRETCH + SETUP_S:
                raise Fault("a killed run does not end")
            return
        if self.finished:
            if elapsed > _LINGER_S:
                self._kill("done")
            return
        if not self.ready:
            if elapsed > SETUP_S * _MAX_STRETCH:
                raise Fault("the jail was not ready in time")
            return
        used = self._cpu_s() - self.cpu_base
        if used >= self.limits.cpu_s:
            self._kill("timeout")
        elif elapsed >= self.limits.wall_s:
            # Time spent waiting for a processor is the machine's fault, not the program's.
            if self._is_idle() and elapsed - self._waited_s() >= self.limits.wall_s:
                self._kill("timeout")
            elif elapsed >= self.limits.wall_s * _MAX_STRETCH:
                raise Fault("the machine is too loaded to run the program")

    def _is_idle(self) -> bool:
        """Whether the program itself chose to wait; until the zygote has named it, it is the zygote that waits."""
        return sys.platform != "linux" or (self.pid is not None and _sleeps(self.pid))

    def _waited_s(self) -> float:
        return _runqueue_s(self.pid) if self.pid is not None else 0.0

    def _kill(self, reason: Reason) -> None:
        if not self.killed:
            self.killed = True
            self.reason = reason
            with contextlib.suppress(OSError):
                self.control.send(b"K")

    def _drain(self) -> bool:
        """Reads what is there. Returns False at the end of the stream."""
        try:
            part = self.data.recv(_DRAIN)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not part:
            return False
        self.buffer += part
        self._parse()
        return True

    def _parse(self) -> None:
        position = 0
        while not self.finished and self.reason not in ("output", "protocol"):
            if len(self.buffer) - position < FRAME.size:
                break
            length, kind, index, cpu_s = FRAME.unpack_from(self.buffer, position)
            if length > self.limits.max_frame:
                self._kill("output")
                break
            end = position + FRAME.size + length
            if len(self.buffer) < end:
                break
            self._frame(Frame(kind, index, bytes(self.buffer[position + FRAME.size : end]), cpu_s - self.claimed_s))
            self.claimed_s = cpu_s
            position = end
        del self.buffer[:position]
        if self.finished or self.reason in ("output", "protocol"):
            self.buffer.clear()

    def _frame(self, frame: Frame) -> None:
        if not self.ready:
            if frame.kind == b"X":
                raise Fault(f"a program could not be confined: {frame.payload.decode('utf-8', 'replace')}")
            if frame.kind != b"R":
                raise Fault("a claim before the jail was closed")
            self.ready = True
            self._start_case()
            return
        self.num_claims += 1
        try:
            more = self.on_frame(frame)
        except ValueError:
            self._kill("protocol")
            return
        self.finished = not more
        if self.reason == "timeout":
            self.reason = "interrupted"  # the claim was on its way when the clock ran out: its case is not late
        self._start_case()

    def _hear(self) -> None:
        """Takes the zygote's next word: the run takes its time, or it has ended."""
        try:
            data = self.control.recv(EVENT.size, socket.MSG_WAITALL)
        except BlockingIOError:  # its time-out is long
            raise Fault("the zygote says nothing") from None
        if len(data) < EVENT.size:
            raise Fault("the zygote died")
        kind, number, cpu_s, peak = EVENT.unpack(data)
        if kind in (b"P", b"Q"):
            self.pid = number if kind == b"P" else self._receive_handle()
            self._look_closely()
            return
        if kind == b"U":
            self.group_cpu_s = max(self.group_cpu_s, cpu_s)
            return
        if kind != b"S":
            raise Fault(f"the zygote sent {kind!r}")
        while self._drain_rest():
            pass
        if not self.ready:
            raise Fault("the run ended before the program started")
        killed = os.WIFSIGNALED(number)
        if self.reason == "ended" and killed and os.WTERMSIG(number) in (signal.SIGXCPU, signal.SIGPROF):
            self.reason = "timeout"
        elif self.reason == "ended" and killed and os.WTERMSIG(number) == signal.SIGKILL and self.over_budget():
            self.reason = "memory"
        elif self.reason == "timeout" and not killed:
            self.reason = "ended"  # by itself, before the kill: on a loaded machine the zygote says so late
        self.ended = Ended(self.reason, number, cpu_s, peak)

    def _receive_handle(self) -> int | None:
        """Receives a handle of the run from a zygote that lives among other process ids, and looks up the id here."""
        _, descriptors, _, _ = socket.recv_fds(self.control, 1, 1)
        for descriptor in descriptors:
            try:
                text = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
            finally:
                os.close(descriptor)
            for line in text.splitlines():
                if line.startswith("Pid:") and int(line.split()[1]) > 0:
                    return int(line.split()[1])
        return None

    def _drain_rest(self) -> bool:
        """Reads what an ended run has left. Returns True if there may be more."""
        try:
            part = self.data.recv(_DRAIN)
        except (BlockingIOError, ConnectionResetError):
            return False
        self.buffer += part
        self._parse()
        return len(part) == _DRAIN
