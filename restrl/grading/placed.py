"""Grading in another place than the grader's usual zygote, with that place's own isolation layers."""

from __future__ import annotations

import dataclasses
import hashlib
import os

from restrl.grading.config import LAYERS, GradingConfig
from restrl.grading.layers import ask_probe, budget_holds, check_required, effective_layers, own_network
from restrl.grading.modes import Judge, Outcome
from restrl.grading.places import Place
from restrl.grading.worker import Worker

_PROBE = """
def refused(action):
    try:
        action()
    except (OSError, ValueError, MemoryError):
        return True
    return False

def probe(parent_uid, parent_network, secret):
    import ctypes, os, resource, socket
    libc = ctypes.CDLL(None)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    return {
        "uid": os.getuid() not in (0, parent_uid) and refused(lambda: os.setuid(0)),
        "clean": libc.prctl(39, 0, 0, 0, 0) == 1 and secret not in os.environ,
        "rlimits": limits[0] == limits[1] != resource.RLIM_INFINITY and refused(lambda: bytearray(1 << 40)[0]),
        "landlock": refused(lambda: os.listdir("/root")) and refused(lambda: open("/var/tmp/restrl-probe", "w")),
        "seccomp": libc.unshare(0) == -1 and libc.ptrace(0, 0, 0, 0) == -1,
        "namespaces": bool(parent_network) and os.readlink("/proc/self/ns/net") != parent_network
        and refused(lambda: socket.create_connection(("192.0.2.1", 80), 0.2)),
        "pids": os.getpid() == 1,
    }
"""


class Placed:
    """A judge whose programs run in another place."""

    def __init__(self, judge: Judge, place: Place, config: GradingConfig) -> None:
        self._judge = judge
        self.place = place
        self._config = config
        self.digest = hashlib.blake2b(judge.digest + repr(place).encode(), digest_size=16).digest()

    def grade(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        """Grades one program; see `Judge`."""
        there = worker.at(self.place)
        if there.effective is None:
            there.start()
            layers = _lab_layers(there) if self.place.profile == "lab" else effective_layers(there)
            check_required(self._config, layers)
            there.effective = layers
        return dataclasses.replace(self._judge.grade(there, program, final=final), layers=there.effective)


def _lab_layers(worker: Worker) -> tuple[str, ...]:
    """Returns the layers of a lab that are enabled and whose probe found them in force."""
    arguments = (os.getuid(), own_network(), "SSH_CONNECTION")
    found = ask_probe(worker, _PROBE, arguments, "the lab's layers", "see `restrl doctor`")
    found["cgroup"] = budget_holds(worker)
    return tuple(name for name in LAYERS if name in worker.layers and found.get(name, False))
