"""Every engine keeps the same contract (`engine_contract`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_contract import CHECKS, PARAMS, Subject, check_stop_strings, requests

from restrl.policy.scripted import ScriptedPolicy
from restrl.policy.transformers_engine import TransformersPolicy


def scripted(model_dir: Path) -> Iterator[Subject]:
    tails = [(f"{i}{' + x' * i}\n", 1.0 + i) for i in range(30)]
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


ENGINES: dict[str, Callable[[Path], Iterator[Subject]]] = {
    "scripted": scripted,
    "transformers": transformers,
    "transformers-generate": generate,
}


@pytest.fixture(scope="module", params=ENGINES)
def subject(request: pytest.FixtureRequest, tiny_plain_model_dir: Path) -> Iterator[Subject]:
    yield from ENGINES[request.param](tiny_plain_model_dir)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(subject: Subject, check: Callable[[Subject], None]) -> None:
    check(subject)


def test_stop_strings_cut_the_text(subject: Subject) -> None:
    free = subject.policy.sample(requests(6), PARAMS)
    candidates = [c.text[3:5] for completions in free for c in completions if c.text[3:5].isascii() and len(c.text) > 6]
    check_stop_strings(subject, max(set(candidates), key=candidates.count))
