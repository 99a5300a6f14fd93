"""A GRPO run that is interrupted ends as one that is not; what its directory keeps and refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny_model
from transformers import AutoModelForCausalLM

from restrl.errors import ArtifactError
from restrl.grpo.metrics import read_metrics
from restrl.grpo.trainer import train_policy
from restrl.tracking.tensorboard import read_events

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import (
    RESUME,
    CharGrader,
    Stop,
    make_states,
    resume_run,
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adds a beginning-of-sequence token, so that a doubled one would show."""
    return save_tiny_model(tmp_path_factory.mktemp("grpo_model"), bos=True)


def weights(path: Path) -> bytes:
    return (path / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted")
    resume_run(model_dir, path)
    return path


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_resumed_is_uninterrupted(model_dir: Path, tmp_path: Path, uninterrupted: Path, stop_at: int) -> None:
    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == stop_at:
            raise Stop

    with pytest.raises(Stop):
        train_policy(model_dir, make_states(), CharGrader(), RESUME, tmp_path, 3, "auto", interrupt)
    if stop_at == 5:
        # Killed while saving: files of the newest checkpoint are missing or cut.
        broken = tmp_path / "checkpoints" / "checkpoint-4"
        (broken / "COMPLETE").unlink()
        (broken / "optimizer.pt").write_bytes(b"")
    records: list[dict[str, float]] = []
    train_policy(model_dir, make_states(), CharGrader(), RESUME, tmp_path, 3, "auto", records.append)
    assert records[0]["step"] == {1: 1, 3: 3, 5: 3}[stop_at]
    assert weights(tmp_path) == weights(uninterrupted)
    same = ("step", "reward", "loss", "entropy", "lr", "grad_norm")
    logs = [[[r[key] for key in same] for r in read_metrics(p / "metrics.jsonl")] for p in (tmp_path, uninterrupted)]
    assert logs[0] == logs[1] and len(logs[0]) == 5
    completions = [(path / "completions.jsonl").read_text() for path in (tmp_path, uninterrupted)]
    assert completions[0] == completions[1]
    (events,) = (tmp_path / "logs").glob("events.out.tfevents.*")
    assert [event.step for event in read_events(events) if event.step] == [1, 2, 3, 4, 5]


def test_sample_completions_say_what_was_rewarded(uninterrupted: Path) -> None:
    shown = read_metrics(uninterrupted / "completions.jsonl")
    assert [record["step"] for record in shown] == [step for step in range(1, 6) for _ in range(2)]
    states = {state.problem.id: state for state in make_states()}
    for best, worst in zip(shown[::2], shown[1::2], strict=True):
        assert best["problem_id"] == worst["problem_id"] and best["reward_shaped"] >= worst["reward_shaped"]
        assert best["advantage"] >= 0 >= worst["advantage"]
        for record in (best, worst):
            state = states[record["problem_id"]]
            assert record["prefix"] == state.code and record["finish_reason"] in ("stop", "length")
            program = state.program + record["completion"]
            # A finished program is closed by a newline, which earns nothing here.
            assert record["reward"] == CharGrader().grade([(state.problem, program)])[0].reward
    assert len({record["problem_id"] for record in shown}) > 1
    assert any(record["advantage"] > 0.1 for record in shown)


@pytest.mark.slow
def test_killed_process_resumes(model_dir: Path, tmp_path: Path, uninterrupted: Path) -> None:
    script = Path(__file__).with_name("grpo_helpers.py")
    command = [sys.executable, str(script), str(model_dir), str(tmp_path), "4"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -9
    assert not (tmp_path / "report.json").exists()
    command[-1] = "0"
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path) == weights(uninterrupted)


def test_accumulation_changes_nothing_but_rounding(model_dir: Path, tmp_path: Path, uninterrupted: Path) -> None:
    whole = dataclasses.replace(RESUME, micro_batch=0, rollout_chunks=1, max_steps=2)
    parts = dataclasses.replace(RESUME, micro_batch=2, rollout_chunks=2, max_steps=2)
    for name, config in (("whole", whole), ("parts", parts)):
        train_policy(model_dir, make_states(), CharGrader(), config, tmp_path / name, 3)
    first, second = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict() for name in ("whole", "parts")
    )
    start = AutoModelForCausalLM.from_pretrained(model_dir).state_dict()
    for name, tensor in first.items():
        # AdamW moves each weight by about the learning rate whatever the gradient's size.
        assert (second[name] - tensor).abs().mean() < 0.05 * (start[name] - tensor).abs().mean() + 1e-9
    rewards = [[r["reward"] for r in read_metrics(tmp_path / n / "metrics.jsonl")] for n in ("whole", "parts")]
    assert rewards[0] == rewards[1]


def test_changed_settings_on_an_old_directory_are_an_error(model_dir: Path, uninterrupted: Path) -> None:
    config = dataclasses.replace(RESUME, temperature=0.9)
    with pytest.raises(ArtifactError, match=r"temperature = 0\.7, not 0\.9"):
        train_policy(model_dir, make_states(), CharGrader(), config, uninterrupted, 3)
