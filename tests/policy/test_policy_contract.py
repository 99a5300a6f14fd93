"""Every engine keeps the same contract (`engine_contract`)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import vllm_stand_in
from engine_contract import CHECKS, PARAMS, SHORT_CHECKS, Subject, check_counts, check_stop_strings, requests
from openai_server import MODEL, Quirks, StandInServer

from restrl.policy.openai_engine import OpenAIPolicy
from restrl.policy.scripted import ScriptedPolicy
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.policy.vllm_engine import VLLMPolicy


def scripted(model_dir: Path) -> Iterator[Subject]:
    tails = [(f"{i}{' + x' * (i % 7)}\n", 1.0 + i) for i in range(30)]
    yield Subject(ScriptedPolicy(lambda problem_id, code: tails))


def transformers(model_dir: Path, **settings: Any) -> Iterator[Subject]:
    policy = TransformersPolicy(model_dir, device="cpu", **settings)
    seen: list[tuple[int, ...]] = []
    row_of = policy._row

    def row(request: Any, sample: int, prompt: tuple[int, ...], params: Any) -> Any:
        seen.append(prompt)
        return row_of(request, sample, prompt, params)

    policy._row = row  # type: ignore[method-assign]

    def prompts() -> set[str]:
        decoded = {policy.tokenizer.decode(list(ids)) for ids in seen}
        seen.clear()
        return decoded

    yield Subject(policy, prompts, policy.tokenizer)


def generate(model_dir: Path) -> Iterator[Subject]:
    yield from transformers(model_dir, decode_loop="generate")


def openai(model_dir: Path, quirks: Quirks | None = None, **settings: Any) -> Iterator[Subject]:
    engine = TransformersPolicy(model_dir, device="cpu")
    with (
        StandInServer(engine.model, engine.tokenizer, quirks) as server,
        OpenAIPolicy(MODEL, server.url, concurrency=8, **settings) as policy,
    ):
        policy.fits(requests()[0].state)
        policy.sample(requests()[:1], PARAMS)
        server.prompts.clear()

        def prompts() -> set[str]:
            seen = set(server.prompts)
            server.prompts.clear()
            return seen

        yield Subject(policy, prompts, engine.tokenizer)


def openai_with_tokenizer(model_dir: Path) -> Iterator[Subject]:
    yield from openai(model_dir, tokenizer_dir=model_dir, logprobs="server")


def openai_one_by_one(model_dir: Path) -> Iterator[Subject]:
    yield from openai(model_dir, Quirks(refuses=("logprobs", "n"), silent=True))


def path_cache(model_dir: Path) -> Iterator[Subject]:
    yield from transformers(model_dir, path_cache_tokens=200)


def vllm(model_dir: Path) -> Iterator[Subject]:
    with vllm_stand_in.available(), tempfile.TemporaryDirectory() as folder:
        policy = VLLMPolicy(vllm_stand_in.suitable_model(model_dir, Path(folder)), dtype="float32", enforce_eager=True)
        seen: list[str] = []
        generate_of = policy._llm.generate

        def generate(prompts: Any, *rest: Any, **settings: Any) -> Any:
            seen.extend(policy.tokenizer.decode(prompt["prompt_token_ids"]) for prompt in prompts)
            return generate_of(prompts, *rest, **settings)

        def prompts() -> set[str]:
            found = set(seen)
            seen.clear()
            return found

        policy._llm.generate = generate
        with policy:
            yield Subject(policy, prompts, policy.tokenizer)


ENGINES: dict[str, Callable[[Path], Iterator[Subject]]] = {
    "scripted": scripted,
    "transformers": transformers,
    "openai": openai_with_tokenizer,
    "vllm": vllm,
}
# Ways in which an engine does the same: what they might get wrong is checked.
VARIANTS: dict[str, Callable[[Path], Iterator[Subject]]] = {
    "transformers-path-cache": path_cache,
    "openai-text": openai,
    "openai-one-by-one": openai_one_by_one,
}


@pytest.fixture(scope="module", params=ENGINES)
def subject(request: pytest.FixtureRequest, tiny_plain_model_dir: Path) -> Iterator[Subject]:
    yield from ENGINES[request.param](tiny_plain_model_dir)


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest, tiny_plain_model_dir: Path) -> Iterator[Subject]:
    yield from VARIANTS[request.param](tiny_plain_model_dir)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(subject: Subject, check: Callable[[Subject], None]) -> None:
    check(subject)


@pytest.mark.parametrize("check", SHORT_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract_of_variants(variant: Subject, check: Callable[[Subject], None]) -> None:
    check(variant)


def test_generate_counts_what_it_ran(tiny_plain_model_dir: Path) -> None:
    for one in generate(tiny_plain_model_dir):
        check_counts(one)


def test_stop_strings_cut_the_text(subject: Subject) -> None:
    free = subject.policy.sample(requests(5), PARAMS)
    candidates = [c.text[3:5] for completions in free for c in completions if c.text[3:5].isascii() and len(c.text) > 6]
    check_stop_strings(subject, max(set(candidates), key=candidates.count))
