"""Kept keys and values: the same completions as without, fewer tokens run, never more kept than allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem

from restrl.actions import split_actions
from restrl.errors import ConfigError
from restrl.policy.path_cache import PathCache
from restrl.policy.prompting import encode_prompt
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Completion, SampleRequest, SamplingParams, State

PARAMS = SamplingParams(temperature=0.9, max_new_tokens=16)
PATH = "    total = 0\n    for x in xs:\n        total += x\n    return total\n"


def _states(number: int) -> list[list[State]]:
    """Rounds of a search: in each, one state of every problem, a line further down than in the round before."""
    actions = split_actions(PATH)
    problems = [make_problem(f"p/{i}", preamble="#" * (5 * i), stop_strings=()) for i in range(number)]
    return [[State(p, "".join(actions[:depth])) for p in problems] for depth in range(len(actions))]


def _run(policy: TransformersPolicy) -> list[list[list[Completion]]]:
    return [
        policy.sample([SampleRequest(state, 2, 10 * depth + i) for i, state in enumerate(states)], PARAMS)
        for depth, states in enumerate(_states(3))
    ]


@pytest.mark.parametrize("tokens", [100_000, 150, 1])
def test_the_same_completions_as_without(tiny_plain_model_dir: Path, tokens: int) -> None:
    plain = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    kept = TransformersPolicy(tiny_plain_model_dir, device="cpu", path_cache_tokens=tokens)
    expected, found = _run(plain), _run(kept)
    for left, right in zip(expected, found, strict=True):
        assert [[c.token_ids for c in cs] for cs in left] == [[c.token_ids for c in cs] for cs in right]
        assert [[c.text for c in cs] for cs in left] == [[c.text for c in cs] for cs in right]
        for a, b in zip((c for cs in left for c in cs), (c for cs in right for c in cs), strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-3)
    run, run_with = plain.stats.prompt_tokens_prefilled, kept.stats.prompt_tokens_prefilled
    if tokens == 100_000:
        lengths = [[len(encode_prompt(state, plain.tokenizer)) for state in states] for states in _states(3)]
        # The first round whole, then of every state only what it has over its parent.
        assert run_with == sum(lengths[-1]) < run == sum(map(sum, lengths))
        first = found[1][0][0]
        assert first.reused_prompt_tokens == lengths[0][0]
    else:
        assert run_with <= run
        assert (run_with < run) == (tokens == 150)


def test_the_same_prompt_again_runs_one_token(tiny_plain_model_dir: Path) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu", path_cache_tokens=1000)
    request = SampleRequest(State(make_problem()), 2, 1)
    first = policy.sample([request], PARAMS)
    before = policy.stats.prompt_tokens_prefilled
    again = policy.sample([request], PARAMS)
    assert [c.text for c in first[0]] == [c.text for c in again[0]]
    assert policy.stats.prompt_tokens_prefilled == before + 1
    assert [c.prompt_tokens - c.reused_prompt_tokens for c in again[0]] == [1, 0]
    policy.forget()
    policy.sample([request], PARAMS)
    assert policy.stats.prompt_tokens_prefilled == 2 * before + 1


def test_generate_keeps_nothing(tiny_plain_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match="path_cache_tokens is 8"):
        TransformersPolicy(tiny_plain_model_dir, device="cpu", decode_loop="generate", path_cache_tokens=8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), max_size=25), st.integers(1, 14))
def test_it_finds_the_longest_kept_beginning(prompts: list[list[int]], room: int) -> None:
    cache = PathCache(room)
    order: list[tuple[int, ...]] = []  # the plain model: what is kept, the least recently used first
    for ids in prompts:
        prompt = tuple(ids)
        begins = [kept for kept in order if prompt[: len(kept)] == kept]
        used = max(begins, key=len, default=())
        found = cache.find(prompt)
        # A whole prompt gives all but its last token; one of a single token gives nothing.
        shorter = max((kept for kept in begins if kept != prompt), key=len, default=())
        expected = len(prompt) - 1 if used == prompt else len(used)
        assert found.length == expected
        if found.states is not None:
            values = [int(value) for value in found.states[0, 0, 0, :, 0]]
            assert values == list(prompt[:expected])
        for touched in ([used] if used else []) + ([shorter] if used == prompt and len(prompt) == 1 else []):
            if touched in order:
                order.remove(touched)
                order.append(touched)
        states = torch.tensor(ids, dtype=torch.float32).reshape(1, 1, 1, -1, 1).repeat(1, 2, 1, 1, 1)
        cache.keep(prompt, states)
        if prompt not in order and len(prompt) <= room:
            order.append(prompt)
        while sum(map(len, order)) > room:
            order.pop(0)
        assert cache.tokens == sum(map(len, order)) <= room
