"""Greedy, best of n and PRM on scripts whose right answers are known by hand."""

import pytest

from restrl.decoding import DecodeConfig, decode
from restrl.decoding.prm import step_scores
from restrl.errors import EngineError
from restrl.policy.scripted import ScriptedPolicy
from restrl.types import Problem, SamplingParams, State, Tests

PROBLEM = Problem("p", "", "def f():\n", "f", Tests("call", ()))
# Values after each line; the last of a program is its own. Weakest line, last line and mean favour a program each.
STEPS = {
    "steady\nend\n": [0.5, 0.5],
    "risky\nend\n": [0.1, 0.9],
    "bright\nlong\nend\n": [0.9, 0.9, 0.2],
}
BEST = {"min": "steady\nend\n", "last": "risky\nend\n", "mean": "bright\nlong\nend\n"}


def value(state):
    """Looks a state up in the table; a state at which the program could still go on is worth -9 after its last line."""
    program = next(text for text in STEPS if text.startswith(state.code))
    number = state.code.count("\n")
    if not state.terminal and number == program.count("\n"):
        return -9.0
    return STEPS[program][number - 1]


class States:
    def __init__(self):
        self.asked = []

    def score_states(self, states):
        self.asked += [(state.code, state.terminal) for state in states]
        return [value(state) for state in states]


class Boundaries(States):
    """As the trained model: values at all line ends, then the finished program's."""

    def score_boundaries(self, states):
        self.asked += [(state.code, state.terminal) for state in states]
        rows = []
        for state in states:
            ends = [i + 1 for i, character in enumerate(state.code) if character == "\n"]
            rows.append([value(State(state.problem, state.code[:end])) for end in ends] + [value(state)])
        return rows


def run(method, model, budget=12, **changes):
    policy = ScriptedPolicy.from_programs({"p": [(text, 1.0) for text in STEPS]})
    (decoded,) = decode(method, [PROBLEM], policy, model, DecodeConfig(budget=budget, **changes), 1)
    assert {candidate.code for candidate in decoded.candidates} == set(STEPS)
    return decoded


@pytest.mark.parametrize("aggregation", sorted(BEST))
@pytest.mark.parametrize("kind", [States, Boundaries])
def test_the_aggregation_of_step_scores_decides(aggregation, kind):
    decoded = run("best_of_n_prm", kind(), prm_aggregation=aggregation)
    assert decoded.answer.code == BEST[aggregation]
    expected = {"min": min, "last": lambda x: x[-1], "mean": lambda x: sum(x) / len(x)}[aggregation]
    for candidate in decoded.candidates:
        assert candidate.score == pytest.approx(expected(STEPS[candidate.code]))
    # Two states of each two-line program, three of the other.
    assert decoded.ledger.value_states == 7


def test_each_step_is_asked_once_and_one_forward_gives_all_steps_of_a_program():
    states, boundaries = States(), Boundaries()
    run("best_of_n_prm", states)
    run("best_of_n_prm", boundaries)
    assert sorted(states.asked) == sorted(
        (text[: end + 1], end == len(text) - 1) for text in STEPS for end, c in enumerate(text) if c == "\n"
    )
    assert sorted(boundaries.asked) == sorted((text, True) for text in STEPS)


def test_best_of_n_by_the_last_step_is_best_of_n():
    one, other = run("best_of_n", States()), run("best_of_n_prm", Boundaries(), prm_aggregation="last")
    assert one.candidates == other.candidates and one.answers == other.answers


def test_shared_prefixes_are_scored_once():
    class Count(States):
        def score_states(self, states):
            self.asked += [(state.code, state.terminal) for state in states]
            return [float(len(state.code)) for state in states]

    model = Count()
    programs = [State(PROBLEM, code, terminal=True) for code in ("a\nb\n", "a\nc\n", "")]
    assert step_scores(model, programs) == ([[2.0, 4.0], [2.0, 4.0], [0.0]], [2, 1, 1])
    assert model.asked == [("a\n", False), ("a\nb\n", True), ("a\nc\n", True), ("", True)]


def test_steps_that_are_missing_or_no_numbers_are_an_engine_error():
    class Broken:
        def __init__(self, row):
            self.row = row

        def score_boundaries(self, states):
            return [self.row for _ in states]

    program = [State(PROBLEM, "a\nb\n", terminal=True)]
    assert step_scores(Broken([0.1, 0.2, 0.3]), program) == ([[0.1, 0.3]], [2])
    for row, message in (([0.1, 0.2], "scored"), ([0.1, float("nan"), 0.3], "finite")):
        with pytest.raises(EngineError, match=message):
            step_scores(Broken(row), program)


def test_greedy_is_the_likeliest_completion_and_the_rest_are_those_of_sample():
    policy = ScriptedPolicy.from_programs({"p": [("rare\n", 1.0), ("usual\n", 1.5), ("odd\n", 1.0)]})
    params = SamplingParams(max_new_tokens=50)
    for seed in range(4):
        (greedy,) = decode("greedy", [PROBLEM], policy, None, DecodeConfig(budget=6), seed, params=params)
        (sampled,) = decode("sample", [PROBLEM], policy, None, DecodeConfig(budget=6), seed, params=params)
        assert greedy.answer.code == "usual\n" and greedy.answers == (0,) * 6
        rest = [candidate.code for candidate in greedy.candidates[1:]]
        assert rest == [candidate.code for candidate in sampled.candidates[:5]]
        assert greedy.ledger.requests == 2 and greedy.ledger.completions == 6
    (alone,) = decode("greedy", [PROBLEM], policy, None, DecodeConfig(budget=1), 0, params=params)
    assert alone.candidates == greedy.candidates[:1] and alone.ledger.requests == 1
