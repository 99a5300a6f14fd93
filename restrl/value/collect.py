"""Value collection: tree search on training problems with real rewards (ReST-RL, section 3.3).

Deviations from the paper: those of `restrl.search.mcts` and `restrl.value.targets`; and the size of a search is given
in sampled completions, where the paper counts 100 iterations of 5.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from restrl.decoding.driver import RewardScorer, SearchRun, iter_searches
from restrl.search.config import ALGORITHMS, WIDENINGS, SearchConfig
from restrl.search.mcts import SearchTree
from restrl.seeds import derive_seed
from restrl.settings import setting
from restrl.types import Grader, Policy, Problem, SamplingParams, State
from restrl.value.targets import GradedPath, Trajectory, targets_from_paths


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """How values are collected."""

    budget: int = setting(60, "completions to sample and grade per problem", low=1, paper=500)
    preset: str = setting(
        "own", "search: ours, or the published algorithm to the letter", choices=ALGORITHMS, paper="paper"
    )
    num_sample: int = setting(5, "completions sampled from a leaf", low=1, paper=5)
    num_decision: int = setting(5, "children of a state that stay selectable", low=1, paper=5)
    c: float = setting(0.2, "weight of exploration in UCT", low=0.0, paper=0.2)
    eps: float = setting(0.1, "added to a child's visits in UCT", above=0.0, paper=0.1)
    reuse_suffixes: bool = setting(False, "let the rest of an earlier completion stand in for a new one")
    widening: str = setting(
        "fixed",
        "when an expanded state is sampled again: never while a leaf is left, as 2 * visits^0.5 grows, or as a child",
        choices=WIDENINGS,
        paper="fixed",
    )
    leaves_in_flight: int = setting(1, "leaves of one tree that are expanded at once", low=1, paper=1)
    target: Literal["own", "subtree"] = setting(
        "own",
        "completions that count for a state: sampled from it or above it (unbiased), or all below it",
        choices=("own", "subtree"),
        paper="subtree",
    )
    weight: Literal["count", "state"] = setting(
        "count", "what a state's target weighs: its completions, or 1", choices=("count", "state"), paper="state"
    )
    window: int = setting(64, "problems searched together in one batch", low=1)
    overlap: bool = setting(True, "sample for half of the problems while the programs of the other half are graded")

    def search(self) -> SearchConfig:
        """The settings of the search."""
        changes: dict[str, Any] = {
            "budget": self.budget,
            "num_sample": self.num_sample,
            "num_decision": self.num_decision,
            "c": self.c,
            "eps": self.eps,
            "reuse_suffixes": self.reuse_suffixes,
            "widening": self.widening,
            "leaves_in_flight": self.leaves_in_flight,
        }
        if self.preset == "paper":
            return SearchConfig.paper(source="rewards", backup="completions", **changes)
        return SearchConfig.collection(**changes)


@dataclass(frozen=True, slots=True)
class CollectedTree:
    """What the search of one problem gave.

    Attributes:
        problem_id: The problem.
        trajectories: Every distinct program with the targets of its states.
        stats: Numbers for display: those of `restrl.search.TreeStatistics`, and ``reward_mean``, ``reward_std`` and
            ``reward_best`` over all completions, cut-off ones counting 0.
    """

    problem_id: str
    trajectories: tuple[Trajectory, ...]
    stats: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `from_json` reads back."""
        return {
            "problem_id": self.problem_id,
            "trajectories": [trajectory.to_json() for trajectory in self.trajectories],
            "stats": dict(self.stats),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> CollectedTree:
        """Reads what `to_json` wrote."""
        trajectories = tuple(Trajectory.from_json(item) for item in record["trajectories"])
        return cls(record["problem_id"], trajectories, record["stats"])


def collect_values(
    problems: Sequence[Problem],
    policy: Policy,
    grader: Grader,
    config: CollectConfig,
    seed: int,
    on_progress: Callable[[int], None] | None = None,
    *,
    params: SamplingParams | None = None,
) -> list[CollectedTree]:
    """Searches every problem with real rewards and returns the value targets, in the order of the problems.

    Args:
        problems: Training problems.
        policy: The policy whose values are wanted.
        grader: Runs the tests.
        config: The settings.
        seed: Seed of everything random.
        on_progress: Called with the number of problems that have become done.
        params: How to sample.

    Raises:
        EngineError: The policy answered wrongly.
        GraderError: The grader could not grade.
    """
    search = config.search()
    trees = (SearchTree(State(problem), search, derive_seed(seed, "collect", problem.id)) for problem in problems)
    collected: dict[int, CollectedTree] = {}
    for run in iter_searches(
        trees,
        policy,
        RewardScorer(grader),
        params or SamplingParams(),
        window=config.window,
        overlap=config.overlap,
        on_progress=on_progress,
    ):
        collected[run.index] = collected_from(run, config)
    return [collected[index] for index in range(len(problems))]


def collected_from(run: SearchRun, config: CollectConfig) -> CollectedTree:
    """Returns the targets of a finished search."""
    tree = run.tree
    problem_id = tree.root.state.problem.id
    paths = [GradedPath(draw.code, draw.finished, draw.score or 0.0, draw.start) for draw in tree.draws]
    rewards = [path.reward for path in paths]
    stats: dict[str, float] = dataclasses.asdict(tree.statistics())
    stats |= {
        "reward_mean": statistics.fmean(rewards),
        "reward_std": statistics.pstdev(rewards),
        "reward_best": max(rewards),
    }
    trajectories = targets_from_paths(problem_id, paths, config.target, config.weight)
    return CollectedTree(problem_id, tuple(trajectories), stats)
