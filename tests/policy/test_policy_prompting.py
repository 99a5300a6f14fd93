"""Prompts: one string for one state, one beginning-of-sequence token, boundaries where the prefix's own tokens end."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem, make_tokenizer
from tokenizers import processors

from restrl.actions import boundaries
from restrl.errors import ConfigError, ModelError
from restrl.policy import POLICY_ENGINES, PolicyConfig, load_policy
from restrl.policy.model_dir import check_model_dir, choose_device, choose_dtype
from restrl.policy.prompting import (
    boundary_positions,
    build_prompt,
    check_boundaries,
    encode_boundaries,
    encode_prompt,
    encode_state,
    resolve_style,
    stop_strings,
    warn_about_boundaries,
)
from restrl.policy.text import Detokenizer, find_stop
from restrl.types import State

PLAIN, BOS, CHAT, MERGING = (
    make_tokenizer(),
    make_tokenizer(bos=True),
    make_tokenizer(chat=True),
    make_tokenizer(merge_newlines=True),
)
CODE = "    total = 0\n\n    # add\n    for x in xs:\n        total += x\n    return total\n"

LINES = st.lists(
    st.sampled_from(
        ["    x = 1\n", "\n", "    # é →\n", "        y += x\n", "\n\n", "    return 'ß'\n", "\t\tz = 3\n"]
    ),
    max_size=6,
).map("".join)


def test_plain_is_preamble_initial_state_and_code() -> None:
    state = State(make_problem(preamble="# hi\n"), CODE)
    assert build_prompt(state, PLAIN) == "# hi\n" + state.program
    assert PLAIN.decode(encode_prompt(state, PLAIN)) == "# hi\n" + state.program


def test_chat_ends_in_an_open_answer_with_the_code_so_far() -> None:
    state = State(make_problem(), CODE)
    prompt = build_prompt(state, CHAT)
    turns = prompt.split("<|im_start|>")
    assert [turn.split("\n", 1)[0] for turn in turns] == ["", "user", "assistant"]
    assert turns[2] == "assistant\n```python\n" + state.program
    assert state.problem.statement in turns[1]
    assert turns[1].count("<|im_end|>") == 1
    assert "<|im_end|>" not in turns[2]


@pytest.mark.parametrize("tokenizer", [PLAIN, BOS, CHAT, MERGING], ids=["plain", "bos", "chat", "merging"])
@given(LINES, st.booleans())
@settings(deadline=None, max_examples=25)
def test_boundaries_are_the_prefixes_tokens(tokenizer: object, code: str, terminal: bool) -> None:
    state = State(make_problem(), code, terminal)
    encoded = encode_boundaries(state, tokenizer)  # type: ignore[arg-type]
    assert list(encoded.ids) == encode_state(state, tokenizer)  # type: ignore[arg-type]
    ends = boundaries(code)
    assert len(encoded.positions) == len(ends) + terminal
    for end, position, exact in zip(ends, encoded.positions, encoded.exact, strict=False):
        alone = encode_prompt(State(state.problem, code[:end]), tokenizer)  # type: ignore[arg-type]
        assert exact == (list(encoded.ids[: len(alone)]) == alone)
        if exact:
            assert position == len(alone) - 1
    if tokenizer is not MERGING:
        assert all(encoded.exact)
    if terminal:
        assert encoded.positions[-1] == len(encoded.ids) - 1
        assert encoded.ids[-1] == tokenizer.eos_token_id  # type: ignore[attr-defined]
        assert encoded.ids[:-1] == tuple(encode_state(State(state.problem, code), tokenizer))  # type: ignore[arg-type]


def test_a_prefix_prompt_is_the_start_of_the_whole() -> None:
    whole = encode_prompt(State(make_problem(), CODE), PLAIN)
    for position, end in zip(boundary_positions(State(make_problem(), CODE), PLAIN), boundaries(CODE), strict=True):
        assert encode_prompt(State(make_problem(), CODE[:end]), PLAIN) == whole[: position + 1]


def test_one_beginning_and_no_end_of_sequence() -> None:
    ids = encode_prompt(State(make_problem(), CODE), BOS)
    assert (ids[0], ids.count(BOS.bos_token_id)) == (BOS.bos_token_id, 1)
    # A template that writes the beginning token itself, on a tokenizer that adds one too.
    both = make_tokenizer(chat=True, bos=True)
    both.chat_template = "<bos>" + both.chat_template
    assert encode_prompt(State(make_problem(), CODE), both).count(both.bos_token_id) == 1
    # A tokenizer that ends every text by itself.
    ending = make_tokenizer()
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", ending.eos_token_id)]
    )
    assert ending("x")["input_ids"][-1] == ending.eos_token_id
    state = State(make_problem(), CODE, True)
    assert ending.eos_token_id not in encode_prompt(state, ending)
    assert encode_state(state, ending).count(ending.eos_token_id) == 1
    assert all(encode_boundaries(state, ending).exact)


def test_the_boundary_check_tells_good_from_bad(caplog: pytest.LogCaptureFixture) -> None:
    assert check_boundaries(PLAIN).ok
    report = check_boundaries(MERGING)
    assert not report.ok
    assert 0 < len(report.failures) <= report.num_checked
    for prefix, rest in report.failures:
        alone = MERGING(prefix)["input_ids"]
        assert MERGING(prefix + rest)["input_ids"][: len(alone)] != alone
    with caplog.at_level(logging.WARNING):
        warn_about_boundaries(PLAIN)
        assert not caplog.records
        warn_about_boundaries(MERGING)
    assert "off-distribution" in caplog.text


def test_styles() -> None:
    assert (resolve_style(PLAIN, "auto"), resolve_style(CHAT, "auto"), resolve_style(CHAT, "plain")) == (
        "plain",
        "chat",
        "plain",
    )
    with pytest.raises(ModelError, match="no chat template"):
        resolve_style(PLAIN, "chat")
    with pytest.raises(ConfigError, match="prompt_style is 'fancy'"):
        resolve_style(PLAIN, "fancy")
    assert "\n```" in stop_strings(State(make_problem()), CHAT)
    assert stop_strings(State(make_problem()), PLAIN) == make_problem().stop_strings


def test_an_offset_outside_the_code_is_an_error() -> None:
    with pytest.raises(ValueError, match="outside the code"):
        encode_boundaries(State(make_problem(), CODE), PLAIN, "auto", [len(CODE) + 1])


@given(st.text("ab\n#", max_size=8), st.text("ab\n#", max_size=8), st.lists(st.text("ab\n#", min_size=1, max_size=3)))
@settings(deadline=None, max_examples=150)
def test_a_stop_is_where_the_whole_text_has_it(context: str, text: str, stops: list[str]) -> None:
    # Brute force: occurrences in context + text that end inside the text.
    whole = context + text
    found = [
        max(i - len(context), 0)
        for stop in stops
        for i in range(len(whole))
        if whole.startswith(stop, i) and i + len(stop) > len(context)
    ]
    assert find_stop(context, text, stops) == (min(found) if found else None)


@given(st.text(max_size=20))
@settings(deadline=None, max_examples=50)
def test_text_comes_back(text: str) -> None:
    detokenizer = Detokenizer(PLAIN)
    prompt, ids = PLAIN("    return x\n")["input_ids"], PLAIN(text)["input_ids"]
    assert detokenizer.text(prompt, ids) == text


def test_a_bad_model_directory_is_one_clear_line(tmp_path: Path, tiny_plain_model_dir: Path) -> None:
    def complaint(path: Path) -> str:
        with pytest.raises(ModelError) as caught:
            check_model_dir(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in complaint(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    assert "is a file" in complaint(tmp_path / "file")
    folder = tmp_path / "model"
    folder.mkdir()
    assert "has no config.json" in complaint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not readable JSON"):
        check_model_dir(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no model_type"):
        check_model_dir(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert "has no weights" in complaint(folder)
    (folder / "model.safetensors").write_bytes(b"")
    assert "has no tokenizer" in complaint(folder)
    with pytest.raises(ModelError, match="cannot load"):
        (folder / "tokenizer.json").write_bytes((tiny_plain_model_dir / "tokenizer.json").read_bytes())
        load_policy(PolicyConfig(model=str(folder), device="cpu"))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"engine is 'vim'"):
        load_policy(PolicyConfig(model="m", engine="vim"))
    with pytest.raises(ConfigError, match=r"model is empty"):
        load_policy(PolicyConfig())
    with pytest.raises(ConfigError, match="device is 'tpu'"):
        choose_device("tpu")
    with pytest.raises(ConfigError, match="dtype is 'int8'"):
        choose_dtype("int8", "cpu")
    assert set(POLICY_ENGINES) >= {"transformers", "scripted"}
