"""The prompts of every benchmark format, for base models and for four chat templates, as golden files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_prompts
import pytest
from architectures import ARCHITECTURES, save_architecture

from restrl.policy.model_dir import load_tokenizer
from restrl.policy.prompting import build_prompt, encode_prompt, stop_strings
from restrl.policy.text import find_stop
from restrl.types import State

PROBLEMS = golden_prompts.problems()


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root: Path = tmp_path_factory.mktemp("architectures")
    return {name: load_tokenizer(save_architecture(root / name, name)) for name in ARCHITECTURES}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_prompts_are_those_of_the_golden_file(name: str, tokenizers: dict[str, Any]) -> None:
    golden = (golden_prompts.GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert golden_prompts.page(PROBLEMS[name], tokenizers) == golden, (
        f"the prompts of {name} have changed: run python tests/golden_prompts.py and read the difference"
    )


def test_every_golden_file_has_its_format() -> None:
    assert {path.stem for path in golden_prompts.GOLDEN.glob("*.txt")} == set(PROBLEMS)


def test_every_set_has_its_golden_prompts() -> None:
    from restrl.problems import PROBLEM_SETS

    read = {name for name, entry in PROBLEM_SETS.items() if entry.generate is None}
    assert read == set(golden_prompts.SETS)
    assert {item for formats in golden_prompts.SETS.values() for item in formats} | {"own"} == set(PROBLEMS)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_special_token_of_a_prompt_is_one_token_and_none_is_added(name: str, tokenizers: dict[str, Any]) -> None:
    for style in ("plain", "chat"):
        for tokenizer in tokenizers.values():
            state = State(PROBLEMS[name], "    x = 1\n")
            text, ids = build_prompt(state, tokenizer, style), encode_prompt(state, tokenizer, style)
            for token in (*tokenizer.all_special_tokens, "<think>", "</think>"):
                number = tokenizer.get_vocab().get(token)
                added = style == "plain" and token == tokenizer.bos_token
                if number is not None:
                    assert ids.count(number) == text.count(token) + added, (style, tokenizer.name_or_path, token)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_chat_answer_opens_a_fence_with_the_initial_state(name: str, tokenizers: dict[str, Any]) -> None:
    problem = PROBLEMS[name]
    for tokenizer in tokenizers.values():
        state = State(problem, "    x = 1\n")
        prompt = build_prompt(state, tokenizer, "chat")
        assert prompt.endswith(f"{problem.chat_opening}```python\n{problem.initial_state}    x = 1\n")
        ids = encode_prompt(state, tokenizer, "chat")
        assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == prompt
        assert ids.count(tokenizer.bos_token_id) == (tokenizer.bos_token_id is not None)
        assert "\n```" in stop_strings(state, tokenizer, "chat")
        # A base model is shown the task once, and no turn.
        plain = build_prompt(state, tokenizer, "plain")
        assert plain == problem.preamble + problem.initial_state + "    x = 1\n"


@pytest.mark.parametrize("name", PROBLEMS)
def test_no_stop_string_cuts_the_canonical_solution(name: str, tokenizers: dict[str, Any]) -> None:
    problem = PROBLEMS[name]
    if problem.canonical_solution is None:
        pytest.skip("the format has no solutions")
    code = problem.canonical_solution.removeprefix(problem.initial_state)
    for style in ("plain", "chat"):
        stops = stop_strings(State(problem), tokenizers["qwen"], style)
        assert find_stop("", code, stops) is None
        # In a chat answer the fence ends it there and nowhere else.
        if style == "chat":
            assert find_stop("", code.rstrip("\n") + "\n```\nSo.", stops) == len(code.rstrip("\n"))
