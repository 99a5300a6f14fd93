"""Off-the-shelf process reward models in the layout of TRL's `PRMTrainer`: token classifiers with two labels.

The text is the problem and the lines of the program, as the policy sees it; the reward of a line is the probability of
label 1 at the token that ends the line. Models that need code of their own, or that answer with words, are in other
layouts and are not read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification

from restrl.errors import ModelError
from restrl.policy.model_dir import check_model_dir, choose_device, load_tokenizer, load_weights
from restrl.types import State
from restrl.value.model import META_KEY, TrainedValueModel


class StepRewardModel(TrainedValueModel):
    """A process reward model from a token classifier; see the module.

    A finished program has the value of its last line: these models know no end of a program.

    Args:
        model_dir: A directory in the standard layout.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (float32 on the CPU, bfloat16 on CUDA), ``float32``, ``bfloat16`` or ``float16``.
        prompt_style: ``plain``, as TRL trains them; ``chat``, or ``auto``: chat if there is a chat template.
        max_batch_tokens: Tokens of one forward, padding included.

    Raises:
        ModelError: The directory holds no causal token classifier with two labels.
        ConfigError: A setting is not allowed.
    """

    def __init__(
        self,
        model_dir: Path,
        device: str = "auto",
        dtype: str = "auto",
        prompt_style: str = "plain",
        max_batch_tokens: int = 16_384,
    ) -> None:
        path = check_model_dir(Path(model_dir))
        tokenizer = load_tokenizer(path)
        chosen = choose_device(device)
        model, missing = load_weights(AutoModelForTokenClassification, path, chosen, dtype)
        if missing or model.config.num_labels != 2 or not hasattr(model, "score"):
            raise ModelError(
                f"model directory {str(path)!r} is no process reward model: a causal token classifier with two labels "
                f"is needed, and this is {type(model).__name__} with {model.config.num_labels}"
            )
        _keep_one_output(model)
        self._set_up(model, tokenizer, prompt_style, max_batch_tokens, False, "none")

    # A finished program counts as its last line here: the values of lines are `score_boundaries`.
    score_paths = None  # type: ignore[assignment]

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns the probability that the last line of each state is right, in order."""
        return super().score_states([replace(state, terminal=False) for state in states])

    def score_boundaries(self, states: Sequence[State]) -> list[list[float]]:
        """Returns the probability of every line of each state; a terminal state repeats the last."""
        lines = super().score_boundaries([replace(state, terminal=False) for state in states])
        return [
            [*values, *values[-1:]] if state.terminal else values for state, values in zip(states, lines, strict=True)
        ]


def _keep_one_output(model: Any) -> None:
    """Turns two outputs into one: ``softmax(a, b)_1 = sigmoid(b - a)``."""
    old = model.score
    head = torch.nn.Linear(
        old.in_features, 1, bias=old.bias is not None, dtype=old.weight.dtype, device=old.weight.device
    )
    with torch.no_grad():
        head.weight.copy_(old.weight[1:] - old.weight[:1])
        if old.bias is not None:
            head.bias.copy_(old.bias[1:] - old.bias[:1])
    model.score = head
    model.config.num_labels = 1
    setattr(model.config, META_KEY, {"kind": "prm", "output": "sigmoid"})
