"""The layer ``cgroup``: one budget of memory and of processes for a zygote and all that it runs, if it is delegated.

Control groups of version 2 only, and only where this process may make groups below its own: as root of a container with
a group tree of its own, or under ``systemd-run --user --scope -p Delegate=yes``. Version 1, which some machines still
mount, is not used.

A group other than the root of the tree cannot hold processes and hand memory on to groups below it. So where only this
process and its children are in the group, they move into one below, `SELF`, beside those of the zygotes.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from restrl.errors import GraderError

MAX_PROCESSES = 512
SELF = "restrl-self"
_MIN_BYTES = 1 << 30
_numbers = itertools.count()


class Cgroup:
    """A control group for one zygote."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, pid: int) -> None:
        """Moves a process into the group; what it forks from now on is in it too.

        Raises:
            OSError: The system refuses.
        """
        (self.path / "cgroup.procs").write_text(str(pid))

    def holds(self, pid: int) -> bool:
        """Is the process in the group, and does the kernel keep to the budget?"""
        try:
            members = (self.path / "cgroup.procs").read_text().split()
            limits = [(self.path / name).read_text().strip() for name in ("memory.max", "pids.max")]
        except OSError:
            return False
        return str(pid) in members and all(limit.isdigit() for limit in limits)

    @contextlib.contextmanager
    def squeezed(self, memory_bytes: int, num_processes: int) -> Iterator[None]:
        """Leaves what is in the group only so much more than it has, for a moment: to see whether the budget holds.

        Raises:
            OSError: The system refuses, or has no such files.
        """
        before = {}
        try:
            for kind, room in (("memory", memory_bytes), ("pids", num_processes)):
                limit = self.path / f"{kind}.max"
                before[limit] = limit.read_text()
                limit.write_text(str(int((self.path / f"{kind}.current").read_text()) + room))
            yield
        finally:
            for limit, value in before.items():
                limit.write_text(value)

    def num_kills(self) -> int:
        """Returns how many processes of the group the kernel has killed for memory; 0 if it does not say."""
        try:
            rows = dict(line.split() for line in (self.path / "memory.events").read_text().splitlines())
            return int(rows["oom_kill"])
        except (OSError, ValueError, KeyError):
            return 0

    def remove(self) -> None:
        """Removes the group and ends what is left in it."""
        with contextlib.suppress(OSError):
            (self.path / "cgroup.kill").write_text("1")
        for _ in range(50):  # the dead leave a moment later
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.01)
            else:
                return


def own_group(membership: str = "/proc/self/cgroup", mounts: str = "/proc/self/mountinfo") -> Path:
    """Returns the folder of this process's own group.

    Raises:
        GraderError: There is no hierarchy of version 2.
    """
    try:
        line = next(line for line in Path(membership).read_text().splitlines() if line.startswith("0::"))
        rows = [row.split() for row in Path(mounts).read_text().splitlines()]
    except (OSError, StopIteration):
        raise GraderError("the machine has no control groups of version 2") from None
    points = [(row[3], row[4]) for row in rows if row[row.index("-") + 1] == "cgroup2"]
    if not points:
        raise GraderError("no control groups of version 2 are mounted")
    (root, point), path = points[0], line[3:]
    if root != "/":  # only a part of the tree is mounted
        path = path.removeprefix(root)
    group = Path(point) / path.lstrip("/")
    return group.parent if group.name == SELF else group


def make_group(num_workers: int, own: Path | None = None) -> Cgroup:
    """Makes a group below this process's own; its memory is an equal part of half of the machine's.

    Args:
        num_workers: How many such groups there will be.
        own: The group to make it in; None: this process's own.

    Raises:
        GraderError: Memory and processes are not delegated to this process; the message says why.
    """
    own = own if own is not None else own_group()
    group = own / f"restrl-{os.getpid()}-{next(_numbers)}"
    budget = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 // max(1, num_workers)
    try:
        missing = {"memory", "pids"} - set((own / "cgroup.controllers").read_text().split())
        if missing:
            raise GraderError(f"control of {' and '.join(sorted(missing))} is not delegated to {own}")
        if not {"memory", "pids"} <= set((own / "cgroup.subtree_control").read_text().split()):
            _hand_on(own)
        group.mkdir()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise GraderError(f"control groups are not delegated to this process ({own}: {reason})") from None
    try:
        (group / "memory.max").write_text(str(max(_MIN_BYTES, budget)))
        (group / "pids.max").write_text(str(MAX_PROCESSES))
        with contextlib.suppress(OSError):  # a machine without swap
            (group / "memory.swap.max").write_text("0")
    except OSError as error:
        Cgroup(group).remove()
        raise GraderError(f"the control group {group} takes no limits: {error.strerror}") from None
    return Cgroup(group)


def _hand_on(own: Path) -> None:
    """Lets the groups below have memory and processes of their own.

    Raises:
        GraderError: Processes that are none of ours are in the group.
        OSError: The system refuses.
    """
    control = own / "cgroup.subtree_control"
    try:
        control.write_text("+memory +pids")
        return
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
    members = [int(line) for line in (own / "cgroup.procs").read_text().split()]
    strangers = [pid for pid in members if not _is_ours(pid)]
    if strangers:
        raise GraderError(
            f"{len(strangers)} other processes are in the control group {own}; start restrl in one of its own, for "
            "example by systemd-run --user --scope -p Delegate=yes"
        )
    home = own / SELF
    home.mkdir(exist_ok=True)
    for pid in members:
        with contextlib.suppress(ProcessLookupError):
            (home / "cgroup.procs").write_text(str(pid))
    control.write_text("+memory +pids")


def _is_ours(pid: int) -> bool:
    """Is this process, or one that it descends from, this very process?"""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return True  # gone meanwhile
    return pid == os.getpid()
