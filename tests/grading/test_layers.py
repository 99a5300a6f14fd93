"""The layers: what the filter allows in one stage and in two, control groups, systems that have nothing of all this."""

from __future__ import annotations

import dataclasses
import logging
import os
import struct
import sys
from pathlib import Path

import pytest

from restrl.errors import GraderError
from restrl.grading import LAYERS, GradingConfig, SandboxGrader
from restrl.grading import layers as layers_module
from restrl.grading.cgroup import SELF, make_group, own_group
from restrl.grading.config import BASE_LAYERS
from restrl.grading.jail import bpf
from restrl.grading.layers import check_required, probe_layers
from restrl.types import Case, Limits, Problem, Tests

PROBLEM = Problem("p", "", "", "f", Tests("call", (Case("a", args=(2,), expected=3),)))
GOOD = "def f(x): return x + 1"
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def run_filter(program: bytes, number: int, arch: int, arguments: tuple[int, ...]) -> int:
    """An interpreter of the classic BPF that seccomp takes: returns the action."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *arguments)
    rows = list(struct.iter_unpack("<HBBI", program))
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = rows[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        else:
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            at += if_true if holds else if_false


def verdict(programs: tuple[bytes, ...], *call) -> int:
    """What several loaded filters decide together: the most severe action; of equals, the last loaded."""
    actions = [run_filter(program, *call) for program in programs]
    severity = [0x80000000, 0x00050000, 0x7FFF0000]
    return min(reversed(actions), key=lambda action: severity.index(action & 0xFFFF0000))


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("deny_writes", [False, True])
def test_two_stages_refuse_what_one_filter_refuses(machine, deny_writes):
    whole = bpf.build_filter(machine, deny_writes=deny_writes)
    stages = bpf.build_stages(machine, deny_writes=deny_writes)
    vectors = [(first, second, third, 0, 0, 0) for first in (0, 1, 9, 22, 0x10000, 0x20000000, 0x01200011, 0x003D0F00)
               for second in (0, 1, 8, 10, 0o102, 0x5401, 0x5412) for third in (0, 1, 0o1101)]  # fmt: skip
    arch = ARCHITECTURES[machine]
    table = bpf._ARCHITECTURES[machine][1]
    special = {table[name] for name in bpf._special_cases(True) if name in table}
    for number in [*range(500), 0x40000000, 0x40000001]:
        for arguments in vectors if number in special else vectors[:1]:
            alone = run_filter(whole, number, arch, arguments)
            assert verdict(stages, number, arch, arguments) == alone, (number, arguments)
    assert verdict(stages, 1, 0x40000003, vectors[0]) == 0x80000000  # i386


def test_a_short_stage_is_what_every_run_loads():
    first, second = bpf.build_stages("x86_64")
    assert len(second) < len(first) / 3 and bpf.build_stages("vax") is None


def fake_groups(tmp_path: Path, controllers: str = "cpu memory pids", enabled: str = "") -> Path:
    (tmp_path / "cgroup.controllers").write_text(controllers + "\n")
    (tmp_path / "cgroup.subtree_control").write_text(enabled + "\n")
    return tmp_path


def test_a_delegated_control_group_gets_a_budget(tmp_path):
    group = make_group(2, fake_groups(tmp_path))
    assert group.path.parent == tmp_path
    assert int((group.path / "memory.max").read_text()) >= 1 << 30
    assert int((group.path / "pids.max").read_text()) == 512
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"
    group.take(4321)
    assert group.holds(4321) and not group.holds(43)
    (group.path / "memory.max").write_text("max")
    assert not group.holds(4321)


def test_groups_that_are_not_delegated_say_why(tmp_path):
    with pytest.raises(GraderError, match="control of memory and pids is not delegated"):
        make_group(1, fake_groups(tmp_path, controllers="hugetlb"))
    with pytest.raises(GraderError, match="not delegated to this process"):
        make_group(1, tmp_path / "nowhere")
    membership, mounts = tmp_path / "cgroup", tmp_path / "mountinfo"
    membership.write_text("4:memory:/here\n")
    mounts.write_text("30 25 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n")
    with pytest.raises(GraderError, match="no control groups of version 2"):
        own_group(str(membership), str(mounts))
    membership.write_text("4:memory:/here\n0::/user.slice/x.scope\n")
    assert own_group(str(membership), str(mounts)) == Path("/sys/fs/cgroup/user.slice/x.scope")


def test_a_group_that_limits_nothing_is_no_layer(monkeypatch, tmp_path):
    """Files that look like a control group: the zygote is in it, but the probe is not held back."""
    from restrl.grading import worker

    def make(number: int):
        group = make_group(number, fake_groups(tmp_path, enabled="memory pids"))
        for name in ("memory.current", "pids.current"):
            (group.path / name).write_text("1\n")
        (group.path / "memory.events").write_text("oom 0\noom_kill 0\n")
        return group

    monkeypatch.setattr(worker, "make_group", make)
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        (group,) = tmp_path.glob("restrl-*")
        assert (group / "cgroup.procs").read_text() == str(grader.zygotes[0])
        assert (group / "pids.max").read_text() == "512"  # as before the probe
        assert "cgroup" not in grader.layers and grader.grade([(PROBLEM, GOOD)])[0].reward == 1.0
    with (
        pytest.raises(GraderError, match="cgroup are required"),
        SandboxGrader(GradingConfig(workers=1, require=("cgroup",))),
    ):
        pass


@pytest.fixture
def delegated():
    """A machine with control groups of version 2 whose memory and processes are ours to limit."""
    try:
        make_group(1).remove()
    except GraderError as error:
        pytest.skip(str(error))


def test_a_real_control_group_is_a_budget(delegated):
    """`benchmarks/grader_in_uml.py` runs this on a kernel where the group is there."""
    hoard = "def f(x):\n kept = [bytearray(1 << 20) for _ in range(3000)]\n return x + 1"
    big = dataclasses.replace(PROBLEM, limits=Limits(cpu_s=120.0, memory_bytes=8 << 30))
    with SandboxGrader(GradingConfig(workers=1, require=("cgroup",))) as grader:
        group = grader._workers[0].group
        assert group is not None and group.holds(grader.zygotes[0])
        good, hog = grader.grade([(PROBLEM, GOOD), (big, hoard)])
        assert good.reward == 1.0 and "cgroup" in good.layers
        if group_bytes(group.path) < 2 << 30:
            assert (hog.reward, hog.verdicts[0].verdict) == (0.0, "memory")
            assert grader.grade([(big, f"{hoard}  # again")])[0].verdicts[0].verdict == "memory"
        lab = dataclasses.replace(PROBLEM, tests=dataclasses.replace(PROBLEM.tests, profile="lab"))
        (grade,) = grader.grade([(lab, GOOD)])  # required there too
        assert grade.reward == 1.0 and "cgroup" in grade.layers
        assert grader.grade([(PROBLEM, GOOD + "  # again")])[0].reward == 1.0
    assert not group.path.exists()


def group_bytes(path: Path) -> int:
    return int((path / "memory.max").read_text())


def test_a_part_of_the_tree_that_is_mounted_is_found(tmp_path):
    membership, mounts = tmp_path / "cgroup", tmp_path / "mountinfo"
    mounts.write_text("30 25 0:26 /pod /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw\n")
    membership.write_text(f"0::/pod/x/{SELF}\n")  # where an earlier worker has moved this process to
    assert own_group(str(membership), str(mounts)) == Path("/sys/fs/cgroup/x")


def test_a_system_without_any_layer_grades_and_says_so(caplog):
    with caplog.at_level(logging.INFO):
        check_required(GradingConfig(), ())
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == 1 and all(name in warned[0] for name in BASE_LAYERS)
    everything = tuple(LAYERS)
    with SandboxGrader(GradingConfig(workers=1, disable=everything)) as grader:
        assert [g.reward for g in grader.grade([(PROBLEM, GOOD), (PROBLEM, "def f(x): return 0")])] == [1.0, 0.0]
        assert set(grader.layers) <= {"clean"}


def test_another_system_than_linux_is_graded_in_plain_processes(tmp_path):
    """The zygote believes itself on macOS: no layer but limits, no handles of processes, and it says so."""
    script = (
        "import os, sys\n"
        "class Platform(str):\n"
        "    pass\n"
        "sys.platform = 'darwin'\n"
        "del os.pidfd_open, os.memfd_create\n"
        "sys.argv = sys.argv[1:]\n"
        "path = sys.argv[0]\n"
        "code = compile(open(path).read(), path, 'exec')\n"
        "exec(code, {'__name__': '__main__', '__file__': path})\n"
    )
    (tmp_path / "mac.py").write_text(script)
    python = tmp_path / "python"
    real = getattr(sys, "_base_executable", "") or sys.executable
    python.write_text(f'#!/bin/sh\nexec {real} -s -P -S {tmp_path}/mac.py "$4" "$5" "$6" "$7"\n')
    python.chmod(0o755)
    config = GradingConfig(workers=1, disable=tuple(name for name in LAYERS if name != "rlimits"))
    with SandboxGrader(config) as grader:
        worker = grader._workers[0]
        worker.close()
        start = worker.start
        worker._config = GradingConfig(workers=1)
        import restrl.grading.worker as module

        popen = module.subprocess.Popen

        def pretend(command, **keywords):
            return popen([str(python), *command[1:]], **keywords)

        module.subprocess.Popen = pretend
        try:
            worker.layers = ()
            start()
        finally:
            module.subprocess.Popen = popen
        assert set(worker.layers) <= {"rlimits", "uid", "cgroup"}
        slow = "import time\ndef f(x):\n time.sleep(0.05)\n return x + 1"
        programs = [GOOD, slow, "def f(x): return 0", "import os\ndef f(x): os._exit(3)"]
        rewards = [grade.reward for grade in grader.grade([(PROBLEM, program) for program in programs])]
        assert rewards == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("missing", ["seccomp", "pids"])
def test_the_doctor_says_what_a_missing_layer_means(monkeypatch, missing):
    real = layers_module._probe_by_effect
    monkeypatch.setattr(layers_module, "_probe_by_effect", lambda worker: real(worker) | {missing: False})
    reports = {report.name: report for report in probe_layers()}
    assert list(reports) == list(LAYERS)
    assert not reports[missing].active and reports[missing].consequence and reports[missing].detail
    assert all(report.attack for report in reports.values())
    assert all(not report.consequence for report in reports.values() if report.active)


def test_the_doctor_fails_closed(monkeypatch, capsys):
    from restrl.cli import main

    real = layers_module._probe_by_effect
    monkeypatch.setattr(layers_module, "_probe_by_effect", lambda worker: real(worker) | {"seccomp": False})
    assert main(["doctor", "--require", "seccomp,rlimits"]) == 2
    shown = capsys.readouterr()
    assert "OFF  seccomp" in shown.out and "tried in vain" in shown.out and "seccomp" in shown.err
    assert main(["doctor", "--require", "nonsense"]) == 2


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="Linux only")
def test_every_run_is_alone_in_its_namespace():
    see = "import os\ndef f(x): return os.getpid()"
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        if "pids" not in grader.layers:
            pytest.skip("no process-id namespaces here")
        problem = Problem("p", "", "", "f", Tests("call", (Case("a", args=(2,), expected=1),)))
        assert grader.grade([(problem, see)])[0].reward == 1.0


@pytest.mark.parametrize("missing", [("landlock",), ("landlock", "uid"), ("landlock", "namespaces", "pids")])
def test_without_landlock_the_filter_refuses_to_write(missing):
    config = GradingConfig(workers=1, disable=missing)
    with SandboxGrader(config) as grader:
        good, writer = grader.grade([(PROBLEM, GOOD), (PROBLEM, "def f(x):\n open('restrl_x', 'w')\n return x + 1")])
        assert good.passed and not writer.passed and "seccomp" in grader.layers
