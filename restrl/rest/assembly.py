"""Filter and assembly: from graded samples to the instances that GRPO trains on (ReST-RL, section 3.2, stage 1).

1. *Filter*: a problem whose verifier rewards have a population standard deviation below ``sigma_0`` is dropped.
2. *Assemble*: every kept problem is an instance (the empty prefix). If its best finished sample earned at least
   ``r_0``, that sample is *valuable*: prefixes of it (whole actions) become instances too, shorter ones more often:
   ``p(a_1..j) = (1 - alpha) / (1 - alpha^|A|) * alpha^(j-1)``.

Deviations from the published implementation, each with a setting that restores it:

1. Draws are distinct (``distinct_prefixes``): a repeated instance only repeats its weight.
2. The whole solution is no prefix (``exclude_full``): nothing is left to learn after it.
3. Every draw comes from a seed derived from the problem's id, so neither the order nor the set of the other problems
   matters.

Pure: standard library only, no I/O; inputs are never changed.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from restrl.actions import finish, split_actions
from restrl.errors import ArtifactError, ConfigError
from restrl.seeds import derive_seed
from restrl.settings import setting

DropReason = Literal["no_samples", "no_variance"]
# Rewards are fractions such as 0.6 and 0.7, whose spread (0.05) misses the threshold by rounding alone.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class RestConfig:
    """Settings of the filter and the assembly."""

    mode: str = setting(
        "sampled",
        "basic: problems only (naive GRPO data); sampled: with drawn prefixes (the method); all: with every prefix; "
        "adaptive: with the shortest prefix whose mean reward reaches adaptive_target",
        choices=("basic", "sampled", "all", "adaptive"),
        paper="sampled",
    )
    sigma_0: float = setting(
        0.05, "drop a problem whose verifier rewards have a smaller population standard deviation", low=0.0, paper=0.05
    )
    r_0: float = setting(
        0.9, "the best finished sample gives prefixes if its verifier reward is at least this", low=0.0, paper=0.9
    )
    alpha: float = setting(
        0.95, "ratio of the probabilities of successive prefix lengths; 1 = uniform", above=0.0, high=1.0, paper=0.95
    )
    ratio: float = setting(0.5, "prefixes drawn per action of the trajectory, rounded up", low=0.0, high=1.0, paper=0.5)
    num_prefixes: int = setting(0, "fixed number of prefixes per valuable problem; 0 = use the ratio", low=0)
    distinct_prefixes: bool = setting(
        True, "draw without replacement; false = independent draws as published, repeats included", paper=False
    )
    exclude_full: bool = setting(
        True, "never use the whole solution as a prefix; false = the longest prefix is the solution", paper=False
    )
    prefix_source: str = setting(
        "best",
        "prefixes come from the best sample (the method), or from all finished samples of at least r_0 (as PrefixRL)",
        choices=("best", "successes"),
        paper="best",
    )
    refilter_samples: int = setting(
        0,
        "completions sampled from every prefix, to drop those with a standard deviation below sigma_0; 0 = off",
        low=0,
    )
    adaptive_samples: int = setting(4, "adaptive: completions sampled from every prefix that is tried", low=1)
    adaptive_target: float = setting(0.5, "adaptive: mean reward at which a prefix is long enough", above=0.0, high=1.0)
    curriculum: str = setting(
        "none",
        "none: shuffled passes; reverse: instances with the fewest actions left come first, whole problems last",
        choices=("none", "reverse"),
        paper="none",
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One graded sample of a problem.

    Attributes:
        code: The code after the problem's initial state.
        reward: The verifier's reward in [0, 1], without any format bonus.
        finished: It ended by itself; a sample cut off by the token limit gives no prefixes.
    """

    code: str
    reward: float
    finished: bool


@dataclass(frozen=True, slots=True)
class Instance:
    """One training instance: the policy continues ``prefix`` of the problem.

    Attributes:
        problem_id: The problem.
        prefix: Code after the initial state; empty for the problem itself, else whole actions ending in a newline.
        num_actions: Actions in the prefix.
        total_actions: Actions of the trajectory it was cut from; 0 for the problem itself.
        source_reward: Verifier reward of that trajectory; None for the problem itself.
    """

    problem_id: str
    prefix: str
    num_actions: int
    total_actions: int
    source_reward: float | None


@dataclass(frozen=True, slots=True)
class ProblemStats:
    """What the filter and the assembly saw of one problem.

    Attributes:
        problem_id: The problem.
        num_samples: Its graded samples.
        mean: Mean verifier reward; 0 without samples.
        std: Population standard deviation of the verifier rewards; 0 without samples.
        best: Highest verifier reward of any sample; 0 without samples.
        reason: Why it was dropped; None if it was kept.
        source: Index of its valuable trajectory among the samples, if it was kept and has one.
        num_instances: Instances that it contributes.
    """

    problem_id: str
    num_samples: int
    mean: float
    std: float
    best: float
    reason: DropReason | None
    source: int | None
    num_instances: int

    @property
    def kept(self) -> bool:
        """The problem contributes instances."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Assembly:
    """The assembled training set.

    Attributes:
        instances: Ordered by problem id, then by prefix length (then, with repeats, equal neighbours).
        problems: One per problem, ordered by id.
    """

    instances: tuple[Instance, ...]
    problems: tuple[ProblemStats, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Totals: problems, kept, dropped and by which reason, valuable, instances, prefixes."""
        reasons = Counter(stats.reason for stats in self.problems)
        prefixes = sum(instance.num_actions > 0 for instance in self.instances)
        return {
            "problems": len(self.problems),
            "kept": reasons[None],
            "dropped": len(self.problems) - reasons[None],
            "dropped_no_samples": reasons["no_samples"],
            "dropped_no_variance": reasons["no_variance"],
            "valuable": sum(stats.source is not None for stats in self.problems),
            "instances": len(self.instances),
            "prefixes": prefixes,
        }


def prefix_probabilities(length: int, alpha: float) -> list[float]:
    """Returns ``p(a_1..j) = (1 - alpha) / (1 - alpha^|A|) * alpha^(j-1)`` for j = 1..|A|.

    Args:
        length: ``|A|``, at least 0.
        alpha: In (0, 1]; 1 is the limit, the uniform distribution.

    Returns:
        ``length`` probabilities, non-increasing, with sum 1.

    Raises:
        ConfigError: ``alpha`` is outside (0, 1], or ``length`` is negative.

    >>> prefix_probabilities(2, 0.5)
    [0.6666666666666666, 0.3333333333333333]
    >>> prefix_probabilities(4, 1.0)
    [0.25, 0.25, 0.25, 0.25]
    """
    if not 0.0 < alpha <= 1.0:
        raise ConfigError(f"alpha is {alpha}; it must lie in (0, 1]: 0.95 is the published value, 1 is uniform")
    if length < 0:
        raise ConfigError(f"a trajectory has {length} actions; the length must be at least 0")
    if length == 0:
        return []
    if alpha == 1.0:
        return [1.0 / length] * length
    # expm1 keeps the digits of 1 - alpha^|A| for alpha close to 1.
    scale = (1.0 - alpha) / -math.expm1(length * math.log(alpha))
    return [scale * alpha ** (j - 1) for j in range(1, length + 1)]


def num_draws(total_actions: int, available: int, config: RestConfig) -> int:
    """Returns how many prefixes to draw: ``ceil(ratio * |A|)`` or the fixed count.

    Args:
        total_actions: ``|A|``, actions of the whole trajectory.
        available: Lengths that may be drawn; distinct draws are capped by it.
        config: The settings.
    """
    wanted = config.num_prefixes or math.ceil(config.ratio * total_actions - 1e-9)
    if available == 0:
        return 0
    return min(wanted, available) if config.distinct_prefixes else wanted


def draw_lengths(available: int, count: int, alpha: float, distinct: bool, rng: random.Random) -> list[int]:
    """Draws prefix lengths from 1..available, ascending.

    With ``distinct``, lengths are drawn one after the other, each from `prefix_probabilities` renormalised over the
    lengths not yet drawn: an ordered draw has probability ``prod_i p(j_i) / (1 - sum_{l<i} p(j_l))`` (Plackett-Luce).
    Without it, draws are independent.

    Leaving out the longest of ``n`` lengths and renormalising is the same formula with ``|A| = n - 1``, so the caller
    only passes a smaller ``available``.

    Raises:
        ConfigError: ``alpha`` is outside (0, 1].
    """
    # Validates alpha; the draws use weights relative to the shortest remaining length, which never underflow together.
    prefix_probabilities(available, alpha)
    if not distinct:
        weights = [alpha ** (j - 1) for j in range(1, available + 1)]
        return sorted(rng.choices(range(1, available + 1), weights=weights, k=count)) if available else []
    remaining = list(range(1, available + 1))
    drawn: list[int] = []
    for _ in range(min(count, available)):
        weights = [alpha ** (j - remaining[0]) for j in remaining]
        choice = rng.choices(range(len(remaining)), weights=weights)[0]
        drawn.append(remaining.pop(choice))
    return sorted(drawn)


def best_finished(samples: Sequence[Sample]) -> int | None:
    """Returns the index of the best trajectory: the highest reward among the finished samples, the first of equals."""
    finished = [i for i, sample in enumerate(samples) if sample.finished]
    return max(finished, key=lambda i: (samples[i].reward, -i), default=None)


def _success_instances(
    problem_id: str, samples: Sequence[Sample], config: RestConfig, seed: int, best_actions: int
) -> list[Instance]:
    """Prefixes of every valuable sample: a success is drawn uniformly, then a length by `prefix_probabilities`."""
    weights: dict[Instance, float] = {}
    good = [sample for sample in samples if sample.finished and sample.reward >= config.r_0 - _ROUNDING]
    for sample in good:
        actions = split_actions(finish(sample.code))
        available = max(len(actions) - 1 if config.exclude_full else len(actions), 0)
        for j, probability in enumerate(prefix_probabilities(available, config.alpha), start=1):
            prefix = "".join(actions[:j])
            # One prefix of several successes is one instance; the first of them names its source.
            known = next((item for item in weights if item.prefix == prefix), None)
            instance = known or Instance(problem_id, prefix, j, len(actions), sample.reward)
            weights[instance] = weights.get(instance, 0.0) + probability / len(good)
    pool = list(weights)
    if config.mode == "all":
        return sorted(pool, key=lambda item: item.num_actions)
    rng = random.Random(derive_seed(seed, problem_id))
    drawn: list[Instance] = []
    for _ in range(num_draws(best_actions, len(pool), config)):
        choice = rng.choices(pool, weights=[weights[item] for item in pool])[0]
        drawn.append(choice)
        if config.distinct_prefixes:
            pool.remove(choice)
    return sorted(drawn, key=lambda item: item.num_actions)


def _prefix_instances(problem_id: str, sample: Sample, config: RestConfig, seed: int) -> list[Instance]:
    actions = split_actions(finish(sample.code))
    available = len(actions) - 1 if config.exclude_full else len(actions)
    if config.mode == "all":
        lengths = list(range(1, available + 1))
    else:
        rng = random.Random(derive_seed(seed, problem_id))
        count = num_draws(len(actions), max(available, 0), config)
        lengths = draw_lengths(max(available, 0), count, config.alpha, config.distinct_prefixes, rng)
    return [Instance(problem_id, "".join(actions[:j]), j, len(actions), sample.reward) for j in lengths]


def _assemble_problem(
    problem_id: str, samples: Sequence[Sample], config: RestConfig, seed: int
) -> tuple[list[Instance], ProblemStats]:
    for i, sample in enumerate(samples):
        if not (math.isfinite(sample.reward) and 0.0 <= sample.reward <= 1.0):
            raise ArtifactError(
                f"sample {i} of problem {problem_id!r} has reward {sample.reward}; "
                "a verifier reward lies in [0, 1]: grade the samples again"
            )
    if not samples:
        return [], ProblemStats(problem_id, 0, 0.0, 0.0, 0.0, "no_samples", None, 0)
    rewards = [sample.reward for sample in samples]
    mean, std = statistics.fmean(rewards), statistics.pstdev(rewards)
    if std < config.sigma_0 - _ROUNDING:
        return [], ProblemStats(problem_id, len(samples), mean, std, max(rewards), "no_variance", None, 0)
    instances = [Instance(problem_id, "", 0, 0, None)]
    best = best_finished(samples)
    source = best if best is not None and samples[best].reward >= config.r_0 - _ROUNDING else None
    if source is not None and config.mode in ("sampled", "all") and config.prefix_source == "successes":
        length = len(split_actions(finish(samples[source].code)))
        instances += _success_instances(problem_id, samples, config, seed, length)
    elif source is not None and config.mode in ("sampled", "all"):
        instances += _prefix_instances(problem_id, samples[source], config, seed)
    stats = ProblemStats(problem_id, len(samples), mean, std, max(rewards), None, source, len(instances))
    return instances, stats


def assemble(samples: Mapping[str, Sequence[Sample]], config: RestConfig, seed: int) -> Assembly:
    """Filters the problems and assembles the training instances.

    Args:
        samples: For every problem id, its graded samples in sampling order.
        config: The settings.
        seed: Each problem draws from ``derive_seed(seed, problem_id)``.

    Returns:
        The instances and what happened to every problem; the same whatever the order of ``samples``.

    Raises:
        ConfigError: ``alpha`` or ``mode`` is not allowed.
        ArtifactError: A reward is not a finite number in [0, 1].

    Note:
        ``adaptive`` gives the problems alone, as ``basic`` does: finding its prefixes takes samples of the policy; see
        `restrl.rest.adaptive`.
    """
    if config.mode not in ("basic", "sampled", "all", "adaptive"):
        raise ConfigError(f"rest mode is {config.mode!r}; allowed: basic, sampled, all, adaptive")
    instances: list[Instance] = []
    problems: list[ProblemStats] = []
    for problem_id in sorted(samples):
        new, stats = _assemble_problem(problem_id, samples[problem_id], config, seed)
        instances += new
        problems.append(stats)
    return Assembly(tuple(instances), tuple(problems))
