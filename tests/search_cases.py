"""Random policies, settings and ways of driving a search, for the tests of its laws."""

from dataclasses import replace

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
counts = {
    "budget": st.integers(0, 40),
    "num_sample": st.integers(1, 6),
    "num_decision": st.integers(1, 4),
    "c": st.sampled_from([0.0, 0.1, 1.0]),
}
options = {
    "selection": st.sampled_from(["uct", "puct"]),
    "prior": st.sampled_from(["uniform", "frequency", "logprob"]),
    "aggregate": st.sampled_from(["mean", "max"]),
    "widening": st.sampled_from(["fixed", "progressive", "adaptive"]),
    "widening_k": st.sampled_from([0.5, 2.0]),
    "widening_alpha": st.sampled_from([0.0, 0.5, 1.0]),
    "reuse_suffixes": st.booleans(),
    "leaves_in_flight": st.integers(1, 4),
}
backups = st.sampled_from(["children", "completions"])
own_configs = st.builds(SearchConfig, **counts, **options, backup=backups) | st.builds(
    SearchConfig.collection, **counts, **options
)
paper_configs = st.builds(SearchConfig.paper, **counts, backup=backups) | st.builds(
    SearchConfig.paper, **counts, backup=st.just("completions"), source=st.just("rewards")
)
configs = own_configs | paper_configs
lengths = st.sampled_from([3, 7, 100])


def score(state):
    """An arbitrary but fixed number in [0, 1) for every state."""
    return derive_seed("score", state.code, int(state.terminal)) / 2**63


def with_logprobs(completion):
    """The completion with a log-probability for each of its lines, which depends on the text alone."""
    ends, start = [], 0
    while start < len(completion.text):
        start = completion.text.find("\n", start) + 1 or len(completion.text)
        ends.append(start)
    ends = ends or [0]
    logprobs = [-0.1 - derive_seed(completion.text[:end], "logprob") / 2**61 for end in ends]
    return replace(completion, logprob=sum(logprobs), token_logprobs=tuple(logprobs), token_ends=tuple(ends))


def answer(tree, want, policy, params):
    if isinstance(want, SampleWant):
        completions = policy.sample([SampleRequest(want.state, want.n, want.seed)], params)[0]
        tree.tell_samples(want.id, [with_logprobs(completion) for completion in completions])
    elif isinstance(want, ValueWant):
        tree.tell_values({want.id: score(want.state)})
    else:
        tree.tell_rewards({want.id: score(want.state)})


def policy_of(programs):
    """A policy that continues a state with the rest of one of the programs."""

    def script(_, code):
        # A state whose last action lost trailing blanks has no program; the policy then ends at once.
        return [(text[len(code) :], weight) for text, weight in programs if text.startswith(code)] or [("", 1.0)]

    return ScriptedPolicy(script)


def run(programs, config, max_tokens, rng=None, check=None):
    """Runs a search; with ``rng`` asks piecemeal and answers in random order."""
    policy, params = policy_of(programs), SamplingParams(max_new_tokens=max_tokens)
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
        (
            node.state.code,
            node.state.terminal,
            node.visits,
            node.total,
            node.value,
            node.draws,
            node.pruned,
            node.order,
            node.line_prior,
        )
        for node in tree.nodes
    ]
    return nodes, [(draw.code, draw.finished, draw.score, draw.start, draw.worth) for draw in tree.draws]
