"""The size of a model, from its ``config.json`` alone: it is built without memory for its weights, in moments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from restrl.policy.model_dir import check_model_dir, load_error, quiet


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the memory of a causal language model depends on.

    Attributes:
        parameters: Of the whole model; tied weights count once.
        head: Of the output layer (tied or not): vocabulary times width.
        tied: Whether the output layer shares the weights of the input embedding.
        largest_layer: Parameters of the largest transformer layer.
        linear_width: Sum of inputs plus outputs over all linear layers except the output layer: an adapter of rank r
            on every one has r times as many parameters.
        layers: Transformer layers.
        hidden: Width of the residual stream.
        intermediate: Width inside a layer's feed-forward part.
        kv_width: Width of the keys of a token in one layer; the values take the same.
        vocab: Tokens of the vocabulary.
        context: Tokens that the model's context holds; 0 where it does not say.
        head_norms: Whether queries and keys are normalised by themselves.
    """

    parameters: int
    head: int
    tied: bool
    largest_layer: int
    linear_width: int
    layers: int
    hidden: int
    intermediate: int
    kv_width: int
    vocab: int
    context: int
    head_norms: bool


def read_shape(model_dir: Path) -> ModelShape:
    """Reads the shape of the model in a directory; neither weights nor tokenizer need be there.

    Raises:
        ModelError: There is no ``config.json``, or no causal language model can be made from it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    check_model_dir(model_dir, weights=False, tokenizer=False)
    try:
        with quiet(), torch.device("meta"):
            config: Any = AutoConfig.from_pretrained(str(model_dir), local_files_only=True)
            model: Any = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        # Whatever the library raises: the user needs the path and one line.
        raise load_error(model_dir, error) from error
    text = config.get_text_config(decoder=True)
    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    head_dim = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        head=head.weight.numel(),
        tied=bool(getattr(text, "tie_word_embeddings", False)),
        largest_layer=_largest_layer(model),
        linear_width=sum(module.in_features + module.out_features for module in linear),
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        kv_width=int(getattr(text, "num_key_value_heads", None) or heads) * head_dim,
        vocab=head.weight.shape[0],
        context=int(getattr(text, "max_position_embeddings", None) or 0),
        head_norms="q_norm" in names,
    )


def gpu_memory() -> float:
    """Returns the bytes of the GPU at hand, 0 where there is none."""
    return float(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else 0.0


def _largest_layer(model: Any) -> int:
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max((sum(p.numel() for p in layer.parameters()) for items in lists for layer in items), default=0)
