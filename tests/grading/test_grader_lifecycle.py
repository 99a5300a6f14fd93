"""Use from training: grading beside other work, the cache, warm pools, a clean end, and zygotes that die on the way."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hostile_other import tasks
from leftovers import descendants, own_handles, stray_processes

from restrl.errors import GraderError
from restrl.grading import GradingConfig, SandboxGrader

TASKS = tasks(4.0, 1 << 30)
CALL, STDIO, CHECK = TASKS["call"], TASKS["stdio"], TASKS["check"]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def numbered(count: int, wrong_every: int = 3) -> list[tuple]:
    """Different programs of three kinds with their rewards: every third is wrong."""
    rows = []
    for number in range(count):
        good = number % wrong_every != 0
        seven = 7 if good else 8
        rows += [
            (CALL, f"def f(x): return x * x + {seven}  # {number}", float(good)),
            (STDIO, f"print(int(input()) ** 2 + {seven})  # {number}", float(good)),
            (CHECK, f"def helper(n): return n + 1\ndef f(x): return x * x + {seven}  # {number}", float(good)),
        ]
    return rows


def test_grading_runs_beside_generation(grader):
    """Batches are handed over as they come; the loop that generates them never waits for one."""

    async def main():
        waiting, longest = [], 0.0
        for number in range(4):
            program = f"import time\ndef f(x):\n time.sleep(0.05)\n return x * x + 7  # {number}"
            waiting.append(asyncio.create_task(grader.grade_async([(CALL, program)])))
            started = time.monotonic()
            await asyncio.sleep(0.01)  # stands for generating the next batch
            longest = max(longest, time.monotonic() - started)
        done_early = sum(task.done() for task in waiting)
        grades = [grade for (grade,) in await asyncio.gather(*waiting)]
        return grades, done_early, longest

    grades, done_early, longest = asyncio.run(main())
    assert [grade.reward for grade in grades] == [1.0] * 4
    assert done_early < 4  # each takes 0.3 s: handing them over did not wait for them
    assert longest < 5


def test_a_cancelled_caller_leaves_the_grader_in_order(grader):
    program = "import time\ndef f(x):\n time.sleep(0.1)\n return x * x + 7  # cancelled"

    async def main():
        task = asyncio.create_task(grader.grade_async([(CALL, program)]))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return (await grader.grade_async([(CALL, program)]))[0].reward

    assert asyncio.run(main()) == 1.0


def test_the_cache_answers_at_once_and_keeps_tests_apart():
    slow = "import time\ndef f(x):\n time.sleep(0.1)\n return x * x + 7"
    with SandboxGrader(GradingConfig(workers=1)) as grader:
        started = time.monotonic()
        first = grader.grade([(CALL, slow)])[0]
        once = time.monotonic() - started
        started = time.monotonic()
        again = grader.grade([(CALL, slow)] * 200)
        assert time.monotonic() - started < once
        assert {grade.reward for grade in again} == {1.0} and {grade.cpu_s for grade in again} == {first.cpu_s}
        assert grader.grade([(TASKS["near"], slow)])[0].reward == 0.0  # another task is another entry
        assert grader.grade([(CALL, slow + "\n")])[0].reward == 1.0


def test_many_threads_share_one_grader(grader):
    rows = numbered(6)
    found: dict[int, list[float]] = {}

    def work(number: int) -> None:
        mixed = random.Random(number).sample(range(len(rows)), len(rows))
        grades = grader.grade([(rows[i][0], rows[i][1] + f" {number % 2}") for i in mixed])
        found[number] = [grades[mixed.index(i)].reward for i in range(len(rows))]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [[reward for _, _, reward in rows]] * 4


@linux
@pytest.mark.parametrize("seed", range(3))
def test_killed_zygotes_lose_nothing(seed):
    """Every few milliseconds one process of the grader is killed: each grade is right all the same."""
    before = descendants()
    rows = numbered(12)
    generator = random.Random(seed)
    stop, kills = threading.Event(), []

    with SandboxGrader(GradingConfig(workers=2, cache=False, retries=30)) as grader:

        def kill() -> None:
            while not stop.is_set() and len(kills) < 6:
                victims = sorted(descendants() - before)
                if victims:
                    victim = generator.choice(victims)
                    try:
                        os.kill(victim, signal.SIGKILL)
                        kills.append(victim)
                    except ProcessLookupError:
                        pass
                stop.wait(0.02 + 0.05 * generator.random())

        thread = threading.Thread(target=kill)
        thread.start()
        try:
            rewards = [grade.reward for grade in grader.grade([(problem, source) for problem, source, _ in rows])]
        finally:
            stop.set()
            thread.join()
        assert rewards == [reward for _, _, reward in rows]
        assert kills
    assert stray_processes(before) == set()


@linux
def test_a_zygote_killed_between_batches_is_replaced_unseen():
    rows = numbered(2)
    with SandboxGrader(GradingConfig(workers=2, cache=False)) as grader:
        for _ in range(3):
            grades = grader.grade([(problem, source) for problem, source, _ in rows])
            assert [grade.reward for grade in grades] == [reward for _, _, reward in rows]
            for pid in grader.zygotes:
                os.kill(pid, signal.SIGKILL)


@linux
def test_a_killed_parent_takes_everything_with_it(tmp_path):
    """Endless programs in every mode, and the process that owns the grader is killed without a chance to clean up."""
    before = descendants()
    script = tmp_path / "owner.py"
    here = Path(__file__).parent
    script.write_text(
        f"import sys\nsys.path[:0] = [{str(here.parents[1])!r}, {str(here)!r}]\n"
        "from hostile_other import tasks\nfrom restrl.grading import GradingConfig, SandboxGrader\n"
        "tasks = tasks(100.0, 1 << 28)\n"
        "grader = SandboxGrader(GradingConfig(workers=3, wall_factor=10.0))\ngrader.start()\n"
        "print(*grader.zygotes, flush=True)\n"
        "loop = 'while True: pass'\n"
        "grader.grade([(tasks['call'], loop), (tasks['stdio'], loop), (tasks['check'], 'def f(x):\\n ' + loop)])\n"
    )
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    zygotes = {int(word) for word in owner.stdout.readline().split()}
    assert len(zygotes) == 3
    deadline = time.monotonic() + 20
    # The owner, three zygotes, a partner, the programs.
    while len(theirs := descendants() - before) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 20
    while (alive := {pid for pid in theirs | zygotes if _running(pid)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive == set()


def _running(pid: int) -> bool:
    try:
        return b"zygote.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@linux
def test_opening_and_closing_leaves_nothing():
    with SandboxGrader(GradingConfig(workers=1)) as grader:  # what the first use imports stays
        grader.grade([(CALL, "def f(x): return x * x + 7")])
    before, handles = descendants(), own_handles()
    for number in range(3):
        with SandboxGrader(GradingConfig(workers=1)) as grader:
            for problem, source, reward in numbered(1, wrong_every=2 + number):
                assert grader.grade([(problem, source)])[0].reward == reward
    assert own_handles() == handles
    assert stray_processes(before) == set()


def test_closing_from_another_thread_ends_waiting_callers():
    grader = SandboxGrader(GradingConfig(workers=1, wall_factor=10.0))
    grader.start()
    failures = []

    def call() -> None:
        try:
            grader.grade([(CALL, f"import time\ndef f(x): time.sleep(9)  # {i}") for i in range(3)])
        except GraderError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    grader.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert len(failures) == 2 and all("closed" in failure for failure in failures)


def test_a_closed_grader_says_so():
    grader = SandboxGrader(GradingConfig(workers=1))
    grader.grade([(CALL, "def f(x): return x * x + 7")])
    grader.close()
    grader.close()
    with pytest.raises(GraderError, match="closed"):
        grader.grade([(CALL, "def f(x): return x * x + 7")])


def test_closing_stops_work_in_progress_at_once():
    problem = tasks(60.0, 1 << 30)["call"]
    grader = SandboxGrader(GradingConfig(workers=1))
    failures = []

    def wait():
        try:
            grader.grade([(problem, "def f(x):\n while True: pass"), (problem, "def f(x): return x * x + 7")])
        except GraderError as error:
            failures.append(str(error))

    before = descendants()
    grader.start()
    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    started = time.monotonic()
    grader.close()
    waiting.join()
    assert time.monotonic() - started < 30
    assert failures and "closed" in failures[0]
    assert descendants() == before
