"""The value model that reads surprise: its features against a plain forward, causality, and that it learns to rank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import make_problem, save_tiny_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from restrl.policy.model_dir import load_tokenizer
from restrl.policy.prompting import encode_prompt, encode_state
from restrl.types import Problem, State
from restrl.value.config import ValueConfig
from restrl.value.head import load_untrained
from restrl.value.kinds import ValueKind
from restrl.value.model import TrainedValueModel
from restrl.value.surprise import NUM_FEATURES, SurpriseForSequenceClassification
from restrl.value.targets import Trajectory
from restrl.value.train import train_value_model

CODES = ["    total = 0\n    for x in xs:\n        total += x\n    return total\n", "    return xs\n", ""]
SURPRISE = ValueConfig(architecture="surprise", loss="bce")


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("policy") / "model")


@pytest.fixture(scope="module")
def model(policy_dir: Path) -> SurpriseForSequenceClassification:
    untrained = load_untrained(policy_dir, load_tokenizer(policy_dir), SURPRISE, "plain")
    assert isinstance(untrained, SurpriseForSequenceClassification)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.nn.init.normal_(untrained.score.weight)
    return untrained.eval()


def _wrapped(model: SurpriseForSequenceClassification, policy_dir: Path) -> TrainedValueModel:
    return TrainedValueModel.from_model(model, load_tokenizer(policy_dir))


def test_features_are_what_one_plain_forward_says_token_by_token(
    policy_dir: Path, model: SurpriseForSequenceClassification
) -> None:
    policy = AutoModelForCausalLM.from_pretrained(policy_dir).eval()
    tokenizer = load_tokenizer(policy_dir)
    state = State(make_problem(), CODES[0], terminal=True)
    ids, start = encode_state(state, tokenizer), len(encode_prompt(State(make_problem()), tokenizer))
    other = encode_state(State(make_problem(), CODES[1]), tokenizer)
    features = model.reader._read([tuple(other), tuple(ids)], [start, start])[1]
    assert features.shape == (len(ids) - start + 1, NUM_FEATURES)
    with torch.no_grad():
        # One token at a time, without batch, padding or packing.
        chances = [policy(torch.tensor([ids[: i + 1]])).logits[0, -1].double().softmax(0) for i in range(len(ids))]
    for place in range(start - 1, len(ids)):
        after = -(chances[place] * chances[place].log()).sum()
        expected = [torch.tensor(0.0)] * 4
        if place >= start:
            before, token = chances[place - 1], ids[place]
            entropy = -(before * before.log()).sum()
            expected = [before[token].log(), (before[token] / before.max()).log(), entropy, before.max().log()]
        wanted = torch.tensor([*(max(float(item), -12.0) for item in expected), float(after)])
        torch.testing.assert_close(features[place - start + 1], wanted, rtol=1e-4, atol=1e-4)


def test_a_value_depends_on_its_own_state_only(policy_dir: Path, model: SurpriseForSequenceClassification) -> None:
    value_model = _wrapped(model, policy_dir)
    problems = [make_problem(), make_problem("p/1", initial_state="def f(xs, k):\n")]
    whole = [State(problem, code, True) for problem in problems for code in CODES]
    parts = [State(problem, CODES[0][:end]) for problem in problems for end in (14, 30)]
    together = value_model.score_states([*whole, *parts])
    alone = [value_model.score_states([state])[0] for state in [*whole, *parts]]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 5) for value in alone}) == len(alone)


def test_saved_and_loaded_it_gives_the_same_values(
    policy_dir: Path, model: SurpriseForSequenceClassification, tmp_path: Path
) -> None:
    states = [State(make_problem(), code, True) for code in CODES]
    model.save_pretrained(tmp_path)
    load_tokenizer(policy_dir).save_pretrained(tmp_path)
    assert isinstance(AutoModelForSequenceClassification.from_pretrained(tmp_path), SurpriseForSequenceClassification)
    expected = _wrapped(model, policy_dir).score_states(states)
    assert TrainedValueModel(tmp_path, device="cpu").score_states(states) == pytest.approx(expected, abs=1e-5)


def test_remembered_features_change_nothing_and_save_the_forward(
    policy_dir: Path, model: SurpriseForSequenceClassification
) -> None:
    states = [State(make_problem(), code, True) for code in CODES]
    model.reader.remembered = None
    plain = _wrapped(model, policy_dir).score_states(states)
    model.reader.remembered = {}
    value_model = _wrapped(model, policy_dir)
    assert value_model.score_states(states) == plain
    calls = []
    hook = model.reader.policy.register_forward_hook(lambda *_: calls.append(1))
    assert value_model.score_states(states) == plain
    hook.remove()
    assert not calls


def test_the_policy_is_not_trained(model: SurpriseForSequenceClassification) -> None:
    model.train()
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained and not any(name.startswith("reader.policy") for name in trained)
    assert not model.reader.policy.training
    model.eval()


def _programs(count: int) -> tuple[list[Trajectory], dict[str, Problem]]:
    """Programs that are right where they return what the statement names; the policy knows nothing of it."""
    problems = {f"p/{i}": make_problem(f"p/{i}") for i in range(count)}
    trajectories = []
    for name in problems:
        for code, value in (("    return sorted(xs)\n", 1.0), ("    return xs\n", 0.0)):
            end = len(code)
            trajectories.append(Trajectory(name, code, True, ((0, 0.5, 1.0), (end + 1, value, 1.0))))
    return trajectories, problems


@pytest.mark.parametrize("kind", ["vm", "orm"])
def test_it_learns_to_rank_and_keeps_to_its_targets(policy_dir: Path, tmp_path: Path, kind: ValueKind) -> None:
    trajectories, problems = _programs(30)
    config = ValueConfig(architecture="surprise", epochs=25, learning_rate=1e-2, batch_tokens=1024)
    report = train_value_model(policy_dir, trajectories, problems, config, tmp_path, 0, "plain", kind=kind)
    assert report.validation_mse < 0.05 < report.baseline_mse
    value_model = TrainedValueModel(tmp_path / "model", device="cpu")
    right, wrong = (State(make_problem(), code, True) for code in ("    return sorted(xs)\n", "    return xs\n"))
    high, low = value_model.score_states([right, wrong])
    assert high > 0.8 and low < 0.2
    weights = AutoModelForCausalLM.from_pretrained(policy_dir).state_dict()
    kept = value_model.model.reader.policy.state_dict()
    assert all(torch.equal(weights[name], kept[name]) for name in weights)
