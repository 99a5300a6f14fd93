"""The grader's contract: scoring, partial results, limits, faults, cache, concurrency, nothing leaked."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import call_problems as problems
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.errors import ConfigError, GraderError, ProblemError
from restrl.grading import LAYERS, GradingConfig, SandboxGrader, shaped_reward
from restrl.grading.layers import probe_layers
from restrl.types import Case, Limits, Problem, Tests

GOOD = "def f(x): return x * x + 7\n"
PROBLEM = problems.call_problem()


def verdicts(grade):
    return [verdict.verdict for verdict in grade.verdicts]


def test_the_denominator_is_the_declared_tests(grader):
    grades = grader.grade(
        [(PROBLEM, GOOD), (PROBLEM, "def f(x): return 8"), (PROBLEM, "def f(x): return 1 // x and x * x + 7")]
    )
    assert [grade.reward for grade in grades] == [1.0, 1 / 6, 1 / 6]
    assert [grade.passed for grade in grades] == [True, False, False]
    assert verdicts(grades[2]) == ["error", "pass", "wrong", "wrong", "wrong", "wrong"]
    assert grades[2].verdicts[0].detail == "ZeroDivisionError"
    assert [v.id for v in grades[0].verdicts] == [case.id for case in PROBLEM.tests.cases]


def test_all_or_nothing(grader):
    strict = dataclasses.replace(PROBLEM, tests=dataclasses.replace(PROBLEM.tests, all_or_nothing=True))
    assert [g.reward for g in grader.grade([(strict, GOOD), (strict, "def f(x): return x * x + 7 if x else 0")])] == [
        1.0,
        0.0,
    ]


def test_results_before_and_after_a_crash_survive(grader):
    program = "import ctypes\ndef f(x):\n if x in (1, 4): ctypes.string_at(0)\n return x * x + 7"
    assert verdicts(grader.grade([(PROBLEM, program)])[0]) == ["pass", "error", "pass", "pass", "error", "pass"]


def test_arguments_are_fresh_for_every_case_and_never_come_back(grader):
    cases = tuple(Case(str(i), args=([3, 1, 2],), expected=[1, 2, 3]) for i in range(3))
    problem = Problem("p", "", "", "f", Tests("call", cases))
    once = "def f(v):\n v.sort()\n out = list(v)\n v.append(99)\n return out"
    assert grader.grade([(problem, once)])[0].reward == 1.0
    assert cases[0].args == ([3, 1, 2],)


def test_methods_of_a_solution_class(grader):
    problem = dataclasses.replace(PROBLEM, entry_point="Solution.f")
    program = "class Solution:\n def __init__(self): self.n = 7\n def f(self, x):\n  self.n += x * x\n  return self.n"
    assert grader.grade([(problem, program)])[0].reward == 1.0


def test_a_tolerance_of_the_task_is_used(grader):
    cases = (Case("a", args=(0.1, 0.2), expected=0.3),)
    program = "def f(a, b): return a + b"
    exact = Problem("p", "", "", "f", Tests("call", cases))
    loose = Problem("p", "", "", "f", Tests("call", cases, atol=1e-9))
    assert [g.reward for g in grader.grade([(exact, program), (loose, program)])] == [0.0, 1.0]


def test_large_inputs_and_outputs_within_the_task_are_fine(grader):
    text = "é" * 1_500_000
    cases = (Case("a", args=(text, 10**5000), expected=[text, 10**5000]),)
    problem = Problem("p", "", "", "f", Tests("call", cases))
    assert grader.grade([(problem, "def f(a, b): return [a, b]")])[0].reward == 1.0
    stdio = Problem("s", "", "", "", Tests("stdio", (Case("a", stdin=text, expected=text),)))
    assert grader.grade([(stdio, "print(input())")])[0].reward == 1.0


def test_runs_are_deterministic_and_share_no_state():
    problem = Problem("p", "", "", "f", Tests("call", (Case("a"),)))
    leak = "import builtins\ndef f():\n if hasattr(builtins, 'mark'): return 'leak'\n builtins.mark = 1"
    draw = "import random\ndef f(): return [random.random(), list({'a', 'b', 'c'}), hash('abc')]"
    with SandboxGrader(GradingConfig(workers=1, cache=False)) as grader:
        assert [g.reward for g in grader.grade([(problem, leak)] * 3)] == [1.0] * 3
        first = random.Random(0).random()
        seeded = Problem("q", "", "", "f", Tests("call", (Case("a", expected=first),)))
        program = "import random\ndef f(): return random.random()"
        assert [g.reward for g in grader.grade([(seeded, program)] * 2)] == [1.0, 1.0]
        orders = [_answer(draw, again) for again in range(2)]
        assert orders[0] == orders[1]


def _answer(program, again):
    """What a program returns, read from a fresh zygote without the grader's comparison."""
    from restrl.grading.jail import codec
    from restrl.grading.modes import CallJudge
    from restrl.grading.watch import RunLimits
    from restrl.grading.worker import Worker

    problem = Problem("p", "", "", "f", Tests("call", (Case("a"),)))
    claims = []
    worker = Worker(GradingConfig())
    try:
        request = CallJudge(problem, GradingConfig()).request(program, 0)
        worker.run(request, RunLimits(4.0, 16.0, 1 << 20), lambda frame: claims.append(frame) or frame.kind == b"B")
    finally:
        worker.close()
    return codec.decode(claims[-1].payload)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from(["right", "wrong", "raise", "exit", "forge", "big"]), min_size=6, max_size=6))
def test_no_program_scores_above_its_honest_fraction(plan):
    program = f"""
import os, struct
PLAN = {plan!r}
def f(x):
    act = PLAN[x]
    if act == "wrong": return x
    if act == "raise": raise ValueError
    if act == "exit": os._exit(0)
    if act == "big": return "x" * (3 << 20)
    if act == "forge":
        for fd in range(3, 20):
            try: os.write(fd, struct.pack("<IcId", 1, b"V", x, 0.0) + b"T")
            except OSError: pass
        return None
    return x * x + 7
"""
    grade = SHARED.grader().grade([(PROBLEM, program)])[0]
    assert grade.reward <= plan.count("right") / 6 + 1e-12
    if "forge" not in plan:
        assert [v == "pass" for v in verdicts(grade)] == [act == "right" for act in plan]


class SHARED:
    """The session's grader for tests that hypothesis drives."""

    current: SandboxGrader | None = None

    @classmethod
    def grader(cls) -> SandboxGrader:
        assert cls.current is not None
        return cls.current


@pytest.fixture(autouse=True)
def _share(grader):
    SHARED.current = grader


def test_a_dead_zygote_is_replaced_and_its_work_redone():
    slow = problems.burning(0.15)
    with SandboxGrader(GradingConfig(workers=1, cache=False)) as grader:
        grader.grade([(PROBLEM, GOOD)])
        before = grader.zygotes
        killer = threading.Timer(0.4, os.kill, (before[0], signal.SIGKILL))
        killer.start()
        assert [g.reward for g in grader.grade([(PROBLEM, slow), (PROBLEM, GOOD)])] == [1.0, 1.0]
        killer.join()
        assert grader.zygotes != before


def test_a_grader_that_cannot_grade_raises_and_never_scores_zero(tmp_path):
    with SandboxGrader(GradingConfig(workers=1, cache=False, retries=1)) as grader:
        grader._workers[0]._config = GradingConfig(python=str(tmp_path / "missing"))
        os.kill(grader.zygotes[0], signal.SIGKILL)
        with pytest.raises(GraderError):
            grader.grade([(PROBLEM, GOOD)])


def test_a_fault_is_repeated_then_raised(monkeypatch):
    from restrl.grading import watch, worker

    calls = []

    def broken(self, *args, **kwargs):
        calls.append(1)
        raise watch.Fault("broken on purpose")

    with SandboxGrader(GradingConfig(workers=1, retries=2)) as grader:
        with monkeypatch.context() as patch:
            patch.setattr(worker.Worker, "open", broken)
            with pytest.raises(GraderError, match="broken on purpose"):
                grader.grade([(PROBLEM, GOOD)])
            assert len(calls) == 3
        assert grader.grade([(PROBLEM, GOOD)])[0].reward == 1.0


def test_identical_pairs_are_graded_once(monkeypatch):
    from restrl.grading import worker

    runs = []
    original = worker.Worker.open

    def counting(self, *args, **kwargs):
        runs.append(1)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(worker.Worker, "open", counting)
    renamed = dataclasses.replace(PROBLEM, id="another")
    with SandboxGrader(GradingConfig(workers=2)) as grader:
        runs.clear()
        grades = grader.grade([(PROBLEM, GOOD)] * 5 + [(renamed, GOOD)])
        assert len(runs) == 1 and [g.problem_id for g in grades] == ["call"] * 5 + ["another"]
        grader.grade([(problems.call_problem(expected=lambda x: x), GOOD)])
        assert len(runs) == 2


def test_a_batch_goes_to_each_place_once(monkeypatch):
    """A worker keeps few places warm: pairs that alternate between kinds must not start one after the other anew."""
    from restrl.grading import worker

    went = []
    original = worker.Worker.at
    monkeypatch.setattr(worker.Worker, "at", lambda self, place: went.append(place) or original(self, place))
    lab = dataclasses.replace(PROBLEM, tests=dataclasses.replace(PROBLEM.tests, profile="lab"))
    named = dataclasses.replace(lab, tests=dataclasses.replace(lab.tests, packages=("pytest",)))
    pairs = [(problem, f"{GOOD}# {n}\n") for n in range(3) for problem in (named, PROBLEM, lab)]
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        grades = grader.grade(pairs)
    assert [grade.reward for grade in grades] == [1.0] * 9
    assert went == [went[0]] * 3 + [went[3]] * 3 and went[0] != went[3]


def test_async_calls_overlap_and_do_not_block_the_loop(grader):
    sleepy = problems.call_problem(args=range(1), cpu_s=4.0)

    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        jobs = [
            grader.grade_async([(sleepy, f"import time\ndef f(x):\n time.sleep(0.5)\n return 7 + {i} - {i}")])
            for i in range(2)
        ]
        started = time.monotonic()
        grades = await asyncio.gather(*jobs)
        elapsed = time.monotonic() - started
        ticker.cancel()
        return [g[0].reward for g in grades], elapsed, ticks

    rewards, elapsed, ticks = asyncio.run(main())
    assert rewards == [1.0, 1.0]
    assert elapsed < 0.98
    assert ticks > 5


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def descendants() -> set[int]:
    """Every process below this one, zombies included."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat[1])
    found: set[int] = set()
    frontier = {os.getpid()}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier and pid not in found}
        found |= frontier
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_hundreds_of_programs_leak_nothing():
    gc.collect()
    processes_before = descendants()
    with SandboxGrader(GradingConfig(workers=2, cache=False)) as grader:
        grader.grade([(PROBLEM, GOOD)] * 10)
        open_before = descriptors()
        thread = "import os, threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        odd = thread + "def f(x):\n if x == 3: os._exit(1)\n return x * x + 7"
        small = problems.call_problem(args=(3, 4))
        grades = grader.grade(
            [(small, GOOD), (small, odd), (small, "raise ValueError"), (problems.stdio_problem(), "print(11)")] * 60
        )
        assert [g.reward for g in grades] == [1.0, 0.5, 0.0, 0.5] * 60
        assert descriptors() == open_before
        assert len(descendants() - processes_before) == 2
    assert descendants() - processes_before == set()


def test_layers_are_recorded_and_can_be_required():
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        layers = grader.layers
        assert grader.grade([(PROBLEM, GOOD)])[0].layers == layers
        assert set(layers) <= set(LAYERS)
    with SandboxGrader(GradingConfig(workers=1, require=layers)) as grader:
        assert grader.layers == layers


@pytest.mark.parametrize("name", ["seccomp", "landlock", "rlimits"])
def test_a_required_layer_that_does_not_work_stops_the_start(monkeypatch, name):
    from restrl.grading import layers

    real = layers._probe_by_effect
    monkeypatch.setattr(layers, "_probe_by_effect", lambda worker: real(worker) | {name: False})
    before = descendants()
    with pytest.raises(GraderError, match=f"{name} are required"):
        SandboxGrader(GradingConfig(workers=1, require=(name,))).start()
    assert descendants() == before


def test_a_layer_that_is_off_is_found_by_its_effect():
    config = GradingConfig(disable=("seccomp", "landlock"))
    reports = {report.name: report for report in probe_layers(config)}
    assert not reports["seccomp"].active and "switched off" in reports["seccomp"].detail
    assert not reports["landlock"].active
    assert list(reports) == list(LAYERS)


def test_without_any_layer_programs_are_still_graded(caplog):
    config = GradingConfig(workers=1, disable=tuple(name for name in LAYERS if name != "clean"))
    with SandboxGrader(config) as grader:
        fork = "import os\ndef f(x):\n if os.fork() == 0:\n  os._exit(0)\n return x * x + 7"
        assert [g.reward for g in grader.grade([(PROBLEM, GOOD), (PROBLEM, fork)])] == [1.0, 1.0]


def test_a_missing_layer_is_logged(caplog):
    from restrl.grading.layers import check_required

    check_required(GradingConfig(), ("uid",))
    assert "seccomp" in caplog.text
    with pytest.raises(GraderError, match="landlock are required"):
        check_required(GradingConfig(require=("landlock",)), ("uid",))


@pytest.mark.parametrize(
    "config",
    [
        GradingConfig(require=("sandbox",)),
        GradingConfig(disable=("chroot",)),
        GradingConfig(require=("uid",), disable=("uid",)),
        GradingConfig(workers=-1),
        GradingConfig(wall_factor=0.5),
        GradingConfig(max_timeouts=0),
    ],
)
def test_wrong_settings_are_refused(config):
    with pytest.raises(ConfigError):
        SandboxGrader(config)


def test_packages_are_importable_only_when_named(grader):
    problem = problems.call_problem()
    program = "import numpy as np\ndef f(x): return np.int64(x * x + 7)"
    assert verdicts(grader.grade([(problem, program)])[0]) == ["error"] * 6
    with SandboxGrader(GradingConfig(workers=1, packages=("numpy",))) as other:
        assert other.grade([(problem, program)])[0].reward == 1.0
    with pytest.raises(ConfigError):
        SandboxGrader(GradingConfig(packages=("no_such_package_here",))).start()


@pytest.mark.parametrize(
    "problem",
    [
        Problem("p", "", "", "f", Tests("call", ())),
        Problem("p", "", "", "f()", Tests("call", (Case("a"),))),
        Problem("p", "", "", "f", Tests("call", (Case("a", args=(object(),)),))),
        Problem("p", "", "", "", Tests("stdio", (Case("a", expected=3),))),
        Problem("p", "", "", "f", Tests("script", (Case("a"),))),
        Problem("p", "", "", "f", Tests("call", (Case("a"),)), limits=Limits(cpu_s=0)),
    ],
)
def test_problems_that_cannot_be_graded_are_refused(grader, problem):
    with pytest.raises(ProblemError, match="problem p"):
        grader.grade([(problem, GOOD)])


def test_the_shaped_reward():
    assert shaped_reward(0.5, ended_with_stop=True, trailing_chars=0) == 0.501
    assert shaped_reward(1.0, ended_with_stop=False, trailing_chars=100) == pytest.approx(0.9999)
    assert shaped_reward(0.0, ended_with_stop=True, trailing_chars=2000) == pytest.approx(-0.001)
