"""What a run would do, from its recipe and the model's ``config.json``: nothing is written, no weights are read.

Every completion that a stage samples is counted where the recipe fixes it; where it depends on what the run finds (how
many problems assembly keeps), the plan says so.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from restrl import launch
from restrl.config import Recipe
from restrl.decoding.config import DecodeConfig
from restrl.errors import ModelError
from restrl.grpo.config import GRPOConfig
from restrl.grpo.hardware import HardwareConfig
from restrl.grpo.memory import GIB, Estimate, sampling_estimate, training_estimate, value_estimate
from restrl.grpo.methods import METHODS, TrainConfig, for_method
from restrl.grpo.offline_config import OfflineConfig
from restrl.pipeline.context import ProblemSets, load_problem_sets, policy_path
from restrl.policy import PolicyConfig
from restrl.policy.model_dir import check_model_dir
from restrl.policy.model_shape import ModelShape, gpu_memory, read_shape
from restrl.rest.assembly import RestConfig
from restrl.stages import EvaluateConfig, RunConfig, SampleConfig
from restrl.value.collect import CollectConfig
from restrl.value.config import ValueConfig


def training_config(recipe: Recipe) -> GRPOConfig | OfflineConfig:
    """Returns the settings that the training stage will have."""
    method = recipe.section("train", TrainConfig).method
    if not METHODS[method].online:
        return dataclasses.replace(recipe.section("offline", OfflineConfig), method=method)
    sampling = dataclasses.asdict(recipe.section("policy", PolicyConfig).sampling_params())
    return for_method(dataclasses.replace(recipe.section("grpo", GRPOConfig), **sampling), method)


def processes(recipe: Recipe) -> int:
    """Returns how many processes train: those of this launch, or those that the recipe names."""
    return launch.processes() if launch.processes() > 1 else recipe.section("hardware", HardwareConfig).gpus or 1


def gpu_bytes(recipe: Recipe) -> float:
    """Returns the memory of a GPU: what the recipe names, or that of the GPU at hand; 0 where there is none."""
    named = recipe.section("hardware", HardwareConfig).gpu_memory
    if named:
        return named * GIB
    return gpu_memory()


def estimates(recipe: Recipe, shape: ModelShape) -> list[Estimate]:
    """Returns the memory of the stages that load the model: sampling, training, the value model's training."""
    hardware = recipe.section("hardware", HardwareConfig)
    memory = gpu_bytes(recipe)
    policy = recipe.section("policy", PolicyConfig)
    return [
        sampling_estimate(shape, policy, hardware, memory),
        training_estimate(shape, training_config(recipe), hardware, processes(recipe), memory),
        value_estimate(shape, recipe.section("value", ValueConfig), hardware),
    ]


def describe(recipe: Recipe) -> list[str]:
    """Checks the model directory and the problems, and returns the plan and the memory, line by line.

    Raises:
        ModelError: The directory holds no model's configuration.
        ProblemError: A problem source is missing or too small.
        ConfigError: Training cannot be divided among the processes.
    """
    directory = policy_path(recipe.section("policy", PolicyConfig))
    shape = read_shape(directory)
    lines = [f"Model: {directory}, {shape.parameters:,} parameters, context {shape.context:,} tokens"]
    try:
        check_model_dir(directory)
    except ModelError as error:
        lines.append(f"  not yet usable: {error}")
    problems = load_problem_sets(recipe)
    lines += [*_plan(recipe, problems), ""]
    memory = gpu_bytes(recipe)
    count = processes(recipe)
    of = f"of {memory / GIB:.0f} GiB" if memory else "(its memory is not known: set hardware.gpu_memory)"
    lines.append(f"Memory, estimated, for {count} process{'es' if count > 1 else ''}, each with a GPU {of}:")
    for estimate in estimates(recipe, shape):
        lines += estimate.lines(memory)
    return lines


def _plan(recipe: Recipe, problems: ProblemSets) -> list[str]:
    run = recipe.section("run", RunConfig)
    sample = recipe.section("sample", SampleConfig).num_samples
    collect = recipe.section("collect", CollectConfig)
    evaluate = recipe.section("evaluate", EvaluateConfig)
    method = METHODS[recipe.section("train", TrainConfig).method]
    train, value, held_out = (len(part) for part in (problems.train, problems.value, problems.held_out))
    lines = [f"Iterations: {run.iterations}. In each:"]
    if method.samples:
        lines.append(f"  sample: {train:,} problems x {sample} = {train * sample:,} completions, all graded")
    lines += [f"  assemble: {method.data}", f"  train-policy: {method.label}, {_training(recipe, train)}"]
    count, samples = len(problems.validation), evaluate.validation_samples
    if count:
        lines.append(f"  validate, and once before the first: {count:,} problems x {samples} = {count * samples:,}")
        lines.append(f"Kept: the policy of the {run.keep} iteration")
    lines.append(f"collect-values, for each policy: {value:,} problems x {collect.budget} = {value * collect.budget:,}")
    lines.append("train-value, for each policy: no completions")
    decode = recipe.section("decode", DecodeConfig)
    lines.append(
        f"evaluate, for each decoder and policy: {held_out:,} problems x {evaluate.budget} = "
        f"{held_out * evaluate.budget:,} completions at most (search: {decode.preset or 'own'} settings)"
    )
    return lines


def _training(recipe: Recipe, problems: int) -> str:
    config = training_config(recipe)
    if isinstance(config, OfflineConfig):
        return f"no completions, {config.batch_size} {METHODS[config.method].data} a step"
    config_steps = config.max_steps
    per_step = f"{config.prompts_per_step} instances x {config.num_generations} = {config.completions_per_step}"
    text = f"{per_step} completions a step"
    if not config_steps and METHODS[config.method].data == "problems":
        config_steps = math.ceil(config.epochs * problems / config.prompts_per_step)
    if config_steps:
        text += f", {config_steps:,} steps: {config_steps * config.completions_per_step:,}"
    else:
        rest = recipe.section("rest", RestConfig)
        text += f"; as many steps as {config.epochs} pass over what assembly keeps takes (rest.mode = {rest.mode!r})"
    if config.refill_rounds:
        text += f", up to {config.refill_rounds + 1} times as many with dynamic sampling"
    return text


def check_launch(recipe: Recipe) -> None:
    """Checks that training was launched as the recipe says.

    Raises:
        ConfigError: It was launched otherwise.
    """
    recipe.section("hardware", HardwareConfig).check_launch(launch.processes(), launch.uses_fsdp())


def summary(recipe: Recipe, directory: Path) -> tuple[str, str]:
    """Returns the memory of the training stage in one line, and a warning where it does not fit, or nothing."""
    try:
        shape = read_shape(directory)
    except ModelError as error:
        # A model that only its own loader can build is no reason not to train it.
        return f"memory of training: not estimated ({error})", ""
    estimate = training_estimate(
        shape,
        training_config(recipe),
        recipe.section("hardware", HardwareConfig),
        processes(recipe),
        gpu_bytes(recipe),
    )
    lines = estimate.lines(gpu_bytes(recipe))
    warning = lines[-1].strip() if "WARNING" in lines[-1] else ""
    return f"memory of training, estimated: {estimate.peak / GIB:.1f} GiB on each GPU (--dry-run: by part)", warning
