"""Majority and clusters weighted by value: hand-made cases, and brute force at every budget."""

import pytest
from execution_doubles import TableRunner, execution
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.decoding import DecodeConfig, decode
from restrl.decoding.clusters import cluster_numbers, majority_answers, weighted_answers
from restrl.decoding.execution import Behaviour, Execution
from restrl.decoding.results import Candidate
from restrl.errors import ConfigError, EngineError
from restrl.policy.scripted import ScriptedPolicy
from restrl.types import Limits, Problem, Tests

PROBLEM = Problem("p", "", 'def f(xs):\n    """f([1]) == 2"""\n', "f", Tests("call", ()))


def row(*texts, scores=None):
    scores = scores or [0.5] * len(texts)
    return [Candidate(text, text != "cut", None if text == "cut" else score, i) for i, (text, score) in
            enumerate(zip(texts, scores, strict=True))]  # fmt: skip


DOES = {name: Behaviour((name[0],)) for name in ("a1", "a2", "b1", "b2", "c")} | {"dead": Behaviour(("!",), False)}


def test_majority_by_hand():
    #        cut  b1  a1  a2      b2      a2
    candidates = row("cut", "b1", "a1", "a2", "b2", "a2")
    # Nothing finished; b alone; b is earlier; two of a, its earlier text; two each, b earlier; three a, a2 twice.
    assert majority_answers(candidates, DOES) == (0, 1, 1, 2, 1, 3)
    assert cluster_numbers(candidates, DOES) == [None, 0, 1, 1, 0, 1]


def test_weighted_by_hand():
    candidates = row("b1", "a1", "a2", "c", "dead", scores=[0.9, 0.5, 0.6, 1.05, 8.0])
    # 0.9 of b against 0.5; 1.1 of a, where a2 scores best; 1.05 is less; what fails everywhere comes last.
    assert weighted_answers(candidates, DOES) == (0, 0, 2, 2, 2)
    # Negative values add nothing, and where nothing adds anything the larger cluster is taken.
    assert weighted_answers(row("b1", "a1", "a2", scores=[-0.1, -3.0, -2.0]), DOES) == (0, 0, 2)
    assert weighted_answers(row("dead", "cut"), DOES) == (0, 0)


names = st.lists(
    st.tuples(st.sampled_from([*DOES, "cut"]), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=14
)


@given(names, st.booleans())
@settings(deadline=None, max_examples=150)
def test_choices_against_brute_force(pairs, by_value):
    candidates = row(*[name for name, _ in pairs], scores=[score for _, score in pairs])
    answers = (weighted_answers if by_value else majority_answers)(candidates, DOES)
    for budget, answer in enumerate(answers, 1):
        seen = [candidate for candidate in candidates[:budget] if candidate.finished]
        if not seen:
            assert answer == 0
            continue
        worth = {}
        for candidate in seen:
            key = DOES[candidate.code].key
            alive, total, count = worth.get(key, (DOES[candidate.code].alive, 0.0, 0))
            worth[key] = (alive, total + (max(0.0, candidate.score) if by_value else 1), count + 1)
        best = max(worth.values())
        first = next(key for key, value in worth.items() if value == best)
        members = [candidate for candidate in seen if DOES[candidate.code].key == first]
        if by_value:
            top = max(candidate.score for candidate in members)
            expected = next(candidate.index for candidate in members if candidate.score == top)
        else:
            texts = [candidate.code for candidate in members]
            expected = next(c.index for c in members if texts.count(c.code) == max(map(texts.count, texts)))
        assert answer == expected


def policy(programs):
    return ScriptedPolicy.from_programs({"p": programs})


class Values:
    """Likes `odd` most, and one of the three that do the same."""

    def score_states(self, states):
        table = {"odd\n": 0.9, "same1\n": 0.4, "same2\n": 0.5, "same3\n": 0.3}
        return [table.get(state.code, 0.0) for state in states]


PROGRAMS = [("same1\n", 1.0), ("same2\n", 1.0), ("same3\n", 1.0), ("odd\n", 1.0), ("fails\n", 3.0)]


def outputs(program, case):
    last = program.splitlines()[-1]
    return "!error:E" if last == "fails" else f"={last[:3]}{case.args}"


def test_majority_decodes_by_outputs_and_is_independent_samples():
    sandbox = execution(outputs)
    (item,) = decode("majority", [PROBLEM], policy(PROGRAMS), None, DecodeConfig(budget=40), 0, execution=sandbox)
    assert item.answer.code.startswith("same")
    counts = {code: sum(candidate.code == code for candidate in item.candidates) for code, _ in PROGRAMS}
    assert counts[item.answer.code] == max(count for code, count in counts.items() if code.startswith("same"))
    # Most completions are `fails`, which does nothing anywhere: its cluster is not the answer.
    assert counts["fails\n"] == max(counts.values())
    clusters = {candidate.code[:3]: candidate.cluster for candidate in item.candidates}
    assert len(set(clusters.values())) == 3 and item.public_tests == 0
    (batch,) = sandbox.runner.asked
    assert sorted(program for _, program in batch) == sorted(PROBLEM.initial_state + code for code, _ in PROGRAMS)
    (sampled,) = decode("sample", [PROBLEM], policy(PROGRAMS), None, DecodeConfig(budget=40), 0)
    assert [c.code for c in sampled.candidates] == [c.code for c in item.candidates]


@pytest.mark.parametrize("method", ["best_of_n", "best_of_n_prm", "vm_mcts", "orm_mcts", "beam_search", "dvts"])
def test_clusters_change_the_answer_of_every_decoder_that_scores(method):
    def run(**changes):
        config = DecodeConfig(budget=30, **({"prm_aggregation": "last"} | changes))
        (item,) = decode(method, [PROBLEM], policy(PROGRAMS), Values(), config, 0, execution=execution(outputs))
        return item

    assert run().answer.code == "odd\n"
    clustered = run(selection="clusters")
    # Three programs that do the same outweigh the best one: 0.4 + 0.5 + 0.3 and duplicates against 0.9s.
    weight = {}
    for candidate in clustered.candidates:
        weight[candidate.cluster] = weight.get(candidate.cluster, 0.0) + candidate.score
    heaviest = max(weight, key=weight.get)
    assert clustered.answer.cluster == heaviest
    best = max(candidate.score for candidate in clustered.candidates if candidate.cluster == heaviest)
    assert clustered.answer.score == best
    plain = run()
    assert [c.code for c in plain.candidates] == [c.code for c in clustered.candidates] and plain.answers != ()


def test_without_inputs_programs_are_the_same_if_their_texts_are():
    blind = Problem("p", "", "", "", Tests("script", ()))
    runner = TableRunner()
    sandbox = Execution(runner, None)
    programs = [("usual\n", 5.0), ("rare\n", 1.0)]
    (item,) = decode("majority", [blind], policy(programs), None, DecodeConfig(budget=20), 0, execution=sandbox)
    assert item.answer.code == "usual\n" and runner.asked == []


def test_choices_that_make_no_sense_are_refused():
    for method, changes in (
        ("greedy", {"selection": "clusters"}),
        ("sample", {"public_tests": True}),
        ("majority", {"selection": "clusters"}),
    ):
        with pytest.raises(ConfigError, match=f"the decoder {method}"):
            decode(method, [PROBLEM], policy(PROGRAMS), None, DecodeConfig(budget=2, **changes), 0)

    class Short:
        def outputs(self, pairs):
            return [("=1",) for _ in pairs]

    with pytest.raises(EngineError, match="one per input"):
        decode(
            "majority", [PROBLEM], policy(PROGRAMS), None, DecodeConfig(budget=2), 0, execution=Execution(Short(), None)
        )


def test_the_sandbox_runs_them_for_real():
    programs = [
        ("    return sum(xs)\n", 2.0),
        ("    t = 0\n    for x in xs:\n        t += x\n    return t\n", 2.0),
        ("    return len(xs)\n", 3.0),
        ("    while True: pass\n", 1.0),
    ]
    problem = Problem("p", "", "def f(xs):\n", "f", Tests("call", ()), limits=Limits(cpu_s=0.2))
    (item,) = decode("majority", [problem], policy(programs), None, DecodeConfig(budget=24, num_inputs=4), 1)
    clusters = {candidate.code: candidate.cluster for candidate in item.candidates}
    assert clusters[programs[0][0]] == clusters[programs[1][0]] and len(set(clusters.values())) == 3
    sums = sum(candidate.cluster == clusters[programs[0][0]] for candidate in item.candidates)
    lengths = sum(candidate.cluster == clusters[programs[2][0]] for candidate in item.candidates)
    assert sums > lengths and item.answer.code in (programs[0][0], programs[1][0])
