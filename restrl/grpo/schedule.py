"""Which instance is trained at which step: decided once, from the seed, before training starts. Pure.

Deviation from TRL: its sampler drops the last incomplete batch (small filtered sets lose data) and, after a resume in a
later epoch, shuffles differently. Here the steps of all epochs are laid out beforehand and the last step is filled up.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from restrl.errors import ConfigError
from restrl.seeds import derive_seed


def num_steps(num_instances: int, prompts_per_step: int, epochs: int, max_steps: int) -> int:
    """Returns the optimizer steps: ``max_steps`` if given, else ``ceil(epochs * instances / prompts_per_step)``.

    >>> num_steps(10, 4, 1, 0)
    3
    >>> num_steps(10, 4, 2, 0)
    5
    """
    return max_steps or math.ceil(epochs * num_instances / prompts_per_step)


def _epochs(num_instances: int, seed: int, shuffled: bool) -> Iterator[int]:
    epoch = 0
    while True:
        order = list(range(num_instances))
        if shuffled:
            random.Random(derive_seed(seed, "grpo-order", epoch)).shuffle(order)
        yield from order
        epoch += 1


def plan_steps(num_instances: int, prompts_per_step: int, steps: int, seed: int, *, shuffled: bool = True) -> list[int]:
    """Lays out all steps.

    Args:
        num_instances: At least 1.
        prompts_per_step: Instances per step.
        steps: Optimizer steps.
        seed: Of the order.
        shuffled: Every pass in an order of its own; otherwise every pass in the order given.

    Returns:
        ``steps * prompts_per_step`` indices of instances: freshly shuffled passes over all instances, one after the
        other. Step ``s`` trains on the slice ``[s * prompts_per_step, (s + 1) * prompts_per_step)``. A last step that
        the passes asked for do not fill continues with the next pass, so every instance is seen at least once per pass.

    Raises:
        ConfigError: There are no instances.
    """
    if num_instances < 1:
        raise ConfigError(
            "there are 0 training instances; lower rest.sigma_0, or sample more or other problems, and assemble again"
        )
    stream = _epochs(num_instances, seed, shuffled)
    return [next(stream) for _ in range(steps * prompts_per_step)]
