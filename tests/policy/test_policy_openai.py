"""The client of OpenAI-compatible servers, against a real HTTP server: faults, limits, quirks, errors, costs."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import MODEL, Fault, Quirks, StandInServer
from tiny_models import make_problem

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy import PolicyConfig, close_policy, load_policy, open_policy
from restrl.policy.http_client import Retrying
from restrl.policy.openai_engine import OpenAIPolicy, Prices
from restrl.policy.openai_wire import Answer, Choice
from restrl.policy.prompting import chat_messages
from restrl.policy.rate_limit import RateLimiter
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import SampleRequest, SamplingParams, State

PARAMS = SamplingParams(temperature=0.9, max_new_tokens=8)
QUICK = Retrying(attempts=4, base_s=0.01, cap_s=0.02, timeout_s=5.0)
STATES = [State(make_problem(f"p/{i}", preamble="#" * i, stop_strings=())) for i in range(3)]
REQUESTS = [SampleRequest(state, 2, 40 + i) for i, state in enumerate(STATES)]


@pytest.fixture(scope="module")
def engine(tiny_plain_model_dir: Path) -> TransformersPolicy:
    return TransformersPolicy(tiny_plain_model_dir, device="cpu")


@pytest.fixture
def server(engine: TransformersPolicy) -> Iterator[StandInServer]:
    with StandInServer(engine.model, engine.tokenizer) as stand_in:
        yield stand_in


def _policy(server: StandInServer, **settings: Any) -> OpenAIPolicy:
    return OpenAIPolicy(MODEL, server.url, **{"retrying": QUICK, "concurrency": 8, **settings})


def _texts(policy: OpenAIPolicy, requests: list[SampleRequest] = REQUESTS) -> list[list[str]]:
    return [[c.text for c in completions] for completions in policy.sample(requests, PARAMS)]


def _error(policy: OpenAIPolicy, kind: type[Exception]) -> str:
    with policy, pytest.raises(kind) as caught:
        policy.sample(REQUESTS, PARAMS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_faults_are_met_and_change_nothing(server: StandInServer) -> None:
    with _policy(server) as policy:
        expected = _texts(policy)
    faults = [
        Fault(429, headers={"Retry-After": "0.05"}),
        Fault(500),
        Fault(503, body="<html>busy</html>"),
        Fault(200, body="{not json"),
        Fault(200, body='{"choices": []}'),
        Fault(200, body='{"choices": [{"index": 0}]}'),
        Fault(drop=True),
    ]
    with _policy(server) as policy:
        policy.fits(STATES[0])
        _texts(policy, REQUESTS[:1])
        for fault in faults:
            before = policy.stats.retries
            server.faults = [fault]
            assert _texts(policy) == expected
            assert policy.stats.retries == before + 1
        server.faults = [*faults[:3]]
        assert _texts(policy) == expected
        assert not server.faults
        assert policy.stats.waited_s > 0


def test_a_server_that_keeps_failing_is_an_error_that_says_so(server: StandInServer) -> None:
    server.faults = [Fault(500)] * 4
    assert "failed 4 times, last with status 500: not now" in _error(_policy(server), EngineError)
    assert len(server.bodies) == 4
    server.faults = [Fault(delay_s=0.5)] * 2
    slow = Retrying(attempts=2, base_s=0.01, timeout_s=0.1)
    assert "no answer within 0.1 s" in _error(_policy(server, retrying=slow), EngineError)
    time.sleep(0.5)
    server.faults = [Fault(200, body="hello")] * 4
    assert "makes no sense" in _error(_policy(server), EngineError)
    gone = OpenAIPolicy(MODEL, "http://127.0.0.1:9/v1", retrying=QUICK)
    assert "http://127.0.0.1:9/v1/completions failed 4 times" in _error(gone, EngineError)


def test_waits_as_long_as_the_server_asks(server: StandInServer) -> None:
    with _policy(server) as policy:
        _texts(policy, REQUESTS[:1])
        for headers in ({"Retry-After": "0.3"}, {"retry-after-ms": "300"}):
            server.times.clear()
            server.faults = [Fault(429, headers=headers)]
            _texts(policy, REQUESTS[:1])
            assert server.times[1] - server.times[0] >= 0.3
        server.times.clear()
        server.faults = [
            Fault(500, headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "250ms"})
        ]
        _texts(policy, REQUESTS[:1])
        assert server.times[1] - server.times[0] >= 0.25
    server.faults = [Fault(429, headers={"Retry-After": "86400"})]
    assert "asks to come back in 86400 s" in _error(_policy(server), EngineError)


def test_no_more_requests_at_once_than_allowed(engine: TransformersPolicy) -> None:
    requests = [SampleRequest(STATES[0], 1, seed) for seed in range(12)]
    with (
        StandInServer(engine.model, engine.tokenizer, pause_s=0.03) as server,
        _policy(server, concurrency=3) as policy,
    ):
        policy.sample(requests, PARAMS)
        assert server.most_at_once == 3


def test_the_window_of_a_minute_is_never_overrun() -> None:
    now = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def run(limiter: RateLimiter, sizes: list[int], used: int | None = None) -> list[float]:
        times = []
        for size in sizes:
            booked = await limiter.acquire(size)
            if used is not None:
                booked.tokens = used
            times.append(now)
            await sleep(1.0)
        return times

    times = asyncio.run(run(RateLimiter(3, 0, clock=lambda: now, sleep=sleep), [1] * 10))
    assert times[:3] == [0.0, 1.0, 2.0]
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[3:], strict=False))
    assert times[-1] < 4 * 60
    now = 0.0
    times = asyncio.run(run(RateLimiter(0, 100, clock=lambda: now, sleep=sleep), [40] * 6))
    assert all(later - earlier >= 60 for earlier, later in zip(times, times[2:], strict=False))
    now = 0.0
    # What a request did not use is given back: five of 20 used tokens fit where two of 40 booked ones did.
    times = asyncio.run(run(RateLimiter(0, 100, clock=lambda: now, sleep=sleep), [40] * 4, used=20))
    assert times == [0.0, 1.0, 2.0, 3.0]
    now = 0.0
    # Larger than the limit: alone, and not never.
    assert asyncio.run(run(RateLimiter(0, 10, clock=lambda: now, sleep=sleep), [50, 50])) == [0.0, 60.0]


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(one_choice=True),
        Quirks(same_seed=True),
        Quirks(refuses=("n",)),
        Quirks(refuses=("logprobs", "token_ids")),
        Quirks(max_stops=4),
        Quirks(silent=True),
    ],
    ids=lambda quirks: repr([k for k in quirks.__dataclass_fields__ if getattr(quirks, k) != getattr(Quirks(), k)]),
)
def test_a_server_with_quirks_gives_the_same_completions(
    engine: TransformersPolicy, tiny_plain_model_dir: Path, quirks: Quirks
) -> None:
    problem = make_problem("p/9", stop_strings=("1!", "2!", "3!", "4!", "5!"))
    requests = [*REQUESTS, SampleRequest(State(problem), 2, 50)]
    with StandInServer(engine.model, engine.tokenizer) as server, _policy(server) as policy:
        expected = _texts(policy, requests)
    with (
        StandInServer(engine.model, engine.tokenizer, quirks) as server,
        _policy(server, tokenizer_dir=tiny_plain_model_dir) as policy,
    ):
        assert _texts(policy, requests[::-1]) == expected[::-1]
        assert policy.dialect is not None
        assert policy.dialect.native_n == (not quirks.one_choice and not quirks.same_seed and quirks.refuses != ("n",))
        assert policy.dialect.reproducible


@pytest.mark.parametrize("quirks", [Quirks(ignores_seed=True), Quirks(refuses=("seed",))], ids=["ignored", "refused"])
def test_a_server_without_seeds_is_told_of(
    engine: TransformersPolicy, quirks: Quirks, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        StandInServer(engine.model, engine.tokenizer, quirks) as server,
        _policy(server) as policy,
        caplog.at_level(logging.WARNING),
    ):
        assert [len(row) for row in _texts(policy)] == [2, 2, 2]
        assert policy.dialect is not None and not policy.dialect.reproducible
    assert "cannot be repeated exactly" in caplog.text


def test_a_chat_goes_on_with_the_given_answer(engine: TransformersPolicy) -> None:
    state = State(make_problem(stop_strings=()), "    total = 0\n")
    for quirks in (Quirks(no_completions=True), Quirks(no_completions=True, strips=True)):
        with StandInServer(engine.model, engine.tokenizer, quirks) as server, _policy(server) as policy:
            (completions,) = policy.sample([SampleRequest(state, 3, 1)], PARAMS)
            assert policy.dialect is not None and policy.dialect.chat and not policy.dialect.restarts
            assert len(completions) == 3
            path, _, body = server.bodies[-1]
            assert (path, body["messages"]) == ("/v1/chat/completions", chat_messages(state))
            given = state.program.strip() if quirks.strips else state.program
            assert server.prompts[-1].endswith("```python\n" + given)


def test_a_chat_that_starts_over_is_cut_to_what_is_new(
    engine: TransformersPolicy, caplog: pytest.LogCaptureFixture
) -> None:
    quirks = Quirks(no_completions=True, restarts=True, refuses=("continue_final_message",))
    state = State(make_problem(stop_strings=()), "    total = 0\n")
    with (
        StandInServer(engine.model, engine.tokenizer, quirks) as server,
        _policy(server) as policy,
        caplog.at_level(logging.WARNING),
    ):
        (completions,) = policy.sample([SampleRequest(state, 3, 1)], PARAMS)
    assert policy.dialect is not None and policy.dialect.restarts
    assert "starts a new answer" in caplog.text
    for completion in completions:
        assert "```" not in completion.text and "Here it is" not in completion.text
        assert not completion.text.startswith("def f") and "total = 0" not in completion.text


def test_the_key_is_sent_and_never_shown(
    engine: TransformersPolicy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with StandInServer(engine.model, engine.tokenizer, Quirks(key="sk-secret")) as server, caplog.at_level(1):
        monkeypatch.setenv("MY_KEY", "sk-secret")
        with _policy(server, api_key_env="MY_KEY") as policy:
            assert len(_texts(policy)) == 3
            assert "sk-secret" not in repr(policy) + repr(vars(policy))
        monkeypatch.setenv("MY_KEY", "sk-wrong")
        message = _error(_policy(server, api_key_env="MY_KEY"), ConfigError)
        assert "401" in message and "MY_KEY (which is set)" in message and "sk-wrong" not in message
        monkeypatch.delenv("MY_KEY")
        assert "MY_KEY (which is not set)" in _error(_policy(server, api_key_env="MY_KEY"), ConfigError)
    assert "sk-" not in caplog.text
    assert server.bodies[0][1]["Authorization"] == "Bearer sk-secret"


def test_errors_say_what_to_do(engine: TransformersPolicy, tiny_plain_model_dir: Path) -> None:
    with StandInServer(engine.model, engine.tokenizer, Quirks(context=64)) as server:
        message = _error(OpenAIPolicy("other", server.url, retrying=QUICK), ModelError)
        assert "has no model 'other'" in message and "it has tiny" in message
        assert len({body["model"] for _, _, body in server.bodies}) == 1
        long = State(make_problem("p/long", preamble="a = 1\n" * 30))
        too_long = r"'p/long' is too long for 'tiny'.*context length is 64"
        with _policy(server) as policy, pytest.raises(ModelError, match=too_long):
            policy.sample([SampleRequest(long, 1, 0)], PARAMS)
        # With the tokenizer it is known beforehand, and a length is cut to what fits.
        with _policy(server, tokenizer_dir=tiny_plain_model_dir) as policy:
            assert policy.fits(STATES[0]) and not policy.fits(long)
            (completions,) = policy.sample([SampleRequest(STATES[0], 4, 0)], SamplingParams(1.0, 1.0, 1000))
            assert max(c.num_tokens + c.prompt_tokens for c in completions) <= 64
        server.faults = [Fault(429, body='{"error": {"message": "You exceeded your current quota", "type": "x"}}')]
        assert "is used up" in _error(_policy(server), EngineError)
        server.faults = [Fault(422, body='{"detail": [{"msg": "odd"}]}')] * 20
        assert "422" in _error(_policy(server, endpoint="completions"), EngineError)
    for url in ("", "localhost:8000", "http://user:pw@host/v1"):
        with pytest.raises(ConfigError, match=r"policy\.base_url"):
            OpenAIPolicy(MODEL, url)
    with pytest.raises(ConfigError) as caught:
        OpenAIPolicy(MODEL, "http://user:pw@host/v1")
    assert "pw" not in str(caught.value)
    with pytest.raises(ConfigError, match="endpoint is 'x'; allowed: auto"):
        OpenAIPolicy(MODEL, "http://host/v1", endpoint="x")
    with pytest.raises(ConfigError, match="concurrency is 0"):
        OpenAIPolicy(MODEL, "http://host/v1", concurrency=0)


def test_costs_follow_the_prices(server: StandInServer) -> None:
    with _policy(server, prices=Prices(2.0, 8.0, 0.5)) as policy:
        policy.sample(REQUESTS, PARAMS)
        policy.stats.cost = 0.0
        results = policy.sample(REQUESTS, PARAMS)
        expected = 0.0
        for completions in results:
            prompt, cached = completions[0].prompt_tokens, completions[0].reused_prompt_tokens
            assert cached == prompt // 16 * 16 > 0  # the server's cache
            assert completions[1].reused_prompt_tokens == prompt  # the other choice of the same request
            expected += (prompt - cached) * 2.0 + cached * 0.5 + sum(c.num_tokens for c in completions) * 8.0
        assert policy.stats.cost == pytest.approx(expected / 1e6)
        assert sum(c.cost for c in itertools.chain(*results)) == pytest.approx(policy.stats.cost)
    assert Prices(2.0, 8.0).of_prompt(1_000_000, 500_000) == 2.0


@pytest.mark.parametrize("chat", [False, True])
def test_log_probabilities_only_where_they_are_those_sampled_from(engine: TransformersPolicy, chat: bool) -> None:
    request = REQUESTS[:1]
    cases = [("server", 0.9, True)] if chat else [("auto", 1.0, True), ("auto", 0.9, False), ("off", 1.0, False)]
    for setting, temperature, known in cases:
        quirks = Quirks(no_completions=chat)
        with (
            StandInServer(engine.model, engine.tokenizer, quirks) as server,
            _policy(server, logprobs=setting) as policy,
        ):
            (completions,) = policy.sample(request, SamplingParams(temperature, 1.0, 8))
        for completion in completions:
            assert (completion.token_logprobs is not None) == known
            if known:
                assert completion.logprob == pytest.approx(sum(completion.token_logprobs or ()))
                # Where tokens share a character, nobody can say which of them ends it.
                assert (completion.token_ends is None) <= ("\ufffd" in completion.text)
                assert completion.token_ends is None or completion.token_ends[-1] == len(completion.text)


def test_tokens_of_choices_sum_up() -> None:
    def counts(total: int | None, *choices: tuple[int, bool]) -> list[int]:
        return Answer(tuple(Choice("x" * n, done) for n, done in choices), 5, 0, total).tokens_of_choices(10)

    assert counts(7, (20, True)) == [7]
    assert counts(13, (9, False), (4, True)) == [10, 3]
    assert counts(12, (30, True), (10, True)) == [9, 3]
    assert counts(12, (40, True), (0, True)) == [10, 2]
    assert sum(counts(11, (3, True), (5, True), (0, True))) == 11
    assert counts(None, (9, True), (0, True), (3, False)) == [3, 1, 10]
    assert counts(4, (3, False), (3, False)) == [2, 2]


def test_it_can_be_called_from_a_running_loop_and_not_after_its_end(server: StandInServer) -> None:
    policy = _policy(server)

    async def inside() -> list[list[str]]:
        return _texts(policy)

    assert asyncio.run(inside()) == _texts(policy)
    policy.close()
    policy.close()
    with pytest.raises(EngineError, match="was closed"):
        policy.sample(REQUESTS, PARAMS)


def test_a_policy_by_name(server: StandInServer) -> None:
    config = PolicyConfig(attempts=2, price_per_million_input=3.0)
    policy = open_policy(f"openai:{MODEL}@{server.url}", config)
    assert isinstance(policy, OpenAIPolicy)
    assert len(policy.sample(REQUESTS, PARAMS)) == 3
    assert policy.stats.cost > 0
    close_policy(policy)
    # A path type has folded the slashes of the address.
    folded = open_policy(Path(f"openai:{MODEL}@{server.url}"), config)
    assert len(folded.sample(REQUESTS[:1], PARAMS)) == 1
    close_policy(folded)
    with pytest.raises(ConfigError, match="names no model"):
        open_policy("openai:")
    with pytest.raises(ConfigError, match=r"policy\.base_url is ''"):
        load_policy(PolicyConfig(engine="openai", model="m"))
    with pytest.raises(ModelError, match="'nowhere' does not exist"):
        open_policy("vllm:nowhere")
