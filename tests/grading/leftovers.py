"""What programs could leave behind on the machine: processes, files, System V objects, memory, descriptors."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

KEY = 0x7E5711  # of the System V objects that the hostile programs ask for
NAME = "restrl_hostile"  # in the name of every file that they try to make
FOLDERS = ("/", "/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", os.path.dirname(os.__file__))


def _status(pid: str) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
    except OSError:
        return {}


def descendants() -> set[int]:
    """Every process below this one, zombies included."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (status := _status(entry)):
            children.setdefault(int(status["PPid"]), []).append(int(entry))
    found: set[int] = set()
    frontier = [os.getpid()]
    while frontier:
        frontier = [child for pid in frontier for child in children.get(pid, [])]
        found.update(frontier)
    return found


def _orphans() -> set[int]:
    """Processes of any grader whose parent is gone: a daemon would be one."""
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            command = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if b"zygote.py" in command and int(_status(entry).get("PPid", "0")) == 1:
            found.add(int(entry))
    return found


def stray_processes(allowed: set[int], patience_s: float = 5.0) -> set[int]:
    """Waits a little for processes to end; returns descendants that are not allowed, and orphans."""
    deadline = time.monotonic() + patience_s
    while stray := (descendants() - allowed) | _orphans():
        if time.monotonic() > deadline:
            return stray
        time.sleep(0.1)
    return set()


def _is_of_another_grader(name: str) -> bool:
    """Whether a folder is of a lab zygote whose grader lives in another process, as tests that run beside this one."""
    match = re.fullmatch(r"restrl-lab-(\d+)-\w+", name)
    return match is not None and int(match[1]) != os.getpid() and bool(_status(match[1]))


def stray_files() -> list[str]:
    """Files with the hostile programs' name, and in the world's folders files of users that a jail makes up."""
    found = []
    for folder in FOLDERS:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            try:
                uid = entry.stat(follow_symlinks=False).st_uid
            except OSError:
                continue
            if NAME in entry.name or (uid >= 3_000_000_000 and not _is_of_another_grader(entry.name)):
                found.append(entry.path)
    return found


def stray_ipc() -> list[str]:
    """System V objects with the hostile programs' key."""
    found = []
    for kind in ("shm", "msg", "sem"):
        try:
            rows = Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        except OSError:
            continue
        found += [f"{kind} {row}" for row in rows if int(row.split()[0]) == KEY]
    return found


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) << 10 if match else 0


def own_handles() -> tuple[int, int]:
    """Open descriptors and threads of this process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count()
