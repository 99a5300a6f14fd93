"""The switch for recomputing activations: it arrives, and the library has nothing to say about its name."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from transformers import TrainingArguments
from trl.trainer.grpo_config import GRPOConfig as EngineConfig

from restrl.policy.model_dir import recompute_option


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("arguments", [TrainingArguments, EngineConfig])
def test_trainers_take_the_switch_without_a_warning(arguments: type, enabled: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        args = arguments(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", **recompute_option(arguments, enabled)
        )
    # The old name is what TRL reads, and it mirrors the new one; TRL's own default is on.
    assert args.gradient_checkpointing is enabled
    assert not [str(entry.message) for entry in caught if "checkpointing" in str(entry.message)]


def test_older_libraries_know_the_older_name() -> None:
    @dataclass
    class Older:
        gradient_checkpointing: bool = True

    assert recompute_option(Older, False) == {"gradient_checkpointing": False}
