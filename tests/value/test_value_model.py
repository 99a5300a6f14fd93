"""The value model: boundaries in one forward are the states one by one, and what a plain classifier gives."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem, make_tokenizer
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification

from restrl.actions import boundaries
from restrl.errors import EngineError, ModelError
from restrl.policy.prompting import encode_state
from restrl.types import State
from restrl.value.encoding import host_states
from restrl.value.model import TrainedValueModel

CODES = [
    "    total = 0\n    for x in xs:\n        total += x\n    return total\n",
    "    return sorted(xs)[:k]\n",
    "    ys = []\n\n    # keep them\n    while xs:\n        ys.append(xs.pop())\n    return ys\n",
    "",
]


def _classifier(tokenizer: object, **changes: object) -> LlamaForSequenceClassification:
    config = LlamaConfig(
        **{
            "vocab_size": 320,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "num_labels": 1,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "initializer_range": 0.3,
            **changes,
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LlamaForSequenceClassification(config).eval()


@pytest.fixture(scope="module")
def value_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("value")
    tokenizer = make_tokenizer()
    _classifier(tokenizer).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def _alone(model: TrainedValueModel, states: list[State]) -> list[float]:
    return [model.score_states([state])[0] for state in states]


@pytest.mark.parametrize("merge_newlines", [False, True])
def test_boundaries_in_one_forward_are_the_states_alone(merge_newlines: bool) -> None:
    tokenizer = make_tokenizer(merge_newlines=merge_newlines)
    model = TrainedValueModel.from_model(_classifier(tokenizer), tokenizer)
    states = [State(make_problem(), code, terminal) for code in CODES for terminal in (False, True)]
    together = model.score_boundaries(states)
    seen = set()
    for state, values in zip(states, together, strict=True):
        parts = [State(state.problem, state.code[:end]) for end in boundaries(state.code)]
        parts += [state] if state.terminal else []
        assert values == pytest.approx(_alone(model, parts), abs=1e-4)
        seen.update(round(value, 4) for value in values)
    assert len(seen) > 12
    # One forward's row per program and end, where the tokenizer allows.
    if not merge_newlines:
        model.stats.sequences = 0
        model.score_boundaries(states[:2])
        assert model.stats.sequences == 2


def test_values_are_those_of_a_plain_sequence_classifier(value_model_dir: Path) -> None:
    model = TrainedValueModel(value_model_dir, device="cpu")
    plain = AutoModelForSequenceClassification.from_pretrained(value_model_dir)
    states = [State(make_problem(), code, terminal) for code in CODES for terminal in (False, True)]
    expected = []
    for state in states:
        with torch.no_grad():
            expected.append(plain(torch.tensor([encode_state(state, model.tokenizer)])).logits.item())
    assert model.score_states(states) == pytest.approx(expected, abs=1e-4)
    # The classifier's own way with a padded batch agrees as well: padding is not the end-of-sequence token.
    rows = [encode_state(state, model.tokenizer) for state in states]
    longest = max(map(len, rows))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        batch = plain(padded, attention_mask=(padded != 0).long()).logits.squeeze(-1).tolist()
    assert batch == pytest.approx(expected, abs=1e-4)


def test_a_finished_program_is_not_its_prefix(value_model_dir: Path) -> None:
    model = TrainedValueModel(value_model_dir, device="cpu")
    state, finished = State(make_problem(), CODES[0]), State(make_problem(), CODES[0], True)
    assert model.score_states([state])[0] != pytest.approx(model.score_states([finished])[0], abs=1e-3)


def test_prefixes_and_duplicates_in_a_call_cost_one_sequence(value_model_dir: Path) -> None:
    model = TrainedValueModel(value_model_dir, device="cpu", max_batch_tokens=1)
    other = make_problem("p/1", initial_state="def g(s):\n")
    states = [State(make_problem(), CODES[0][:end]) for end in [0, *boundaries(CODES[0])]]
    states += [State(make_problem(), CODES[0], True), states[1], State(other, CODES[0]), State(other, CODES[0])]
    values = model.score_states(states)
    assert model.stats.sequences == 2
    assert model.stats.values == len(states)
    assert values == pytest.approx(_alone(model, states), abs=1e-4)


LINES = st.lists(st.sampled_from(["a\n", "b\n", "ab\n", "a = 1\n"]), max_size=4).map("".join)


@given(st.lists(st.tuples(st.sampled_from(["p", "q"]), LINES, st.booleans()), max_size=14))
@settings(deadline=None, max_examples=60)
def test_every_state_is_hosted_once_by_a_program_that_it_begins(items: list[tuple[str, str, bool]]) -> None:
    problems = {name: make_problem(name) for name in ("p", "q")}
    states = [State(problems[name], code, terminal) for name, code, terminal in items]
    slots = []
    hosts = []
    for host, offsets, indices in host_states(states):
        hosts.append(host)
        slots += indices
        for offset, index in zip(offsets, indices, strict=True):
            state = states[index]
            assert state.problem == host.problem
            if state.terminal:
                assert (state, offset) == (host, len(host.code) + 1)
            else:
                assert (host.code[:offset], offset) == (state.code, len(state.code))
    assert sorted(slots) == list(range(len(states)))
    # No host could have been a guest: of another's code, or a duplicate.
    for i, host in enumerate(hosts):
        for j, other in enumerate(hosts):
            if i != j and host.problem == other.problem:
                assert host.terminal or not other.code.startswith(host.code)
                assert host != other


def test_sigmoid_outputs_and_clamping() -> None:
    tokenizer = make_tokenizer()
    states = [State(make_problem(), code) for code in CODES]
    raw = TrainedValueModel.from_model(_classifier(tokenizer), tokenizer).score_states(states)
    squashed = TrainedValueModel.from_model(
        _classifier(tokenizer, restrl_value={"output": "sigmoid"}), tokenizer
    ).score_states(states)
    assert squashed == pytest.approx([1 / (1 + math.exp(-value)) for value in raw], abs=1e-5)
    clamped = TrainedValueModel.from_model(_classifier(tokenizer), tokenizer, clamp=True).score_states(states)
    assert clamped == [min(max(value, 0.0), 1.0) for value in raw]
    assert any(value < 0 or value > 1 for value in raw)


def test_a_value_that_is_not_finite_is_an_error() -> None:
    tokenizer = make_tokenizer()
    model = _classifier(tokenizer)
    with torch.no_grad():
        model.score.weight.fill_(float("inf"))
    with pytest.raises(EngineError, match="the value model gave"):
        TrainedValueModel.from_model(model, tokenizer).score_states([State(make_problem())])


def test_a_policy_is_no_value_model(tiny_plain_model_dir: Path) -> None:
    with pytest.raises(ModelError, match="is no value model"):
        TrainedValueModel(tiny_plain_model_dir, device="cpu")


def test_a_classifier_of_several_labels_is_no_value_model() -> None:
    tokenizer = make_tokenizer()
    with pytest.raises(ModelError, match="3 labels"):
        TrainedValueModel.from_model(_classifier(tokenizer, num_labels=3), tokenizer)


def test_nothing_to_score(value_model_dir: Path) -> None:
    model = TrainedValueModel(value_model_dir, device="cpu")
    assert model.score_states([]) == []
    assert model.score_boundaries([State(make_problem())]) == [[]]


def test_paths_are_the_states_on_the_way(value_model_dir: Path) -> None:
    model = TrainedValueModel(value_model_dir, device="cpu")
    problems = [make_problem("p/0"), make_problem("p/1", preamble="# other")]
    states = [State(problem, code, terminal=end) for problem in problems for code in CODES[:3] for end in (False, True)]
    states += [State(problems[0]), State(problems[0], boundaries_of(CODES[0])[0])]
    before = model.stats.tokens
    paths = model.score_paths(states)
    tokens = model.stats.tokens - before
    assert [path[0][0] for path in paths] == [len(state.code) for state in states]
    assert [path[0][1] for path in paths] == pytest.approx(model.score_states(states), abs=1e-4)
    # The states on the way cost no forward of their own.
    assert model.stats.tokens - before == 2 * tokens
    count = 0
    for state, path in zip(states, paths, strict=True):
        on_the_way = [State(state.problem, state.code[:at]) for at, _ in path[1:]]
        count += len(on_the_way)
        assert [value for _, value in path[1:]] == pytest.approx(model.score_states(on_the_way), abs=1e-4)
    inner = {(s.problem.id, s.code[:at]) for s in states for at in boundaries(s.code) if at < len(s.code)}
    assert count >= len(inner) - 1


def boundaries_of(code: str) -> list[str]:
    return [code[:at] for at in boundaries(code)]
