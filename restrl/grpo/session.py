"""What every training run shares, whatever the method: the model it starts from, what it leaves behind, and quiet."""

from __future__ import annotations

import contextlib
import random
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from restrl.errors import ConfigError
from restrl.grpo.processes import process_count
from restrl.policy.model_dir import load_error


def load_model(model_dir: Path, dtype: str) -> PreTrainedModel:
    """Loads the policy to train.

    Raises:
        ModelError: It cannot be loaded.
    """
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    try:
        return AutoModelForCausalLM.from_pretrained(str(model_dir), dtype=kind, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise load_error(model_dir, error) from error


def context_length(model_dir: Path) -> int | None:
    """Returns the tokens that the model's context holds, or None where the model does not say."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(model_dir), local_files_only=True).get_text_config()
    length: int | None = getattr(config, "max_position_embeddings", None)
    return length


def lora(rank: int, alpha: int) -> Any:
    """Returns the adapters' settings, or None where all weights are trained."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")


def split_step(name: str, items: int, micro: int, unit: str) -> tuple[int, int]:
    """Divides a step among the processes and their forwards.

    Args:
        name: The setting that ``items`` comes from.
        items: Items of a step, over all processes.
        micro: Items of a forward and process; 0 = all at once.
        unit: What the items are.

    Returns:
        Items of a forward, and forwards of a step, on each process.

    Raises:
        ConfigError: It does not come out even.
    """
    processes = process_count()
    local = items // processes
    if items % processes:
        raise ConfigError(f"{name} gives {items} {unit} a step; it must be a multiple of the {processes} processes")
    micro = micro or local
    if local % micro:
        raise ConfigError(f"micro_batch is {micro}; it must divide the {local} {unit} of each of {processes} processes")
    return micro, local // micro


def save_model(trainer: Any, tokenizer: PreTrainedTokenizerBase, target: Path) -> None:
    """Writes the trained model (adapters merged) beside its final name, then renames it."""
    temporary = target.with_name(target.name + ".tmp")
    if trainer.args.should_save:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(target, ignore_errors=True)
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    if hasattr(unwrapped, "merge_and_unload"):
        merged: PreTrainedModel = unwrapped.merge_and_unload()
        if trainer.args.should_save:
            merged.save_pretrained(temporary)
    else:
        # Gathers sharded weights where there are any.
        trainer.save_model(str(temporary))
    if trainer.args.should_save:
        tokenizer.save_pretrained(temporary)
        (temporary / "training_args.bin").unlink(missing_ok=True)
        temporary.rename(target)


@contextlib.contextmanager
def global_rng_kept() -> Iterator[None]:
    """Restores the global random number generators, which the engine seeds."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the engine's progress bars and its notices about its own interfaces, which no user can act on."""
    bars = is_progress_bar_enabled()
    disable_progress_bar()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*rollout_func.*", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        try:
            yield
        finally:
            if bars:
                enable_progress_bar()
