"""What keeps a run safe: divergence, a failing grader, memory, a full disk, SIGTERM."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_problem, save_tiny_model

from restrl import stopping
from restrl.errors import EngineError, GraderError
from restrl.grpo import patience
from restrl.grpo.checkpoints import latest_complete
from restrl.grpo.diagnosis import find_cause
from restrl.grpo.metrics import read_metrics
from restrl.grpo.offline import DemonstrationTrainer, train_offline
from restrl.grpo.offline_config import OfflineConfig
from restrl.grpo.offline_data import Example
from restrl.grpo.patience import PatientGrader
from restrl.grpo.rollout import engine_policy
from restrl.grpo.trainer import StateTrainer, train_policy
from restrl.policy.memory import memory_advice
from restrl.types import Grade, Grader, Problem

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import RESUME, CharGrader, make_states

SFT = OfflineConfig(method="sft", batch_size=2, max_steps=4, save_every=2, device="cpu")
NAN = float("nan")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("guards_model"), bos=True)


@pytest.fixture(scope="module")
def uninterrupted(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("guards_whole")
    train(model_dir, path)
    return path


def weights(path: Path) -> bytes:
    return (path / "model" / "model.safetensors").read_bytes()


class Models:
    """Makes the sampler and keeps the model that is being trained."""

    model: Any = None

    def __call__(self, model: Any, *args: Any) -> Any:
        Models.model = model
        return engine_policy(model, *args)


def train(
    model_dir: Path,
    output_dir: Path,
    grader: Grader | None = None,
    at: Callable[[int], None] | None = None,
    **other: Any,
) -> list[int]:
    """Trains five steps, with a checkpoint at every second one; ``at`` is called when a step is logged."""
    steps: list[int] = []

    def on_log(record: dict[str, float]) -> None:
        steps.append(int(record["step"]))
        if at is not None:
            at(steps[-1])

    config = dataclasses.replace(RESUME, **other)
    train_policy(
        model_dir, make_states(), grader or CharGrader(), config, output_dir, 3, "auto", on_log, policy_factory=Models()
    )
    return steps


def saved_weights(run: Path) -> list[torch.Tensor]:
    """Every weight of every checkpoint and model in a run."""
    files = [*run.glob("checkpoints/*/*.safetensors"), *run.glob("model*/*.safetensors")]
    return [tensor for file in files for tensor in load_file(file).values()]


def poison(name: str) -> None:
    with torch.no_grad():
        dict(Models.model.named_parameters())[name].view(-1)[5] = NAN


# Divergence.


@pytest.mark.parametrize("step", [3, 4, 5], ids=["between checkpoints", "before a checkpoint", "after the last step"])
def test_broken_weights_end_the_run_and_are_never_saved(model_dir: Path, tmp_path: Path, step: int) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(
        EngineError, match=f"diverged.* not finite.*first {name}; learning rate 0.001, weights float32"
    ) as error:
        train(model_dir, tmp_path, at=lambda done: poison(name) if done == step else None)
    kept = tmp_path / "checkpoints" / f"checkpoint-{4 if step == 5 else 2}"
    assert f"the last good checkpoint is {kept}" in str(error.value)
    assert f"at step {step + 1 if step == 3 else step}" in str(error.value)
    assert f"step {step} had loss" in str(error.value) and "\n" not in str(error.value)
    assert latest_complete(tmp_path / "checkpoints") == kept and not (tmp_path / "model").exists()
    tensors = saved_weights(tmp_path)
    assert tensors and all(torch.isfinite(tensor).all() for tensor in tensors)


def test_a_broken_gradient_is_named(model_dir: Path, tmp_path: Path) -> None:
    name = "model.layers.1.self_attn.v_proj.weight"

    def at(step: int) -> None:
        if step == 2:
            dict(Models.model.named_parameters())[name].register_hook(lambda gradient: gradient * NAN)

    with pytest.raises(
        EngineError, match=f"gradient is not finite at step 3; .*the gradient of {name} is not;"
    ) as error:
        train(model_dir, tmp_path, at=at)
    assert "checkpoint-2" in str(error.value) and "grpo.learning_rate" in str(error.value)


def test_a_broken_loss_of_stored_samples_names_its_settings(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = DemonstrationTrainer.compute_loss

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) * (NAN if self.state.global_step == 2 else 1.0)

    monkeypatch.setattr(DemonstrationTrainer, "compute_loss", broken)
    with pytest.raises(
        EngineError, match=r"loss is nan at step 3; .*the loss itself .*offline\.learning_rate"
    ) as error:
        train_offline(model_dir, demonstrations(), SFT, tmp_path, 0)
    assert "checkpoint-2" in str(error.value)


def demonstrations() -> list[Example]:
    return [Example(make_problem(f"p/{index}"), ("    return xs\n",)) for index in range(3)]


class Toy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(4, 2)
        self.head = torch.nn.Linear(2, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.embed(input_ids))


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("batch", "the batch's advantages hold"),
        ("weight", "the weights are not finite, first embed.weight"),
        ("activation", "the outputs of head are not"),
        ("gradient", "the gradient of head.bias is not"),
        ("nothing", "the loss itself"),
    ],
)
def test_the_first_broken_number_is_found(breaks: str, said: str) -> None:
    model, batch = Toy(), {"input_ids": torch.tensor([[1, 2]]), "advantages": torch.tensor([1.0])}
    with torch.no_grad():
        if breaks == "batch":
            batch["advantages"][0] = float("inf")
        elif breaks == "weight":
            model.embed.weight[3, 1] = NAN
        elif breaks == "activation":
            model.embed.weight.fill_(1e30)
            model.head.weight.fill_(1e30)
        elif breaks == "gradient":
            model.head.bias.grad = torch.tensor([0.0, NAN, 0.0, 0.0])
    assert said in find_cause(model, batch, forward=True)


# A grader that is out of order.


class Outage(CharGrader):
    """Fails so many times before it grades the first program of a step: {step of `RESUME`, from 1: times}."""

    def __init__(self, fails: Mapping[int, int]) -> None:
        super().__init__()
        self.fails, self.graded = dict(fails), 0

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        before, at = divmod(self.graded, RESUME.prompts_per_step * RESUME.num_generations)
        if at == 0 and self.fails.get(before + 1, 0):
            self.fails[before + 1] -= 1
            raise GraderError("the sandbox is gone")
        self.graded += len(pairs)
        return super().grade(pairs)


def test_training_waits_for_a_grader_and_ends_in_the_same_bytes(
    model_dir: Path,
    tmp_path: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    grader = Outage({3: 3, 4: 1})
    with caplog.at_level(logging.WARNING):
        train(model_dir, tmp_path, grader, grader_patience_s=60.0)
    assert grader.graded == 5 * 8 and not any(grader.fails.values())
    assert weights(tmp_path) == weights(uninterrupted)
    logs = [read_metrics(path / "metrics.jsonl") for path in (tmp_path, uninterrupted)]
    assert [r["reward"] for r in logs[0]] == [r["reward"] for r in logs[1]]
    assert [r["outage_s"] > 0 for r in logs[0]] == [False, False, True, True, False]
    said = [record.message for record in caplog.records]
    assert sum("waits and asks again in" in line for line in said) == 4
    assert sum("the grader is back after" in line for line in said) == 2


def test_an_outage_that_lasts_saves_the_state_and_the_run_goes_on(
    model_dir: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT_S", 0.01)
    with pytest.raises(GraderError, match=r"has failed for .* s \(grpo.grader_patience_s\).*continues after step 3$"):
        train(model_dir, tmp_path, Outage({4: 99}), grader_patience_s=0.03)
    assert latest_complete(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-3"
    assert train(model_dir, tmp_path) == [4, 5]
    assert weights(tmp_path) == weights(uninterrupted)


def test_waits_grow_and_end_with_the_patience() -> None:
    waits: list[float] = []
    clock = iter(range(0, 10_000, 10))

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    grader = PatientGrader(Outage({1: 99}), 100.0, wait)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patience.time, "monotonic", lambda: float(next(clock)))
        with pytest.raises(GraderError, match="has failed for 100 s"):
            grader.grade([(make_problem(), "")])
    # The clock runs ten seconds per attempt; no wait is longer than what is left.
    assert waits == [1, 2, 4, 8, 16, 32, 40, 30, 20, 10]


# Memory.


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_names_the_settings(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(StateTrainer, "_compute_loss", fail)
    with pytest.raises(EngineError) as update:
        train(model_dir, tmp_path / "update")
    assert str(update.value).startswith(
        "out of memory while training: lower grpo.micro_batch (now 4), set grpo.gradient_checkpointing = true (now "
        "false), lower policy.max_new_tokens (now 12) ("
    )
    monkeypatch.setattr("restrl.policy.transformers_engine.decode", fail)
    with pytest.raises(EngineError) as sampling:
        train(model_dir, tmp_path / "sampling", max_batch_tokens=4096)
    assert str(sampling.value).startswith(
        "out of memory while sampling: lower grpo.max_batch_tokens (now 4096), lower policy.max_new_tokens (now 12)"
    )


def test_what_the_allocator_says_is_known() -> None:
    with (
        pytest.raises(EngineError, match=r"out of memory while testing: lower x \(now 1\)"),
        memory_advice("testing", {"x": 1}),
    ):
        torch.empty(1 << 52, dtype=torch.uint8)


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_advice("training", {}):
        raise RuntimeError("shapes cannot be multiplied")


# A full disk.


def test_a_full_disk_leaves_the_old_checkpoint(
    model_dir: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = torch.save

    def full(data: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        if "checkpoint-4" in str(file):
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        original(data, file, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(EngineError, match=r"checkpoint-4 could not be written .*No space left") as error:
        train(model_dir, tmp_path)
    good = tmp_path / "checkpoints" / "checkpoint-2"
    assert f"{good} is intact" in str(error.value) and "\n" not in str(error.value)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-2"]
    monkeypatch.setattr(torch, "save", original)
    assert train(model_dir, tmp_path) == [3, 4, 5]
    assert weights(tmp_path) == weights(uninterrupted)


# SIGTERM.


@pytest.fixture
def listening() -> Iterator[None]:
    with stopping.handled():
        yield


def terminate_at(step: int) -> Callable[[int], None]:
    return lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == step else None


@pytest.mark.parametrize("step", [2, 5], ids=["half-way", "in the last step"])
def test_sigterm_saves_after_the_step_and_the_run_goes_on(
    model_dir: Path, tmp_path: Path, uninterrupted: Path, step: int, listening: None
) -> None:
    with pytest.raises(stopping.Terminated):
        # The signal comes while step `step` is logged; the next one is finished and saved.
        train(model_dir, tmp_path, at=terminate_at(step))
    done = min(step + 1, 5)
    if step < 5:
        assert latest_complete(tmp_path / "checkpoints") == tmp_path / "checkpoints" / f"checkpoint-{done}"
        assert not (tmp_path / "model").exists()
    stopping._requested.clear()
    assert train(model_dir, tmp_path) == list(range(done + 1, 6))
    assert weights(tmp_path) == weights(uninterrupted)


def test_sigterm_while_the_grader_is_out_of_order_does_not_wait(
    model_dir: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, listening: None
) -> None:
    def wait(seconds: float) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        return stopping._requested.wait(30)

    class Told(PatientGrader):
        def __init__(self, grader: Grader, patience_s: float) -> None:
            super().__init__(grader, patience_s, wait)

    monkeypatch.setattr("restrl.grpo.trainer.PatientGrader", Told)
    with pytest.raises(stopping.Terminated):
        train(model_dir, tmp_path, Outage({4: 99}), grader_patience_s=3600.0)
    assert latest_complete(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-3"
    stopping._requested.clear()
    monkeypatch.undo()
    assert train(model_dir, tmp_path) == [4, 5]
    assert weights(tmp_path) == weights(uninterrupted)


@pytest.mark.parametrize(("apart_s", "kept"), [(0.0, 4), (stopping.TOGETHER_S + 0.1, 2)], ids=["together", "later"])
def test_a_second_signal_that_comes_later_does_not_wait_for_the_step(
    model_dir: Path, tmp_path: Path, listening: None, apart_s: float, kept: int
) -> None:
    def at(step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(apart_s)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(stopping.Terminated):
        train(model_dir, tmp_path, at=at)
    assert latest_complete(tmp_path / "checkpoints") == tmp_path / "checkpoints" / f"checkpoint-{kept}"


def test_outside_of_training_the_signal_stops_at_once(listening: None) -> None:
    with pytest.raises(stopping.Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("it went on")
    assert isinstance(stopping.Terminated(), KeyboardInterrupt) and stopping.EXIT_CODE == 143


def test_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stopping.handled():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before and not stopping.requested()
