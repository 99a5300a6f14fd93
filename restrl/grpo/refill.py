"""Dynamic sampling: which instance takes the place of a group without reward spread (DAPO, section 3.2). Pure.

DAPO samples from the stream of prompts until a step is full of groups whose rewards differ. Here, numbered deviations:

1. A step has a fixed number of slots. A slot whose group has no spread is filled anew, slot by slot, in rounds; the
   number of rounds is capped (``refill_rounds``). A slot that is still without spread after the last round keeps its
   planned group, which has advantage 0.
2. The instances that stand in come from a shuffle of their own, made from the seed and the step, of the instances that
   the step does not train anyway. So a step depends on nothing that came before it: a resumed run draws what an
   uninterrupted one does, and the plan of the steps stays as it was.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from restrl.seeds import derive_seed


def spare_instances(num_instances: int, planned: Collection[int], seed: int, step: int) -> list[int]:
    """Returns the instances that may stand in at a step, shuffled.

    Args:
        num_instances: Of the training set.
        planned: The instances that the step trains.
        seed: Of the run.
        step: Index of the optimizer step, from 0.

    Returns:
        Every instance that is not planned; where all are planned, every instance (sampled again with another seed).
    """
    taken = set(planned)
    spare = [index for index in range(num_instances) if index not in taken] or list(range(num_instances))
    random.Random(derive_seed(seed, "grpo-refill", step)).shuffle(spare)
    return spare


def stand_in(spare: Sequence[int], turn: int, slot: int, slots: int) -> int:
    """Returns the instance that a slot tries at a turn: the shuffle dealt out over the slots, turn after turn.

    Args:
        spare: Of `spare_instances`, at least one.
        turn: Round of refilling, from 0.
        slot: Of the step, over all processes.
        slots: Number of slots.

    >>> [stand_in([7, 8, 9], turn, slot, 2) for turn in range(2) for slot in range(2)]
    [7, 8, 9, 7]
    """
    return spare[(turn * slots + slot) % len(spare)]


def has_spread(verifier_rewards: Sequence[float]) -> bool:
    """Whether the rewards of a group differ: the verifier's, not the shaped ones, which differ by format alone."""
    return max(verifier_rewards) - min(verifier_rewards) > 1e-9
