"""The value model's data: the problems held out, programs as token sequences, and the targets at their boundaries."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from restrl.actions import boundaries
from restrl.errors import ConfigError, ProblemError
from restrl.seeds import derive_seed
from restrl.types import Problem, State
from restrl.value.calibration import Predictions
from restrl.value.config import ValueConfig
from restrl.value.encoding import ValueSequence, encode_outputs, length_batches
from restrl.value.targets import Trajectory

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """One state of the training data; the slots of the sequences count these."""

    value: float
    weight: float
    depth: int
    finished: bool
    problem_id: str
    code: str
    share: float
    parent: str
    carrier: int
    completions: float


@dataclass(frozen=True, slots=True)
class ValueData:
    """Sequences and the targets that their slots name."""

    sequences: list[ValueSequence]
    targets: list[Target]

    def batches(self, max_tokens: int) -> list[list[ValueSequence]]:
        """Returns batches of sequences of like length, cut as `length_batches` does."""
        lengths = [len(sequence.ids) for sequence in self.sequences]
        return [[self.sequences[i] for i in batch] for batch in length_batches(lengths, max_tokens)]


def split_problems(problem_ids: set[str], share: float, seed: int) -> frozenset[str]:
    """Returns the problems kept for validation: at least one, and by name and seed only, not by their order.

    Raises:
        ConfigError: There are fewer than two problems.
    """
    if len(problem_ids) < 2:
        raise ConfigError(f"values of {len(problem_ids)} problem(s) are given; at least 2 are needed to hold one out")
    count = min(max(1, round(share * len(problem_ids))), len(problem_ids) - 1)
    return frozenset(sorted(problem_ids, key=lambda name: (derive_seed(seed, "validation", name), name))[:count])


def encode_trajectories(
    trajectories: Sequence[Trajectory],
    problems: Mapping[str, Problem],
    config: ValueConfig,
    tokenizer: PreTrainedTokenizerBase,
    style: str,
    model: PreTrainedModel,
) -> ValueData:
    """Turns trajectories into sequences and their targets; leaves out programs longer than the model's context.

    Raises:
        ProblemError: A trajectory names a problem that is not given.
    """
    context = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    data = ValueData([], [])
    too_long = 0
    for carrier, trajectory in enumerate(trajectories):
        if trajectory.problem_id not in problems:
            raise ProblemError(
                f"values name problem {trajectory.problem_id!r}, which is not among the {len(problems)} given; "
                "use the problem set that they were collected on"
            )
        if not trajectory.targets:
            continue
        state = State(problems[trajectory.problem_id], trajectory.code, trajectory.terminal)
        offsets = [offset for offset, _, _ in trajectory.targets]
        first = len(data.targets)
        sequences = encode_outputs(state, offsets, range(first, first + len(offsets)), tokenizer, style)
        if context is not None and max(len(sequence.ids) for sequence in sequences) > context:
            too_long += 1
            continue
        data.sequences.extend(sequences)
        data.targets.extend(targets_of(trajectory, config.weight_by_visits, carrier))
    if too_long:
        _log.warning("%d programs are longer than the model's context of %s tokens: left out", too_long, context)
    return data


def targets_of(trajectory: Trajectory, weight_by_visits: bool, carrier: int = 0) -> list[Target]:
    """Returns the targets of one trajectory's states, in the order of their offsets."""
    ends = [0, *boundaries(trajectory.code)]
    made = []
    for offset, value, weight in trajectory.targets:
        depth = sum(end <= offset for end in ends) - 1
        made.append(
            Target(
                value=value,
                weight=weight if weight_by_visits else 1.0,
                depth=depth,
                finished=offset == len(trajectory.code) + 1,
                problem_id=trajectory.problem_id,
                code=trajectory.code[:offset],
                share=depth / max(1, len(ends) - 1) if trajectory.terminal else math.nan,
                parent=trajectory.code[: ends[max(0, depth - 1)]],
                carrier=carrier,
                completions=weight,
            )
        )
    return made


class Batches(Dataset[list[ValueSequence]]):
    """Ready-made batches of sequences of like length; the sampler shuffles whole batches."""

    def __init__(self, batches: list[list[ValueSequence]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> list[ValueSequence]:
        return self._batches[index]


def unwrap(batches: list[list[ValueSequence]]) -> dict[str, Any]:
    """Collates the one ready-made batch that the loader hands over."""
    return {"batch": [sequence for batch in batches for sequence in batch]}


def predictions(values: np.ndarray[Any, np.dtype[np.float64]], targets: Sequence[Target]) -> Predictions:
    """Returns the predicted values beside their targets, as `evaluate_predictions` takes them."""
    return Predictions(
        predicted=values,
        target=np.array([target.value for target in targets]),
        weight=np.array([target.weight for target in targets]),
        depth=np.array([target.depth for target in targets], dtype=np.int64),
        finished=np.array([target.finished for target in targets]),
        problem=[target.problem_id for target in targets],
        program=[target.code for target in targets],
        share=np.array([target.share for target in targets]),
        parent=[target.parent for target in targets],
        carrier=np.array([target.carrier for target in targets], dtype=np.int64),
        completions=np.array([target.completions for target in targets]),
    )
