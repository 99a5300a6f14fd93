"""The options of the assembly that take samples of the policy: prefixes of adapted length, and the re-filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from restrl.actions import finish, split_actions
from restrl.pipeline.context import Context
from restrl.pipeline.sampling import probe
from restrl.rest.adaptive import LengthSearch, refilter, start_search
from restrl.rest.assembly import Assembly, Instance, RestConfig, Sample
from restrl.types import Policy, State


def adapt_prefixes(
    context: Context,
    directory: Path,
    iteration: int,
    samples: Mapping[str, Sequence[Sample]],
    assembly: Assembly,
) -> tuple[Instance, ...]:
    """Returns the instances of an assembly after its options; the assembly's own where none is on.

    Args:
        context: The run.
        directory: The policy that the iteration trains.
        iteration: From 1.
        samples: The graded samples.
        assembly: What was assembled from them.
    """
    config = context.recipe.section("rest", RestConfig)
    instances = assembly.instances
    if config.mode != "adaptive" and not config.refilter_samples:
        return instances
    with context.policy(directory) as policy:
        if config.mode == "adaptive":
            found = _shortest_prefixes(context, policy, iteration, samples, assembly, config)
            instances = tuple(
                item for problem in instances for item in (problem, found.get(problem.problem_id)) if item is not None
            )
        if config.refilter_samples:
            problems = context.problems.training
            wanted = dict.fromkeys((item.problem_id, item.prefix) for item in instances if item.num_actions)
            states = [State(problems[problem_id], prefix) for problem_id, prefix in wanted]
            records = probe(context, policy, iteration, "refilter", states, config.refilter_samples)
            rewards = {(record["problem_id"], record["prefix"]): record["rewards"] for record in records}
            instances = refilter(instances, rewards, config.sigma_0)
    return instances


def _shortest_prefixes(
    context: Context,
    policy: Policy,
    iteration: int,
    samples: Mapping[str, Sequence[Sample]],
    assembly: Assembly,
    config: RestConfig,
) -> dict[str, Instance]:
    """Bisects all problems together: one probe of every open problem a round."""
    actions: dict[str, list[str]] = {}
    searches: dict[str, LengthSearch] = {}
    rewards: dict[str, float] = {}
    for stats in assembly.problems:
        if stats.source is None:
            continue
        source = samples[stats.problem_id][stats.source]
        lines = split_actions(finish(source.code))
        search = start_search(stats.mean, config.adaptive_target, len(lines) - 1)
        if search is not None:
            actions[stats.problem_id], searches[stats.problem_id] = lines, search
            rewards[stats.problem_id] = source.reward
    problems = context.problems.training
    number = 0
    while wanted := {name: search.probe for name, search in searches.items() if search.probe is not None}:
        states = [State(problems[name], "".join(actions[name][:length])) for name, length in wanted.items()]
        records = probe(context, policy, iteration, f"length-{number}", states, config.adaptive_samples)
        for name, record in zip(wanted, records, strict=True):
            searches[name] = searches[name].told(fmean(record["rewards"]), config.adaptive_target)
        number += 1
    return {
        name: Instance(name, "".join(actions[name][: search.high]), search.high, len(actions[name]), rewards[name])
        for name, search in searches.items()
    }
