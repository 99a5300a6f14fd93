"""Runs tests of the grader on another kernel: in a User-mode Linux, which has control groups of version 2.

    python benchmarks/grader_in_uml.py KERNEL [--as root|group|user] [--memory-mib N] [pytest arguments]

KERNEL is the executable of Debian's package ``user-mode-linux`` (``apt-get download user-mode-linux``, ``dpkg -x``). It
sees this machine's files, with an empty file system for temporary ones, and runs pytest: as root in the root of the
tree of control groups; as root in a group of its own, which cannot both hold processes and hand memory on; or as an
ordinary user to whom a group is delegated, and who must be able to read the repository. Ends with pytest's status.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USER = 1000
OWN = "/sys/fs/cgroup/own"
MAKE = f"echo '+memory +pids' > /sys/fs/cgroup/cgroup.subtree_control; mkdir {OWN}"
DELEGATE = f"chown {USER} {OWN} {OWN}/cgroup.procs {OWN}/cgroup.subtree_control"
WAYS = {"root": "true", "group": MAKE, "user": f"{MAKE}; {DELEGATE}"}
FIRST = """#!/bin/bash
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /dev/shm; for folder in /dev/shm /run /var/tmp; do mount -t tmpfs -o mode=1777 none $folder; done; cd {root}
uname -sr; echo "control groups: $(cat /sys/fs/cgroup/cgroup.controllers)"
{way}
bash -c {command}
echo "status $?"
echo o > /proc/sysrq-trigger
sleep 10
"""


def main() -> None:
    """Parses the command line, boots, and passes on what is said."""
    parser = argparse.ArgumentParser(description="tests of the grader in a User-mode Linux")
    parser.add_argument("kernel", help="the executable linux.uml")
    parser.add_argument("--as", dest="way", choices=list(WAYS), default="root", help="who runs the tests, and where")
    parser.add_argument("--memory-mib", type=int, default=3072, help="memory of the machine")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that may be run by whoever runs the tests"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="then it is ended")
    arguments, tests = parser.parse_known_args()
    python = [arguments.python, "-m", "pytest", "-p", "no:cacheprovider", *(tests or ["tests/grading/test_layers.py"])]
    if arguments.way == "user":
        python = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *python]
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("-packages"))])
    joined = "" if arguments.way == "root" else f"echo 0 > {OWN}/cgroup.procs; "
    command = f"export HOME=/run TMPDIR=/run PYTHONPATH={shlex.quote(paths)}; {joined}exec {shlex.join(python)}"
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first.sh"
        first.write_text(
            FIRST.format(root=shlex.quote(str(ROOT)), way=WAYS[arguments.way], command=shlex.quote(command))
        )
        first.chmod(0o755)
        machine = [
            arguments.kernel, f"mem={arguments.memory_mib}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/",
            "rw", f"init={first}", "con=null", "con0=null,fd:1", "quiet",
        ]  # fmt: skip
        shown = subprocess.run(
            machine,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60 * arguments.minutes,
            check=False,
        ).stdout
    print(shown)
    status = [line.split()[1] for line in shown.splitlines() if line.startswith("status ")]
    sys.exit(int(status[-1]) if status else 1)


if __name__ == "__main__":
    main()
