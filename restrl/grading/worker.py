"""The parent's end of one zygote: starts it, runs one program at a time, replaces it when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from restrl.errors import GraderError
from restrl.grading.cgroup import Cgroup, make_group
from restrl.grading.config import LAYERS, GradingConfig
from restrl.grading.jail.zygote import EVENT
from restrl.grading.places import Place, interpreter, resolve_packages
from restrl.grading.watch import Ended, Fault, Frame, RunLimits, Watch

_START_S = 300.0
_SILENCE_S = 300
_ONE, _TWO = struct.Struct("i"), struct.Struct("ii")
_MAX_PLACES = 3
_JAIL = Path(__file__).parent / "jail"


def _reachable_by_all(path: str) -> bool:
    return all(os.stat(part).st_mode & 0o001 for part in (path, *map(str, Path(path).parents)))


class Worker:
    """One zygote. Not thread-safe: one thread uses it."""

    def __init__(self, config: GradingConfig, place: Place | None = None) -> None:
        self.layers: tuple[str, ...] = ()
        self.group: Cgroup | None = None
        self.no_group = ""
        self._num_kills = 0  # of the group, as far as they are known
        self.effective: tuple[str, ...] | None = None
        self.place = place
        self._config = config
        packages = config.packages if place is None else place.packages
        self._packages = resolve_packages(packages, config.python)
        self._places: OrderedDict[Place, Worker] = OrderedDict()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._partner: Worker | None = None

    @property
    def pid(self) -> int | None:
        """The zygote's process id, if there is one."""
        return self._process.pid if self._process is not None else None

    @property
    def partner(self) -> Worker:
        """A second zygote for tests that need two processes at once; it ends with this one."""
        if self._partner is None:
            self._partner = Worker(self._config, self.place)
        return self._partner

    def at(self, place: Place | None) -> Worker:
        """Returns the worker of another place; the few used last are kept, and end with this one."""
        if place is None or place == self.place:
            return self
        worker = self._places.get(place)
        if worker is None:
            worker = self._places[place] = Worker(self._config, place)
            if len(self._places) > _MAX_PLACES:
                self._places.popitem(last=False)[1].close()
        self._places.move_to_end(place)
        return worker

    def start(self) -> None:
        """Starts the zygote if there is none.

        Raises:
            GraderError: It does not come up.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        known = interpreter(self._config.python)
        parent, child = socket.socketpair()
        python = self._config.python or getattr(sys, "_base_executable", "") or sys.executable
        python = os.path.abspath(python) if os.sep in python else python  # the zygote starts in the root folder
        environment = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
        environment["LD_BIND_NOW"] = "1"  # else every run would look up the same symbols again
        environment |= {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        keep = -1
        if sys.platform == "linux" and not _reachable_by_all(known.base_prefix):
            # After the change of user nothing below, say, a 0700 home could be imported; through a descriptor it can.
            keep = os.open(known.base_prefix, os.O_PATH | os.O_CLOEXEC)
            environment["PYTHONHOME"] = f"/proc/self/fd/{keep}"
        layers = [name for name in LAYERS if name not in self._config.disable]
        options: dict[str, Any] = {"layers": layers, "packages": self._packages}
        script = _JAIL / ("zygote.py" if self.place is None else "lab.py")
        if self.place is not None:
            options |= {"profile": self.place.profile, "paths": known.site, "prefix": known.base_prefix}
        command = [python, "-s", "-P", "-S", str(script), str(child.fileno()), str(keep), json.dumps(options)]
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
        self._join_group(self._process.pid)
        self._greet()

    def _join_group(self, pid: int) -> None:
        """Puts the zygote into a control group where this process may make one; `no_group` says why not."""
        if "cgroup" in self._config.disable:
            return
        try:
            self.group = make_group(self._config.num_workers())
            self.group.take(pid)
            self._num_kills = 0
        except (GraderError, OSError) as error:
            self.no_group = str(error)
            self._leave_group()

    def _leave_group(self) -> None:
        if self.group is not None:
            self.group.remove()
            self.group = None

    def _greet(self) -> None:
        assert self._control is not None and self._process is not None
        self._control.settimeout(_START_S)
        try:
            kind, length, _, _ = EVENT.unpack(self._receive(EVENT.size))
            if kind != b"H":
                raise Fault("no greeting")
            layers = tuple(json.loads(self._receive(int(length))))
            if self.group is not None and self.group.holds(self._process.pid):
                layers += ("cgroup",)
            lost = set(self.layers) - set(layers)
            if lost:
                raise Fault(f"a new zygote lacks the layers {sorted(lost)} that the last one had")
            self.layers = layers
        except (Fault, OSError) as error:
            complaint = self._complaint()
            self.close()
            raise GraderError(f"the grader's zygote did not start: {complaint or error}") from None
        self._control.settimeout(None)
        with contextlib.suppress(OSError):  # in the kernel: it costs nothing per run
            self._control.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _SILENCE_S, 0))
        if self._process.stderr is not None:
            self._process.stderr.close()

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
        """Ends the zygote and whatever it runs, and reaps it; its partner and other places too."""
        while self._places:
            self._places.popitem()[1].close()
        if self._partner is not None:
            self._partner.close()
        if self._control is not None:
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stderr is not None:
                process.stderr.close()
        self._leave_group()

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
        with self.open(request, limits, on_frame, output) as watch, self.faults():
            return watch.run()

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Turns a failure of the zygote into a `Fault`, and ends it: the next run starts a new one."""
        try:
            yield
        except (Fault, OSError) as error:
            self.close()
            raise Fault(str(error)) from None

    @contextlib.contextmanager
    def open(
        self, request: bytes, limits: RunLimits, on_frame: Callable[[Frame], bool], output: int | None = None
    ) -> Iterator[Watch]:
        """Starts a run as `run` does, to be watched step by step. Leaving the context does not end the run."""
        self.start()
        control = self._control
        assert control is not None
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs, self.faults():
                # The request is sent first: the program's process finds it there.
                message = struct.pack("<I", len(request)) + request
                watch = Watch(control, ours, message, limits, on_frame, self._over_budget())
                descriptors = _ONE.pack(theirs.fileno()) if output is None else _TWO.pack(theirs.fileno(), output)
                control.sendmsg([b"J"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            yield watch

    def _over_budget(self) -> Callable[[], bool]:
        """Returns what tells whether a run that starts now was killed by its control group."""
        group = self.group
        if group is None:
            return lambda: False
        if self.place is not None:  # there a process of an earlier run may have been killed, and the run gone on
            self._num_kills = group.num_kills()

        def asked() -> bool:
            before, self._num_kills = self._num_kills, group.num_kills()
            return self._num_kills > before

        return asked

    def interrupt(self) -> None:
        """Makes a run that is in progress in another thread fail: the zygote kills its child and ends."""
        for other in (self._partner, *list(self._places.values())):
            if other is not None:
                other.interrupt()
        control = self._control
        if control is not None:
            with contextlib.suppress(OSError):
                control.shutdown(socket.SHUT_RDWR)
