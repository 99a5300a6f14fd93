"""The policy engine on any server that speaks OpenAI's API: a hosted model, or vLLM, SGLang, llama.cpp, ... elsewhere.

What the server understands is found out by a few short requests before the first batch (`restrl.policy.openai_wire`).
Where it takes prompts as text or tokens, the prompt is the one of every other engine; where it only chats, the
statement is the user's message and the program so far the start of the answer.

Completion ``i`` of a request has the seed ``s + i``, where ``s`` is a hash of the request's seed, whether the server
draws several completions at once or is asked for them one by one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from restrl.errors import ConfigError, EngineError, RestRLError
from restrl.policy import prompting
from restrl.policy.engine import EngineStats, check_requests
from restrl.policy.http_client import HttpClient, Refused, Retrying
from restrl.policy.loop_thread import LoopThread
from restrl.policy.openai_errors import check_url, explain, is_too_long
from restrl.policy.openai_wire import Answer, Choice, Dialect, Question, base_seed, read_answer, rest_of, weaker
from restrl.policy.rate_limit import RateLimiter
from restrl.policy.text import find_stop
from restrl.types import Completion, SampleRequest, SamplingParams, State

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ENDPOINTS: tuple[str, ...] = ("auto", "completions", "chat")
LOGPROBS: tuple[str, ...] = ("auto", "server", "off")
_MAX_N = 128
_PROBE_TOKENS = 8
_PROBE_SEED = 20_011

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prices:
    """What a server charges per million tokens, in any currency.

    Attributes:
        input: Prompt tokens.
        output: Generated tokens.
        cached_input: Prompt tokens that the server had in its cache; None: as others.
    """

    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None

    def of_prompt(self, tokens: int, cached: int) -> float:
        """Returns the price of a prompt."""
        cheap = self.input if self.cached_input is None else self.cached_input
        return ((tokens - cached) * self.input + cached * cheap) / 1e6

    def of_output(self, tokens: int) -> float:
        """Returns the price of generated tokens."""
        return tokens * self.output / 1e6


class OpenAIPolicy:
    """A `Policy` that asks an OpenAI-compatible server. Call `close`, or use it as a context manager.

    Args:
        model: The model's name on the server.
        base_url: Address of the API, for example ``http://localhost:8000/v1``.
        api_key_env: Environment variable that holds the key; without that variable no key is sent.
        tokenizer_dir: A directory with the model's tokenizer: prompts are then the same tokens as in training. Without
            it prompts are plain text, and a chat model is best asked by ``endpoint="chat"``.
        prompt_style: ``auto``, ``plain`` or ``chat``; see `restrl.policy.prompting`.
        endpoint: ``completions``, ``chat``, or ``auto``: the first that works.
        concurrency: Requests under way at once.
        requests_per_minute: Most requests in 60 seconds; 0 is no limit.
        tokens_per_minute: Most tokens (prompt and completions) in 60 seconds; 0 is no limit.
        retrying: How failures are met.
        prices: For the cost.
        logprobs: ``auto``: taken at temperature 1 and top_p 1, where servers report what was sampled from; ``server``:
            taken as the server gives them (for a server set to report the sampling distribution); ``off``.

    Attributes:
        stats: Counters, with retries and cost.
        dialect: What the server understands; None until the first call.

    Raises:
        ConfigError: A setting is not allowed.
        ModelError: The tokenizer cannot be read, or a prompt is too long for the server.
        EngineError: The server cannot be reached, or keeps failing.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        tokenizer_dir: Path | None = None,
        prompt_style: str = "auto",
        endpoint: str = "auto",
        concurrency: int = 32,
        requests_per_minute: int = 0,
        tokens_per_minute: int = 0,
        retrying: Retrying = Retrying(),  # noqa: B008  (frozen)
        prices: Prices = Prices(),
        logprobs: str = "auto",
    ) -> None:
        for name, value, allowed in (
            ("endpoint", endpoint, ENDPOINTS),
            ("logprobs", logprobs, LOGPROBS),
            ("prompt_style", prompt_style, prompting.PROMPT_STYLES),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}; it must be >= 1")
        check_url(base_url)
        self.model = model
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.prompt_style: Literal["plain", "chat"] = "chat" if "chat" in (prompt_style, endpoint) else "plain"
        if tokenizer_dir is not None:
            from restrl.policy.model_dir import load_tokenizer

            self.tokenizer = load_tokenizer(Path(tokenizer_dir))
            self.prompt_style = prompting.resolve_style(self.tokenizer, prompt_style)
        elif prompt_style == "chat" and endpoint == "auto":
            # Only the server knows the template.
            endpoint = "chat"
        self._key_env = api_key_env
        self._endpoint = endpoint
        self._logprobs = logprobs
        self._prices = prices
        self._context: int | None = None
        self._limiter = RateLimiter(requests_per_minute, tokens_per_minute)
        key = os.environ.get(api_key_env, "").strip() if api_key_env else ""
        self._client = HttpClient(base_url, key, concurrency=concurrency, retrying=retrying, limiter=self._limiter)
        self._loop = LoopThread()
        # For those who forget to close.
        self._end = weakref.finalize(self, self._loop.close, self._client.close)
        self._finding_out = asyncio.Lock()
        self.dialect: Dialect | None = None
        self.stats = EngineStats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the policy cannot be used any more."""
        self._end()

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Samples ``request.n`` completions per request, in the order of the requests; see the class for errors."""
        check_requests(requests, params)
        if not requests:
            return []
        began = time.perf_counter()
        try:
            return self._loop.run(self._sample(requests, params))
        finally:
            traffic = self._client.traffic
            self.stats.calls, self.stats.retries = traffic.calls, traffic.retries
            self.stats.waited_s = traffic.waited_s + self._limiter.waited_s
            self.stats.seconds += time.perf_counter() - began

    def fits(self, state: State) -> bool:
        """Whether the prompt of a state leaves room for a token, as far as server and tokenizer tell."""
        if self.tokenizer is None:
            return True
        if self.dialect is None:
            self._loop.run(self._find_out(state))
        ids = prompting.encode_prompt(state, self.tokenizer, self.prompt_style)
        return self._context is None or len(ids) < self._context

    async def _sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        dialect = await self._find_out(requests[0].state)
        parts: list[tuple[int, int, int]] = []  # request, first index, number of completions
        for index, request in enumerate(requests):
            # Servers refuse several greedy completions of one prompt.
            size = _MAX_N if dialect.native_n and params.temperature > 0 else 1
            parts += [(index, start, min(size, request.n - start)) for start in range(0, request.n, size)]
        jobs = [
            asyncio.ensure_future(self._part(requests[index], start, count, params, dialect))
            for index, start, count in parts
        ]
        try:
            answers = await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        results: list[list[Completion]] = [[] for _ in requests]
        for (index, _, _), completions in zip(parts, answers, strict=True):
            results[index] += completions
        return results

    async def _part(
        self, request: SampleRequest, start: int, count: int, params: SamplingParams, dialect: Dialect
    ) -> list[Completion]:
        """Completions ``start`` to ``start + count`` of a request."""
        wanted = self._wants_logprobs(params)
        dialect = dialect if wanted else replace(dialect, logprobs=False)
        question = self._question(request.state, params, count, base_seed(request.seed) + start, dialect)
        answer = await self._ask(question, dialect, request.state)
        if len(answer.choices) != count:
            raise EngineError(
                f"{self._client.base_url} gave {len(answer.choices)} completions where {count} were asked for; "
                "report it to the server's makers, or use another server"
            )
        return self._completions(request.state, answer, question, dialect)

    def _wants_logprobs(self, params: SamplingParams) -> bool:
        exact = params.temperature == 1.0 and params.top_p == 1.0
        return self._logprobs == "server" or (self._logprobs == "auto" and exact)

    def _question(self, state: State, params: SamplingParams, n: int, seed: int, dialect: Dialect) -> Question:
        ids: tuple[int, ...] | None = None
        length = params.max_new_tokens
        if self.tokenizer is None:
            text = state.problem.preamble + state.program
        else:
            text = self._as_text(state, self.tokenizer)
            ids = tuple(prompting.encode_prompt(state, self.tokenizer, self.prompt_style))
            if self._context is not None:
                length = max(1, min(length, self._context - len(ids)))
        stops = prompting.stops_of(state.problem, "chat" if dialect.chat else self.prompt_style)
        messages = prompting.chat_messages(state)
        return Question(text, ids, messages, stops, length, params.temperature, params.top_p, n, seed & 0x7FFF_FFFF)

    def _as_text(self, state: State, tokenizer: PreTrainedTokenizerBase) -> str:
        """The prompt for a server that takes no tokens: without the mark of the beginning that its tokenizer adds."""
        text = prompting.build_prompt(state, tokenizer, self.prompt_style)
        bos = str(tokenizer.bos_token or "")
        adds = bool(bos) and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
        return text.removeprefix(bos) if adds else text

    async def _ask(self, question: Question, dialect: Dialect, state: State) -> Answer:
        """One request, its cost booked, a refusal turned into an error for the user."""
        try:
            return await self._send(question, dialect)
        except Refused as refused:
            raise await self._explained(refused, state) from None

    async def _explained(self, refused: Refused, state: State) -> RestRLError:
        return await explain(refused, self._client, self.model, state.problem.id, self._key_env)

    async def _send(self, question: Question, dialect: Dialect) -> Answer:
        prompt = len(question.ids) if question.ids is not None else len(question.text) // 3
        most = prompt + question.n * question.max_tokens
        body = question.body(self.model, dialect)
        answer: Answer = await self._client.post(dialect.path, body, read_answer, most)
        generated = sum(answer.tokens_of_choices(question.max_tokens))
        self.stats.cost += self._prices.of_prompt(answer.prompt_tokens or prompt, answer.cached_tokens)
        self.stats.cost += self._prices.of_output(generated)
        return answer

    def _completions(self, state: State, answer: Answer, question: Question, dialect: Dialect) -> list[Completion]:
        known = answer.prompt_tokens
        prompt = known if known is not None else len(question.ids or ()) or max(1, len(question.text) // 4)
        completions = []
        counts = answer.tokens_of_choices(question.max_tokens)
        for index, (choice, tokens) in enumerate(zip(answer.choices, counts, strict=True)):
            # The choices of one request share its prompt.
            reused = prompt if index else min(answer.cached_tokens, prompt)
            cost = self._prices.of_output(tokens)
            cost += 0.0 if index else self._prices.of_prompt(prompt, reused)
            text, cut = self._cut(state, choice, question, dialect)
            logprobs, ends = _placed(choice, text) if self._logprobs != "off" and dialect.logprobs else (None, None)
            completions.append(
                Completion(
                    text=text,
                    finish_reason="stop" if choice.finished or cut else "length",
                    num_tokens=tokens,
                    prompt_tokens=prompt,
                    reused_prompt_tokens=reused,
                    logprob=None if logprobs is None else sum(logprobs),
                    token_logprobs=logprobs,
                    token_ends=ends,
                    cost=cost,
                )
            )
            self.stats.prompt_tokens_prefilled += prompt - reused
            self.stats.prompt_tokens_reused += reused
            self.stats.generated_tokens += tokens
            self.stats.completions += 1
        return completions

    def _cut(self, state: State, choice: Choice, question: Question, dialect: Dialect) -> tuple[str, bool]:
        """The text of a choice as it follows the state, and whether a stop string was found in it."""
        text = choice.text
        if dialect.chat:
            text = rest_of(state.program, text, dialect.restarts)
        at = find_stop(state.code, text, question.stops)
        return (text, False) if at is None else (text[:at], True)

    async def _find_out(self, state: State) -> Dialect:
        """Finds out, once, what the server understands, with the prompt of a state and a few tokens."""
        async with self._finding_out:
            if self.dialect is None:
                with contextlib.suppress(AttributeError, TypeError):
                    models = await self._client.get("/models")
                    self._context = next(
                        (m.get("max_model_len") for m in models["data"] if m.get("id") == self.model), None
                    )
                dialect, first = await self._agree(state)
                self.dialect = await self._try_seeds(state, dialect, first)
            return self.dialect

    async def _probe(self, state: State, dialect: Dialect, n: int, seed: int) -> Answer:
        params = SamplingParams(1.0, 1.0, _PROBE_TOKENS)
        return await self._send(self._question(state, params, n, seed, dialect), dialect)

    async def _agree(self, state: State) -> tuple[Dialect, Answer]:
        """Asks for two completions, and takes away what the server refuses until it answers."""
        chat = self._endpoint == "chat"
        dialect = Dialect(chat=chat, token_ids=not chat, logprobs=self._logprobs != "off")
        first: Refused | None = None
        while True:
            try:
                return dialect, await self._probe(state, dialect, 2 if dialect.native_n else 1, _PROBE_SEED)
            except Refused as refused:
                first = first or refused
                final = refused.status in (401, 402, 403, 429) or is_too_long(refused)
                next_one = None if final else weaker(dialect, refused, self._endpoint == "auto")
                if next_one is None:
                    raise await self._explained(first if refused.status == 404 else refused, state) from None
                dialect = next_one

    async def _try_seeds(self, state: State, dialect: Dialect, first: Answer) -> Dialect:
        """Sees whether the server draws several completions at once, and whether a seed gives the same ones again."""
        number = 2 if dialect.native_n else 1
        again = await self._probe(state, dialect, number, _PROBE_SEED)
        texts = [choice.text for choice in first.choices]
        reproducible = dialect.seed and texts == [choice.text for choice in again.choices]
        native = dialect.native_n and len(texts) == number
        if native and len(set(texts)) == 1 and reproducible:
            # Two draws alike: the model is that sure here, or the server gives every completion the same seed.
            other = await self._probe(state, dialect, 1, _PROBE_SEED + 1)
            native = other.choices[0].text == texts[0]
        opening = texts[0].lstrip()
        head = state.program.lstrip().splitlines()[:1]
        restarts = dialect.chat and (prompting.FENCE in texts[0] or opening.startswith(head[0] if head else "\0"))
        if not reproducible:
            _log.warning(
                "%s gave different completions for one seed: results with it cannot be repeated exactly",
                self._client.base_url,
            )
        if restarts:
            _log.warning(
                "%s starts a new answer instead of going on with the given one: searches from partial programs need a "
                "server with /completions, or one that continues a chat's last message (vLLM)",
                self._client.base_url,
            )
        return replace(dialect, native_n=native, reproducible=reproducible, restarts=restarts)


def _placed(choice: Choice, text: str) -> tuple[tuple[float, ...] | None, tuple[int, ...] | None]:
    """The log-probabilities of a choice, and where its tokens end if their texts make up its text."""
    if choice.logprobs is None:
        return None, None
    pieces = choice.pieces or ()
    ends = tuple(min(end, len(text)) for end in itertools.accumulate(map(len, pieces)))
    # The texts of special tokens, and of a stop string, may follow.
    whole = "".join(pieces).startswith(choice.text) and choice.text.startswith(text)
    return choice.logprobs, ends if whole else None
