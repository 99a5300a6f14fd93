"""What the engine is told: `GRPOConfig` in the terms of TRL's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from trl.trainer.grpo_config import GRPOConfig as EngineConfig

from restrl.errors import ConfigError
from restrl.grpo.config import GRPOConfig
from restrl.grpo.rollout import TrainingSet
from restrl.grpo.session import split_step
from restrl.policy.model_dir import recompute_option
from restrl.policy.prompting import stop_strings


def engine_config(config: GRPOConfig, data: TrainingSet, checkpoints: Path, steps: int) -> EngineConfig:
    """Translates our settings; everything where the engine's default differs from the paper is set.

    Raises:
        ConfigError: A step cannot be divided among the processes and forwards, or vLLM would need several lists of stop
            strings.
    """
    options: dict[str, Any] = {}
    if config.overlong_buffer > config.max_new_tokens:
        raise ConfigError(
            f"overlong_buffer is {config.overlong_buffer}; it must be at most max_new_tokens = {config.max_new_tokens}"
        )
    if config.generation == "vllm":
        for name in ("refill_rounds", "mask_truncated", "skip_explore"):
            if getattr(config, name):
                raise ConfigError(
                    f"{name} is {getattr(config, name)}, which generation 'vllm' does not have; set {name} to "
                    f"{type(getattr(config, name))(0)}, or generation to 'engine'"
                )
        options = {
            "use_vllm": True,
            "vllm_mode": config.vllm_mode,
            "vllm_gpu_memory_utilization": config.vllm_memory,
            "generation_kwargs": {"stop": _common_stops(data), "include_stop_str_in_output": True},
        }
    # A group must not be split among processes.
    split_step("grpo.prompts_per_step", config.prompts_per_step, 0, "instances")
    step = "grpo.prompts_per_step * num_generations"
    micro, forwards = split_step(step, config.completions_per_step, config.micro_batch, "completions")
    if config.skip_explore and micro * forwards != config.completions_per_step:
        raise ConfigError(
            "skip_explore needs the history of every group in one process; set it to 0, or use one process"
        )
    return EngineConfig(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=forwards,
        num_generations=config.num_generations,
        max_completion_length=config.max_new_tokens,
        shuffle_dataset=False,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        beta=config.beta,
        epsilon=config.epsilon,
        epsilon_high=config.epsilon_high or None,
        loss_type=config.loss_type,
        scale_rewards=config.scale_rewards,
        # The published KL term is not weighted by the importance ratio.
        use_bias_correction_kl=False,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=0,
        bf16=config.bf16,
        seed=data.seed % 2**32,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=config.keep_checkpoints or None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        use_cpu=config.device == "cpu" or not torch.accelerator.is_available(),
        dataloader_pin_memory=False,
        dataloader_num_workers=0,
        # Every weight takes part in every forward: no need to look for those that do not.
        ddp_find_unused_parameters=False,
        **recompute_option(EngineConfig, config.gradient_checkpointing),
        **options,
    )


def _common_stops(data: TrainingSet) -> list[str]:
    """vLLM takes one list of stop strings for a whole batch."""
    found = {stop_strings(state, data.tokenizer, data.prompt_style) for state in data.states}
    if len(found) > 1:
        raise ConfigError(
            f"generation is 'vllm', which needs the same stop strings for every problem, but there are {len(found)} "
            "different lists; train on one problem set at a time, or set generation to 'engine'"
        )
    return list(found.pop())
