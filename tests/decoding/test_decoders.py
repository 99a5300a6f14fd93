"""Decoders: equal budgets, answers at every budget, agreement with brute force."""

import dataclasses
import json
from pathlib import Path

import pytest
from execution_doubles import execution
from hypothesis import given, settings
from hypothesis import strategies as st

import restrl
from restrl.config import build_section
from restrl.decoding import (
    DECODERS,
    INDEPENDENT,
    WITHOUT_VALUES,
    Candidate,
    DecodeConfig,
    Decoded,
    best_answers,
    decode,
)
from restrl.decoding.config import METHODS
from restrl.errors import ConfigError, EngineError
from restrl.policy.scripted import ScriptedPolicy
from restrl.seeds import derive_seed
from restrl.types import Problem, SamplingParams, Tests

PROGRAMS = [("a\nb\n", 3.0), ("a\nc\n", 2.0), ("a\nc\nd\n", 2.0), ("e\n", 1.0), ("e\nf", 1.0), ("a\nb\ng\nh\ni\n", 1.0)]
PROBLEMS = [Problem(f"p{i}", "", "def f():\n", "f", Tests("call", ())) for i in range(30)]


class HashedValues:
    """A value for every state, from its text; counts what it is asked."""

    def __init__(self):
        self.asked = []

    def score_states(self, states):
        self.asked.append(list(states))
        return [value_of(state.problem.id, state.code, state.terminal) for state in states]


def value_of(problem_id, code, terminal):
    return derive_seed(problem_id, code, int(terminal)) / 2**63


def policy():
    return ScriptedPolicy.from_programs({problem.id: PROGRAMS for problem in PROBLEMS})


def run(method, problems=PROBLEMS[:5], seed=0, max_new_tokens=100, **changes):
    engine, values = policy(), HashedValues()
    config = DecodeConfig(**({"budget": 23} | changes))
    decoded = decode(
        method,
        problems,
        engine,
        values,
        config,
        seed,
        params=SamplingParams(max_new_tokens=max_new_tokens),
        execution=execution(),
    )
    return decoded, engine, values


@pytest.mark.parametrize("method", sorted(DECODERS))
@pytest.mark.parametrize("budget", [1, 4, 5, 23])
def test_every_decoder_samples_exactly_its_budget(method, budget):
    decoded, engine, _ = run(method, budget=budget)
    assert engine.num_completions == 5 * budget
    for problem, item in zip(PROBLEMS, decoded, strict=False):
        assert item.problem_id == problem.id
        assert len(item.candidates) == len(item.answers) == item.ledger.completions == budget
        assert [candidate.index for candidate in item.candidates] == list(range(budget))
        assert all(0 <= answer < b for b, answer in enumerate(item.answers, 1))


@pytest.mark.parametrize("method", sorted(set(DECODERS) - WITHOUT_VALUES - {"best_of_n_prm"}))
@pytest.mark.parametrize("max_new_tokens", [3, 6, 100])
def test_answers_are_the_best_finished_candidates_at_every_budget(method, max_new_tokens):
    decoded, _, _ = run(method, max_new_tokens=max_new_tokens)
    for item in decoded:
        for budget, answer in enumerate(item.answers, 1):
            finished = [candidate for candidate in item.candidates[:budget] if candidate.finished]
            if finished:
                assert item.candidates[answer].score == max(candidate.score for candidate in finished)
            else:
                assert answer == 0
        scores = [item.candidates[answer].score for answer in item.answers if item.candidates[answer].finished]
        assert scores == sorted(scores)
        for candidate in item.candidates:
            expected = value_of(item.problem_id, candidate.code, True) if candidate.finished else None
            assert candidate.score == expected


@pytest.mark.parametrize("method", sorted(DECODERS))
def test_many_problems_together_are_as_each_alone(method):
    together, _, _ = run(method, PROBLEMS)
    assert len(together) == 30
    for index in (0, 7, 29):
        (alone,), _, _ = run(method, [PROBLEMS[index]])
        assert alone == together[index]
    windows, _, _ = run(method, PROBLEMS, window=4, overlap=True)
    assert windows == together


@pytest.mark.parametrize("method", sorted(DECODERS))
def test_a_smaller_budget_is_the_beginning_of_a_larger_one(method):
    large, _, _ = run(method, budget=23)
    small, _, _ = run(method, budget=9)
    for one, other in zip(small, large, strict=True):
        assert one.candidates == other.candidates[:9] and one.answers == other.answers[:9]


def test_single_sample_is_the_first_draw_of_best_of_n():
    single, _, values = run("sample")
    best, _, _ = run("best_of_n")
    assert values.asked == []
    for one, other in zip(single, best, strict=True):
        assert one.answers == (0,) * 23
        assert [candidate.code for candidate in one.candidates] == [candidate.code for candidate in other.candidates]


@pytest.mark.parametrize("method", sorted(set(DECODERS) - WITHOUT_VALUES))
def test_no_state_is_valued_twice(method):
    decoded, _, values = run(method)
    asked = [(state.problem.id, state.code, state.terminal) for call in values.asked for state in call]
    assert len(asked) == len(set(asked)) == sum(item.ledger.value_states for item in decoded)
    if method in ("best_of_n", "orm_mcts"):
        assert all(terminal for _, _, terminal in asked)


@pytest.mark.parametrize("method", sorted(DECODERS))
def test_ledger_counts_tokens_and_programs(method):
    decoded, _, _ = run(method, max_new_tokens=4)
    for item in decoded:
        unique = {(candidate.code, candidate.finished) for candidate in item.candidates}
        assert item.ledger.unique_completions == len(unique)
        assert item.ledger.cut_off == sum(not candidate.finished for candidate in item.candidates)
        assert 23 <= item.ledger.generated_tokens <= 23 * 4
        assert item.ledger.prompt_tokens >= len("def f():\n") * item.ledger.requests
        assert item.ledger.wall_s > 0


@pytest.mark.parametrize("method", sorted(set(DECODERS) - WITHOUT_VALUES))
def test_no_value_model_is_a_config_error(method):
    with pytest.raises(ConfigError, match=f"{method} needs a value model"):
        decode(method, PROBLEMS[:1], policy(), None, DecodeConfig(budget=2), 0)


def test_unknown_decoder_and_hyphens():
    with pytest.raises(ConfigError, match="allowed: greedy, sample"):
        decode("beam", PROBLEMS[:1], policy(), None, DecodeConfig(), 0)
    assert run("vm-mcts")[0] == run("vm_mcts")[0]


@pytest.mark.parametrize("method", sorted(set(DECODERS) - WITHOUT_VALUES))
def test_value_that_is_no_number_is_an_engine_error(method):
    class Broken:
        def score_states(self, states):
            return [float("nan") for _ in states]

    class Short:
        def score_states(self, states):
            return [0.5]

    for model, message in ((Broken(), "finite"), (Short(), "one each")):
        with pytest.raises(EngineError, match=message):
            decode(method, PROBLEMS[:2], policy(), model, DecodeConfig(budget=6), 0)


@pytest.mark.parametrize("method", sorted(DECODERS))
def test_policy_that_returns_too_few_is_an_engine_error(method):
    class Lazy(ScriptedPolicy):
        def sample(self, requests, params):
            return [completions[1:] for completions in super().sample(requests, params)]

    lazy = Lazy.from_programs({problem.id: PROGRAMS for problem in PROBLEMS})
    with pytest.raises(EngineError, match="exactly as many"):
        decode(method, PROBLEMS[:2], lazy, HashedValues(), DecodeConfig(budget=6), 0)


def test_json_round_trip_and_equal_runs_are_equal_text():
    (first,), _, _ = run("vm_mcts", PROBLEMS[:1])
    (second,), _, _ = run("vm_mcts", PROBLEMS[:1])
    assert json.dumps(first.to_json()) == json.dumps(second.to_json())
    assert Decoded.from_json(json.loads(json.dumps(first.to_json(timing=True)))) == first


def test_progress_counts_every_problem():
    for method in DECODERS:
        seen = []
        config = DecodeConfig(budget=7, window=4)
        decode(
            method, PROBLEMS[:10], policy(), HashedValues(), config, 0, on_progress=seen.append, execution=execution()
        )
        assert sum(seen) == 10


def test_registry_and_settings_name_the_same_methods():
    assert tuple(DECODERS) == METHODS and set(DECODERS) > INDEPENDENT
    assert build_section("decode", {"method": "best_of_n", "budget": 3}, "recipe").budget == 3
    with pytest.raises(ConfigError, match="allowed"):
        build_section("decode", {"method": "beam"}, "recipe")
    for field in dataclasses.fields(DecodeConfig):
        assert field.metadata["help"]


def test_search_needs_no_torch():
    sources = (Path(restrl.__file__).parent / "search").glob("*.py")
    assert not [path.name for path in sources if "import torch" in path.read_text(encoding="utf-8")]


candidate_lists = st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=12)


@given(candidate_lists)
@settings(deadline=None, max_examples=100)
def test_best_answers_against_brute_force(scores):
    candidates = [Candidate(str(i), score is not None, score, i) for i, score in enumerate(scores)]
    for budget, answer in enumerate(best_answers(candidates), 1):
        finished = [score for score in scores[:budget] if score is not None]
        assert answer == (scores.index(max(finished)) if finished else 0)


def test_a_layer_stands_between_the_decoder_and_its_models():
    seen = []

    class Doubled:
        def __init__(self, inner):
            self.inner = inner

        def score_states(self, states):
            seen.append(len(states))
            return [2 * value for value in self.inner.score_states(states)]

    plain = run("vm_mcts")[0]
    layered = decode(
        "vm_mcts",
        PROBLEMS[:5],
        policy(),
        HashedValues(),
        DecodeConfig(budget=23, c=0.0),
        0,
        params=SamplingParams(max_new_tokens=100),
        layer=lambda engine, values: (engine, Doubled(values)),
    )
    assert seen and sum(seen) == sum(item.ledger.value_states for item in layered)
    assert max(candidate.score for candidate in layered[0].candidates if candidate.finished) <= 2.0
    assert plain[0].candidates[0].score * 2 == layered[0].candidates[0].score
