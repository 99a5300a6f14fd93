"""The value model trained by adapters: only they and the head move, and what is saved is a plain model."""

import dataclasses

import pytest
from safetensors.torch import load_file
from tiny_models import make_problem

from restrl.errors import ConfigError
from restrl.value.config import ValueConfig
from restrl.value.model import TrainedValueModel
from restrl.value.targets import Trajectory
from restrl.value.train import train_value_model

PROBLEMS = {f"p/{i}": make_problem(f"p/{i}", initial_state=f"def f{i}(xs):\n") for i in range(6)}
PROGRAMS = {"    return sorted(xs)\n": 0.9, "    return xs[::-1]\n": 0.1}
TRAJECTORIES = [
    Trajectory(name, code, True, ((len(code), value, 1.0), (len(code) + 1, value, 1.0)))
    for name in PROBLEMS
    for code, value in PROGRAMS.items()
]
CONFIG = ValueConfig(
    epochs=8, learning_rate=1e-2, batch_tokens=300, validation_share=0.25, device="cpu", lora_rank=4, head_init="zero"
)


def test_adapters_learn_and_are_merged(tiny_plain_model_dir, tmp_path) -> None:
    report = train_value_model(tiny_plain_model_dir, TRAJECTORIES, PROBLEMS, CONFIG, tmp_path / "a", 7)
    assert report.ranking_accuracy == 1.0
    before = load_file(tiny_plain_model_dir / "model.safetensors")
    after = load_file(tmp_path / "a/model/model.safetensors")
    assert set(after) == (set(before) - {"lm_head.weight"}) | {"score.weight"}
    moved = {name for name in after if name in before and not after[name].equal(before[name])}
    assert moved == {name for name in before if "_proj" in name}
    # What was saved gives the values that were measured.
    model = TrainedValueModel(tmp_path / "a/model", device="cpu")
    from restrl.types import State

    good, bad = model.score_states([State(PROBLEMS["p/0"], code, True) for code in PROGRAMS])
    assert good > bad + 0.2
    again = dataclasses.replace(CONFIG, gradient_checkpointing=True)
    train_value_model(tiny_plain_model_dir, TRAJECTORIES, PROBLEMS, again, tmp_path / "b", 7)
    same = load_file(tmp_path / "b/model/model.safetensors")
    assert max(float((same[name] - after[name]).abs().max()) for name in after) < 1e-4


def test_a_frozen_policy_takes_no_adapters() -> None:
    with pytest.raises(ConfigError, match="lora_rank is 4, but architecture 'surprise'"):
        ValueConfig(architecture="surprise", lora_rank=4)
