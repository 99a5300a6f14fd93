"""The memory estimate against known models, and against what PyTorch counts on a small one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer

from restrl.config import load_recipe
from restrl.errors import ConfigError, ModelError
from restrl.grpo.config import GRPOConfig
from restrl.grpo.hardware import HardwareConfig
from restrl.grpo.memory import GIB, Estimate, training_estimate, value_estimate
from restrl.grpo.offline_config import OfflineConfig
from restrl.pipeline.dry_run import summary
from restrl.policy.model_shape import ModelShape, read_shape
from restrl.value.config import ValueConfig

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import SMALL, build_bench, make_states, padded

# From the models' public configurations; the counts are those that their files hold.
QWEN_1B = {
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}
QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}


def config_only(folder: Path, figures: dict[str, Any]) -> Path:
    """A model directory with a configuration and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {"model_type": "qwen2", "num_hidden_layers": 28, "max_position_embeddings": 32768}
    (folder / "config.json").write_text(json.dumps({**common, **figures}))
    return folder


def part(estimate: Estimate, name: str) -> float:
    everything = [*estimate.held, *(item for _, parts in estimate.phases for item in parts)]
    return sum(item.bytes for item in everything if item.name == name)


@pytest.mark.parametrize(("figures", "count"), [(QWEN_1B, 1_543_714_304), (QWEN_7B, 7_615_616_512)])
def test_parameters_of_known_models_are_exact(tmp_path: Path, figures: dict[str, Any], count: int) -> None:
    shape = read_shape(config_only(tmp_path, figures))
    assert shape.parameters == count
    h, i, kv = figures["hidden_size"], figures["intermediate_size"], shape.kv_width
    # Queries and output, keys and values with biases, the feed-forward part, two norms.
    assert shape.largest_layer == h * h + h + 2 * (h * kv + kv) + h * h + 3 * h * i + 2 * h
    assert shape.linear_width == 28 * (4 * h + 2 * (h + kv) + 3 * (h + i))
    assert (shape.tied, shape.vocab, shape.context) == (figures["tie_word_embeddings"], figures["vocab_size"], 32768)


def test_a_full_fine_tuning_takes_sixteen_bytes_a_weight(tmp_path: Path) -> None:
    shape = read_shape(config_only(tmp_path, QWEN_7B))
    alone = training_estimate(shape, GRPOConfig(), HardwareConfig(), 1, 80 * GIB)
    assert sum(part(alone, name) for name in ("weights", "gradients", "optimizer")) == 16 * shape.parameters
    assert "do not fit a GPU of 80.0 GiB" in alone.lines(80 * GIB)[-1]
    for setting in ("grpo.gradient_checkpointing", "grpo.micro_batch", "grpo.lora_rank", "hardware.sharding"):
        assert setting in alone.lines(80 * GIB)[-1]
    spread = training_estimate(shape, GRPOConfig(), HardwareConfig(sharding="fsdp"), 8, 80 * GIB)
    assert part(spread, "optimizer") == shape.parameters  # 8 bytes / 8 GPUs
    assert part(training_estimate(shape, GRPOConfig(beta=0.1), HardwareConfig(), 1, 0), "reference policy") > 0


class Kept:
    """Bytes that autograd keeps for the backward pass, every storage once, weights left out."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        self._kept: dict[int, torch.Tensor] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in self._weights:
            self._kept[pointer] = tensor
        return tensor

    @property
    def bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._kept.values())


@pytest.mark.parametrize(("autocast", "chat"), [(False, False), (True, False), (False, True)])
def test_a_small_step_takes_what_was_estimated(tmp_path: Path, autocast: bool, chat: bool) -> None:
    """Weights, gradients and optimizer as PyTorch holds them; activations as autograd keeps them."""
    tokenizer = make_tokenizer(bos=not chat, chat=chat)
    model_dir = tmp_path / "model"
    make_model(tokenizer, hidden_size=128, num_layers=3, chat=chat).save_pretrained(model_dir)
    tokenizer.save_pretrained(model_dir)
    config = dataclasses.replace(SMALL, max_new_tokens=24, bf16=autocast)
    bench = build_bench(model_dir, tmp_path, config, make_states(2))
    trainer, model = bench.trainer, bench.trainer.model
    trainer.current_gradient_accumulation_steps = 1
    rows = config.completions_per_step
    inputs = padded([[5] * 40] * rows, [[6] * 24] * rows, 0)
    inputs |= {"advantages": torch.ones(rows), "num_items_in_batch": torch.tensor(24 * rows)}
    kept = Kept(model)
    model.train()
    trainer.create_optimizer()
    context = torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext()
    with context, torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        loss = trainer._compute_loss(model, inputs)
    loss.backward()
    trainer.optimizer.step()
    estimate = training_estimate(read_shape(model_dir), config, HardwareConfig(prompt_tokens=40), 1, 0)
    parameters = list(model.parameters())
    assert part(estimate, "weights") == sum(p.untyped_storage().nbytes() for p in parameters)
    assert part(estimate, "gradients") == sum(p.grad.untyped_storage().nbytes() for p in parameters)
    states = [t for state in trainer.optimizer.state.values() for t in state.values() if t.ndim]
    assert part(estimate, "optimizer") == sum(t.untyped_storage().nbytes() for t in states)
    # Autocast's copies of the weights are kept like activations.
    guess = part(estimate, "activations") + part(estimate, "bfloat16 copies")
    assert kept.bytes == pytest.approx(guess, rel=0.12)
    bench.rollout.close()


def test_recomputing_keeps_an_input_for_each_layer(tmp_path: Path) -> None:
    shape = read_shape(config_only(tmp_path, QWEN_1B))
    config = GRPOConfig(micro_batch=8, max_new_tokens=512, gradient_checkpointing=True)
    tokens = 8 * (1024 + 512)
    layer = tokens * (40 * 1536 + 16 * 8960)
    lower = training_estimate(shape, config, HardwareConfig(), 1, 0)
    assert part(lower, "activations") == tokens * 1536 * 4 * 28 + layer
    whole = dataclasses.replace(config, gradient_checkpointing=False)
    assert part(training_estimate(shape, whole, HardwareConfig(), 1, 0), "activations") == 28 * layer


def test_the_key_value_cache_is_that_of_the_largest_batch(tmp_path: Path) -> None:
    shape = read_shape(config_only(tmp_path, QWEN_7B))
    config = GRPOConfig(prompts_per_step=16, num_generations=8, rollout_chunks=2, max_new_tokens=1024, dtype="bfloat16")
    estimate = training_estimate(shape, config, HardwareConfig(), 1, 0)
    # 128 completions in 2 parts; 131072 tokens hold 64 of 2048; 28 layers of 4 heads of 128, keys and values, 2 bytes.
    assert part(estimate, "keys and values") == 64 * 2048 * 28 * 2 * 4 * 128 * 2
    vllm = dataclasses.replace(config, generation="vllm", vllm_memory=0.3)
    assert part(training_estimate(shape, vllm, HardwareConfig(), 1, 80 * GIB), "vLLM") == pytest.approx(24 * GIB)


def test_adapters_take_their_rank_times_the_width_of_every_layer(tmp_path: Path, tiny_plain_model_dir: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shape = read_shape(tiny_plain_model_dir)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_plain_model_dir), LoraConfig(r=4, target_modules="all-linear")
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 4 * shape.linear_width
    estimate = training_estimate(shape, GRPOConfig(lora_rank=4), HardwareConfig(), 1, 0)
    assert part(estimate, "adapters") == part(estimate, "gradients") == 4 * trained


def test_other_stages_have_an_estimate(tmp_path: Path) -> None:
    shape: ModelShape = read_shape(config_only(tmp_path, QWEN_1B))
    pairs = training_estimate(shape, OfflineConfig(method="rest-dpo", micro_batch=1), HardwareConfig(), 1, 0)
    assert part(pairs, "logits") == 2 * 2048 * 151936 * 4 * 2 and part(pairs, "reference policy") > 0
    full, lora = (value_estimate(shape, ValueConfig(lora_rank=rank), HardwareConfig()) for rank in (0, 32))
    assert full.peak > 24 * GIB > lora.peak - part(lora, "activations")
    assert "value.lora_rank = 32" in full.lines(24 * GIB)[-1]
    frozen = value_estimate(shape, ValueConfig(architecture="surprise"), HardwareConfig())
    assert part(frozen, "gradients") == 0


def test_a_directory_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(ModelError, match="cannot load the model"):
        read_shape(tmp_path)
    # Training is not held up by it.
    text, warning = summary(load_recipe("starter"), tmp_path)
    assert text.startswith("memory of training: not estimated") and not warning


def test_training_says_its_memory_in_one_line(tmp_path: Path) -> None:
    model = config_only(tmp_path, QWEN_7B)
    text, warning = summary(load_recipe("7b-8x80gb"), model)
    assert re.fullmatch(r"memory of training, estimated: \d\d\.\d GiB on each GPU \(--dry-run: by part\)", text)
    assert not warning
    _, warning = summary(load_recipe("7b-8x80gb", ["hardware.gpu_memory=24"]), model)
    assert warning.startswith("WARNING") and "lower grpo.micro_batch (now 4)" in warning


def test_training_is_launched_as_the_recipe_says() -> None:
    HardwareConfig().check_launch(3, False)
    HardwareConfig(gpus=8, sharding="fsdp").check_launch(8, True)
    with pytest.raises(ConfigError, match=r"hardware\.gpus is 8.*accelerate launch --num_processes 8"):
        HardwareConfig(gpus=8).check_launch(1, False)
    with pytest.raises(ConfigError, match=r"hardware\.sharding is 'fsdp', but accelerate was launched without FSDP"):
        HardwareConfig(gpus=8, sharding="fsdp").check_launch(8, False)
