"""LoRA for the value model: adapters in its linear layers while it is trained, merged into them before it is saved."""

from __future__ import annotations

from typing import Any, cast

import torch
from transformers import PreTrainedModel

from restrl.value.config import ValueConfig


def add_adapters(model: PreTrainedModel, config: ValueConfig, seed: int) -> PreTrainedModel:
    """Puts adapters into all linear layers of the backbone and leaves them and the head to be trained.

    The model stays of its class; without ``config.lora_rank`` nothing happens. The seed is that of their first weights.
    """
    if not config.lora_rank:
        return model
    from peft import LoraConfig, inject_adapter_in_model

    backbone = getattr(model, model.base_model_prefix)
    names = [name for name, module in backbone.named_modules() if isinstance(module, torch.nn.Linear)]
    settings = LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules=names)
    with torch.random.fork_rng():
        torch.manual_seed(seed % (1 << 31))
        inject_adapter_in_model(settings, backbone)
    if config.gradient_checkpointing:
        # Recomputation needs an input that has a gradient; the embedding is not trained.
        model.enable_input_require_grads()
    return model


def merge_adapters(model: PreTrainedModel) -> PreTrainedModel:
    """Adds the adapters to the weights they belong to and removes them."""
    from peft.tuners.lora import LoraLayer

    places = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    for name, module in places:
        layer = cast(Any, module)
        layer.merge()
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, layer.get_base_layer())
    return model
