"""Prompts and tokens on the tokenizers of real architectures: nothing lost, nothing doubled, the same everywhere."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest
from architectures import ARCHITECTURES, save_architecture
from tiny_models import make_problem
from tokenizers import Tokenizer

from restrl.policy.model_dir import load_tokenizer
from restrl.policy.prompting import (
    build_prompt,
    check_boundaries,
    encode_prompt,
    encode_state,
    stop_strings,
    warn_about_boundaries,
)
from restrl.policy.text import Detokenizer, StopChecker
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Problem, SampleRequest, SamplingParams, State

NAMES = tuple(ARCHITECTURES)
TEXT = "def f(x):\n    return  x + 1234\n\n\n\tif x == 'it''s':\r\n        # naïve → 中文\n"
CODE = "    total = 0\n    for x in xs:\n        total += x * k\n"


@pytest.fixture(scope="session")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One directory per architecture."""
    return {name: save_architecture(tmp_path_factory.mktemp(name) / "model", name) for name in NAMES}


@pytest.fixture(scope="session")
def tokenizers(model_dirs: dict[str, Path]) -> dict[str, Any]:
    return {name: load_tokenizer(path) for name, path in model_dirs.items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_loader_keeps_the_tokens_of_the_file(name: str, model_dirs, tokenizers) -> None:
    tokenizer = tokenizers[name]
    raw = Tokenizer.from_file(str(model_dirs[name] / "tokenizer.json"))
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == raw.encode(TEXT, add_special_tokens=False).ids
    assert Detokenizer(tokenizer).text(ids[:1], ids[1:]) == TEXT[len("def") :]


@pytest.mark.parametrize(
    ("name", "number", "block"),
    [
        ("qwen", ["1", "2", "3", "4", "5"], ["):\n", "   ", "\n\n"]),
        ("qwen2", ["1", "2", "3", "4", "5"], ["):\n", "   ", "\n\n"]),
        ("llama", ["123", "45"], ["):\n", "   ", "\n\n"]),
        ("deepseek", ["1", "2", "3", "4", "5"], ["):", "\n", "   "]),
    ],
)
def test_digits_and_line_ends_split_as_in_the_real_ones(name: str, number, block, tokenizers) -> None:
    backend = tokenizers[name].backend_tokenizer.pre_tokenizer
    pieces = [piece.replace("Ġ", " ").replace("Ċ", "\n") for piece, _ in backend.pre_tokenize_str("12345")]
    assert pieces == number
    split = backend.pre_tokenize_str("f(x):\n    x = 1\n\n    y")
    pieces = [piece.replace("Ġ", " ").replace("Ċ", "\n") for piece, _ in split]
    assert [piece for piece in block if piece in pieces] == block


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", ["plain", "chat"])
def test_the_beginning_token_is_there_once_where_the_model_has_one(name: str, style: str, tokenizers) -> None:
    tokenizer = tokenizers[name]
    ids = encode_prompt(State(make_problem(), CODE), tokenizer, style)
    if name.startswith("qwen"):
        assert tokenizer.bos_token_id is None
        assert tokenizer.convert_tokens_to_ids("<|endoftext|>") not in ids
    else:
        assert ids[0] == tokenizer.bos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in (ids if style == "plain" else ids[-20:])


SPECIALS = {
    "qwen": ["<|im_start|>", "<|im_end|>", "<|im_start|>"],
    "qwen2": ["<|im_start|>", "<|im_end|>", "<|im_start|>", "<|im_end|>", "<|im_start|>"],
    "llama": [
        "<|begin_of_text|>",
        *["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"] * 2,
        "<|start_header_id|>",
        "<|end_header_id|>",
    ],
    "deepseek": ["<｜begin▁of▁sentence｜>"],
}


@pytest.mark.parametrize("name", NAMES)
def test_chat_prompts_hold_the_turns_special_tokens_and_no_others(name: str, tokenizers) -> None:
    tokenizer = tokenizers[name]
    state = State(make_problem(), CODE)
    ids = encode_prompt(state, tokenizer)
    special = {tokenizer.convert_tokens_to_ids(text) for text in ARCHITECTURES[name].specials}
    assert [tokenizer.convert_ids_to_tokens(i) for i in ids if i in special] == SPECIALS[name]
    # Nothing of the text is lost on the way through the tokens.
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    assert text == build_prompt(state, tokenizer)
    assert text.endswith("```python\n" + state.program)
    finished = encode_state(dataclasses.replace(state, terminal=True), tokenizer)
    assert finished == [*ids, tokenizer.eos_token_id]


def test_thinking_is_off_and_the_day_does_not_matter(tokenizers) -> None:
    prompts = {name: build_prompt(State(make_problem()), tokenizers[name]) for name in NAMES}
    assert "<|im_start|>assistant\n<think>\n\n</think>\n\n```python\n" in prompts["qwen"]
    assert not any("think" in prompts[name] for name in NAMES if name != "qwen")
    assert "<|im_start|>assistant\n```python\n" in prompts["qwen2"]
    assert "Today: 26 Jul 2024\n" in prompts["llama"]
    assert "### Response:\n```python\n" in prompts["deepseek"]


def test_line_ends_stay_apart_but_before_blank_lines(tokenizers, caplog: pytest.LogCaptureFixture) -> None:
    assert check_boundaries(tokenizers["deepseek"]).ok
    for name in ("qwen", "qwen2", "llama"):
        report = check_boundaries(tokenizers[name])
        assert not report.ok
        assert all(rest.startswith("\n") for _, rest in report.failures)
        assert report.serious == ()
    with caplog.at_level(logging.WARNING):
        for tokenizer in tokenizers.values():
            warn_about_boundaries(tokenizer)
    assert not caplog.records


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("style", ["plain", "chat"])
def test_training_values_and_decoding_see_the_same_tokens(name: str, style: str, model_dirs, tokenizers) -> None:
    from restrl.grpo.rollout import TrainingSet
    from restrl.value.encoding import encode_outputs

    seen: list[tuple[int, ...]] = []

    class Recorder(TransformersPolicy):
        def _batches(self, requests: Any, prompts: Any, *rest: Any) -> Any:
            seen.extend(prompts)
            return super()._batches(requests, prompts, *rest)

    states = [State(make_problem(f"p/{i}"), code) for i, code in enumerate(("", CODE, CODE + "\n    # so\n"))]
    policy = Recorder(model_dirs[name], device="cpu", prompt_style=style)
    policy.sample([SampleRequest(state, 1, 0) for state in states], SamplingParams(max_new_tokens=2))
    training = TrainingSet(states, [0, 1, 2], tokenizers[name], style, 0)
    assert [list(ids) for ids in seen] == [encode_prompt(state, tokenizers[name], style) for state in states]
    assert [training.prompt_ids(row) for row in range(3)] == [list(ids) for ids in seen]
    for state, ids in zip(states, seen, strict=True):
        (sequence,) = encode_outputs(state, [len(state.code)], [0], tokenizers[name], style)
        assert list(sequence.ids) == list(ids)


@pytest.mark.parametrize("name", NAMES)
def test_a_chat_answer_ends_at_its_fence_and_what_is_before_is_the_code(name: str, tokenizers) -> None:
    tokenizer = tokenizers[name]
    problem: Problem = dataclasses.replace(make_problem(), chat_stop_strings=("\nprint(",))
    state = State(problem, CODE)
    prompt = encode_prompt(state, tokenizer)
    stops = stop_strings(state, tokenizer)
    assert stops == ("\nprint(", "\n```")
    answer = "    return total\n\n\ndef helper(x):\n    return '``'\n```\n\nThis adds `x`.\n```python\nfails(\n```\n"
    ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
    checker = StopChecker(Detokenizer(tokenizer), prompt, state.code, stops)
    length = next(i for i in range(1, len(ids) + 1) if checker.hits(ids[:i]))
    text = Detokenizer(tokenizer).text(prompt, ids[:length])
    # The generation ends right at the fence (whose token may hold the line end after it), and the text before it stays.
    assert text.rstrip("\n").endswith("'``'\n```")
    assert checker.cut(text) == "    return total\n\n\ndef helper(x):\n    return '``'"


@pytest.mark.parametrize("name", NAMES)
def test_every_declared_end_of_sequence_ends_a_completion(name: str, model_dirs, tokenizers) -> None:
    from restrl.policy.transformers_engine import eos_ids

    policy = TransformersPolicy(model_dirs[name], device="cpu")
    wanted = {tokenizers[name].convert_tokens_to_ids(text) for text in ARCHITECTURES[name].ends}
    assert eos_ids(policy.model, tokenizers[name]) >= wanted
    assert None not in wanted
