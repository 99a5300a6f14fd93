"""The parent's end of one zygote: starts it, runs one program at a time, owns the clocks and the kill."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from restrl.errors import ConfigError, GraderError
from restrl.grading.config import LAYERS, GradingConfig
from restrl.grading.jail.runner import FRAME
from restrl.grading.jail.zygote import EVENT

_START_S = 60.0
_SETUP_S = 20.0
_MAX_STRETCH = 10.0
_ZYGOTE = Path(__file__).parent / "jail" / "zygote.py"

Reason = Literal["ended", "timeout", "interrupted", "output", "protocol", "done"]


class Fault(Exception):
    """A fault of the grader or the machine, not of the program: the run is repeated."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One claim of the running program: kind, case index, payload, and the CPU time that it says it has used."""

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
    """Returns the CPU seconds that a process (all threads) has used, or None if it is gone or the system cannot tell."""
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


def _reachable_by_all(path: str) -> bool:
    return all(os.stat(part).st_mode & 0o001 for part in (path, *map(str, Path(path).parents)))


def _resolve_packages(names: tuple[str, ...]) -> list[tuple[str, str]]:
    found = []
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(f"grading.packages names {name!r}, which is not an installed package; install it or drop it")
        found.append((str(Path(next(iter(spec.submodule_search_locations))).parent), name))
    return found


class Worker:
    """One zygote. Not thread-safe: one thread uses it."""

    def __init__(self, config: GradingConfig) -> None:
        self.layers: tuple[str, ...] = ()
        self._config = config
        self._packages = _resolve_packages(config.packages)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Starts the zygote if there is none.

        Raises:
            GraderError: It does not come up.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        parent, child = socket.socketpair()
        python = self._config.python or getattr(sys, "_base_executable", "") or sys.executable
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        keep = -1
        if sys.platform == "linux" and not self._config.python and not _reachable_by_all(sys.base_prefix):
            # After the change of user nothing below, say, a 0700 home could be imported; through a descriptor it can.
            keep = os.open(sys.base_prefix, os.O_PATH | os.O_CLOEXEC)
            environment["PYTHONHOME"] = f"/proc/self/fd/{keep}"
        options = {"layers": [name for name in LAYERS if name not in self._config.disable], "packages": self._packages}
        command = [python, "-s", "-P", "-S", str(_ZYGOTE), str(child.fileno()), str(keep), json.dumps(options)]
        pass_fds = [child.fileno()] + ([keep] if keep >= 0 else [])
        try:
            self._process = subprocess.Popen(
                command,
                env=environment,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            parent.close()
            raise GraderError(f"cannot start the grader's interpreter {python}: {error}") from None
        finally:
            child.close()
            if keep >= 0:
                os.close(keep)
        self._control = parent
        self._greet()

    def _greet(self) -> None:
        assert self._control is not None and self._process is not None
        self._control.settimeout(_START_S)
        try:
            kind, length, _, _ = EVENT.unpack(self._receive(EVENT.size))
            if kind != b"H":
                raise Fault("no greeting")
            self.layers = tuple(json.loads(self._receive(int(length))))
        except (Fault, OSError) as error:
            complaint = self._complaint()
            self.close()
            raise GraderError(f"the grader's zygote did not start: {complaint or error}") from None
        _silence(self._process.stderr)

    def _complaint(self) -> str:
        assert self._process is not None and self._process.stderr is not None
        self._process.kill()
        self._process.wait()
        return self._process.stderr.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]

    def _receive(self, size: int) -> bytes:
        assert self._control is not None
        parts = b""
        while len(parts) < size:
            part = self._control.recv(size - len(parts))
            if not part:
                raise Fault("the zygote died")
            parts += part
        return parts

    def close(self) -> None:
        """Ends the zygote and whatever it runs, and reaps it."""
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stderr is not None:
                process.stderr.close()

    def run(
        self, request: bytes, limits: RunLimits, on_frame: Callable[[Frame], bool], output: int | None = None
    ) -> Ended:
        """Runs one program in a fork of its own.

        Args:
            request: The encoded request for the child.
            limits: What the parent enforces.
            on_frame: Called with every claim; returns False when it expects no more.
            output: Descriptor that becomes the child's standard output.

        Raises:
            Fault: The zygote died, or the child could not be confined; the zygote is gone afterwards.
        """
        self.start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                descriptors = [theirs.fileno()] + ([output] if output is not None else [])
                socket.send_fds(self._control, [b"J"], descriptors)
            ours.settimeout(_SETUP_S)
            kind, pid, _, _ = EVENT.unpack(self._receive(EVENT.size))
            if kind != b"P":
                raise Fault(f"the zygote sent {kind!r}")
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                ours.sendall(struct.pack("<I", len(request)) + request)
            ours.setblocking(False)
            return _Watch(self._control, ours, pid, limits, on_frame).run()
        except (Fault, OSError) as error:
            self.kill()
            raise Fault(str(error)) from None
        finally:
            ours.close()

    def kill(self) -> None:
        """Kills the zygote; the next run starts a new one."""
        if self._process is not None:
            self._process.kill()
        self.close()


def _silence(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()


class _Watch:
    """Watches one run: frames, CPU time per case, wall time per case, the end."""

    def __init__(
        self, control: socket.socket, data: socket.socket, pid: int, limits: RunLimits, on_frame: Callable[[Frame], bool]
    ) -> None:
        self.control = control
        self.data = data
        self.pid = pid
        self.limits = limits
        self.on_frame = on_frame
        self.buffer = bytearray()
        self.reason: Reason = "ended"
        self.ready = False
        self.killed = False
        self.finished = False
        self._start_case()

    def _start_case(self) -> None:
        self.cpu_base = cpu_clock(self.pid) or 0.0
        self.wall_base = time.monotonic()

    def run(self) -> Ended:
        poller = select.poll()
        poller.register(self.control, select.POLLIN)
        poller.register(self.data, select.POLLIN)
        while True:
            events = poller.poll(self._patience_ms())
            for descriptor, _ in events:
                if descriptor == self.data.fileno() and not self._drain():
                    poller.unregister(self.data)
            for descriptor, _ in events:
                if descriptor == self.control.fileno():
                    return self._end()
            if not events:
                self._tick()

    def _patience_ms(self) -> int:
        if self.finished or self.killed:
            return 250
        used = (cpu_clock(self.pid) or 0.0) - self.cpu_base
        return max(10, min(1000, int(1000 * (self.limits.cpu_s - used)) + 1))

    def _tick(self) -> None:
        """No claim for a while: is a limit exceeded?"""
        elapsed = time.monotonic() - self.wall_base
        if self.killed:
            if elapsed > self.limits.wall_s * _MAX_STRETCH + _SETUP_S:
                raise Fault("a killed run does not end")
            return
        if self.finished:
            self._kill("done")
            return
        if not self.ready:
            if elapsed > _SETUP_S * _MAX_STRETCH:
                raise Fault("the jail was not ready in time")
            return
        used = (cpu_clock(self.pid) or 0.0) - self.cpu_base
        if used >= self.limits.cpu_s:
            self._kill("timeout")
        elif elapsed >= self.limits.wall_s:
            # Time spent waiting for a processor is the machine's fault, not the program's.
            if elapsed - _runqueue_s(self.pid) >= self.limits.wall_s:
                self._kill("timeout")
            elif elapsed >= self.limits.wall_s * _MAX_STRETCH:
                raise Fault("the machine is too loaded to run the program")

    def _kill(self, reason: Reason) -> None:
        if not self.killed:
            self.killed = True
            self.reason = reason
            with contextlib.suppress(OSError):
                self.control.send(b"K")

    def _drain(self) -> bool:
        """Reads what is there. Returns False at the end of the stream."""
        try:
            part = self.data.recv(1 << 18)
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
            self._frame(Frame(kind, index, bytes(self.buffer[position + FRAME.size : end]), cpu_s))
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
        try:
            more = self.on_frame(frame)
        except ValueError:
            self._kill("protocol")
            return
        self.finished = not more
        if self.reason == "timeout":
            self.reason = "interrupted"  # the claim was on its way when the clock ran out: its case is not late
        self._start_case()

    def _end(self) -> Ended:
        data = self.control.recv(EVENT.size, socket.MSG_WAITALL)
        if len(data) < EVENT.size:
            raise Fault("the zygote died")
        kind, status, cpu_s, peak = EVENT.unpack(data)
        if kind != b"S":
            raise Fault(f"the zygote sent {kind!r}")
        while self._readable() and self._drain():
            pass
        if not self.ready:
            raise Fault("the run ended before the program started")
        killed = os.WIFSIGNALED(status)
        if self.reason == "ended" and killed and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGPROF):
            self.reason = "timeout"
        return Ended(self.reason, status, cpu_s, peak)

    def _readable(self) -> bool:
        poller = select.poll()
        poller.register(self.data, select.POLLIN)
        return bool(poller.poll(0))
