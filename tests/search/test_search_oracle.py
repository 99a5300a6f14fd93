"""The search against what is known exactly: enumerated worlds, an index policy on a bandit, closed-form bounds."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from search_worlds import PROBLEM, World, drive, search_world

from restrl.search import SearchConfig, SearchTree
from restrl.types import Completion, State
from restrl.value.targets import GradedPath, targets_from_paths

WORLDS = [World(seed, depth=6, early=0.05, needle=True) for seed in range(12)]
NARROW = [World(seed, depth=8, width=2, early=0.0, needle=True) for seed in range(12)]


def tail(chances, at_least):
    """Probability that at least so many independent events happen, exactly (Poisson-binomial)."""
    counts = np.array([1.0])
    for chance in chances:
        counts = np.convolve(counts, [1.0 - chance, chance])
    return counts[at_least:].sum()


def num_found(worlds, config, values):
    """In how many worlds the answer is the best program, and the chance that plain sampling does as well."""
    found = 0
    for seed, world in enumerate(worlds):
        tree = search_world(world, config, seed, getattr(world, values))
        answer = max(tree.draws, key=lambda draw: (draw.score, -draw.index))
        found += answer.program == "".join(world.needle)
    chances = [1.0 - (1.0 - world.chance["".join(world.needle)]) ** config.budget for world in worlds]
    return found, tail(chances, found)


def test_enumerated_values_are_the_expected_rewards():
    for world in WORLDS[:3]:
        assert math.fsum(world.chance.values()) == pytest.approx(1.0)
        expected = math.fsum(chance * world.reward[program] for program, chance in world.chance.items())
        assert world.value["", False] == pytest.approx(expected)
        assert max(world.reward.values()) == 1.0 == world.reward["".join(world.needle)]


@pytest.mark.parametrize("options", [{}, {"backup": "completions", "c": 0.2}, {"leaves_in_flight": 4}])
def test_exact_values_lead_to_the_best_leaf_of_every_world(options):
    config = SearchConfig(budget=300, widening="adaptive", **options)
    found, _ = num_found(WORLDS, config, "value")
    assert found == len(WORLDS)


@pytest.mark.parametrize(
    "options",
    [
        {"widening": "progressive"},
        {"widening": "progressive", "aggregate": "max"},
        {"widening": "adaptive", "aggregate": "max"},
        {"widening": "adaptive", "selection": "puct"},
        {"widening": "adaptive", "selection": "puct", "prior": "logprob"},
        {"widening": "progressive", "selection": "puct", "prior": "uniform"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_every_widening_option_beats_plain_sampling(options):
    _, chance = num_found(WORLDS, SearchConfig(budget=200, **options), "value")
    assert chance < 1e-3


@pytest.mark.parametrize("config", [SearchConfig, SearchConfig.paper])
def test_with_every_line_among_the_first_samples_no_widening_is_needed(config):
    _, chance = num_found(NARROW, config(budget=80, num_sample=6), "best")
    assert chance < 1e-3


def z_scores(worlds_trees, world, kind):
    """For every state, the sum over independent searches of (reward - V^pi), in estimated standard deviations.

    A search's sum has expectation 0 exactly where its targets are unbiased when weighted by their counts.
    """
    errors = {state: [] for state in world.value if not state[1]}
    for tree in worlds_trees:
        paths = [GradedPath(draw.code, draw.finished, draw.score, draw.start) for draw in tree.draws]
        sums = dict.fromkeys(errors, 0.0)
        for trajectory in targets_from_paths(PROBLEM.id, paths, kind):
            for offset, value, weight in trajectory.targets:
                state = trajectory.code[:offset], False
                if offset <= len(trajectory.code) and state in sums:  # a whole program is no state of the world
                    # A state's weight is its count, shared among the trajectories that carry it.
                    sums[state] += weight * (value - world.value[state])
        for state, error in sums.items():
            errors[state].append(error)
    scores = {}
    for state, values in errors.items():
        spread = math.sqrt(sum(value * value for value in values))
        if sum(value != 0.0 for value in values) >= 50:
            scores[state] = sum(values) / spread
    return scores


def test_collected_targets_converge_to_the_true_values_and_the_published_ones_do_not():
    world = World(3, depth=3, early=0.2)
    config = SearchConfig.collection(budget=20, num_sample=3)
    trees = [search_world(world, config, seed) for seed in range(250)]
    own, subtree = (z_scores(trees, world, kind) for kind in ("own", "subtree"))
    assert len(own) >= 5
    bound = NormalDist().inv_cdf(1.0 - 0.001 / 2 / len(own))  # all states at once, false alarm 1 in 1000
    assert max(abs(z) for z in own.values()) < bound
    assert max(abs(z) for z in subtree.values()) > bound


def test_mean_of_fresh_draws_under_a_state_converges_to_its_value():
    # With k = 2 and alpha = 1 every completion is drawn from the root: no choice, so Hoeffding's bound holds.
    world = World(5, depth=3)
    config = SearchConfig.collection(budget=1500, num_sample=50, widening="progressive", widening_k=2, widening_alpha=1)
    tree = search_world(world, config, 1)
    for node in tree.nodes:
        if not node.state.terminal:
            radius = math.sqrt(math.log(2 * len(world.value) / 0.001) / 2 / node.visits)
            assert abs(node.total / node.visits - world.value[node.state.code, False]) < radius
    for child in tree.root.children.values():
        true = {line: probability for line, probability, _ in world.lines[""]}[child.state.code]
        assert abs(child.line_prior - true) < math.sqrt(math.log(2 * 3 / 0.001) / 2 / 1500)


class Bandit:
    """Endless programs below K first lines; the t-th completion below line k earns ``table[k][t]``."""

    def __init__(self, table):
        self.table = table
        self.pulls = []
        self.rewards = {}

    def sample(self, state, n, seed):
        completions = []
        for _ in range(n):
            arm = len(self.pulls) if not state.code else int(state.code.split("\n")[0])
            text = "" if state.code else f"{arm}\n"
            # Two more lines that no other completion has: below every arm there is always a leaf.
            text += f"x{len(self.pulls)}\ny\n"
            self.rewards[state.code + text] = self.table[arm][self.pulls.count(arm)]
            self.pulls.append(arm)
            completions.append(Completion(text, "stop"))
        return completions


def index_policy(table, horizon, c, eps):
    """What ``mean + c * sqrt((1 + ln N) / (eps + n))`` pulls, K pulls at a time, after one of each: anew, no tree."""
    pulls = list(range(len(table)))
    while len(pulls) < horizon:
        indices = []
        for arm, rewards in enumerate(table):
            n = pulls.count(arm)
            indices.append(sum(rewards[:n]) / n + c * ((1 + math.log(len(pulls))) / (eps + n)) ** 0.5)
        pulls += [indices.index(max(indices))] * len(table)
    return pulls[:horizon]


def pulls_of_search(table, horizon, c, eps):
    bandit = Bandit(table)
    config = SearchConfig(
        budget=horizon, num_sample=len(table), c=c, eps=eps, backup="completions", reuse_suffixes=False
    )
    tree = drive(SearchTree(State(PROBLEM), config, 0), bandit.sample, lambda state: bandit.rewards[state.code])
    return bandit.pulls, tree


@pytest.mark.parametrize("c", [0.05, 0.2, 1.0])
def test_pulls_are_those_of_an_independent_index_policy(c):
    rng = np.random.default_rng(7)
    table = rng.random((4, 240)) * np.array([[1.0], [0.9], [0.8], [0.3]])
    pulls, tree = pulls_of_search(table, 240, c, 0.1)
    assert pulls == index_policy(table, 240, c, 0.1)
    visits = [child.visits for child in tree.root.children.values()]
    assert visits == [pulls.count(arm) for arm in range(4)]


@pytest.mark.parametrize("c", [0.1, 0.3, 1.0])
def test_regret_of_constant_arms_stays_below_its_closed_form(c):
    # Arm k is chosen while c * sqrt((1 + ln N) / (eps + n_k)) >= gap_k at the least: the best arm's bonus is >= 0.
    # So n_k <= c^2 (1 + ln T) / gap_k^2 - eps before its last K pulls.
    means, horizon, eps = [0.9, 0.7, 0.5, 0.2], 400, 0.1
    pulls, _ = pulls_of_search([[mean] * horizon for mean in means], horizon, c, eps)
    bound = 0.0
    for arm, mean in enumerate(means[1:], start=1):
        gap = means[0] - mean
        most = max(1.0, c * c * (1 + math.log(horizon)) / gap**2 - eps) + len(means)
        assert pulls.count(arm) <= most
        bound += gap * most
    regret = sum(means[0] - means[arm] for arm in pulls)
    assert regret <= bound
    if c == 0.1:
        assert bound < 0.1 * horizon * (means[0] - np.mean(means))  # the bound says something


def test_progressive_widening_keeps_pace_with_the_visits():
    k, alpha, n = 1.5, 0.6, 2

    class Endless:
        """Every completion is a first line of its own with two more lines."""

        count = 0

        def sample(self, state, size, seed):
            texts = []
            for _ in range(size):
                self.count += 1
                texts.append(Completion(f"{self.count}\nx\ny\n", "stop"))
            return texts

    config = SearchConfig(
        budget=300,
        num_sample=n,
        num_decision=300,
        reuse_suffixes=False,
        widening="progressive",
        widening_k=k,
        widening_alpha=alpha,
        c=0.3,
    )
    tree = drive(SearchTree(State(PROBLEM), config, 0), Endless().sample, lambda state: 0.5)
    expanded = [node for node in tree.nodes if node.expanded]
    assert len(expanded) > 20
    for node in expanded:
        assert node.moved <= max(n, k * node.visits**alpha + n)
        assert node.moved == node.visits or node.moved >= k * (node.visits - n) ** alpha
    assert tree.root.moved < 60 < tree.root.visits
