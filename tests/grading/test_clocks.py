"""The clocks: CPU time decides, a sleeper ends too, and a busy machine changes no verdict."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from call_problems import burning, call_problem

from restrl.grading import GradingConfig, SandboxGrader, watch


def verdicts(grade):
    return [verdict.verdict for verdict in grade.verdicts]


def test_results_before_and_after_a_hang_survive():
    problem = call_problem(cpu_s=0.2)
    program = "def f(x):\n while x == 2: pass\n return x * x + 7"
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        assert verdicts(grader.grade([(problem, program)])[0]) == ["pass", "pass", "timeout", "pass", "pass", "pass"]


def test_after_two_timeouts_the_rest_count_as_timeouts():
    problem = call_problem(cpu_s=0.2)
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        started = time.monotonic()
        grade = grader.grade([(problem, "def f(x):\n while x > 1: pass\n return x * x + 7")])[0]
        assert verdicts(grade) == ["pass", "pass", *["timeout"] * 4]
        assert 0.35 < grade.cpu_s < 1.0
        assert time.monotonic() - started < 20


def test_the_cpu_limit_is_per_test_not_per_program(grader):
    problem = call_problem(cpu_s=0.6)
    burn = burning(0.2)
    grade = grader.grade([(problem, burn)])[0]
    assert grade.reward == 1.0 and grade.cpu_s > 1.1


def test_trickling_bytes_does_not_stop_the_clock(grader):
    problem = call_problem(cpu_s=0.3)
    header = "struct.pack('<IcId', 1 << 20, b'V', 0, 0.0)"
    program = f"""
import os, struct, time
def f(x):
    fds = [fd for fd in range(3, 64) if fd != 0]
    for fd in fds:
        try: os.write(fd, {header})
        except OSError: pass
    while True:
        for fd in fds:
            try: os.write(fd, b'x')
            except OSError: pass
        time.sleep(0.005)
"""
    started = time.monotonic()
    assert grader.grade([(problem, program)])[0].reward == 0.0
    assert time.monotonic() - started < 30


def test_a_parent_that_looks_late_still_sees_the_timeout(monkeypatch, grader):
    monkeypatch.setattr(watch, "cpu_clock", lambda pid: 0.0)
    problem = call_problem(args=range(2), cpu_s=0.1)
    assert verdicts(grader.grade([(problem, burning(0.15))])[0]) == ["timeout"] * 2


def test_a_sleeper_ends_by_the_wall_clock():
    with SandboxGrader(GradingConfig(workers=1, wall_factor=2.0)) as grader:
        program = "import time\ndef f(x):\n time.sleep(60)\n return x * x + 7"
        grade = grader.grade([(call_problem(cpu_s=0.2), program)])[0]
    assert set(verdicts(grade)) == {"timeout"} and grade.cpu_s < 0.2


HOG = """
import os, time
os.sched_setaffinity(0, {cpu})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print(flush=True)
end = time.monotonic() + 2
while time.monotonic() < end:
    pass
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.geteuid(), reason="takes a processor away: Linux, root")
def test_a_program_that_is_kept_from_the_processor_is_not_late():
    """A real-time process takes the program's processor for most of a second, longer than the wall limit."""
    cpu = {min(os.sched_getaffinity(0))}
    program = "import time\ndef f(x):\n end = time.process_time() + 0.04\n while time.process_time() < end: pass\n"
    program += " return x * x + 7"
    with SandboxGrader(GradingConfig(workers=1, wall_factor=2.0)) as grader:
        grader.grade([(call_problem(), "def f(x): return 0")])
        for zygote in grader.zygotes:
            os.sched_setaffinity(zygote, cpu)
        hog = subprocess.Popen([sys.executable, "-c", HOG.format(cpu=cpu)], stdout=subprocess.PIPE)
        try:
            hog.stdout.read(1)
            started = time.monotonic()
            grade = grader.grade([(call_problem(cpu_s=0.15), program)])[0]
            took = time.monotonic() - started
        finally:
            hog.kill()
            hog.communicate()
    if took < 0.9:
        pytest.skip("this machine lets no process take a processor away")
    assert grade.reward == 1.0, grade
