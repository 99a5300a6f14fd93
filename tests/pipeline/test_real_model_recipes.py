"""The recipes for real models: parsed, and run dry on a directory that holds nothing but a configuration."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from restrl.cli import main
from restrl.config import RECIPES_DIR, load_recipe
from restrl.grpo.memory import GIB
from restrl.pipeline.dry_run import estimates, gpu_bytes, processes
from restrl.policy.model_shape import read_shape

RECIPES = {
    "lora-1.5b-24gb": (1536, 8960, 12, 2, 151936, True),
    "7b-80gb": (3584, 18944, 28, 4, 152064, False),
    "7b-8x80gb": (3584, 18944, 28, 4, 152064, False),
}


@pytest.fixture
def model_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with the public figures of the Qwen2.5-Coder model of the recipe's size."""
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")
    figures = dict(zip((*names, "tie_word_embeddings"), RECIPES[request.getfixturevalue("name")], strict=True))
    common = {"model_type": "qwen2", "num_hidden_layers": 28, "max_position_embeddings": 32768}
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps({**common, **figures}))
    return tmp_path / "model"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_runs_dry_and_fits_its_hardware(
    name: str, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    flags = [f"policy.model={model_dir}"]
    for split, count in (("train", 8), ("validation", 4), ("test", 4)):
        flags += [f"problems.{split}=starter/{split}", f"problems.{split}_count={count}"]
    assert main(["run", name, "--dry-run", *(word for flag in flags for word in ("--set", flag))]) == 0
    said = capsys.readouterr().out
    assert list(empty.iterdir()) == []
    recipe = load_recipe(name, flags)
    assert said.startswith(recipe.to_toml()) and tomllib.loads(said)
    assert "no weights" in said and "train-policy, GiB on each GPU" in said and "WARNING" not in said
    samples = recipe.to_dict()["sample"]["num_samples"]
    assert f"8 problems x {samples} = {8 * samples} completions" in said
    for estimate in estimates(recipe, read_shape(model_dir)):
        assert 0 < estimate.peak < gpu_bytes(recipe)
    assert gpu_bytes(recipe) == (24 if "24gb" in name else 80) * GIB


@pytest.mark.parametrize("name", ["lora-1.5b-24gb"])
def test_what_does_not_fit_is_said(name: str, model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["problems.train=starter/train", "problems.train_count=4", "problems.test=starter/test"]
    flags += ["problems.test_count=2", "problems.validation=starter/validation", "problems.validation_count=2"]
    flags += [
        f"policy.model={model_dir}",
        "grpo.lora_rank=0",
        "grpo.dtype=float32",
        "grpo.gradient_checkpointing=false",
    ]
    assert main(["run", name, "--dry-run", *(word for flag in flags for word in ("--set", flag))]) == 0
    warning = next(line for line in capsys.readouterr().out.split("\n") if "WARNING" in line)
    assert "do not fit a GPU of 24.0 GiB" in warning and "set grpo.gradient_checkpointing = true" in warning


def test_the_shipped_launch_file_is_what_its_recipe_wants() -> None:
    launch = load_config_from_file(str(RECIPES_DIR / "accelerate" / "fsdp-8gpu.yaml"))
    recipe = load_recipe("7b-8x80gb")
    assert launch.num_processes == processes(recipe) == 8
    assert str(launch.distributed_type).endswith("FSDP") and recipe.to_dict()["hardware"]["sharding"] == "fsdp"
    # Only a whole state dict makes a checkpoint that is a plain model directory.
    assert launch.fsdp_config["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    step = recipe.to_dict()["grpo"]
    assert step["generation"] == "vllm" and step["prompts_per_step"] % 8 == 0
