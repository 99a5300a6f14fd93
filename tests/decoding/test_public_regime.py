"""Public examples in decoding: they rank candidates, mix into values and are labelled; no hidden test is touched."""

import json
import random

import pytest
from execution_doubles import PublicGrader, TableRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.decoding import DECODERS, DecodeConfig, Decoded, Execution, decode
from restrl.decoding.public import PublicExamples, PublicSearch, WatchedPrograms
from restrl.errors import GraderError
from restrl.policy.scripted import ScriptedPolicy
from restrl.search import SampleWant, SearchConfig, SearchTree
from restrl.search.beam import BeamConfig, BeamSearch
from restrl.seeds import derive_seed
from restrl.types import Case, Problem, SampleRequest, SamplingParams, State, Tests


class Hidden(tuple):
    """Tests that nobody may look at."""

    def _refuse(self, *_):
        raise AssertionError("hidden tests were touched")

    __iter__ = __len__ = __getitem__ = __contains__ = __bool__ = __hash__ = __eq__ = _refuse


STATE = 'def f(x):\n    """f(1) == 2 and f(2) == 3"""\n'
SHOWS = Problem("shows", "", STATE, "f", Tests("call", Hidden()))
SHOWS_NOTHING = Problem("silent", "", "def f(x):\n", "f", Tests("call", Hidden()))
# The value model likes what fails the examples; `half` passes one of the two.
PROGRAMS = [("bad\nend\n", 3.0), ("half\nend\n", 2.0), ("good\nend\n", 1.0), ("good\nother\n", 1.0)]
VALUES = {"bad": 0.9, "half": 0.5, "good": 0.1}
CHOOSING = sorted(set(DECODERS) - {"greedy", "sample"})


class Values:
    def score_states(self, states):
        return [VALUES.get(state.code.split("\n")[0], 0.0) + 0.01 * len(state.code) for state in states]


def passes(program, case):
    return "good" in program or ("half" in program and case.args == (1,))


def run(method, problems=(SHOWS, SHOWS_NOTHING), grader=None, budget=24, **changes):
    policy = ScriptedPolicy.from_programs({problem.id: PROGRAMS for problem in problems})
    sandbox = Execution(TableRunner(), grader or PublicGrader(passes))
    config = DecodeConfig(budget=budget, **({"public_tests": True, "prm_aggregation": "last"} | changes))
    return decode(method, problems, policy, Values(), config, 3, execution=sandbox)


@pytest.mark.parametrize("method", CHOOSING)
def test_what_passes_ranks_first_and_the_regime_is_labelled(method):
    shows, silent = run(method)
    for budget, answer in enumerate(shows.answers, 1):
        seen = [candidate for candidate in shows.candidates[:budget] if candidate.finished]
        assert shows.candidates[answer].public == max(candidate.public for candidate in seen)
    assert shows.answer.code.startswith("good") and shows.answer.public == 1.0
    assert {candidate.public for candidate in shows.candidates} >= {0.0, 1.0}
    assert shows.public_tests == 2 and silent.public_tests == 0
    assert all(candidate.public is None for candidate in silent.candidates)
    assert Decoded.from_json(json.loads(json.dumps(shows.to_json(timing=True)))) == shows
    usual = run(method, public_tests=False)[0]
    assert usual.public_tests == 0 and not any(candidate.public for candidate in usual.candidates)


@pytest.mark.parametrize("method", CHOOSING)
@pytest.mark.parametrize("selection", ["score", "clusters"])
def test_hidden_tests_are_never_touched(method, selection):
    """The tests of the problems cannot even be looked at, and the grader refuses any that is not an example."""
    if method == "majority" and selection == "clusters":
        return
    grader = PublicGrader(passes)
    run(method, grader=grader, selection=selection)
    assert {name for name, _ in grader.graded} == {"shows"}
    assert len(grader.graded) == len(set(grader.graded)), "a program was run twice"


def test_declared_public_tests_are_used_and_the_others_are_not():
    cases = (Case("hidden_0", (9,), expected=0), Case("public_0", (1,), expected=2), Case("hidden_1", (8,), expected=0))
    problem = Problem("p", "", "def f(x):\n", "f", Tests("call", cases), metadata={"public_tests": ["public_0"]})
    seen = []

    class Watching(PublicGrader):
        def grade(self, pairs):
            seen.extend(case for public, _ in pairs for case in public.tests.cases)
            return super().grade(pairs)

    for method in CHOOSING:
        run(method, (problem,), Watching(passes))
    assert {(case.id, case.args) for case in seen} == {("public_0", (1,))}
    with pytest.raises(AssertionError, match="hidden test hidden_0 was touched"):
        PublicGrader().grade([(problem, "")])


def test_in_the_usual_regime_no_grader_is_asked():
    class Refusing:
        def grade(self, pairs):
            raise AssertionError("a grader was asked")

    for method in CHOOSING:
        run(method, grader=Refusing(), public_tests=False, budget=6)


def test_values_are_mixed_with_the_share_of_examples_passed():
    examples = PublicExamples.of([SHOWS], PublicGrader(passes))
    model = WatchedPrograms(Values(), examples)
    search = PublicSearch(BeamSearch(State(SHOWS), BeamConfig(4, 4, 1), 0), examples.rewards, 0.25)
    (want,) = search.ask()
    texts = ["bad\nend\n", "half\nend\n", "half\nbad\n", "good\nend\n"]
    completions = [c for text in texts for c in ScriptedPolicy.from_programs({"shows": [(text, 1.0)]}).sample(
        [SampleRequest(State(SHOWS), 1, 0)], SamplingParams())[0]]  # fmt: skip
    search.tell_samples(want.id, completions)
    wants = search.ask()
    # One by one and backwards: what a state is worth does not depend on it.
    values = model.score_states([want.state for want in wants])
    for want, value in reversed(list(zip(wants, values, strict=True))):
        search.tell_values({want.id: value})
    expected = {"bad\nend\n": 0.0, "half\nend\n": 0.5, "half\nbad\n": 0.5, "good\nend\n": 1.0}
    for draw in search.draws:
        (value,) = Values().score_states([State(SHOWS, draw.program, terminal=True)])
        assert draw.score == pytest.approx(0.75 * value + 0.25 * expected[draw.program])


def test_a_line_is_worth_what_the_programs_through_it_pass():
    examples = PublicExamples.of([SHOWS], PublicGrader(lambda program, case: "end" in program))
    model = WatchedPrograms(Values(), examples)
    search = PublicSearch(SearchTree(State(SHOWS), SearchConfig(budget=40, num_sample=40), 1), examples.rewards, 0.5)
    drive(search, model)
    node = search.root.children["good\n", False]
    through = [draw.program for draw in search.draws if draw.code.startswith("good\n")]
    share = sum("end" in program for program in through) / len(through)
    assert 0 < share < 1
    (value,) = Values().score_states([State(SHOWS, "good\n")])
    assert node.scored_value == pytest.approx(0.5 * value + 0.5 * share)


def drive(search, model, order=None):
    policy, waiting = ScriptedPolicy.from_programs({"shows": PROGRAMS}), []
    while not search.done:
        waiting += search.ask(None if order is None else order.randint(0, 3))
        if order is not None:
            order.shuffle(waiting)
        for want in [waiting.pop() for _ in range(len(waiting) if order is None else min(2, len(waiting)))]:
            if isinstance(want, SampleWant):
                request = SampleRequest(want.state, want.n, want.seed)
                search.tell_samples(want.id, policy.sample([request], SamplingParams())[0])
            else:
                search.tell_values({want.id: model.score_states([want.state])[0]})
    return search


@given(st.integers(0, 30), st.integers(1, 6), st.randoms(use_true_random=False), st.booleans())
@settings(deadline=None, max_examples=25)
def test_the_mixture_does_not_depend_on_the_order_of_answers(budget, num_sample, order, is_beam):
    runs = []
    for rng in (None, random.Random(order.random())):
        examples = PublicExamples.of([SHOWS], PublicGrader(passes))
        inner = (
            BeamSearch(State(SHOWS), BeamConfig(budget, num_sample), 2)
            if is_beam
            else SearchTree(State(SHOWS), SearchConfig(budget=budget, num_sample=num_sample), 2)
        )
        search = drive(PublicSearch(inner, examples.rewards, 0.5), WatchedPrograms(Values(), examples), rng)
        runs.append([(draw.code, draw.score) for draw in search.draws])
    assert runs[0] == runs[1] and len(runs[0]) == budget


def test_wants_that_nobody_asked_are_refused():
    search = PublicSearch(BeamSearch(State(SHOWS), BeamConfig(4), 0), {}, 0.5)
    with pytest.raises(ValueError, match="not a ValueWant"):
        search.tell_values({7: 0.5})
    (want,) = search.ask()
    with pytest.raises(ValueError, match="RewardWant"):
        search.tell_rewards({want.id: 1.0})


def test_a_grader_that_answers_wrongly_is_heard():
    class Short:
        def grade(self, pairs):
            return []

    with pytest.raises(GraderError, match="one each"):
        run("best_of_n", grader=Short())


def test_many_problems_together_are_as_each_alone():
    problems = [Problem(f"p{i}", "", STATE if i % 2 else "def f(x):\n", "f", Tests("call", Hidden())) for i in range(9)]
    for method in ("vm_mcts", "dvts", "majority"):
        together = run(method, problems, window=4)
        for index in (0, 5):
            assert run(method, [problems[index]])[0] == together[index]


def test_the_sandbox_runs_the_examples_for_real():
    problem = Problem("p", "", STATE, "f", Tests("call", Hidden()))
    programs = [("    return x\n", 3.0), ("    return x + 1\n", 1.0), ("    return 2\n", 2.0)]
    policy = ScriptedPolicy.from_programs({"p": programs})

    class Hash:
        def score_states(self, states):
            return [derive_seed(state.code) / 2**63 for state in states]

    config = DecodeConfig(budget=20, public_tests=True)
    (item,) = decode("best_of_n", [problem], policy, Hash(), config, 0)
    assert item.answer.code == "    return x + 1\n"
    shares = {candidate.code: candidate.public for candidate in item.candidates}
    assert shares == {"    return x\n": 0.0, "    return x + 1\n": 1.0, "    return 2\n": 0.5}
