import math

import pytest
import torch

from restrl.decoding import decode
from restrl.decoding.config import DecodeConfig
from restrl.errors import ConfigError
from restrl.policy.likelihood import LikelihoodPrior, mean_log_likelihoods
from restrl.policy.prompting import encode_state
from restrl.policy.scripted import ScriptedPolicy
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Case, Problem, SamplingParams, State, Tests

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
    from restrl.types import SampleRequest

    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    for completion in policy.sample([SampleRequest(State(PROBLEM), 8, 1)], SamplingParams(1.0, 1.0, 40))[0]:
        ids = policy.tokenizer(PROBLEM.initial_state + completion.text)["input_ids"]
        prompt = policy.tokenizer(PROBLEM.initial_state)["input_ids"]
        sampled = [token for token in completion.token_ids if token != policy.tokenizer.eos_token_id]
        if ids[len(prompt) :] != sampled or completion.finish_reason != "length":
            continue
        mean = mean_log_likelihoods(policy, [State(PROBLEM, completion.text)])[0]
        assert mean * len(sampled) == pytest.approx(completion.logprob, abs=1e-2)


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
