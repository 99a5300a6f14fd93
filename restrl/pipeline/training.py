"""Stage 1, ReST-GRPO (paper, section 3.2) and its rivals: sample and grade, filter and assemble, train.

What the method (``[train] method``) learns from decides what the first two stages do; see `restrl.grpo.methods`. The
trained policy is ``iteration-K/policy/model`` whatever the method.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from restrl import launch
from restrl.actions import finish
from restrl.artifacts import dump_json, dump_jsonl, read_jsonl, write_atomic
from restrl.grading.config import GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.grpo.config import GRPOConfig
from restrl.grpo.methods import METHODS, TrainConfig, for_method
from restrl.grpo.schedule import num_steps
from restrl.pipeline.bands import with_bands
from restrl.pipeline.compute import record_compute
from restrl.pipeline.context import Context
from restrl.pipeline.dry_run import check_launch, summary
from restrl.pipeline.offline import choose_examples, train_on_examples
from restrl.pipeline.prefixes import adapt_prefixes
from restrl.pipeline.sampling import sample_and_grade
from restrl.rest.assembly import Instance, RestConfig, Sample, assemble
from restrl.rest.curriculum import reverse_curriculum
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig, SampleConfig
from restrl.types import Completion, Grade, Grader, Problem, State

_log = logging.getLogger(__name__)


def input_policy(context: Context, iteration: int) -> Path:
    """Directory of the policy that an iteration samples from and trains."""
    return context.iteration_policy(iteration - 1)


def method_name(context: Context) -> str:
    """Name of the training method."""
    return context.recipe.section("train", TrainConfig).method


def sample(context: Context, iteration: int) -> None:
    """Draws N solutions per training problem from the current policy and grades them (step 1)."""
    name = f"iteration-{iteration}/sample"
    method = METHODS[method_name(context)]
    if context.run.is_done(name):
        return
    if not method.samples:
        context.progress.note(f"iteration {iteration}: {method.label} trains on all problems and needs no samples")
        return
    n = context.recipe.section("sample", SampleConfig).num_samples
    problems = context.problems.train
    directory = input_policy(context, iteration)
    with context.run.stage(name, {"policy": directory}), context.policy(directory) as policy:

        def make(chunk: Sequence[Problem], index: int) -> list[dict[str, Any]]:
            states = [State(problem) for problem in chunk]
            seeds = [derive_seed(context.seed, "sample", iteration, problem.id) for problem in chunk]
            groups = sample_and_grade(context, policy, states, n, seeds)
            return [
                {"problem_id": problem.id, "samples": [_sample_record(*pair) for pair in group]}
                for problem, group in zip(chunk, groups, strict=True)
            ]

        context.progress.start(f"iteration {iteration}: sample and grade", len(problems))
        context.run.table(
            f"iteration-{iteration}/samples.jsonl",
            problems,
            context.settings.chunk_size,
            make,
            context.progress.advance,
        )
        context.progress.finish()


def _sample_record(completion: Completion, grade: Grade) -> dict[str, Any]:
    return {
        "code": finish(completion.text) if completion.finish_reason == "stop" else completion.text,
        "finished": completion.finish_reason == "stop",
        "reward": grade.reward,
        "passed": grade.passed,
        "verdicts": [verdict.verdict for verdict in grade.verdicts],
        "num_tokens": completion.num_tokens,
    }


def read_samples(path: Path) -> dict[str, list[Sample]]:
    """Reads a table of graded samples."""
    return {
        record["problem_id"]: [Sample(item["code"], item["reward"], item["finished"]) for item in record["samples"]]
        for record in read_jsonl(path)
    }


def assemble_instances(context: Context, iteration: int) -> None:
    """Makes the training data of the method from the graded samples (steps 2 and 3)."""
    name = f"iteration-{iteration}/assemble"
    if context.run.is_done(name):
        return
    data = METHODS[method_name(context)].data
    folder = context.run.path / f"iteration-{iteration}"
    if data == "problems":
        instances = [Instance(problem.id, "", 0, 0, None) for problem in context.problems.train]
        with context.run.stage(name):
            write_atomic(folder / "instances.jsonl", dump_jsonl([dataclasses.asdict(item) for item in instances]))
        return
    path = context.run.need(f"iteration-{iteration}/samples.jsonl", "sample")
    with context.run.stage(name, {"samples": path}):
        samples = read_samples(path)
        if data != "instances":
            choose_examples(context, iteration, samples)
            return
        config = context.recipe.section("rest", RestConfig)
        seed = derive_seed(context.seed, "assemble", iteration)
        assembly = assemble(samples, config, seed)
        assembled = adapt_prefixes(context, input_policy(context, iteration), iteration, samples, assembly)
        counts = Counter(item.problem_id for item in assembled)
        problems = [dataclasses.replace(item, num_instances=counts[item.problem_id]) for item in assembly.problems]
        if config.curriculum == "reverse":
            assembled = reverse_curriculum(assembled, seed)
        write_atomic(folder / "instances.jsonl", dump_jsonl([dataclasses.asdict(item) for item in assembled]))
        write_atomic(folder / "assembly.jsonl", dump_jsonl([dataclasses.asdict(item) for item in problems]))
        kept = sum(item.kept for item in problems)
        context.progress.note(
            f"iteration {iteration}: {kept} of {len(problems)} problems kept, {len(assembled)} instances"
        )


def read_instances(context: Context, iteration: int) -> list[State]:
    """Returns the states that training starts from."""
    path = context.run.need(f"iteration-{iteration}/instances.jsonl", "assemble")
    problems = context.problems.training
    return [State(problems[record["problem_id"]], record["prefix"]) for record in read_jsonl(path)]


def measure_spread(context: Context, iteration: int = 1) -> None:
    """Measures the reward spread of groups before and after assembly (paper, the figure on reward variance).

    Before: the groups of the sampling stage, one per training problem. After: groups of the same size sampled by the
    same policy from assembled instances, evenly spaced over the set.
    """
    limit = context.recipe.section("evaluate", EvaluateConfig).spread_instances
    name = f"iteration-{iteration}/spread"
    if limit == 0 or context.run.is_done(name) or METHODS[method_name(context)].data != "instances":
        return
    folder = context.run.path / f"iteration-{iteration}"
    states = read_instances(context, iteration)
    step = max(1, len(states) // limit)
    chosen = states[::step][:limit]
    n = context.recipe.section("sample", SampleConfig).num_samples
    directory = input_policy(context, iteration)
    with context.run.stage(name), context.policy(directory) as policy:

        def make(chunk: Sequence[State], index: int) -> list[dict[str, Any]]:
            seeds = [derive_seed(context.seed, "spread", state.problem.id, state.code) for state in chunk]
            groups = sample_and_grade(context, policy, chunk, n, seeds)
            return [
                {"problem_id": state.problem.id, "prefix": state.code, "rewards": [grade.reward for _, grade in group]}
                for state, group in zip(chunk, groups, strict=True)
            ]

        context.progress.start(f"iteration {iteration}: reward spread", len(chosen))
        after = context.run.table(
            f"iteration-{iteration}/spread-groups.jsonl",
            chosen,
            context.settings.chunk_size,
            make,
            context.progress.advance,
        )
        context.progress.finish()
    before = [[item.reward for item in group] for group in read_samples(folder / "samples.jsonl").values()]
    write_atomic(
        folder / "spread.json",
        dump_json(
            {"before": _spread(before), "after": _spread([record["rewards"] for record in after]), "group_size": n}
        ),
    )


def _spread(groups: Sequence[Sequence[float]]) -> dict[str, Any]:
    stds = [round(pstdev(group), 6) for group in groups]
    return {"std": stds, "mean_std": fmean(stds), "mean_reward": fmean([fmean(group) for group in groups])}


def train(context: Context, iteration: int) -> None:
    """Trains the policy by the method (step 4), and sums up what the iteration took."""
    if not context.run.is_done(stage_name(iteration)):
        train_stage(context, iteration)
    record_compute(context, iteration)


def stage_name(iteration: int) -> str:
    """Name of an iteration's training stage in the manifest."""
    return f"iteration-{iteration}/train-policy"


def train_stage(context: Context, iteration: int) -> None:
    """Runs an iteration's training stage, by all processes of a launch together; every one of them calls this."""
    check_launch(context.recipe)
    text, warning = summary(context.recipe, input_policy(context, iteration))
    if not launch.index():
        context.progress.note(text)
        if warning:
            _log.warning(warning)
    with launch.joined():
        if METHODS[method_name(context)].online:
            _train_online(context, iteration, stage_name(iteration))
        else:
            train_on_examples(context, iteration, stage_name(iteration), input_policy(context, iteration))


@contextmanager
def _grader(context: Context) -> Iterator[Grader]:
    """Gives the grader; where processes of a launch share this machine, one with a share of the workers."""
    processes = launch.processes_here()
    if processes == 1:
        yield context.grader
        return
    config = context.recipe.section("grading", GradingConfig)
    with SandboxGrader(dataclasses.replace(config, workers=max(1, config.num_workers() // processes))) as grader:
        yield grader


def _train_online(context: Context, iteration: int, name: str) -> None:
    states = with_bands(read_instances(context, iteration), context.run.path / f"iteration-{iteration}/samples.jsonl")
    from restrl.grpo.trainer import train_policy

    directory = input_policy(context, iteration)
    train = context.recipe.section("train", TrainConfig)
    # What the policy samples with is what it is trained with.
    sampling = dataclasses.asdict(context.policy_config.sampling_params())
    reverse = METHODS[method_name(context)].data == "instances" and (
        context.recipe.section("rest", RestConfig).curriculum == "reverse"
    )
    settings = dataclasses.replace(
        context.recipe.section("grpo", GRPOConfig),
        order="given" if reverse else "shuffled",
        log_completions=train.log_completions,
        report_to=train.report_to,
        **sampling,
    )
    config = for_method(settings, train.method)
    done = 0

    def on_log(metrics: Mapping[str, float]) -> None:
        nonlocal done
        context.progress.advance(int(metrics["step"]) - done, reward=metrics["reward"], std=metrics["reward_std"])
        done = int(metrics["step"])

    total = num_steps(len(states), config.prompts_per_step, config.epochs, config.max_steps)
    context.progress.start(f"iteration {iteration}: {METHODS[config.method].label}", total)

    inputs = {"policy": directory, "instances": context.run.path / f"iteration-{iteration}/instances.jsonl"}
    with context.run.stage(name, inputs), _grader(context) as grader:
        train_policy(
            directory,
            states,
            grader,
            config,
            context.run.path / f"iteration-{iteration}/policy",
            derive_seed(context.seed, "grpo", iteration) % (1 << 31),
            context.policy_config.prompt_style,
            on_log,
        )
        context.progress.finish()
