"""Settings of the methods that learn from stored samples: ReST-DPO and rejection-sampling SFT."""

from __future__ import annotations

from dataclasses import dataclass

from restrl.errors import ConfigError
from restrl.settings import setting


@dataclass(frozen=True, slots=True)
class OfflineConfig:
    """Training on stored samples: methods ``rest-dpo`` and ``sft``. Nothing is sampled while they train."""

    method: str = setting("rest-dpo", "the training method", choices=("rest-dpo", "sft"), owner="train")
    epochs: int = setting(1, "passes over the pairs or demonstrations", low=1)
    max_steps: int = setting(0, "exact number of optimizer steps, whatever the epochs; 0 = as the epochs say", low=0)
    batch_size: int = setting(16, "pairs or demonstrations per optimizer step, over all processes", low=1)
    micro_batch: int = setting(0, "of them per forward and process; 0 = the whole step at once", low=0)
    learning_rate: float = setting(1e-6, "peak learning rate of AdamW", above=0.0)
    lr_scheduler: str = setting(
        "linear", "schedule of the learning rate", choices=("linear", "cosine", "constant", "constant_with_warmup")
    )
    warmup_steps: int = setting(0, "steps of linear warm-up", low=0)
    weight_decay: float = setting(0.0, "decoupled weight decay", low=0.0)
    max_grad_norm: float = setting(1.0, "gradients are scaled down to this norm", above=0.0)
    beta: float = setting(0.1, "rest-dpo: weight of the KL constraint to the starting policy", above=0.0)
    per_problem: int = setting(0, "sft: at most so many demonstrations of a problem; 0 = all of its best", low=0)
    lora_rank: int = setting(0, "rank of LoRA adapters on all linear layers; 0 = train all weights", low=0)
    lora_alpha: int = setting(32, "LoRA scale: the update is multiplied by alpha / rank", low=1)
    save_every: int = setting(20, "optimizer steps between checkpoints", low=1)
    keep_checkpoints: int = setting(
        2, "checkpoints kept while training (all are removed at the end); 0 = keep every one, for good", low=0
    )
    report_to: tuple[str, ...] = setting(("tensorboard",), "where metrics go besides metrics.jsonl", owner="train")
    dtype: str = setting("float32", "precision of the weights while training", choices=("float32", "bfloat16"))
    bf16: bool = setting(False, "compute in bfloat16 (autocast), weights as dtype says")
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, slower updates")
    device: str = setting("auto", "auto = GPU where there is one", choices=("auto", "cpu"))

    def __post_init__(self) -> None:
        if self.keep_checkpoints == 1:
            raise ConfigError("keep_checkpoints is 1; use 2 or more (or 0 to keep all), so that one is always complete")
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise ConfigError(f"micro_batch is {self.micro_batch}; it must divide batch_size = {self.batch_size}")
