"""`SandboxGrader`: turns (problem, program) pairs into grades, on a pool of zygotes, with a cache."""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import logging
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from types import TracebackType

from restrl.errors import GraderError
from restrl.grading.config import GradingConfig
from restrl.grading.layers import check_required, effective_layers
from restrl.grading.modes import Judge, Outcome
from restrl.grading.placed import Placed
from restrl.grading.places import Place
from restrl.grading.registry import judge_for
from restrl.grading.watch import Fault
from restrl.grading.worker import Worker
from restrl.types import Grade, Problem

log = logging.getLogger(__name__)

_MAX_JUDGES = 4096
_MAX_CACHED = 200_000


class SandboxGrader:
    """Grades programs in confined processes. Thread-safe; a context manager.

    Identical (problem, program) pairs are graded once, also while the first is still running. The pool starts at the
    first use, or on entering the context.

    Args:
        config: Settings; the defaults use every isolation layer that the machine allows.

    Raises:
        ConfigError: A setting is wrong.
        GraderError: On start, a layer named by ``config.require`` is missing.
    """

    def __init__(self, config: GradingConfig | None = None) -> None:
        self.config = config if config is not None else GradingConfig()
        self.config.check()
        self._jobs: queue.SimpleQueue[tuple[Judge, str, Future[Outcome]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._workers: list[Worker] = []
        self._judges: OrderedDict[int, tuple[Problem, Judge]] = OrderedDict()
        self._cache: OrderedDict[bytes, Future[Outcome]] = OrderedDict()
        self._lock = threading.RLock()
        self._closed = False
        self._layers: tuple[str, ...] = ()
        self._pid = os.getpid()

    def __enter__(self) -> SandboxGrader:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def layers(self) -> tuple[str, ...]:
        """The isolation layers in force; empty before the start."""
        return self._layers

    @property
    def zygotes(self) -> tuple[int, ...]:
        """Process ids of the pool's zygotes."""
        return tuple(pid for worker in self._workers if (pid := worker.pid) is not None)

    def start(self) -> None:
        """Starts the pool and checks the required layers. Does nothing if it runs.

        Raises:
            GraderError: The pool cannot start, a required layer is missing, or the grader is closed.
        """
        with self._lock:
            if self._closed:
                raise GraderError("the grader is closed; make a new SandboxGrader")
            if self._pid != os.getpid():
                raise GraderError("the grader belongs to the process that made it; make one in the forked process")
            if self._threads:
                return
            workers = [Worker(self.config) for _ in range(self.config.num_workers())]
            try:
                for worker in workers:
                    worker.start()
                self._check_layers(workers[0])
            except BaseException:
                for worker in workers:
                    worker.close()
                raise
            self._workers = workers
            for number, worker in enumerate(workers):
                thread = threading.Thread(target=self._serve, args=(worker,), name=f"grader-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()
            atexit.register(self.close)

    def _check_layers(self, worker: Worker) -> None:
        self._layers = effective_layers(worker)
        check_required(self.config, self._layers)

    def close(self) -> None:
        """Ends every process of the grader and reaps it. Jobs that have not started fail with `GraderError`."""
        with self._lock:
            if self._closed or self._pid != os.getpid():
                return
            self._closed = True
        atexit.unregister(self.close)
        for _ in self._threads:
            self._jobs.put(None)
        for worker in self._workers:
            worker.interrupt()
        for thread in self._threads:
            thread.join()
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job[2].set_exception(GraderError("the grader was closed"))

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """Grades a batch, all workers at once.

        Args:
            pairs: Problems and whole programs (initial state included).

        Returns:
            One grade per pair, in order.

        Raises:
            GraderError: The grader or the machine failed; never a reward of 0.
            ProblemError: A problem's tests cannot be graded.
        """
        futures = self._submit_all(pairs)
        wait(futures, return_when=FIRST_EXCEPTION)  # one waking at the end, not one per program
        outcomes = [future.result() for future in futures]
        return [self._grade(problem, outcome) for (problem, _), outcome in zip(pairs, outcomes, strict=True)]

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The same without blocking the event loop; several calls may be in flight."""
        await asyncio.to_thread(self.start)
        futures = self._submit_all(pairs)
        outcomes = await asyncio.gather(*(asyncio.shield(asyncio.wrap_future(future)) for future in futures))
        return [self._grade(problem, outcome) for (problem, _), outcome in zip(pairs, outcomes, strict=True)]

    def _grade(self, problem: Problem, outcome: Outcome) -> Grade:
        passed = sum(verdict.verdict == "pass" for verdict in outcome.verdicts)
        complete = passed == len(problem.tests.cases)
        reward = float(complete) if problem.tests.all_or_nothing else passed / len(problem.tests.cases)
        layers = self._layers if outcome.layers is None else outcome.layers
        return Grade(
            problem.id,
            reward,
            complete,
            outcome.verdicts,
            outcome.cpu_s,
            layers,
            assurance=outcome.assurance,
            tampering=outcome.tampering,
        )

    def _judge(self, problem: Problem) -> Judge:
        with self._lock:
            entry = self._judges.get(id(problem))
            if entry is not None and entry[0] is problem:
                self._judges.move_to_end(id(problem))
                return entry[1]
            judge = judge_for(problem, self.config)
            self._judges[id(problem)] = (problem, judge)
            if len(self._judges) > _MAX_JUDGES:
                self._judges.popitem(last=False)
            return judge

    def _submit_all(self, pairs: Sequence[tuple[Problem, str]]) -> list[Future[Outcome]]:
        """Queues a batch, pairs of one place together: a worker keeps few places warm, and each takes long to start."""
        places: dict[Place | None, list[int]] = {None: []}
        for number, (problem, _) in enumerate(pairs):
            judge = self._judge(problem)
            places.setdefault(judge.place if isinstance(judge, Placed) else None, []).append(number)
        futures = {number: self._submit(*pairs[number]) for numbers in places.values() for number in numbers}
        return [futures[number] for number in range(len(pairs))]

    def _submit(self, problem: Problem, program: str) -> Future[Outcome]:
        self.start()
        with self._lock:
            judge = self._judge(problem)
            text = program.encode("utf-8", "surrogatepass")
            key = judge.digest + hashlib.blake2b(text, digest_size=16).digest()
            if self.config.cache and key in self._cache:
                known = self._cache[key]
                if not (known.done() and (known.cancelled() or known.exception() is not None)):
                    self._cache.move_to_end(key)
                    return known
            future: Future[Outcome] = Future()
            if self.config.cache:
                self._cache[key] = future
                if len(self._cache) > _MAX_CACHED:
                    self._cache.popitem(last=False)
            self._jobs.put((judge, program, future))
            return future

    def _serve(self, worker: Worker) -> None:
        try:
            while not self._closed and (job := self._jobs.get()) is not None:
                judge, program, future = job
                try:
                    future.set_result(self._attempt(worker, judge, program))
                except GraderError as error:
                    future.set_exception(error)
                except BaseException as error:
                    log.exception("the grader failed")
                    worker.close()  # whatever state it is in; the next job starts a new zygote
                    future.set_exception(GraderError(f"the grader failed: {type(error).__name__}: {error}"))
        finally:
            worker.close()

    def _attempt(self, worker: Worker, judge: Judge, program: str) -> Outcome:
        attempts = self.config.retries + 1
        for attempt in range(1, attempts + 1):
            try:
                return judge.grade(worker, program, final=attempt == attempts)
            except (Fault, GraderError) as fault:  # the run failed, or the zygote that was to replace a dead one
                reason = str(fault)
                if self._closed:
                    raise GraderError("the grader was closed while it was grading") from None
                log.warning("attempt %d of %d to grade a program failed: %s", attempt, attempts, reason)
        raise GraderError(f"a program could not be graded in {attempts} attempts: {reason}; see `restrl doctor`")
