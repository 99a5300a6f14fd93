"""Settings of value-model training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from restrl.errors import ConfigError
from restrl.settings import setting
from restrl.value.kinds import ValueKind


@dataclass(frozen=True, slots=True)
class ValueConfig:
    """How the value model is trained (ReST-RL, section 3.3)."""

    epochs: int = setting(2, "passes over the trajectories", low=1, paper=2)
    learning_rate: float = setting(1e-5, "peak learning rate; small models take 50 times as much", above=0.0)
    weight_decay: float = setting(0.01, "AdamW weight decay", low=0.0)
    warmup_share: float = setting(0.05, "share of the steps over which the learning rate rises", low=0.0, high=1.0)
    batch_tokens: int = setting(8192, "tokens of one forward, padding included", low=1)
    accumulation: int = setting(1, "forwards per optimizer step", low=1)
    max_grad_norm: float = setting(1.0, "gradient clipping", above=0.0)
    architecture: Literal["classifier", "surprise"] = setting(
        "classifier",
        "classifier: the policy's backbone with a linear head, fine-tuned; surprise: a small network that "
        "reads how likely the policy, left as it is, found each token (for small policies)",
        choices=("classifier", "surprise"),
        paper="classifier",
    )
    loss: str = setting(
        "auto",
        "mse: (V - v)^2; bce: cross-entropy with the target as a soft label, V = sigmoid of the output; "
        "auto: bce for a process reward model and for architecture surprise, else mse",
        choices=("auto", "mse", "bce"),
        paper="mse",
    )
    step_label: Literal["hard", "soft"] = setting(
        "hard",
        "a process reward model's label of a line: 1 if any collected completion through it is fully right, else 0; or "
        "the mean reward of the policy's completions from there",
        choices=("hard", "soft"),
    )
    head_init: str = setting(
        "ridge",
        "start of the scalar head: a ridge regression on the untrained features, or zero",
        choices=("ridge", "zero"),
    )
    weight_by_visits: bool = setting(True, "weight a target by the completions behind it; otherwise all count the same")
    calibration: str = setting(
        "auto",
        "map of the trained model's outputs, fitted on the validation problems, stored with the model and applied when "
        "it is loaded; auto: the best on problems held out from the fit, possibly none",
        choices=("auto", "none", "isotonic", "quantile"),
    )
    validation_share: float = setting(0.1, "share of the problems kept for validation", above=0.0, high=0.5)
    device: str = setting("auto", "auto, cpu or cuda")
    gradient_checkpointing: bool = setting(False, "recompute activations in the backward pass: less memory, slower")
    lora_rank: int = setting(
        0, "classifier: rank of LoRA adapters on the backbone's linear layers; 0 = train all weights", low=0
    )

    def __post_init__(self) -> None:
        if self.lora_rank and self.architecture == "surprise":
            raise ConfigError(
                f"lora_rank is {self.lora_rank}, but architecture 'surprise' leaves the policy as it is; set lora_rank "
                "to 0, or architecture to 'classifier'"
            )

    def for_kind(self, kind: ValueKind) -> ValueConfig:
        """Returns the settings with the loss that ``auto`` means for a kind of scorer."""
        if self.loss != "auto":
            return self
        return replace(self, loss="bce" if kind == "prm" or self.architecture == "surprise" else "mse")
