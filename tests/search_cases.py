"""Random policies, settings and ways of driving a search, for the tests of its laws."""

from hypothesis import strategies as st

from restrl.policy.scripted import ScriptedPolicy
from restrl.search import SampleWant, SearchConfig, SearchTree, ValueWant
from restrl.seeds import derive_seed
from restrl.types import Problem, SampleRequest, SamplingParams, State, Tests

PROBLEM = Problem("p", "", "", "f", Tests("call", ()))

line = st.sampled_from(["a", "b", "  c = 1", "# note", "", "a  "])
program = st.builds(
    lambda lines, newline: "\n".join(lines) + ("\n" if newline and lines else ""),
    st.lists(line, min_size=0, max_size=5),
    st.booleans(),
)
policies = st.lists(st.tuples(program, st.sampled_from([1.0, 2.0, 7.0])), min_size=1, max_size=8)
configs = st.builds(
    SearchConfig,
    budget=st.integers(0, 40),
    num_sample=st.integers(1, 6),
    num_decision=st.integers(1, 4),
    c=st.sampled_from([0.0, 0.1, 1.0]),
    backup=st.sampled_from(["children", "completions"]),
    reuse_suffixes=st.booleans(),
    leaves_in_flight=st.integers(1, 4),
) | st.builds(
    SearchConfig.collection,
    budget=st.integers(0, 40),
    num_sample=st.integers(1, 6),
    num_decision=st.integers(1, 4),
    reuse_suffixes=st.booleans(),
    leaves_in_flight=st.integers(1, 4),
)
lengths = st.sampled_from([3, 7, 100])


def score(state):
    """An arbitrary but fixed number in [0, 1) for every state."""
    return derive_seed("score", state.code, int(state.terminal)) / 2**63


def answer(tree, want, policy, params):
    if isinstance(want, SampleWant):
        tree.tell_samples(want.id, policy.sample([SampleRequest(want.state, want.n, want.seed)], params)[0])
    elif isinstance(want, ValueWant):
        tree.tell_values({want.id: score(want.state)})
    else:
        tree.tell_rewards({want.id: score(want.state)})


def run(programs, config, max_tokens, rng=None, check=None):
    """Runs a search; with ``rng`` asks piecemeal and answers in random order."""

    def script(_, code):
        # A state whose last action lost trailing blanks has no program; the policy then ends at once.
        return [(text[len(code) :], weight) for text, weight in programs if text.startswith(code)] or [("", 1.0)]

    policy, params = ScriptedPolicy(script), SamplingParams(max_new_tokens=max_tokens)
    tree = SearchTree(State(PROBLEM), config, 5)
    waiting = []
    while not tree.done:
        new = tree.ask(rng.randint(1, 3) if rng else None)
        waiting += new
        assert waiting, "the search neither asks nor is done"
        if rng is None:
            for want in waiting:
                answer(tree, want, policy, params)
            waiting = []
        else:
            rng.shuffle(waiting)
            for _ in range(rng.randint(0 if new else 1, len(waiting))):
                answer(tree, waiting.pop(), policy, params)
        if check is not None:
            check(tree)
    assert tree.ask() == []
    return tree


def outline(tree):
    nodes = [
        (node.state.code, node.state.terminal, node.visits, node.total, node.value, node.draws, node.pruned, node.order)
        for node in tree.nodes
    ]
    return nodes, [(draw.code, draw.finished, draw.score, draw.start, draw.worth) for draw in tree.draws]
