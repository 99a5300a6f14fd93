import math

import pytest
import torch

from restrl.actions import boundaries
from restrl.decoding import decode
from restrl.decoding.config import DecodeConfig
from restrl.errors import ConfigError
from restrl.policy.likelihood import LikelihoodPrior, _forward, mean_log_likelihoods
from restrl.policy.prompting import encode_state
from restrl.policy.scripted import ScriptedPolicy
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Case, Problem, SampleRequest, SamplingParams, State, Tests

PROBLEM = Problem(
    "p", "Add one.", 'def f(x):\n    """Add one."""\n', "f", Tests("call", (Case("0", (1,), expected=2),))
)
STATES = [
    State(PROBLEM),
    State(PROBLEM, "    x += 1\n"),
    State(PROBLEM, "    x += 1\n    return x\n"),
    State(PROBLEM, "    x += 1\n    return x\n", terminal=True),
    State(PROBLEM, "    return 1 + x\n", terminal=True),
]


class Half:
    def score_states(self, states):
        return [0.5] * len(states)


def test_it_is_the_chain_rule_token_by_token(tiny_plain_model_dir) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    for batch_tokens in (1, 10_000):
        found = mean_log_likelihoods(policy, STATES, batch_tokens)
        for state, value in zip(STATES, found, strict=True):
            ids = list(encode_state(state, policy.tokenizer, "plain"))
            start = len(encode_state(State(PROBLEM), policy.tokenizer, "plain"))
            expected = []
            for end in range(start, len(ids)):
                with torch.no_grad():
                    logits = policy.model(torch.tensor([ids[:end]])).logits[0, -1].double()
                expected.append(float(torch.log_softmax(logits, -1)[ids[end]]))
            assert value == pytest.approx(sum(expected) / len(expected) if expected else 0.0, abs=1e-4)


def test_it_agrees_with_the_probability_of_sampling(tiny_plain_model_dir) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    prompt = tuple(encode_state(State(PROBLEM), policy.tokenizer, "plain"))
    completions = policy.sample([SampleRequest(State(PROBLEM), 8, 1)], SamplingParams(1.0, 1.0, 40))[0]
    # The sampled tokens themselves: their text may well be encoded in another way.
    rows = [prompt + tuple(completion.token_ids) for completion in completions]
    sums = [upto[-1] for upto in _forward(policy, rows, [len(prompt)] * len(rows))]
    assert sums == pytest.approx([completion.logprob for completion in completions], abs=1e-2)
    assert max(sums) < -1.0


def test_the_prior_is_added_with_its_weight(tiny_plain_model_dir) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    scores = LikelihoodPrior(Half(), policy, 2.0).score_states(STATES)
    assert scores == pytest.approx([0.5 + 2.0 * mean for mean in mean_log_likelihoods(policy, STATES)])


def test_decoding_uses_it_only_where_asked(tiny_plain_model_dir) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    params = SamplingParams(0.7, 1.0, 24)
    plain, weighted = (
        decode(
            "best_of_n", [PROBLEM], policy, Half(), DecodeConfig(budget=4, likelihood_weight=weight), 0, params=params
        )[0]
        for weight in (0.0, 1.0)
    )
    assert [c.code for c in plain.candidates] == [c.code for c in weighted.candidates]
    assert all(c.score in (0.5, None) for c in plain.candidates)
    assert all(c.score is None or (c.score < 0.5 and math.isfinite(c.score)) for c in weighted.candidates)


def test_a_policy_without_probabilities_is_refused() -> None:
    policy = ScriptedPolicy({("p", ""): [("    return x + 1\n", 1.0)]})
    with pytest.raises(ConfigError, match="likelihood_weight"):
        decode("best_of_n", [PROBLEM], policy, Half(), DecodeConfig(budget=1, likelihood_weight=1.0), 0)


class Lengths:
    """Values that come with those of every earlier line: a hundredth of the code's length."""

    def score_states(self, states):
        return [len(state.code) / 100 for state in states]

    def score_paths(self, states):
        return [
            [(len(state.code), len(state.code) / 100), *((at, at / 100) for at in boundaries(state.code)[:-1])]
            for state in states
        ]


def test_paths_add_the_likelihood_of_what_stands_up_to_there(tiny_plain_model_dir) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    prior = LikelihoodPrior(Lengths(), policy, 2.0)
    paths = prior.score_paths(STATES)
    assert [path[0][1] for path in paths] == pytest.approx(prior.score_states(STATES), abs=1e-4)
    assert sum(len(path) - 1 for path in paths) >= 2
    for state, path in zip(STATES, paths, strict=True):
        for at, score in path[1:]:
            assert score == pytest.approx(prior.score_states([State(PROBLEM, state.code[:at])])[0], abs=1e-4)
    assert LikelihoodPrior(Half(), policy, 2.0).score_paths is None
