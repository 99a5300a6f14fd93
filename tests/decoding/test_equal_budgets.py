"""Every decoder samples exactly its budget, whatever its settings, and its ledger says so."""

import pytest
from execution_doubles import execution
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.decoding import DECODERS, DecodeConfig, decode
from restrl.policy.scripted import ScriptedPolicy
from restrl.seeds import derive_seed
from restrl.types import Problem, SamplingParams, Tests

PROBLEMS = [Problem(f"p{i}", "", "def f():\n", "f", Tests("call", ())) for i in range(2)]


class Counting(ScriptedPolicy):
    """Counts what leaves it, by problem: completions, tokens, requests, completions that were cut off."""

    def sample(self, requests, params):
        answers = super().sample(requests, params)
        for request, completions in zip(requests, answers, strict=True):
            row = self.counts.setdefault(request.state.problem.id, [0, 0, 0, 0, 0])
            assert request.n >= 1 and len(completions) == request.n
            row[0] += request.n
            row[1] += sum(completion.num_tokens for completion in completions)
            row[2] += 1
            row[3] += sum(completion.finish_reason == "length" for completion in completions)
            row[4] += sum(completion.prompt_tokens for completion in completions)
        return answers


class Values:
    """A number for every state; counts the states by problem."""

    def __init__(self):
        self.counts = {problem.id: 0 for problem in PROBLEMS}

    def score_states(self, states):
        for state in states:
            self.counts[state.problem.id] += 1
        return [derive_seed(state.problem.id, state.code, int(state.terminal)) / 2**63 for state in states]


line = st.sampled_from(["a", "b", "  c = 1", "# note", ""])
programs = st.lists(
    st.tuples(st.lists(line, max_size=5).map("\n".join), st.sampled_from([1.0, 3.0])), min_size=1, max_size=6
)
configs = st.builds(
    DecodeConfig,
    budget=st.integers(1, 30),
    num_sample=st.integers(1, 6),
    num_decision=st.integers(1, 4),
    reuse_suffixes=st.booleans(),
    leaves_in_flight=st.integers(1, 3),
    beam_width=st.integers(1, 4),
    subtrees=st.integers(1, 4),
    window=st.integers(1, 3),
    prm_aggregation=st.sampled_from(["min", "last", "mean"]),
)


@pytest.mark.parametrize("method", sorted(DECODERS))
@given(programs=programs, config=configs, max_new_tokens=st.sampled_from([3, 7, 100]))
@settings(deadline=None, max_examples=12)
def test_budget_is_exact_and_the_ledger_agrees_with_the_policy(method, programs, config, max_new_tokens):
    def script(_, code):
        return [(text[len(code) :], weight) for text, weight in programs if text.startswith(code)] or [("", 1.0)]

    policy, values = Counting(script), Values()
    policy.counts = {}
    params = SamplingParams(max_new_tokens=max_new_tokens)
    decoded = decode(method, PROBLEMS, policy, values, config, 5, params=params, execution=execution())
    for problem, item in zip(PROBLEMS, decoded, strict=True):
        ledger = item.ledger
        assert len(item.candidates) == len(item.answers) == config.budget
        assert policy.counts[problem.id] == [
            config.budget,
            ledger.generated_tokens,
            ledger.requests,
            ledger.cut_off,
            ledger.prompt_tokens + ledger.reused_prompt_tokens,
        ]
        assert ledger.completions == config.budget and ledger.value_states == values.counts[problem.id]
        assert all(0 <= answer < budget for budget, answer in enumerate(item.answers, 1))
        any_finished = False
        for candidate, answer in zip(item.candidates, item.answers, strict=True):
            any_finished |= candidate.finished
            assert item.candidates[answer].finished or not any_finished or method in ("greedy", "sample")
