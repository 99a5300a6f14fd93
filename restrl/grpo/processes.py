"""Several processes that train one policy together, as `accelerate launch` or `torchrun` start them.

Every process runs the same code on the same directory. Each takes its share of the instances of a step, samples and
grades them by itself, and the engine averages the gradients. Files are written by the first process alone; where one
process reads what another wrote, all of them wait for each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from restrl.errors import ConfigError
from restrl.grpo.config import GRPOConfig

# A process may wait for another one's sampling and grading, or for a grader that is out of order.
PATIENCE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a training run.

    Attributes:
        index: Of this process, from 0.
        count: Of all of them, at least 1.
    """

    index: int
    count: int

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.index == 0

    def wait(self) -> None:
        """Waits until every process has come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join(device: str) -> Processes:
    """Meets the other processes of this launch, if there are any.

    Args:
        device: ``cpu``, or ``auto`` for a GPU where there is one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes(0, 1)
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    # A state from before the processes met says that there is one.
    AcceleratorState._reset_state(reset_partial_state=True)
    state = PartialState(cpu=device == "cpu" or not torch.accelerator.is_available(), timeout=PATIENCE)
    return Processes(int(state.process_index), int(state.num_processes))


def process_count() -> int:
    """Returns the number of processes that have met, at least 1."""
    group = torch.distributed
    return int(group.get_world_size()) if group.is_available() and group.is_initialized() and launched() else 1


def launched() -> bool:
    """Whether this process is one of several at present."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def check_sharding(accelerator: Any, config: GRPOConfig) -> None:
    """Refuses what needs whole weights in every process where FSDP spreads them over the processes.

    Raises:
        ConfigError: The settings ask for it.
    """
    if getattr(accelerator.state, "fsdp_plugin", None) is None:
        return
    if config.generation == "engine":
        # Every token would need a forward of all processes, each of which samples texts of its own length.
        raise ConfigError(
            "generation is 'engine', which samples on whole weights, but FSDP spreads them over the processes; "
            "set grpo.generation = 'vllm', or launch without FSDP"
        )
    if config.lora_rank:
        raise ConfigError(
            f"lora_rank is {config.lora_rank}: adapters are merged into whole weights at the end, FSDP spreads them "
            "over the processes; set grpo.lora_rank = 0, or launch without FSDP"
        )
