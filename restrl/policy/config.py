"""Which policy, how it samples, and how one is named in a word."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from restrl.errors import ConfigError
from restrl.settings import setting
from restrl.types import SamplingParams

ENGINES: tuple[str, ...] = ("transformers", "vllm", "openai", "scripted")
LOCAL_ENGINES: tuple[str, ...] = ("transformers", "vllm")
"""Engines that run a model directory."""


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """Which policy, and how it samples."""

    model: str = setting("", "directory of the model (openai: its name on the server; scripted: a JSON file)")
    engine: str = setting("transformers", "what runs the model", choices=ENGINES)
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
        "shared: own decode loop, prompts and their beginnings kept once; loop: own, every row with its copy; "
        "generate: that of transformers; auto: the first that model and device allow (shared: CPU only)",
        choices=("auto", "shared", "loop", "generate"),
    )
    max_batch_tokens: int = setting(131_072, "rows times (prompt + new tokens) of one batch", low=1)
    max_batch_size: int = setting(256, "completions in one batch", low=1)
    path_cache_tokens: int = setting(
        0, "transformers: prompt tokens whose keys and values are kept for longer prompts; 0 keeps none", low=0
    )
    temperature: float = setting(0.7, "sampling temperature; 0 is greedy", low=0.0, paper=0.7)
    top_p: float = setting(1.0, "nucleus mass", above=0.0, high=1.0)
    max_new_tokens: int = setting(1024, "tokens of a completion", low=1, paper=1024)
    lora: str = setting("", "vllm: directory of a PEFT LoRA adapter; empty is none")
    gpu_memory: float = setting(0.9, "vllm: share of the device's memory", above=0.0, high=1.0)
    tensor_parallel: int = setting(1, "vllm: devices that share the model", low=1)
    max_model_len: int = setting(0, "vllm: longest sequence in tokens; 0 is the model's own", low=0)
    base_url: str = setting("", "openai: address of the API, for example http://localhost:8000/v1")
    api_key_env: str = setting("OPENAI_API_KEY", "openai: environment variable that holds the key")
    tokenizer: str = setting(
        "", "openai: directory of the model's tokenizer, for prompts of the same tokens as in training"
    )
    endpoint: str = setting(
        "auto",
        "openai: /completions, /chat/completions, or the first that works",
        choices=("auto", "completions", "chat"),
    )
    concurrency: int = setting(32, "openai: requests under way at once", low=1)
    requests_per_minute: int = setting(0, "openai: most requests in 60 seconds; 0 is no limit", low=0)
    tokens_per_minute: int = setting(0, "openai: most tokens in 60 seconds; 0 is no limit", low=0)
    timeout_s: float = setting(120.0, "openai: seconds without an answer after which an attempt failed", above=0.0)
    attempts: int = setting(6, "openai: attempts per request", low=1)
    price_per_million_input: float = setting(0.0, "openai: price of a million prompt tokens", low=0.0)
    price_per_million_cached: float | None = setting(
        None, "openai: price of a million prompt tokens from the server's cache; none: as other prompt tokens", low=0.0
    )
    price_per_million_output: float = setting(0.0, "openai: price of a million generated tokens", low=0.0)
    server_logprobs: str = setting(
        "auto",
        "openai: use the server's log-probabilities; auto: at temperature 1 and top_p 1, where they are exact",
        choices=("auto", "server", "off"),
    )

    def sampling_params(self) -> SamplingParams:
        """Returns how this policy samples."""
        return SamplingParams(self.temperature, self.top_p, self.max_new_tokens)


def policy_settings(spec: str) -> dict[str, str]:
    """Returns the settings that a policy's name stands for.

    Args:
        spec: A model directory, ``ENGINE:DIR``, or ``openai:MODEL@ADDRESS``.

    Raises:
        ConfigError: The name is incomplete.

    >>> policy_settings("runs/a/model")
    {'model': 'runs/a/model'}
    >>> policy_settings("vllm:runs/a/model")
    {'engine': 'vllm', 'model': 'runs/a/model'}
    >>> policy_settings("openai:Qwen/Qwen2.5-Coder-7B@http://localhost:8000/v1")
    {'engine': 'openai', 'model': 'Qwen/Qwen2.5-Coder-7B', 'base_url': 'http://localhost:8000/v1'}
    """
    engine, colon, rest = spec.partition(":")
    if not colon or engine not in ENGINES:
        return {"model": spec}
    found = {"engine": engine, "model": rest}
    if engine == "openai":
        # One slash is enough: an address that went through a path has lost the other.
        named = re.fullmatch(r"(.*)@(https?):/+(.*)", rest)
        if named:
            found |= {"model": named.group(1), "base_url": f"{named.group(2)}://{named.group(3)}"}
    if not found["model"]:
        example = "openai:MODEL@http://localhost:8000/v1" if engine == "openai" else f"{engine}:DIR"
        raise ConfigError(f"policy {spec!r} names no model; write it like {example}")
    return found


def named_policy(spec: str, config: PolicyConfig) -> PolicyConfig:
    """Returns the settings with those that a policy's name stands for; see `policy_settings`."""
    return replace(config, **policy_settings(spec))  # type: ignore[arg-type]
