"""What a server's refusal means for the user, in one line, and which addresses are allowed."""

from __future__ import annotations

import contextlib
import os
import re
from urllib.parse import urlsplit

from restrl.errors import ConfigError, EngineError, ModelError, RestRLError
from restrl.policy.http_client import HttpClient, Refused

_TOO_LONG = re.compile(
    r"context.?(length|window|size)|(prompt|input|sequence).{0,40}too (long|large)|maximum.{0,20}tokens|max_model_len",
    re.IGNORECASE,
)


def is_too_long(refused: Refused) -> bool:
    """Whether a server refused a prompt for its length."""
    return _TOO_LONG.search(f"{refused.code} {refused.message}") is not None


async def explain(refused: Refused, client: HttpClient, model: str, problem_id: str, key_env: str) -> RestRLError:
    """Turns a refusal into one line that says what to do."""
    url, said = client.base_url, f"{refused.status}: {refused.message}"
    if refused.status in (401, 403):
        held = "is set" if os.environ.get(key_env) else "is not set"
        return ConfigError(
            f"{url} refused the key ({said}); put it into the environment variable "
            f"{key_env or 'that policy.api_key_env names'} (which {held}) or name another by "
            "policy.api_key_env"
        )
    if is_too_long(refused):
        return ModelError(
            f"the prompt of problem {problem_id!r} is too long for {model!r} on {url} ({said}); leave "
            "the problem out, lower policy.max_new_tokens, or use a model with a longer context"
        )
    if refused.status == 404:
        listed = await client.get("/models")
        names: list[str] = []
        with contextlib.suppress(KeyError, TypeError):
            names = sorted(str(model["id"]) for model in listed["data"])
        if names and model not in names:
            return ModelError(f"{url} has no model {model!r} ({said}); it has {', '.join(names[:8])}: set policy.model")
        return ModelError(
            f"{url} has no model {model!r}, or is no OpenAI-compatible API ({said}); check policy.model and "
            "policy.base_url, which usually ends in /v1"
        )
    if refused.status in (402, 429):
        return EngineError(f"the account at {url} is used up ({said}); fill it, then run the same command again")
    return EngineError(f"{url} refused a request ({said}); check policy.model and the sampling settings")


def check_url(url: str) -> None:
    """Checks the address of an API.

    Raises:
        ConfigError: It is none, or holds a secret, which would end in records of a run.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"policy.base_url is {url!r}; give the address of an API, for example http://localhost:8000/v1"
        )
    if parts.username or parts.password:
        raise ConfigError(
            f"policy.base_url for {parts.hostname} holds a user or a password; put the key into the environment "
            "variable that policy.api_key_env names"
        )
