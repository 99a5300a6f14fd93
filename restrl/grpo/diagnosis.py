"""Training that has diverged: where the first number is that is not finite."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch


def first_not_finite(tensors: Iterable[tuple[str, torch.Tensor | None]]) -> str | None:
    """Returns the name of the first tensor that holds NaN or an infinity."""
    for name, tensor in tensors:
        if tensor is None:
            continue
        # Of a sharded tensor this process has a part.
        own: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        if own.is_floating_point() and not bool(torch.isfinite(own).all()):
            return name
    return None


def bad_weight(model: torch.nn.Module) -> str | None:
    """Returns the first weight that is not finite."""
    return first_not_finite((name, parameter.detach()) for name, parameter in model.named_parameters())


def bad_gradient(model: torch.nn.Module) -> str | None:
    """Returns the first weight whose gradient is not finite."""
    return first_not_finite((name, parameter.grad) for name, parameter in model.named_parameters())


def gradients_are_finite(model: torch.nn.Module) -> bool:
    """Returns whether all gradients are finite: their norms in one pass, one wait for the device."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not gradients:
        return True
    norms = torch._foreach_norm(gradients)
    return bool(torch.isfinite(torch.stack([norm.float().to(norms[0].device) for norm in norms])).all())


def find_cause(
    model: torch.nn.Module, batch: Mapping[str, Any] | None, *, forward: bool, gradients: bool = True
) -> str:
    """Says where the first number is that is not finite: batch, weights, activations, gradients, or only the loss.

    Args:
        model: As it was when the loss or the gradient was not finite.
        batch: What the forward was given.
        forward: Whether the forward may be run again, to find the first part of the model that gives such a number.
        gradients: Whether the gradients come into question; those of a loss that is not finite are none either.
    """
    if batch is not None and (name := first_not_finite(_tensors(batch))) is not None:
        return f"the batch's {name} hold a number that is not finite"
    if (name := bad_weight(model)) is not None:
        return f"the weights are not finite, first {name}"
    if forward and batch is not None and (name := _bad_activation(model, batch)) is not None:
        return f"weights and batch are finite, but the outputs of {name} are not (logits overflow)"
    if gradients and (name := bad_gradient(model)) is not None:
        return f"weights, batch and logits are finite, but the gradient of {name} is not"
    return "weights, batch and logits are finite: the loss itself overflows"


def _tensors(batch: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, value) for name, value in batch.items() if isinstance(value, torch.Tensor))


def _bad_activation(model: torch.nn.Module, batch: Mapping[str, Any]) -> str | None:
    """Runs the forward again and returns the first module whose output is not finite."""
    ids, mask = _sequence(batch)
    if ids is None:
        return None
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            tensors = [output] if isinstance(output, torch.Tensor) else _values(output)
            if not found and first_not_finite((name, item) for item in tensors) is not None:
                found.append(name or "the model")

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad(), contextlib.suppress(RuntimeError, ValueError):
            model(input_ids=ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _values(output: Any) -> list[torch.Tensor]:
    items = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return [item for item in items if isinstance(item, torch.Tensor)]


def _sequence(batch: Mapping[str, Any]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """The token ids and the mask of a batch: GRPO keeps prompts and completions apart."""
    if "completion_ids" in batch and "prompt_ids" in batch:
        parts = [torch.cat([batch[f"prompt_{kind}"], batch[f"completion_{kind}"]], dim=1) for kind in ("ids", "mask")]
        return parts[0], parts[1]
    return batch.get("input_ids"), batch.get("attention_mask")
