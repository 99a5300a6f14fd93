"""The tree of kept beginnings: it gives what a forward over the whole sequence gives, whatever was asked before."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import DynamicCache

from restrl.policy.prefix_tree import PrefixTree, buckets

VOCAB = 6
# Few tokens, so that sequences branch at every place.
SEQUENCES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7).map(tuple), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config).double().eval()


def whole(model: Any, row: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
    cache = DynamicCache()
    logits = model(input_ids=torch.tensor([row]), past_key_values=cache, use_cache=True).logits[0]
    return cache, logits


def note(logits_BTV: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
    """The logits after a token, and the score that the token had before it."""
    own_BT = torch.gather(logits_BTV[:, :-1], 2, ids_BT[:, 1:, None])[..., 0]
    return torch.cat([logits_BTV, torch.nn.functional.pad(own_BT, (1, 0))[..., None]], dim=-1)


@settings(max_examples=60, deadline=None)
@given(calls=st.lists(SEQUENCES, min_size=1, max_size=4), room=st.integers(0, 12), batch=st.integers(1, 20))
def test_states_are_those_of_whole_sequences(
    model: Any, calls: list[list[tuple[int, ...]]], room: int, batch: int
) -> None:
    tree = PrefixTree(room, batch)
    with torch.inference_mode():
        for call in calls:
            prefixes = list(dict.fromkeys(call))
            states = tree.states(model, prefixes)
            assert states.lengths == tuple(map(len, prefixes))
            longest = max(map(len, prefixes))
            for number, prefix in enumerate(prefixes):
                begin = longest - len(prefix)
                assert (states.bias[number, 0, 0] == 0).tolist() == [i >= begin for i in range(longest)]
                cache, _ = whole(model, prefix)
                for layer in range(2):
                    keys, values = states.keys[layer][number, ..., begin:], states.values[layer][number, :, begin:]
                    assert torch.allclose(keys.transpose(1, 2), cache.layers[layer].keys[0], atol=1e-9)
                    assert torch.allclose(values, cache.layers[layer].values[0], atol=1e-9)
            assert tree.tokens <= room
            assert tree.tokens == sum(len(node.tokens) for node in tree._nodes())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), calls=st.lists(SEQUENCES, min_size=1, max_size=4), room=st.integers(0, 12))
def test_notes_are_those_of_whole_sequences(
    model: Any, data: st.DataObject, calls: list[list[tuple[int, ...]]], room: int
) -> None:
    tree = PrefixTree(room)
    with torch.inference_mode():
        for rows in calls:
            starts = [data.draw(st.integers(1, len(row))) for row in rows]
            found = tree.read(model, rows, starts, note)
            for row, start, notes in zip(rows, starts, found, strict=True):
                _, logits = whole(model, row)
                expected = note(logits[None], torch.tensor([row]))[0, start - 1 :]
                assert notes.shape == expected.shape
                # What the last token of the prompt had before it is not asked.
                assert torch.allclose(notes[:, :-1], expected[:, :-1], atol=1e-9)
                assert torch.allclose(notes[1:, -1], expected[1:, -1], atol=1e-9)


def test_nothing_is_run_twice(model: Any) -> None:
    tree = PrefixTree(100)
    with torch.inference_mode():
        tree.states(model, [(1, 2, 3), (1, 2, 4)])
        assert (tree.run_tokens, tree.tokens) == (6, 4)
        tree.states(model, [(1, 2, 3), (1, 2), (1, 2, 4, 5, 5)])
        assert (tree.run_tokens, tree.tokens) == (8, 6)
        # Not even where a sequence leaves another's path in its middle.
        tree.states(model, [(1, 2, 4, 5, 2)])
        assert (tree.run_tokens, tree.tokens) == (9, 7)
        tree.clear()
        assert tree.tokens == 0
        tree.states(model, [(1, 2)])
        assert tree.run_tokens == 11


def test_a_note_on_a_new_token_runs_the_one_before_it_again(model: Any) -> None:
    tree = PrefixTree(100)
    with torch.inference_mode():
        tree.read(model, [(1, 2, 3, 4), (1, 2, 3, 5)], [3, 3], note)
        # The prompt but its last token once, then each row from that token on.
        assert (tree.run_tokens, tree.tokens) == (2 + 2 + 2, 5)
        tree.read(model, [(1, 2, 3, 4, 1)], [3], note)
        assert tree.run_tokens == 6 + 2
        # No notes were made on the prompt: a shorter prompt is another matter.
        tree.read(model, [(1, 2, 3, 4)], [2], note)
        assert (tree.run_tokens, tree.tokens) == (8 + 1 + 3, 6 + 4)


def test_the_least_recently_used_ends_go_first(model: Any) -> None:
    tree = PrefixTree(6)
    with torch.inference_mode():
        tree.states(model, [(1, 1, 1)])
        tree.states(model, [(2, 2, 2)])
        tree.states(model, [(1, 1, 1)])
        tree.states(model, [(1, 1, 3, 3)])
        # 1 1 stays for the two that begin with it; of (2, 2, 2) nothing is left.
        assert tree.tokens == 5
        before = tree.run_tokens
        tree.states(model, [(1, 1, 1), (1, 1, 3)])
        assert tree.run_tokens == before


def test_keys_and_values_take_a_bounded_memory(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two layers, keys and values, two heads of four numbers in double precision: 256 bytes a token.
    monkeypatch.setattr("restrl.policy.prefix_tree._MAX_BYTES", 256 * 4 + 255)
    tree = PrefixTree(100)
    with torch.inference_mode():
        tree.states(model, [(1, 2, 3), (3, 2, 1)])
    assert tree.tokens == 3


@settings(max_examples=80, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), max_size=8), cost=st.integers(0, 12))
def test_buckets_cost_least(lengths: list[int], cost: int) -> None:
    def price(found: list[list[int]]) -> int:
        return sum(cost + len(bucket) * max(lengths[i] for i in bucket) for bucket in found)

    found = buckets(lengths, 10_000, cost)
    assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    cuts = range(1, len(order))
    every = [
        [order[a:b] for a, b in itertools.pairwise([0, *chosen, len(order)])]
        for count in range(len(order))
        for chosen in itertools.combinations(cuts, count)
    ]
    if lengths:
        assert price(found) == min(map(price, every))
    for bucket in buckets(lengths, 12, cost):
        assert len(bucket) == 1 or len(bucket) * max(lengths[i] for i in bucket) <= 12


def test_the_readers_tree_gives_the_features_that_whole_rows_give(tmp_path: Path) -> None:
    from restrl.starter import POLICY_DIR
    from restrl.value.surprise import SurpriseForSequenceClassification

    model = SurpriseForSequenceClassification.from_policy(POLICY_DIR, dtype=torch.float32, local_files_only=True).eval()
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 200, (1, 30), generator=generator)[0].tolist()
    rows = [tuple(ids[:end] + [7] * extra) for end, extra in ((30, 0), (20, 4), (12, 1), (30, 9), (9, 0))]
    starts = [8, 8, 12, 8, 9]
    reader = model.reader
    with torch.inference_mode():
        first, again = reader(rows, starts), reader(rows[::-1], starts[::-1])
        assert reader._prefix_tree() is not None and reader._prefix_tree().tokens > 0
        reader._prefixes = (None,)
        plain = reader(rows, starts)
    assert torch.allclose(first, plain, atol=2e-4)
    assert torch.allclose(again.flip(0), plain, atol=2e-4)
