"""Which isolation layers are in force: each is probed by its effect (the attack is tried, and fails)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import dataclass

from restrl.errors import GraderError
from restrl.grading.config import BASE_LAYERS, LAYERS, GradingConfig
from restrl.grading.jail import codec
from restrl.grading.watch import Fault, Frame, RunLimits
from restrl.grading.worker import Worker

log = logging.getLogger(__name__)

_PROBE = """
def refused(action):
    try:
        action()
    except (OSError, ValueError):
        return True
    return False

def probe(parent_uid, parent_pid, parent_network, secret):
    import ctypes, os, resource, socket, stat
    found = {}
    found["uid"] = os.getuid() not in (0, parent_uid) and refused(lambda: os.setuid(0))
    kinds = [stat.S_ISCHR(os.fstat(n).st_mode) for n in (0, 1, 2)]
    no_new_privs = ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 1
    found["clean"] = no_new_privs and secret not in os.environ and all(kinds)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    found["rlimits"] = soft == hard != resource.RLIM_INFINITY and refused(lambda: bytearray(1 << 40)[0])
    found["landlock"] = refused(lambda: open("/etc/passwd")) and refused(lambda: open("/tmp/restrl-probe", "w"))
    found["seccomp"] = refused(lambda: socket.socket()) and refused(lambda: os.kill(os.getpid(), 0))
    found["namespaces"] = bool(parent_network) and os.readlink("/proc/self/ns/net") != parent_network
    found["pids"] = os.getpid() == 1 and refused(lambda: os.getpgid(parent_pid))
    return found
""".replace("except (OSError, ValueError)", "except (OSError, ValueError, MemoryError)")

# Run in a squeezed control group, see `_budget_holds`.
_HOARD = """
import threading

def threads():
    gate = threading.Event()
    try:
        for _ in range(16):
            threading.Thread(target=gate.wait).start()
    except RuntimeError:
        return {"refused": True}
    finally:
        gate.set()
    return {"refused": False}

def memory():
    return {"refused": not bytearray(160 << 20)}
"""
_ROOM_BYTES, _ROOM_PROCESSES = 48 << 20, 6

_ADVICE = "is the standard library readable for an unprivileged user? Try grading.disable=['uid']"

_ATTACKS = {
    "uid": "become root again",
    "clean": "read the grader's environment, find its descriptors, gain privileges by an exec",
    "rlimits": "allocate a terabyte",
    "landlock": "read /etc/passwd, write a file to /tmp",
    "seccomp": "open a socket, send itself a signal",
    "namespaces": "look into the machine's network",
    "pids": "find another process by its number",
    "cgroup": "start threads and take memory beyond a budget",
}
_OPEN = {
    "uid": "a program has the rights of the user who runs restrl, as far as the other layers leave them",
    "clean": "a program may see secrets in the environment, or write to descriptors that are not its own",
    "rlimits": "a program may take all memory, and fill the disk where it may write",
    "landlock": "a program may read every file of the user, test data included, and write where the user may",
    "seccomp": "a program may start processes, send signals and use the network: it may disturb the grader or hide",
    "namespaces": "a program that gets past seccomp reaches the network and the System V IPC of the machine",
    "pids": "a program that gets past seccomp sees other processes, and one that it starts may outlive it",
    "cgroup": "memory is limited per process only, which is enough where seccomp forbids a second process",
}


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One isolation layer on this machine.

    Attributes:
        name: One of `LAYERS`.
        active: The layer is in force, as its probe found.
        meaning: What it does.
        detail: Why it is not in force; empty if it is.
        attack: What the probe program tried, in vain if the layer is in force.
        consequence: What a program could do without it; empty if it is in force.
    """

    name: str
    active: bool
    meaning: str
    detail: str
    attack: str = ""
    consequence: str = ""


def ask_probe(
    worker: Worker, program: str, arguments: tuple[object, ...], what: str, advice: str, entry: str = "probe"
) -> dict[str, bool]:
    """Runs a probe program in a zygote and returns what it found: layer -> in force.

    Args:
        worker: The zygote's.
        program: Defines the entry point.
        arguments: Plain data for it.
        what: What is probed, for messages.
        advice: What to do if the probe does not run.
        entry: The function to call.

    Raises:
        GraderError: The probe itself could not run.
    """
    request = {
        "mode": "call",
        "program": program,
        "entry": entry,
        "start": 0,
        "args": [codec.encode(arguments)],
        "max_bytes": 1 << 16,
        "cpu_s": 10,
        "memory_bytes": 1 << 30,
        "file_bytes": 1 << 20,
        "timer_s": 0.0,
    }
    claims: list[Frame] = []

    def on_frame(frame: Frame) -> bool:
        claims.append(frame)
        return frame.kind == b"B"

    try:
        worker.run(codec.encode_request(request), RunLimits(5.0, 20.0, 1 << 16), on_frame)
    except Fault as fault:
        raise GraderError(f"the probe of {what} failed: {fault}; see `restrl doctor`") from None
    if not claims or claims[-1].kind != b"V":
        said = claims[-1].payload.decode("utf-8", "replace") if claims else "no answer"
        raise GraderError(f"the probe of {what} failed ({said}); {advice}")
    return dict(codec.decode(claims[-1].payload))


def own_network() -> str:
    """Returns the name of the parent's network namespace; empty where there is no such thing."""
    try:
        return os.readlink("/proc/self/ns/net")
    except OSError:
        return ""


def _probe_by_effect(worker: Worker) -> dict[str, bool]:
    arguments = (os.getuid(), os.getpid(), own_network(), "HOME")
    return ask_probe(worker, _PROBE, arguments, "the isolation layers", _ADVICE)


def budget_holds(worker: Worker) -> bool:
    """Leaves a zygote's control group little room: is a program refused threads then, and killed for memory?"""
    group = worker.group
    if group is None:
        return False
    what, advice = "the control group", "try grading.disable=['cgroup']"
    try:
        with group.squeezed(_ROOM_BYTES, _ROOM_PROCESSES):
            refused = ask_probe(worker, _HOARD, (), what, advice, "threads")["refused"]
            before = group.num_kills()
            with contextlib.suppress(GraderError):  # no answer: it was killed
                ask_probe(worker, _HOARD, (), what, advice, "memory")
            return refused and group.num_kills() > before
    except (OSError, ValueError):
        return False


def effective_layers(worker: Worker) -> tuple[str, ...]:
    """Returns the layers that the zygote has enabled *and* whose probe found them in force.

    Raises:
        GraderError: The probe itself could not run.
    """
    found = _probe_by_effect(worker) | {"cgroup": budget_holds(worker)}
    return tuple(name for name in LAYERS if name in worker.layers and found.get(name, False))


def check_required(config: GradingConfig, active: tuple[str, ...]) -> None:
    """Raises `GraderError` if a required layer is missing; logs a warning for any other that is."""
    missing = [name for name in config.require if name not in active]
    if missing:
        raise GraderError(
            f"the isolation layers {', '.join(missing)} are required and not in force on this machine; in force: "
            f"{', '.join(active) or 'none'}; run `restrl doctor`, or drop them from grading.require"
        )
    for names, level in ((BASE_LAYERS, logging.WARNING), (set(LAYERS) - set(BASE_LAYERS), logging.INFO)):
        weak = [name for name in LAYERS if name in names and name not in active and name not in config.disable]
        if weak:
            what = "; ".join(f"{name}: {LAYERS[name]}" for name in weak)
            log.log(level, "programs are graded without these isolation layers: %s", what)


def probe_layers(config: GradingConfig | None = None) -> list[LayerReport]:
    """Starts a zygote, tries every layer, and reports: for ``restrl doctor``.

    Raises:
        GraderError: No zygote comes up.
    """
    config = config if config is not None else GradingConfig()
    worker = Worker(config)
    try:
        worker.start()
        active = effective_layers(worker)
    finally:
        worker.close()
    return [_report(name, name in active, worker, config) for name in LAYERS]


def _report(name: str, active: bool, worker: Worker, config: GradingConfig) -> LayerReport:
    if active:
        return LayerReport(name, True, LAYERS[name], "", _ATTACKS[name])
    if name in config.disable:
        detail = "switched off by grading.disable"
    elif name in worker.layers:
        detail = "enabled, but the probe got through it"
    elif name == "cgroup":
        detail = worker.no_group
    elif sys.platform != "linux":
        detail = f"there is no such thing on {sys.platform}"
    else:
        needs = {"uid": "root", "namespaces": "root or user namespaces", "pids": "root or user namespaces"}
        needs |= {"landlock": "Linux 5.13 with Landlock switched on", "seccomp": "Linux on x86_64 or aarch64"}
        detail = "the machine refuses it" + (f" (it needs {needs[name]})" if name in needs else "")
    return LayerReport(name, False, LAYERS[name], detail, _ATTACKS[name], _OPEN[name])
