"""Policies: what turns states into completions.

A new engine is one module and one line in `POLICY_ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from restrl.errors import ConfigError
from restrl.settings import setting
from restrl.types import Policy, SamplingParams


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Which policy, and how it samples."""

    model: str = setting("", "directory of the model (scripted engine: a JSON file of programs)")
    engine: str = setting("transformers", "what runs the model", choices=("transformers", "scripted"))
    device: str = setting("auto", "auto, cpu, cuda or cuda:N; auto takes CUDA where there is one")
    dtype: str = setting(
        "auto",
        "precision; auto is float32 on the CPU and bfloat16 on CUDA",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    prompt_style: str = setting(
        "auto", "chat template or plain text; auto: chat where there is a template", choices=("auto", "plain", "chat")
    )
    decode_loop: str = setting(
        "auto",
        "own decode loop or the generate method of transformers; auto: own where the model allows",
        choices=("auto", "loop", "generate"),
    )
    max_batch_tokens: int = setting(131_072, "rows times (prompt + new tokens) of one batch", low=1)
    max_batch_size: int = setting(256, "completions in one batch", low=1)
    temperature: float = setting(0.7, "sampling temperature; 0 is greedy", low=0.0, paper=0.7)
    top_p: float = setting(1.0, "nucleus mass", above=0.0, high=1.0)
    max_new_tokens: int = setting(1024, "tokens of a completion", low=1, paper=1024)

    def sampling_params(self) -> SamplingParams:
        """Returns how this policy samples."""
        return SamplingParams(self.temperature, self.top_p, self.max_new_tokens)


def _load_transformers(config: PolicyConfig) -> Policy:
    from restrl.policy.transformers_engine import TransformersPolicy

    return TransformersPolicy(
        Path(config.model),
        device=config.device,
        dtype=config.dtype,
        prompt_style=config.prompt_style,
        max_batch_tokens=config.max_batch_tokens,
        max_batch_size=config.max_batch_size,
        decode_loop=config.decode_loop,
    )


def _load_scripted(config: PolicyConfig) -> Policy:
    from restrl.policy.scripted import ScriptedPolicy

    return ScriptedPolicy.from_file(Path(config.model))


POLICY_ENGINES: Mapping[str, Callable[[PolicyConfig], Policy]] = {
    "transformers": _load_transformers,
    "scripted": _load_scripted,
}


def load_policy(config: PolicyConfig) -> Policy:
    """Loads the policy that a config names.

    Raises:
        ConfigError: The engine is unknown or no model is named.
        ModelError: The model cannot be used.
    """
    if config.engine not in POLICY_ENGINES:
        raise ConfigError(f"policy.engine is {config.engine!r}; allowed: {', '.join(POLICY_ENGINES)}")
    if not config.model:
        raise ConfigError("policy.model is empty; name a model directory, for example --set policy.model=DIR")
    return POLICY_ENGINES[config.engine](config)
