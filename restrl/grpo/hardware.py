"""What a recipe is meant to run on: declared in it, so that it can be held against the memory it needs."""

from __future__ import annotations

from dataclasses import dataclass

from restrl.errors import ConfigError
from restrl.settings import setting


@dataclass(frozen=True, slots=True)
class HardwareConfig:
    """The GPUs of the training stage. They start nothing: `accelerate launch` does, see docs/training.md."""

    gpus: int = setting(0, "processes that train together, one GPU each; 0 = as many as are launched", low=0)
    gpu_memory: float = setting(0.0, "GiB of one GPU, for the memory estimate; 0 = those of the GPU at hand", low=0.0)
    sharding: str = setting(
        "none",
        "whether weights, gradients and optimizer are spread over the processes: none, or fsdp (full sharding)",
        choices=("none", "fsdp"),
    )
    prompt_tokens: int = setting(1024, "tokens of a long prompt, for the memory estimate", low=1, paper=1024)

    def check_launch(self, processes: int, fsdp: bool) -> None:
        """Checks that training was launched as the recipe says.

        Args:
            processes: How many were launched.
            fsdp: Whether the launcher asked for FSDP.

        Raises:
            ConfigError: It was launched otherwise.
        """
        if self.gpus and processes != self.gpus:
            raise ConfigError(
                f"hardware.gpus is {self.gpus}, but the number of processes that train is {processes}; start with "
                f"accelerate launch --num_processes {self.gpus} -m restrl ..., or set hardware.gpus = {processes}"
            )
        if fsdp != (self.sharding == "fsdp") and processes > 1:
            raise ConfigError(
                f"hardware.sharding is {self.sharding!r}, but accelerate was launched {'with' if fsdp else 'without'} "
                "FSDP; give the launcher a --config_file that fits (docs/training.md), or change hardware.sharding"
            )
