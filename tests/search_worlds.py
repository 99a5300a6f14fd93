"""Small random worlds whose values are known exactly: enumerated trees of lines with probabilities and rewards."""

import math

import numpy as np

from restrl.search import SampleWant, SearchTree, ValueWant
from restrl.types import Completion, Problem, State, Tests

PROBLEM = Problem("world", "", "", "f", Tests("call", ()))
LINES = "abcdefgh"


class World:
    """A random tree of programs. A state's next line is drawn from its own distribution; a last line ends the program.

    Args:
        seed: Makes the tree.
        depth: Lines of the longest program.
        width: Lines that a state may go on with.
        early: Probability that a line before the last level ends its program.
        needle: Reward a program by its share of the lines of one program of full length; else by 0 or 1 at random.
    """

    def __init__(self, seed, depth=3, width=3, early=0.2, needle=False):
        rng = np.random.default_rng(seed)
        self.lines = {}  # code of a state -> [(line, probability, whether it ends the program)]
        self.reward = {}  # program -> reward
        self.chance = {}  # program -> probability under the policy
        self.value = {}  # (code, terminal) -> V^pi, by enumeration
        self.best = {}  # (code, terminal) -> the best reward that can be reached
        self.needle = [f"{LINES[place]}\n" for place in rng.integers(width, size=depth)] if needle else None
        self._grow("", depth, width, early, rng, 1.0)

    def _reward(self, program, rng):
        if self.needle is None:
            return float(rng.random() < 0.3)
        pairs = zip(program.splitlines(keepends=True), self.needle, strict=False)
        return sum(line == right for line, right in pairs) / len(self.needle)

    def _grow(self, code, depth, width, early, rng, chance):
        probabilities = (rng.dirichlet(np.ones(width)) + 1.0 / width) / 2.0
        rows = []
        for place, probability in enumerate(probabilities):
            line = f"{LINES[place]}\n"
            on_the_way = self.needle is not None and (code + line) == "".join(self.needle)[: len(code + line)]
            ends = depth == 1 or (rng.random() < early and not on_the_way)
            rows.append((line, float(probability), ends))
            below = code + line
            if ends:
                self.reward[below] = self.value[below, True] = self.best[below, True] = self._reward(below, rng)
                self.chance[below] = chance * float(probability)
            else:
                self._grow(below, depth - 1, width, early, rng, chance * float(probability))
        self.lines[code] = rows
        self.value[code, False] = math.fsum(p * self.value[code + line, ends] for line, p, ends in rows)
        self.best[code, False] = max(self.best[code + line, ends] for line, _, ends in rows)

    def complete(self, code, rng):
        """Draws a completion line by line, with the exact log-probability of every line."""
        text, logprobs, ends, finished = "", [], [], False
        while not finished:
            rows = self.lines[code + text]
            line, probability, finished = rows[rng.choice(len(rows), p=[p for _, p, _ in rows])]
            text += line
            logprobs.append(math.log(probability))
            ends.append(len(text))
        return Completion(
            text, "stop", len(logprobs), logprob=sum(logprobs), token_logprobs=tuple(logprobs), token_ends=tuple(ends)
        )

    def sample(self, requests, params):
        """The policy: completion i of a request depends on its seed and i alone."""
        return [
            [self.complete(request.state.code, np.random.default_rng([request.seed, i])) for i in range(request.n)]
            for request in requests
        ]


def drive(tree, sample, score):
    """Answers a search until it is done; ``sample(state, n, seed)`` gives completions, ``score(state)`` a number."""
    while wants := tree.ask():
        for want in wants:
            if isinstance(want, SampleWant):
                tree.tell_samples(want.id, sample(want.state, want.n, want.seed))
            elif isinstance(want, ValueWant):
                tree.tell_values({want.id: score(want.state)})
            else:
                tree.tell_rewards({want.id: score(want.state)})
    return tree


def search_world(world, config, seed, values=None):
    """Searches a world; states are worth ``values``, by default those of the policy, exactly."""
    values = world.value if values is None else values
    tree = SearchTree(State(PROBLEM), config, seed)

    def sample(state, n, seed):
        return [world.complete(state.code, np.random.default_rng([seed, i])) for i in range(n)]

    return drive(tree, sample, lambda state: values[state.code, state.terminal])
