"""What has ended is graded while the rest of a step is sampled, and the step waits for nothing but the last of it."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save_tiny_model

from restrl.errors import GraderError
from restrl.grpo.rollout import engine_policy
from restrl.policy.transformers_engine import OnDone, TransformersPolicy
from restrl.types import Completion, Grade, Problem, SampleRequest, SamplingParams

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import SMALL, Bench, CharGrader, RecordingPolicy, build_bench, make_states

PARTS = 4
GRADING_S = 0.2
PATIENCE_S = 30.0
"""Far above what a part takes: a step without overlap would wait so long, and then fail."""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("overlap_model"))


class SlowGrader(CharGrader):
    """Takes its time; counts the calls that have ended."""

    def __init__(self) -> None:
        super().__init__()
        self.graded = threading.Semaphore(0)
        self.threads: set[int] = set()

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        self.threads.add(threading.get_ident())
        time.sleep(GRADING_S)
        grades = super().grade(pairs)
        self.graded.release()
        return grades


def make_bench(model_dir: Path, tmp_path: Path, grader: Any, parts: int, meets: bool = False) -> Bench:
    """A step of four groups; with ``meets``, sampling a part ends only after the part before has been graded."""

    class Meeting(RecordingPolicy):
        calls = 0

        def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
            self.calls += 1
            if meets and self.calls > 1:
                assert grader.graded.acquire(timeout=PATIENCE_S), "nothing was graded while this part was sampled"
            return super().sample(requests, params)

    config = dataclasses.replace(SMALL, prompts_per_step=4, rollout_chunks=parts)
    return build_bench(model_dir, tmp_path, config, make_states(4), grader, Meeting)


def step(bench: Bench) -> dict[str, Any]:
    output = bench.rollout([str(row) for row in range(4) for _ in range(SMALL.num_generations)], bench.trainer)
    bench.rollout.close()
    return output


def test_every_part_but_the_last_is_graded_while_another_is_sampled(model_dir: Path, tmp_path: Path) -> None:
    grader = SlowGrader()
    bench = make_bench(model_dir, tmp_path, grader, PARTS, meets=True)
    step(bench)
    stats = bench.rollout.last
    assert stats is not None and threading.get_ident() not in grader.threads
    # All four parts kept the grader busy; the step waited for the last one alone.
    assert stats.grade_s >= PARTS * GRADING_S
    assert stats.generate_s >= (PARTS - 1) * GRADING_S
    assert stats.grade_wait_s <= stats.grade_s - (PARTS - 2) * GRADING_S


def test_parts_change_no_reward(model_dir: Path, tmp_path: Path) -> None:
    outputs = [
        step(make_bench(model_dir, tmp_path / str(parts), CharGrader(), parts)) for parts in (1, 2, PARTS, PARTS + 1)
    ]
    for output in outputs[1:]:
        assert output["completion_ids"] == outputs[0]["completion_ids"]
        assert output["shaped_reward"] == outputs[0]["shaped_reward"]


def test_completions_are_graded_while_others_of_the_same_part_are_sampled(model_dir: Path, tmp_path: Path) -> None:
    grader = SlowGrader()

    def make_policy(*args: Any) -> Any:
        policy = engine_policy(*args)
        assert isinstance(policy, TransformersPolicy)
        inner = policy.sample

        def sample(requests: Any, params: SamplingParams, on_done: OnDone | None = None) -> Any:
            seen: list[int] = []

            def meet(done: Any) -> None:
                # Sampling goes on only after what ended before has been graded.
                assert not seen or grader.graded.acquire(timeout=PATIENCE_S), "nothing was graded meanwhile"
                seen.append(len(done))
                assert on_done is not None
                on_done(done)

            answers = inner(requests, params, meet)
            assert len(seen) > 1
            return answers

        policy.sample = sample  # type: ignore[method-assign]
        return policy

    config = dataclasses.replace(SMALL, prompts_per_step=4, rollout_chunks=1, max_new_tokens=60)
    streamed = step(build_bench(model_dir, tmp_path / "a", config, make_states(4), grader, make_policy))
    whole = step(build_bench(model_dir, tmp_path / "b", config, make_states(4), CharGrader(), RecordingPolicy))
    assert streamed["completion_ids"] == whole["completion_ids"]
    assert streamed["shaped_reward"] == whole["shaped_reward"]


def test_a_grader_that_fails_on_the_way_is_heard(model_dir: Path, tmp_path: Path) -> None:
    class Failing(CharGrader):
        calls = 0

        def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
            self.calls += 1
            raise GraderError("no sandbox")

    config = dataclasses.replace(SMALL, prompts_per_step=4, rollout_chunks=1)
    grader = Failing()
    bench = build_bench(model_dir, tmp_path, config, make_states(4), grader, engine_policy)
    with pytest.raises(GraderError, match="no sandbox"):
        step(bench)
    bench.rollout.close()
    assert grader.calls == 1
