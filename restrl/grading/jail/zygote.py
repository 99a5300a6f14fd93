"""The zygote: a small, warm interpreter that forks one confined process per program.

It is exec'd fresh with a clean environment and never sees a program or a test: the parent passes a descriptor, and
only the forked child reads the request from it. It speaks over a Unix socket: the parent sends ``J`` with one or two
descriptors (the channel, and standard output) or ``K`` (kill the running child); the zygote answers with `EVENT`
records: ``H`` once at the start (followed by the enabled layers), ``P`` the child's pid if it runs for more than a few
milliseconds, ``S`` its end (wait status, CPU seconds, peak memory). When the parent's end closes, the zygote kills its
child and ends.

What costs time is memory: after a fork, the first write to a page copies it, in the child and in the zygote. So
whatever can be done once is done here and inherited, and what is left for the child touches as little as it can.

Run as: ``python -s -P -S zygote.py CONTROL_FD KEEP_FD OPTIONS`` (see `main`).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

EVENT = struct.Struct("<cqdq")  # kind, pid or wait status, CPU seconds, peak memory in bytes
WARM = [
    "math",
    "itertools",
    "functools",
    "collections",
    "collections.abc",
    "heapq",
    "bisect",
    "re",
    "string",
    "random",
    "operator",
    "typing",
    "copy",
    "enum",
    "abc",
    "io",
    "contextlib",
    "types",
    "threading",
    "time",
    "struct",
]

_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024

_HERE = os.path.dirname(os.path.abspath(__file__))


def _load_siblings(wanted: tuple[str, ...]) -> dict[str, Any]:
    """Loads this folder's modules under their package names, without running the packages above."""
    names = ("restrl", "restrl.grading", "restrl.grading.jail")
    for depth, name in enumerate(names):
        package = types.ModuleType(name)
        package.__path__ = [os.path.abspath(os.path.join(_HERE, *[".."] * (2 - depth)))]
        sys.modules[name] = package
    loaded = {name: importlib.import_module(f"restrl.grading.jail.{name}") for name in wanted}
    for name in list(sys.modules):
        if name.split(".")[0] == "restrl":
            del sys.modules[name]
    return loaded


class Zygote:
    """The state of one zygote: its socket and the layers that work here."""

    event = EVENT
    siblings: tuple[str, ...] = ("codec", "confine", "bpf", "runner", "quick")
    plain_fork = sys.platform != "linux"  # a fork with Python's handlers, of which one stirs the random generator

    def __init__(self, control: socket.socket, keep: int, options: dict[str, Any]) -> None:
        self.control = control
        self.keep = keep
        self.parent = os.getppid()
        modules = self.loaded = _load_siblings((*Zygote.siblings, *self.siblings))
        self.confine, self.runner = modules["confine"], modules["runner"]
        self.modes = dict(self.runner.MODES)
        self.packages = self._import_packages(options["packages"])
        wanted = set(options["layers"])
        self.quick_child: Callable[[tuple[int, ...]], None] | None = None
        self.own_pids = -1
        self.poller = select.poll()
        self.poller.register(control, select.POLLIN)
        self.namespaces, self.pids = self._seclude(wanted)
        self.uid = 0
        if "uid" in wanted and os.geteuid() == 0 and not self.nested:
            for uid in (3_000_000_000 + os.getpid(), 61_184 + os.getpid() % 4_000):
                if not self.uid and self._works(lambda uid=uid: self.confine.drop_uid(uid)):
                    self.uid = uid
        self.landlock = "landlock" in wanted and self._works(self._restrict_files)
        machine = os.uname().machine if sys.platform == "linux" else ""
        self.stages = modules["bpf"].build_stages(machine, deny_writes=not self.landlock)
        self.filter = self.stages[1] if self.stages is not None else None
        if "seccomp" not in wanted or self.filter is None or not self._works(self._load_filter):
            self.filter = self.stages = None
        self.rlimits = "rlimits" in wanted
        self.clean = sys.platform == "linux" and self._works(self.confine.no_new_privs)

    def layers(self) -> list[str]:
        """Returns the names of the layers that every child will be under."""
        state = {
            "uid": bool(self.uid),
            "clean": self.clean,
            "rlimits": self.rlimits,
            "landlock": self.landlock,
            "seccomp": self.filter is not None,
            "namespaces": self.namespaces,
            "pids": self.pids,
        }
        return [name for name, on in state.items() if on]

    def _import_packages(self, packages: list[tuple[str, str]]) -> list[str]:
        """Imports the extra packages warm; only their own folders stay readable."""
        folders = []
        for entry, name in packages:
            if entry not in sys.path:
                sys.path.append(entry)
            importlib.import_module(name)
            folders += [
                path
                for path in (os.path.join(entry, name), os.path.join(entry, f"{name}.libs"))
                if os.path.exists(path)
            ]
        sys.path[:] = [path for path in sys.path if path not in {entry for entry, _ in packages}]
        return folders

    def _works(self, action: Any) -> bool:
        """Tries an action in a throw-away fork."""
        pid = os.fork()
        if pid == 0:
            try:
                action()
                os._exit(0)
            except BaseException:
                os._exit(1)
        return os.waitpid(pid, 0)[1] == 0

    def _restrict_files(self) -> None:
        self.confine.no_new_privs()
        self.confine.restrict_files(self.packages)

    def _load_filter(self) -> None:
        self.confine.no_new_privs()
        for stage in self.stages or (self.filter,):
            self.confine.load_seccomp(stage)

    def _seclude(self, wanted: set[str]) -> tuple[bool, bool]:
        """Leaves the host's namespaces: as root directly, as an ordinary user by a user namespace of one's own.

        Returns:
            Is this process in namespaces of its own; will every run be in a process-id namespace of its own?
        """
        self.nested = False
        if sys.platform != "linux":
            return False, False
        confine, own, pids = self.confine, "namespaces" in wanted, "pids" in wanted
        if os.geteuid() != 0 and (own or pids):
            pids = pids and self._works(confine.try_pids_as_user)
            if not pids and not (own and self._works(confine.try_namespaces_as_user)):
                return False, False
            confine.enter_user_namespace(own_pids=pids)
            self.nested = True
            if pids:
                confine.stay_behind(os.fork())
                confine.die_with_parent()
                self.parent = os.getppid()
        own = own and self._works(confine.unshare_namespaces)
        if own:
            confine.unshare_namespaces()
        if pids and self._works(confine.try_pids):
            self.own_pids = confine.open_pid_namespace()
        return own, self.own_pids >= 0

    def close_doors(self) -> None:
        """Applies to the zygote itself what every child inherits: all that it need not undo to start a run."""
        if self.uid:
            self.confine.drop_groups(self.uid)
        if self.rlimits:
            self.confine.set_standing_rlimits(64 if self.uid else 0)
        self.confine.grow_stack()
        if self.clean:
            self.confine.no_new_privs()
        if self.landlock:
            self.confine.restrict_files(self.packages)
        if self.stages is not None:
            self.stage = self.confine.Filter(self.stages[1])
            self.confine.load_seccomp(self.stages[0])

    def prepare_runs(self) -> None:
        """Lays out what every run needs, last of all, so that it lies together."""
        self.runner.rehearse(2)
        if self.plain_fork:
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        while signal.sigtimedwait({signal.SIGCHLD}, 0) is not None:
            pass
        self.control.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 2, 0))
        self.quick_child = self.loaded["quick"].make_child(
            keep=self.keep,
            modes=self.modes,
            rlimits=self.rlimits,
            uid=self.uid,
            nested=self.nested,
            filter_address=self.stage.address if self.stages is not None else 0,
            group=self.own_pids < 0,
        )

    def close(self) -> None:
        """Removes what this zygote itself made; nothing here."""

    def serve(self) -> None:
        """Answers requests until the parent goes away."""
        if not self.plain_fork:
            self.loaded["quick"].serve(self, self.quick_child)
            return
        while True:
            if not self.poller.poll(2000):
                if os.getppid() != self.parent:
                    return
                continue
            message, descriptors, _, _ = socket.recv_fds(self.control, 1, 2)
            if not message or (message == b"J" and not self._job(descriptors)):
                return

    def _fork(self) -> int:
        """Forks the process of a run; another profile may put it into namespaces of its own."""
        if self.own_pids >= 0:
            self.confine.renew_pid_namespace(self.own_pids)
        return int(self.confine.fork())

    def sweep(self, pid: int) -> None:
        """Removes what an ended run may have left behind."""
        if self.filter is None and self.own_pids < 0:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def _job(self, descriptors: list[int]) -> bool:
        pid = self._fork()
        if pid == 0:
            self._child(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        ended = self.wait_long(pid)
        self.sweep(pid)
        if ended is None:
            return False
        status, cpu_s, peak = ended
        self.control.sendall(EVENT.pack(b"S", status, cpu_s, peak * _PEAK_UNIT))
        return True

    def wait_long(self, pid: int) -> tuple[int, float, int] | None:
        """Announces the child and waits for its end, or kills it when told to.

        Returns:
            Wait status, CPU seconds and peak memory; None if the parent is gone.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            pidfd = -1
        if pidfd >= 0:
            self.poller.register(pidfd, select.POLLIN)
        try:
            alive = self._wait_for(pid, pidfd)
        finally:
            if pidfd >= 0:
                self.poller.unregister(pidfd)
                os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        return (status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss) if alive else None

    def _wait_for(self, pid: int, pidfd: int) -> bool:
        if self.nested and pidfd >= 0:  # the parent knows the process by another number: it reads it from a handle
            self.control.sendall(EVENT.pack(b"Q", 0, 0.0, 0))
            socket.send_fds(self.control, [b"Q"], [pidfd])
        else:
            self.control.sendall(EVENT.pack(b"P", pid, 0.0, 0))
        while True:
            for descriptor, _ in self.poller.poll(2000 if pidfd >= 0 else 5):
                if descriptor == pidfd:
                    return True
                message = self.control.recv(1)
                if message in (b"", b"K"):
                    os.kill(pid, signal.SIGKILL)
                if not message:
                    return False
            if pidfd < 0 and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
            if os.getppid() != self.parent:
                os.kill(pid, signal.SIGKILL)
                return False

    def _child(self, descriptors: list[int]) -> None:
        """Confines this process and runs the request. Never returns."""
        channel = self.runner.Channel(descriptors[0])
        try:
            request = self._prepare(descriptors)
            if self.plain_fork:
                self.runner._reseed()
        except BaseException as error:
            channel.send(b"X", 0, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
        os.write(descriptors[0], self.runner.READY)
        self.modes[request["mode"]](channel, request)
        os._exit(1)

    def _prepare(self, descriptors: list[int]) -> dict[str, Any]:
        channel = descriptors[0]
        if self.own_pids < 0:
            os.setsid()
        if len(descriptors) > 1:
            os.dup2(descriptors[1], 1)
        low, kept = (channel, self.keep) if channel < self.keep else (self.keep, channel)
        if low > 3:
            os.closerange(3, low)
        os.closerange(max(low, 2) + 1, kept)
        os.closerange(kept + 1, 4096)
        request: dict[str, Any] = self.runner.read_request(channel)
        if "stdin" in request:
            self.runner.give_stdin(request.pop("stdin"))
        if self.rlimits:
            self.confine.set_run_rlimits(request["cpu_s"], request["memory_bytes"], request["file_bytes"])
        if self.uid:
            self.confine.become(self.uid)
        elif self.nested:
            self.confine.drop_capabilities()
        self.confine.die_with_parent()  # a change of user would have cleared it
        if self.stages is not None:
            self.stage.load()
        if request.get("timer_s"):
            signal.setitimer(signal.ITIMER_PROF, request["timer_s"])
        return request


def _add_site_builtins() -> None:
    """Programs may call ``exit()`` or name ``help``: what `site`, which is not loaded, would have given them."""
    import _sitebuiltins
    import builtins

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D (i.e. EOF)")  # type: ignore[assignment]
    builtins.help = _sitebuiltins._Helper()  # type: ignore[assignment]
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D (i.e. EOF)")  # type: ignore[assignment]


def main(kind: type[Zygote] = Zygote) -> None:
    """Warms up, tries the layers, says hello, and serves; `kind` is the profile's class."""
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    options = json.loads(sys.argv[3])
    for name in WARM:
        importlib.import_module(name)
    _add_site_builtins()
    zygote = kind(control, int(sys.argv[2]), options)
    null = os.open(os.devnull, os.O_WRONLY)  # now: without Landlock, the filter refuses to open anything for writing
    zygote.close_doors()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hello = json.dumps(zygote.layers()).encode()
    control.sendall(EVENT.pack(b"H", len(hello), 0.0, 0) + hello)
    os.dup2(null, 2)  # programs may write to standard error
    os.close(null)
    sys.argv = [""]
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # the interpreter ignores it; in a run it says: too much output
    zygote.prepare_runs()
    gc.collect()
    gc.freeze()
    try:
        zygote.serve()
    finally:
        zygote.close()


if __name__ == "__main__":
    main()
