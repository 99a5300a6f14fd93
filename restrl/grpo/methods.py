"""The training methods and what each of them is: one table, one switch (``[train] method``).

Every method takes the policy of an iteration to the next one, at the same place in the run directory, so nothing after
training depends on which it was.

| method | learns from | how |
|---|---|---|
| ``rest-grpo`` | assembled instances: problems and prefixes (ReST-RL, section 3.2) | GRPO, settings ``[grpo]`` |
| ``grpo`` | all training problems, no filter, no prefixes | the same |
| ``dapo`` | all training problems | the same, with DAPO's four changes (arXiv 2503.14476) |
| ``rest-dpo`` | best and worst stored sample of a problem | DPO (arXiv 2305.18290), settings ``[offline]`` |
| ``sft`` | the best stored samples of a problem | cross-entropy, settings ``[offline]`` |
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from restrl.grpo.config import ONLINE_METHODS, GRPOConfig
from restrl.settings import setting
from restrl.tracking import check_names


@dataclass(frozen=True, slots=True)
class Method:
    """A training method.

    Attributes:
        label: Its name in tables.
        data: What it learns from: assembled instances, all problems, pairs or demonstrations.
    """

    label: str
    data: Literal["instances", "problems", "pairs", "demonstrations"]

    @property
    def samples(self) -> bool:
        """Whether it needs the sampling stage."""
        return self.data != "problems"

    @property
    def online(self) -> bool:
        """Whether it samples while it trains."""
        return self.data in ("instances", "problems")


METHODS: dict[str, Method] = {
    "rest-grpo": Method("ReST-GRPO", "instances"),
    "grpo": Method("GRPO", "problems"),
    "dapo": Method("DAPO", "problems"),
    "rest-dpo": Method("ReST-DPO", "pairs"),
    "sft": Method("SFT", "demonstrations"),
}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Which method trains the policy (`restrl.grpo.methods` tells them apart), and where one can watch it."""

    method: str = setting("rest-grpo", "how the policy is trained", choices=tuple(METHODS), paper="rest-grpo")
    report_to: tuple[str, ...] = setting(
        ("tensorboard",),
        "where metrics go besides metrics.jsonl: tensorboard (event files in the folder logs beside it), wandb, "
        "trackio, mlflow (extras of the same names), or none",
    )
    log_completions: int = setting(2, "sample completions of every GRPO step in completions.jsonl", low=0)

    def __post_init__(self) -> None:
        check_names(self.report_to)


def for_method(config: GRPOConfig, method: str) -> GRPOConfig:
    """Returns the settings of an online method.

    ``dapo`` puts the published values where a setting is at its default: token-level loss, upper clip 0.28, 10 rounds
    of dynamic sampling, an overlong buffer of a fifth of ``max_new_tokens``. An ablation of DAPO is therefore written
    as method ``grpo`` with those switches that it keeps.
    """
    if method not in ONLINE_METHODS:
        raise ValueError(f"{method!r} does not sample while it trains")
    config = dataclasses.replace(config, method=method)
    if method != "dapo":
        return config
    return dataclasses.replace(
        config,
        loss_type="dapo" if config.loss_type == "grpo" else config.loss_type,
        epsilon_high=config.epsilon_high or 0.28,
        refill_rounds=config.refill_rounds or 10,
        overlong_buffer=config.overlong_buffer or max(config.max_new_tokens // 5, 1),
    )
