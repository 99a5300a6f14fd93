"""What goes over the wire to an OpenAI-compatible server, and what comes back.

Servers differ in what they understand. A `Dialect` says what this one does; `weaker` takes a feature away that it just
refused. Bodies are built from a `Question`, answers read into `Choice`s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from restrl.policy.http_client import Garbled, Refused
from restrl.policy.prompting import FENCE
from restrl.seeds import derive_seed

# What OpenAI's own servers take at most; others are not limited.
_FEW_STOPS = 4
_WORDS: Mapping[str, tuple[str, ...]] = {
    "logprobs": ("logprob",),
    "continues": ("continue_final_message", "add_generation_prompt", "prefix", "last message", "prefill"),
    "max_stops": ("'stop'", '"stop"', "stop sequences", "stop:", "param: stop"),
    "token_ids": ("prompt",),
    "modern_length": ("max_completion_tokens",),
    "native_n": ("'n'", '"n"', " n ", "n must", "n="),
    "seed": ("seed",),
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server understands.

    Attributes:
        chat: ``/chat/completions`` with a prefilled answer, instead of ``/completions``.
        token_ids: The prompt may be given as token ids.
        native_n: It draws several completions of one prompt, with different randomness, in one request.
        seed: It takes a seed.
        logprobs: It gives the log-probabilities of its tokens.
        continues: It takes the fields that make a chat go on with the prefilled answer (vLLM and others).
        max_stops: Most stop strings that it takes; 0 is no limit.
        modern_length: The length goes by the name ``max_completion_tokens``.
        restarts: It answers a prefilled chat with a new answer, and not with the rest.
        reproducible: The same seed gave the same text twice.
    """

    chat: bool = False
    token_ids: bool = True
    native_n: bool = True
    seed: bool = True
    logprobs: bool = True
    continues: bool = True
    max_stops: int = 0
    modern_length: bool = False
    restarts: bool = False
    reproducible: bool = True

    @property
    def path(self) -> str:
        """Where requests go."""
        return "/chat/completions" if self.chat else "/completions"


@dataclass(frozen=True, slots=True)
class Question:
    """One request to the server.

    Attributes:
        text: The prompt as text (``/completions``).
        ids: The prompt as token ids, if the tokenizer is known.
        messages: The prompt as a chat.
        stops: Stop strings.
        max_tokens: Tokens per completion.
        temperature: Sampling temperature.
        top_p: Nucleus mass.
        n: Completions.
        seed: Seed of the first completion; the next have the next ones.
    """

    text: str
    ids: tuple[int, ...] | None
    messages: Sequence[Mapping[str, str]]
    stops: tuple[str, ...]
    max_tokens: int
    temperature: float
    top_p: float
    n: int
    seed: int

    def body(self, model: str, dialect: Dialect) -> dict[str, Any]:
        """Returns the JSON to send."""
        body: dict[str, Any] = {"model": model, "temperature": self.temperature, "top_p": self.top_p}
        if dialect.chat:
            body["messages"] = [dict(message) for message in self.messages]
            if dialect.continues:
                body |= {"continue_final_message": True, "add_generation_prompt": False}
            if dialect.logprobs:
                body["logprobs"] = True
        else:
            body["prompt"] = list(self.ids) if self.ids is not None and dialect.token_ids else self.text
            if dialect.logprobs:
                body["logprobs"] = 1
        body["max_completion_tokens" if dialect.modern_length else "max_tokens"] = self.max_tokens
        if self.n > 1:
            body["n"] = self.n
        if dialect.seed:
            body["seed"] = self.seed
        # A chat that starts over opens a fence of its own: what follows is cut here.
        stops = () if dialect.restarts else self.stops[: dialect.max_stops or None]
        if stops:
            body["stop"] = list(stops)
        return body


@dataclass(frozen=True, slots=True)
class Choice:
    """One completion as the server gave it.

    Attributes:
        text: Its text.
        finished: It ended by itself or at a stop string.
        logprobs: Log-probabilities of its tokens, if given.
        pieces: The texts of these tokens.
    """

    text: str
    finished: bool
    logprobs: tuple[float, ...] | None = None
    pieces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The choices of one request and their tokens.

    Attributes:
        choices: In the order of the server's indices.
        prompt_tokens: Tokens of the prompt, None if the server does not say.
        cached_tokens: How many of them the server had in its cache.
        completion_tokens: Tokens of all choices together, None if the server does not say.
    """

    choices: tuple[Choice, ...]
    prompt_tokens: int | None
    cached_tokens: int
    completion_tokens: int | None

    def tokens_of_choices(self, max_tokens: int) -> list[int]:
        """Returns the tokens of each choice, from 1 to ``max_tokens``.

        Counted where the server lists them; ``max_tokens`` where the length ended a choice. The others share the rest
        of the total by the length of their texts; without a total, four characters are taken for a token.
        """
        if all(choice.logprobs is not None for choice in self.choices):
            return [max(1, len(choice.logprobs or ())) for choice in self.choices]
        if self.completion_tokens is None:
            return [min(max_tokens, max(1, -(-len(c.text) // 4))) if c.finished else max_tokens for c in self.choices]
        total = self.completion_tokens
        counts = [1 if choice.finished else max_tokens for choice in self.choices]
        open_ones = [index for index, choice in enumerate(self.choices) if choice.finished]
        if sum(counts) > total or not open_ones:
            # The context ended a choice before its own length did.
            counts, open_ones = [1] * len(counts), list(range(len(counts)))
        spare = max(0, total - sum(counts))
        for index in sorted(open_ones, key=lambda index: -len(self.choices[index].text)):
            weight = sum(len(self.choices[other].text) for other in open_ones)
            share = round(spare * len(self.choices[index].text) / weight) if weight else spare
            share = min(share if len(open_ones) > 1 else spare, max_tokens - counts[index])
            counts[index] += share
            spare -= share
            open_ones = [other for other in open_ones if other != index]
        return counts


def read_answer(record: Any) -> Answer:
    """Reads the JSON of an answer.

    Raises:
        Garbled: It has another shape.
    """
    try:
        usage = record.get("usage") or {}
        choices = sorted(record["choices"], key=lambda choice: choice.get("index", 0))
        read = tuple(_read_choice(choice) for choice in choices)
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not read or not all(isinstance(number, (int, type(None))) for number in (prompt, completion, cached)):
            raise Garbled("no choices, or counts that are no numbers")
        return Answer(read, prompt, min(cached, prompt or 0), completion)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Garbled(f"{type(error).__name__}: {error}") from error


def _read_choice(choice: Any) -> Choice:
    message = choice.get("message")
    text = (message.get("content") or "") if message is not None else choice["text"]
    if not isinstance(text, str):
        raise Garbled("a text that is no text")
    listed = choice.get("logprobs") or {}
    if listed.get("content") is not None:
        logprobs = [token["logprob"] for token in listed["content"]]
        pieces = [token["token"] for token in listed["content"]]
    else:
        logprobs, pieces = listed.get("token_logprobs") or [], listed.get("tokens") or []
    known = bool(logprobs) and len(logprobs) == len(pieces) and all(isinstance(x, (int, float)) for x in logprobs)
    return Choice(
        text,
        choice.get("finish_reason") == "stop",
        tuple(float(logprob) for logprob in logprobs) if known else None,
        tuple(str(piece) for piece in pieces) if known else None,
    )


def base_seed(seed: int) -> int:
    """Returns the seed of a request's first completion: 31 bits, which every server takes.

    Servers give completion i the seed s + i. The hash keeps requests whose seeds are neighbours apart.
    """
    return derive_seed(seed, "completions") & 0x7FFF_FFFF


def weaker(dialect: Dialect, refused: Refused, chat_allowed: bool) -> Dialect | None:
    """Returns the dialect without what a server just refused, None if there is nothing left to take away."""
    said = f" {refused.code} {refused.message} ".lower()
    to_chat = None if dialect.chat or not chat_allowed else replace(dialect, chat=True, token_ids=False)
    if refused.status in (404, 405, 501) or "chat/completions" in said or "chat model" in said:
        return to_chat
    without = {
        "modern_length": replace(dialect, modern_length=True),
        "logprobs": replace(dialect, logprobs=False),
        "continues": replace(dialect, continues=False),
        "max_stops": replace(dialect, max_stops=_FEW_STOPS),
        "token_ids": replace(dialect, token_ids=False),
        "native_n": replace(dialect, native_n=False),
        "seed": replace(dialect, seed=False),
    }
    if not dialect.chat:
        del without["continues"]
    else:
        del without["token_ids"]
    left = {name: other for name, other in without.items() if other != dialect}
    for name, other in left.items():
        if any(word in said for word in _WORDS[name]):
            return other
    # The server did not say what it minds: the least needed first. The new name of the length only on request.
    left.pop("modern_length", None)
    return next(iter(left.values()), to_chat)


def rest_of(program: str, answer: str, restarts: bool) -> str:
    """Returns what an answer adds to a program.

    Args:
        program: The prefilled code.
        answer: The server's text.
        restarts: The server starts a new answer: prose, a fenced block, the program from its beginning.
    """
    if restarts:
        block = re.search(rf"{FENCE}[\w+-]*\n(.*?)(?:\n{FENCE}|\Z)", answer, re.DOTALL)
        answer = block.group(1) + "\n" if block else answer
        return answer.removeprefix(program)
    # Templates strip the newline that ends a message: the model says it again.
    return answer[1:] if program.endswith("\n") and answer.startswith("\n") else answer
