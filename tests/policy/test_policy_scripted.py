"""The scripted policy: continuations by weight, seeded by request."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from tiny_models import make_problem

from restrl.errors import EngineError, ModelError
from restrl.policy import PolicyConfig, load_policy
from restrl.policy.scripted import ScriptedPolicy
from restrl.types import SampleRequest, SamplingParams, State

PROGRAMS = {"p/0": [("    a = 1\n    return a\n", 3.0), ("    a = 1\n    return 0\n", 1.0), ("    return 2\n", 4.0)]}
PARAMS = SamplingParams()


def test_continuations_are_the_rest_of_programs_by_weight() -> None:
    policy = ScriptedPolicy.from_programs(PROGRAMS)
    (completions,) = policy.sample([SampleRequest(State(make_problem(), "    a = 1\n"), 4000, 3)], PARAMS)
    counts = Counter(completion.text for completion in completions)
    assert set(counts) == {"    return a\n", "    return 0\n"}
    # Four standard deviations of a binomial of 4,000 draws at 3/4.
    assert abs(counts["    return a\n"] - 3000) < 4 * (4000 * 0.75 * 0.25) ** 0.5
    assert {completion.finish_reason for completion in completions} == {"stop"}
    assert (policy.num_calls, policy.num_completions) == (1, 4000)


def test_the_batch_does_not_matter_and_the_seed_does() -> None:
    policy = ScriptedPolicy.from_programs(PROGRAMS)
    requests = [SampleRequest(State(make_problem()), 6, seed) for seed in range(20)]
    together = policy.sample(requests, PARAMS)
    assert together == [policy.sample([request], PARAMS)[0] for request in requests]
    assert len({tuple(c.text for c in completions) for completions in together}) > 5


def test_greedy_takes_the_heaviest_and_the_budget_cuts() -> None:
    policy = ScriptedPolicy(lambda problem_id, code: [("    return 1\n", 1.0), ("    return 22\n", 2.0)])
    ((completion,),) = policy.sample([SampleRequest(State(make_problem()), 1, 0)], SamplingParams(0.0, 1.0, 8))
    assert (completion.text, completion.finish_reason, completion.num_tokens) == ("    retu", "length", 8)


def test_a_missing_continuation_is_an_error() -> None:
    request = SampleRequest(State(make_problem("p/9")), 1, 0)
    for policy in (ScriptedPolicy.from_programs(PROGRAMS), ScriptedPolicy({("p/0", ""): [("x", 1.0)]})):
        with pytest.raises(EngineError, match="no continuation of problem 'p/9'"):
            policy.sample([request], PARAMS)


def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"p/0": [["    return 2\n", 1]]}))
    policy = load_policy(PolicyConfig(model=str(path), engine="scripted"))
    assert policy.sample([SampleRequest(State(make_problem()), 1, 0)], PARAMS)[0][0].text == "    return 2\n"
    path.write_text("[1]")
    with pytest.raises(ModelError, match="JSON object"):
        ScriptedPolicy.from_file(path)
