"""Grades every hostile program once and looks at what is left: from a test, or as a script of an ordinary user.

As a script: ``python hostile_run.py [--brief] [LAYERS_TO_DISABLE]`` prints the outcome as JSON. It needs the standard
library only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script: this checkout's package
    sys.path.insert(0, str(Path(__file__).parents[2]))

from hostile_call import CALL, Attack
from hostile_other import TABLES, tasks
from leftovers import descendants, own_handles, resident_bytes, stray_files, stray_ipc, stray_processes

from restrl.grading import GradingConfig, SandboxGrader

CPU_S = 0.25
# For programs that fill memory: how long that takes is the machine's affair.
FILLING = {"returning 256 MB", "memory creep"}
FILLING_CPU_S = 4.0
MEMORY_BYTES = 1 << 28
ALL: dict[str, list[Attack]] = {"call": CALL, **TABLES}
HEALTHY = {
    "call": "def f(x): return x * x + 7",
    "stdio": "print(int(input()) ** 2 + 7)",
    "words": "print(*sorted(input().split()))",
    "sort": "f = sorted",
    "near": "def f(n): return n / 3",
    "table": "def f(n): return {k: 'abc'[k - 1] for k in range(1, n + 1)}",
    "check": "def helper(n): return n + 1\ndef f(x): return x * x + 7",
    "maps": "def f(x): return x * x + 7",
}


def _is_costly(row: Attack) -> bool:
    return not {"timeout", "memory"}.isdisjoint([row.verdict] if isinstance(row.verdict, str) else row.verdict)


def _fills(row: Attack) -> bool:
    verdicts = [row.verdict] if isinstance(row.verdict, str) else row.verdict
    return row.family in FILLING and "timeout" not in verdicts


def tables(brief: bool) -> dict[str, list[Attack]]:
    """The programs by task; ``brief`` leaves out those that burn time or memory, but for one of each family."""
    if not brief:
        return ALL
    seen: set[str] = set()
    chosen: dict[str, list[Attack]] = {}
    for name, table in ALL.items():
        for row in table:
            if not _is_costly(row) or row.family not in seen:
                chosen.setdefault(name, []).append(row)
            if _is_costly(row):
                seen.add(row.family)
    return chosen


def run(disable: tuple[str, ...] = (), brief: bool = False) -> dict:
    """Returns the grades of all programs by task, and what was found afterwards."""
    chosen = tables(brief)
    problems, patient = tasks(CPU_S, MEMORY_BYTES), tasks(FILLING_CPU_S, MEMORY_BYTES)
    healthy = tasks(4.0, 1 << 30)
    before = descendants()
    found: dict = {"grades": {}, "healthy": []}
    with SandboxGrader(GradingConfig(workers=2, wall_factor=3.0, max_timeouts=1, disable=disable)) as grader:
        warm = [(healthy[name], source) for name, source in HEALTHY.items()]
        grader.grade(warm)
        handles, memory = own_handles(), resident_bytes(os.getpid())
        pairs = [
            ((patient if _fills(row) else problems)[name], row.source)
            for name, table in chosen.items()
            for row in table
        ]
        grades = iter(grader.grade(pairs))
        for name, table in chosen.items():
            found["grades"][name] = [
                {"reward": grade.reward, "verdicts": [v.verdict for v in grade.verdicts], "passed": grade.passed}
                for grade in (next(grades) for _ in table)
            ]
        again = [(problem, source + "\n# after the storm") for problem, source in warm]
        found["healthy"] = [grade.reward for grade in grader.grade(again)]
        found["layers"] = list(grader.layers)
        found["handles"] = [handles, own_handles()]
        found["grown_bytes"] = resident_bytes(os.getpid()) - memory
        found["zygote_bytes"] = max(resident_bytes(pid) for pid in grader.zygotes)
        found["children"] = len(descendants() - before)
    found["processes"] = sorted(stray_processes(before))
    found["files"], found["ipc"] = stray_files(), stray_ipc()
    return found


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--brief"]
    print(json.dumps(run(tuple(words[0].split(",")) if words else (), brief="--brief" in sys.argv)))
