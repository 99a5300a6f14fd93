"""Policies: what turns states into completions.

A new engine is one module, one line in `POLICY_ENGINES` and its name in `restrl.policy.config.ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from restrl.errors import ConfigError
from restrl.policy.config import LOCAL_ENGINES, PolicyConfig, named_policy, policy_settings
from restrl.types import Policy

__all__ = [
    "POLICY_ENGINES",
    "PolicyConfig",
    "check_policy",
    "close_policy",
    "load_policy",
    "open_policy",
    "policy_settings",
]


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
        path_cache_tokens=config.path_cache_tokens,
    )


def _load_vllm(config: PolicyConfig) -> Policy:
    from restrl.policy.vllm_engine import VLLMPolicy

    return VLLMPolicy(
        Path(config.model),
        lora_dir=Path(config.lora) if config.lora else None,
        dtype=config.dtype,
        prompt_style=config.prompt_style,
        max_model_len=config.max_model_len,
        gpu_memory=config.gpu_memory,
        tensor_parallel=config.tensor_parallel,
    )


def _load_openai(config: PolicyConfig) -> Policy:
    from restrl.policy.http_client import Retrying
    from restrl.policy.openai_engine import OpenAIPolicy, Prices

    return OpenAIPolicy(
        config.model,
        config.base_url,
        api_key_env=config.api_key_env,
        tokenizer_dir=Path(config.tokenizer) if config.tokenizer else None,
        prompt_style=config.prompt_style,
        endpoint=config.endpoint,
        concurrency=config.concurrency,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        retrying=Retrying(attempts=config.attempts, timeout_s=config.timeout_s),
        prices=Prices(config.price_per_million_input, config.price_per_million_output, config.price_per_million_cached),
        logprobs=config.server_logprobs,
    )


def _load_scripted(config: PolicyConfig) -> Policy:
    from restrl.policy.scripted import ScriptedPolicy

    return ScriptedPolicy.from_file(Path(config.model))


POLICY_ENGINES: Mapping[str, Callable[[PolicyConfig], Policy]] = {
    "transformers": _load_transformers,
    "vllm": _load_vllm,
    "openai": _load_openai,
    "scripted": _load_scripted,
}


def check_policy(config: PolicyConfig) -> None:
    """Checks what can be checked before a policy is loaded: the directory, or the server's address.

    Raises:
        ConfigError: The engine is unknown, or no model or no address is named.
        ModelError: The directory holds no model.
    """
    if config.engine not in POLICY_ENGINES:
        raise ConfigError(f"policy.engine is {config.engine!r}; allowed: {', '.join(POLICY_ENGINES)}")
    if not config.model:
        raise ConfigError("policy.model is empty; name a model directory, for example --set policy.model=DIR")
    if config.engine in LOCAL_ENGINES:
        from restrl.policy.model_dir import check_model_dir

        check_model_dir(Path(config.model))
    if config.engine == "openai":
        from restrl.policy.openai_errors import check_url

        check_url(config.base_url)


def load_policy(config: PolicyConfig) -> Policy:
    """Loads the policy that a config names.

    Raises:
        ConfigError: The engine is unknown or no model is named.
        ModelError: The model cannot be used.
    """
    check_policy(config)
    return POLICY_ENGINES[config.engine](config)


def open_policy(spec: str | Path, config: PolicyConfig | None = None) -> Policy:
    """Loads the policy that a name stands for; end it with `close_policy`.

    Args:
        spec: A model directory, ``vllm:DIR``, ``openai:MODEL@ADDRESS``, or another ``ENGINE:...``.
        config: All other settings.

    Raises:
        ConfigError: The name or a setting is wrong.
        ModelError: The model cannot be used.
    """
    return load_policy(named_policy(str(spec), config or PolicyConfig()))


def close_policy(policy: Policy) -> None:
    """Ends what a policy holds beside memory: connections, processes. Nothing for most."""
    close = getattr(policy, "close", None)
    if close is not None:
        close()
