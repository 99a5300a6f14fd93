"""What every engine shares: the check of what is asked of it, and the counters of what it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from restrl.errors import ConfigError
from restrl.types import SampleRequest, SamplingParams


@dataclass(slots=True)
class EngineStats:
    """What an engine did since it was made.

    Attributes:
        prompt_tokens_prefilled: Prompt tokens that went through the model.
        prompt_tokens_reused: Prompt tokens that took no forward: another sample of the state, or a cache, had them.
        generated_tokens: Tokens of all completions, end-of-sequence tokens included.
        completions: Completions returned.
        scored_tokens: Tokens of given code whose probabilities were asked for, prompts included.
        seconds: Wall time in `sample`.
        calls: Requests sent to a server, failed ones included.
        retries: How many of them repeated a failed one.
        waited_s: Seconds that requests waited for a rate limit or for the next attempt.
        cost: What a server charged, in the currency of the prices given.
    """

    prompt_tokens_prefilled: int = 0
    prompt_tokens_reused: int = 0
    generated_tokens: int = 0
    completions: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    calls: int = 0
    retries: int = 0
    waited_s: float = 0.0
    cost: float = 0.0

    def reset(self) -> None:
        """Sets every counter to 0."""
        for counter in fields(self):
            setattr(self, counter.name, counter.default)


def check_requests(requests: Sequence[SampleRequest], params: SamplingParams) -> None:
    """Checks what an engine is asked to sample.

    Raises:
        ConfigError: A sampling parameter is out of range, a request asks for no completion, or starts from a finished
            program.
    """
    if not (params.temperature >= 0 and math.isfinite(params.temperature)):
        raise ConfigError(f"temperature is {params.temperature}; it must be >= 0 (0 is greedy)")
    if not 0 < params.top_p <= 1:
        raise ConfigError(f"top_p is {params.top_p}; it must be in (0, 1]")
    if params.max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens is {params.max_new_tokens}; it must be >= 1")
    for request in requests:
        if request.n < 1:
            raise ConfigError(
                f"n is {request.n} in a request for problem {request.state.problem.id!r}; it must be >= 1"
            )
        if request.state.terminal:
            raise ConfigError(
                f"a request for problem {request.state.problem.id!r} starts from a terminal state; nothing follows it"
            )
