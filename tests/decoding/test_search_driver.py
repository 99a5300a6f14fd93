"""The driver: few large calls, bounded windows, nothing lost when something fails."""

import itertools

import pytest

from restrl.decoding.driver import RewardScorer, ValueScorer, iter_searches, run_searches, sample_in_batches
from restrl.decoding.results import Ledger
from restrl.errors import EngineError, GraderError
from restrl.policy.scripted import ScriptedPolicy
from restrl.search import SearchConfig, SearchTree
from restrl.types import Grade, Problem, SampleRequest, SamplingParams, State, Tests

PROGRAMS = [("a\nb\nc\n", 2.0), ("a\nb\nd\n", 1.0), ("a\nx\n", 1.0), ("y\nb\n", 1.0)]
BUDGET_20 = SearchConfig(budget=20)
PROBLEMS = [Problem(f"p{i}", "", "def f():\n", "f", Tests("call", ())) for i in range(30)]


class Values:
    def __init__(self):
        self.calls = []

    def score_states(self, states):
        self.calls.append(len(states))
        return [0.1 * len(state.code) + 0.3 * state.terminal for state in states]


class PassIfX:
    def grade(self, pairs):
        return [Grade(problem.id, float("x" in program), "x" in program, ()) for problem, program in pairs]

    async def grade_async(self, pairs):
        return self.grade(pairs)


def policy():
    return ScriptedPolicy.from_programs({problem.id: PROGRAMS for problem in PROBLEMS})


def trees(problems=PROBLEMS, seed=0, config=BUDGET_20):
    return [SearchTree(State(problem), config, seed) for problem in problems]


def programs(runs):
    return [[(draw.code, draw.score) for draw in run.tree.draws] for run in runs]


def test_thirty_problems_need_few_calls_and_come_back_in_order():
    engine, values = policy(), Values()
    runs = run_searches(trees(), engine, ValueScorer(values), SamplingParams())
    assert [run.tree.root.state.problem.id for run in runs] == [problem.id for problem in PROBLEMS]
    assert all(run.tree.done and len(run.tree.draws) == 20 for run in runs)
    rounds = max(run.tree.statistics().requests for run in runs)
    assert engine.num_calls <= 3 * rounds and len(values.calls) <= 6 * rounds
    assert sum(values.calls) == sum(run.ledger().value_states for run in runs)


class Paths(Values):
    """Values that come with those of all earlier lines."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def score_paths(self, states):
        self.seen += [(state.problem.id, state.code, state.terminal) for state in states]
        paths = []
        for state, value in zip(states, self.score_states(states), strict=True):
            ends = [i + 1 for i, char in enumerate(state.code[:-1]) if char == "\n"]
            paths.append([(len(state.code), value), *((end, 0.1 * end) for end in ends)])
        return paths


def test_what_a_forward_said_on_the_way_is_not_asked_again():
    plain, paths = Values(), Paths()
    expected = run_searches(trees(), policy(), ValueScorer(plain), SamplingParams())
    found = run_searches(trees(), policy(), ValueScorer(paths), SamplingParams())
    assert programs(found) == programs(expected)
    assert len(set(paths.seen)) == len(paths.seen)
    # Lines are asked for together with the first program that has them, never after it.
    end_of_call = list(itertools.accumulate(paths.calls))
    for number, (problem, code, terminal) in enumerate(paths.seen):
        begin = next(end - calls for end, calls in zip(end_of_call, paths.calls, strict=True) if number < end)
        before = [other for name, other, _ in paths.seen[:begin] if name == problem]
        assert terminal or not any(other.startswith(code) for other in before)
    assert sum(paths.calls) < sum(plain.calls)
    for one, other in zip(found, expected, strict=True):
        ledger, before = one.ledger(), other.ledger()
        assert ledger.value_states < before.value_states
        assert ledger.value_states + ledger.repeated_scores == before.value_states + before.repeated_scores
    assert sum(paths.calls) == sum(run.ledger().value_states for run in found)


def test_a_finished_program_is_never_answered_by_the_state_that_it_ends_in():
    paths = Paths()
    runs = run_searches(trees(), policy(), ValueScorer(paths), SamplingParams())
    for run in runs:
        for draw in run.tree.draws:
            assert draw.score == pytest.approx(0.1 * len(draw.code) + 0.3)


def test_a_bad_number_on_the_path_names_the_state():
    class Broken(Paths):
        def score_paths(self, states):
            return [[(len(state.code), float("nan"))] for state in states]

    with pytest.raises(EngineError, match="the score of a state of p0 is nan"):
        run_searches(trees(), policy(), ValueScorer(Broken()), SamplingParams())


@pytest.mark.parametrize("options", [{"window": 1}, {"window": 7}, {"overlap": True}, {"max_batch": 8}])
def test_windows_batches_and_overlap_change_no_result(options):
    plain = run_searches(trees(), policy(), ValueScorer(Values()), SamplingParams())
    other = run_searches(trees(), policy(), ValueScorer(Values()), SamplingParams(), **options)
    assert programs(plain) == programs(other)


def test_trees_are_taken_only_when_there_is_room():
    taken = []

    def source():
        for tree in trees():
            taken.append(tree)
            yield tree

    stream = iter_searches(source(), policy(), ValueScorer(Values()), SamplingParams(), window=4)
    next(stream)
    assert len(taken) == 4
    assert len(list(stream)) == 29 and len(taken) == 30


def test_max_batch_bounds_the_completions_of_a_call():
    sizes = []

    class Watched(ScriptedPolicy):
        def sample(self, requests, params):
            sizes.append(sum(request.n for request in requests))
            return super().sample(requests, params)

    engine = Watched.from_programs({problem.id: PROGRAMS for problem in PROBLEMS})
    requests = [SampleRequest(State(problem), n, 0) for problem, n in zip(PROBLEMS, [3, 5, 9, 1, 1, 6], strict=False)]
    answers = sample_in_batches(engine, requests, SamplingParams(), max_batch=8)
    assert sizes == [8, 9, 8] and [len(answer) for answer in answers] == [3, 5, 9, 1, 1, 6]


def test_rewards_come_from_the_grader():
    config = SearchConfig.collection(budget=20)
    runs = run_searches(trees(config=config), policy(), RewardScorer(PassIfX()), SamplingParams(), overlap=True)
    for run in runs:
        assert all(draw.score == float("x" in draw.code) for draw in run.tree.draws)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_grader_that_fails_is_heard(overlap):
    class Failing(PassIfX):
        def grade(self, pairs):
            raise GraderError("no sandbox")

    config = SearchConfig.collection(budget=20)
    with pytest.raises(GraderError, match="no sandbox"):
        run_searches(trees(config=config), policy(), RewardScorer(Failing()), SamplingParams(), overlap=overlap)


def test_missing_numbers_are_an_engine_error():
    class Short:
        def score(self, states):
            return [0.5] * (len(states) - 1)

    with pytest.raises(EngineError, match="one each"):
        run_searches(trees(), policy(), Short(), SamplingParams())


def test_a_search_of_nothing():
    assert run_searches([], policy(), ValueScorer(Values()), SamplingParams()) == []
    (run,) = run_searches(
        trees(PROBLEMS[:1], config=SearchConfig(budget=0)), policy(), ValueScorer(Values()), SamplingParams()
    )
    assert run.tree.done and run.ledger().completions == 0


def test_a_ledger_adds_up_and_knows_its_reuse():
    one = Ledger(completions=5, prompt_tokens=10, reused_prompt_tokens=40, value_states=3, repeated_scores=1)
    two = Ledger(completions=2, prompt_tokens=6, reused_prompt_tokens=4, value_tokens=2.5, wall_s=1.0)
    total = Ledger.total([one, two])
    assert (total.completions, total.prompt_tokens, total.value_tokens, total.wall_s) == (7, 16, 2.5, 1.0)
    assert one.prompt_reuse == 0.8 and one.score_reuse == 0.25
    assert Ledger().prompt_reuse == Ledger().score_reuse == 0.0


def test_value_tokens_are_shared_by_the_states_of_a_round():
    class Counting(Values):
        tokens = 0

        def score_states(self, states):
            self.tokens += 7 * len(states)
            return super().score_states(states)

    model = Counting()
    ledgers = [run.ledger() for run in run_searches(trees(), policy(), ValueScorer(model), SamplingParams())]
    assert sum(item.value_tokens for item in ledgers) == pytest.approx(model.tokens)
    assert all(item.value_tokens == pytest.approx(7 * item.value_states) for item in ledgers)
    assert all(0 < item.prompt_tokens < item.reused_prompt_tokens for item in ledgers)


def test_every_round_shows_the_searches_that_took_part_and_each_of_them_done_once():
    rounds = []

    def on_round(runs):
        rounds.append([(run.index, run.tree.done, run.tree.statistics().completions) for run in runs])

    watched = run_searches(trees(), policy(), ValueScorer(Values()), SamplingParams(), window=4, on_round=on_round)
    assert programs(watched) == programs(run_searches(trees(), policy(), ValueScorer(Values()), SamplingParams()))
    assert max(map(len, rounds)) == 4
    assert sorted(index for shown in rounds for index, done, _ in shown if done) == list(range(30))
    for index in range(30):
        counts = [count for shown in rounds for place, _, count in shown if place == index]
        assert counts == sorted(counts) and counts[-1] == 20
