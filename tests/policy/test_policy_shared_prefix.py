"""Rows that share the beginnings of their prompts: the same completions, attention as by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import save_architecture
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from restrl.actions import split_actions
from restrl.errors import ConfigError
from restrl.policy.model_dir import load_tokenizer
from restrl.policy.notes import own_logprobs, token_notes
from restrl.policy.packing import common_prefix
from restrl.policy.prefix_tree import PrefixTree
from restrl.policy.shared_batch import supports_sharing
from restrl.policy.shared_prefix import (
    ATTENTION,
    PrefixStates,
    Sharing,
    attend,
    lowest,
    own_bias,
)
from restrl.policy.shared_prefix import _active as active
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Completion, SampleRequest, SamplingParams, State

PARAMS = SamplingParams(temperature=0.9, max_new_tokens=20)
PATH = "    total = 0\n    for x in xs:\n        total += x\n    return total\n"


def requests(num_problems: int = 3, n: int = 5) -> list[SampleRequest]:
    """States of several trees, at every depth."""
    actions = split_actions(PATH)
    problems = [make_problem(f"p/{i}", preamble="#" * (7 * i), stop_strings=()) for i in range(num_problems)]
    states = [State(p, "".join(actions[:depth])) for p in problems for depth in range(len(actions))]
    return [SampleRequest(state, n, seed) for seed, state in enumerate(states)]


def texts(answers: list[list[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in row] for row in answers]


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen", "deepseek"])
def test_the_same_completions_as_rows_with_their_own_copy(name: str, tmp_path: Path) -> None:
    folder = save_architecture(tmp_path / "model", name)
    shared = TransformersPolicy(folder, device="cpu", decode_loop="shared")
    plain = TransformersPolicy(folder, device="cpu", decode_loop="loop")
    expected, found = plain.sample(requests(), PARAMS), shared.sample(requests(), PARAMS)
    assert texts(found) == texts(expected)
    for row, other in zip(found, expected, strict=True):
        for completion, same in zip(row, other, strict=True):
            assert completion.logprob == pytest.approx(same.logprob, abs=1e-3)
    total = sum(len(plain._encode(request)) * request.n for request in requests())
    for policy in (shared, plain):
        assert policy.stats.prompt_tokens_prefilled + policy.stats.prompt_tokens_reused == total
    assert shared.stats.prompt_tokens_prefilled < 0.7 * plain.stats.prompt_tokens_prefilled


def test_a_batch_too_small_to_share_is_run_as_before(tiny_plain_model_dir: Path) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    assert policy.prefixes is not None
    policy.sample(requests(num_problems=1, n=2), PARAMS)
    assert policy.prefixes.tokens == 0
    policy.sample(requests(), PARAMS)
    assert policy.prefixes.tokens > 0


def test_the_count_of_tokens_does_not_depend_on_what_was_asked_before(tiny_plain_model_dir: Path) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    counts = []
    for _ in range(2):
        answers = policy.sample(requests(), PARAMS)
        counts.append([[c.reused_prompt_tokens for c in row] for row in answers])
    assert counts[0] == counts[1]


def test_changed_weights_are_seen_at_once(tiny_plain_model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_plain_model_dir)
    tokenizer = load_tokenizer(tiny_plain_model_dir)
    policy = TransformersPolicy.from_model(model, tokenizer)
    before = policy.sample(requests(), PARAMS)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    after = policy.sample(requests(), PARAMS)
    assert texts(after) != texts(before)
    fresh = TransformersPolicy.from_model(model, tokenizer, decode_loop="loop")
    assert texts(after) == texts(fresh.sample(requests(), PARAMS))
    assert policy.prefixes is not None and policy.prefixes.tokens == 0


def test_the_models_own_attention_comes_back(tiny_plain_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu", decode_loop="shared")
    policy.sample(requests(), PARAMS)
    assert policy.model.config._attn_implementation == "sdpa"

    def broken(*_: Any) -> Any:
        assert policy.model.config._attn_implementation == ATTENTION
        raise RuntimeError("broken")

    monkeypatch.setattr("restrl.policy.decode_loop.draw_tokens", broken)
    with pytest.raises(RuntimeError, match="broken"):
        policy.sample(requests(), PARAMS)
    assert policy.model.config._attn_implementation == "sdpa"
    assert active.get() is None


def test_a_model_whose_attention_is_another_does_not_share(tiny_plain_model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_plain_model_dir, attn_implementation="eager")
    tokenizer = load_tokenizer(tiny_plain_model_dir)
    assert TransformersPolicy.from_model(model, tokenizer).prefixes is None
    with pytest.raises(ConfigError, match=r"decode_loop is 'shared' but the attention of .* use 'auto' or 'loop'"):
        TransformersPolicy.from_model(model, tokenizer, decode_loop="shared")


def test_a_model_that_does_not_ask_for_the_attention_is_noticed(
    tiny_plain_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_plain_model_dir)
    assert supports_sharing(model)
    layer = model.model.layers[0].self_attn
    own = type(layer).forward

    def stubborn(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is not layer:
            return own(self, *args, **kwargs)
        self.config._attn_implementation = "sdpa"
        try:
            return own(self, *args, **kwargs)
        finally:
            self.config._attn_implementation = ATTENTION

    monkeypatch.setattr(type(layer), "forward", stubborn)
    assert not supports_sharing(model)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_attention_equals_that_over_the_whole_sequence(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    groups = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=7))
    own = data.draw(st.lists(st.integers(1, 4), min_size=len(groups), max_size=len(groups)))
    heads, repeat, size = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5)))
    new = data.draw(st.integers(1, max(own)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    longest, columns = max(lengths), max(own)
    keys, values = normal(len(lengths), heads, longest, size), normal(len(lengths), heads, longest, size)
    bias = torch.zeros(len(lengths), 1, 1, longest, dtype=torch.float64)
    for number, length in enumerate(lengths):
        bias[number, ..., : longest - length] = lowest(torch.float64)
    states = PrefixStates((keys.transpose(2, 3),), (values,), bias, tuple(lengths))
    query = normal(len(groups), heads * repeat, new, size)
    key, value = normal(len(groups), heads, columns, size), normal(len(groups), heads, columns, size)
    mask = own_bias(own, columns, bias)[:, :, columns - new :]
    # A row that is left out on the way must not disturb the others.
    kept = data.draw(st.lists(st.sampled_from(range(len(groups))), min_size=1, unique=True))
    sharing = Sharing(states, groups).keep(kept)
    rows = torch.tensor(kept)
    token = active.set(sharing)
    try:
        module: Any = type("Layer", (), {"layer_idx": 0})()
        out, _ = attend(module, query[rows], key[rows], value[rows], mask[rows], scaling=0.3)
    finally:
        active.reset(token)
    assert out.shape == (len(kept), new, heads * repeat, size)
    for place, row in enumerate(kept):
        group = groups[row]
        for head in range(heads * repeat):
            part = slice(longest - lengths[group], None)
            all_keys = torch.cat([keys[group, head // repeat, part], key[row, head // repeat]])
            all_values = torch.cat([values[group, head // repeat, part], value[row, head // repeat]])
            for t in range(new):
                column = columns - new + t
                if column < columns - own[row]:
                    continue  # padding
                seen = [*range(lengths[group]), *(lengths[group] + c for c in range(columns - own[row], column + 1))]
                scores = [0.3 * float(query[row, head, t] @ all_keys[i]) for i in seen]
                weights = [math.exp(score - max(scores)) for score in scores]
                expected = sum(w * all_values[i] for w, i in zip(weights, seen, strict=True)) / sum(weights)
                assert torch.allclose(out[place, t, head], torch.as_tensor(expected), atol=1e-9)


def test_no_more_is_kept_than_allowed(tiny_plain_model_dir: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_plain_model_dir).eval()
    cache = PrefixTree(10)
    with torch.inference_mode():
        first = cache.states(model, [(1, 2, 3), (4, 5, 6, 7, 8)])
        assert first.lengths == (3, 5) and cache.tokens == 8
        again = cache.states(model, [(4, 5, 6, 7, 8)])
        assert torch.allclose(again.keys[0][0], first.keys[0][1], atol=1e-5)
        cache.states(model, [(9,) * 6])
        assert cache.tokens == 6
        cache.states(model, [(9,) * 11])
        assert cache.tokens == 6  # all 11 begin with them


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_logits_after_a_prompt_are_those_of_the_whole_row(kind: str, tiny_plain_model_dir: Path) -> None:
    if kind == "llama":
        model: Any = AutoModelForCausalLM.from_pretrained(tiny_plain_model_dir).eval()
    else:
        # Learned places: a padded row must not look beyond the last one.
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=9, n_embd=8, n_layer=2, n_head=2)).eval()
    rows = [(5, 6, 7, 8), (5, 6, 7, 8, 9, 10, 11), (5, 6, 7), (3, 2, 1, 4, 5, 6, 7, 8, 9), (3, 2, 1, 4, 5, 6, 7, 1)]
    starts = [3, 3, 3, 7, 7]
    with torch.inference_mode():
        for tree in (None, PrefixTree(100), PrefixTree(0, 7)):
            logits = token_notes(model, rows, starts, lambda logits_BTV, _: logits_BTV, tree)
            logprobs = token_notes(model, rows, starts, own_logprobs, None if tree is None else PrefixTree(100))
            for number, (row, start) in enumerate(zip(rows, starts, strict=True)):
                alone = model(input_ids=torch.tensor([row])).logits[0, start - 1 :]
                assert logits[number].shape == alone.shape
                assert torch.allclose(logits[number], alone, atol=1e-4)
                expected = torch.log_softmax(alone[:-1], dim=-1)[range(len(row) - start), list(row[start:])]
                assert torch.allclose(logprobs[number][1:, 0], expected, atol=1e-4)


def test_the_common_prefix_of_one_row_is_the_row() -> None:
    assert common_prefix([(1, 2)]) == 2
    assert common_prefix([(1, 2), (1, 2, 3)]) == 2
    assert common_prefix([(1,), (2,)]) == 0
