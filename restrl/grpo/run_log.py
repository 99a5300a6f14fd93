"""What a training run leaves for the eye: ``metrics.jsonl``, sample completions, trackers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from restrl.grpo.advantages import group_advantages
from restrl.grpo.config import GRPOConfig
from restrl.grpo.metrics import MetricsLog, RolloutStats, read_metrics
from restrl.grpo.offline_config import OfflineConfig
from restrl.grpo.rewards import Score
from restrl.tracking import TrackedRun, Trackers
from restrl.types import Completion

OnLog = Callable[[dict[str, float]], None]
Scored = Sequence[tuple[Score, Completion]]


class RunLog:
    """The logs of a run; a context manager. Of several processes only the first has one."""

    def __init__(
        self, output_dir: Path, config: GRPOConfig | OfflineConfig, last_step: int, on_log: OnLog | None = None
    ) -> None:
        """Opens the logs and drops the steps after ``last_step``, which will be trained again.

        Args:
            output_dir: Of the training run.
            config: Its settings.
            last_step: Where it continues.
            on_log: Called with every record.

        Raises:
            ConfigError: A tracker's library is missing.
        """
        self._metrics = MetricsLog(output_dir / "metrics.jsonl", last_step)
        self._completions = MetricsLog(output_dir / "completions.jsonl", last_step)
        self._on_log = on_log
        settings = dataclasses.asdict(config)
        run = TrackedRun(output_dir / "logs", "/".join(output_dir.resolve().parts[-3:]), "train", settings, last_step)
        self._trackers = Trackers(config.report_to, run, read_metrics(output_dir / "metrics.jsonl"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trackers.close()

    def add(self, record: dict[str, float], shown: Sequence[Mapping[str, Any]] = ()) -> None:
        """Adds one step, with its sample completions."""
        self._metrics.append(record)
        if shown:
            self._completions.append(*shown)
        self._trackers.log(record)
        if self._on_log is not None:
            self._on_log(record)


def sample_completions(
    step: int, scored: Scored, parts: Sequence[RolloutStats], config: GRPOConfig
) -> Iterator[dict[str, Any]]:
    """Yields ``log_completions`` completions of one group, from the best to the worst; another group at every step.

    Args:
        step: Optimizer steps done, this one included.
        scored: What this process sampled.
        parts: The statistics of all processes, this one's first: advantages may be scaled by the whole batch.
        config: The settings.
    """
    size = config.num_generations
    advantages = group_advantages(
        np.array([row for part in parts for row in part.shaped_PG]), scale=config.scale_rewards
    ).ravel()
    start = (step - 1) % (len(scored) // size) * size
    order = sorted(range(start, start + size), key=lambda place: -scored[place][0].shaped)
    count = min(config.log_completions, size)
    for turn in range(count):
        place = order[turn * (size - 1) // max(count - 1, 1)]
        grade, completion = scored[place][0].grade, scored[place][1]
        yield {
            "step": step,
            "problem_id": grade.problem_id,
            "prefix": scored[place][0].state.code,
            "completion": completion.text,
            "finish_reason": completion.finish_reason,
            "num_tokens": completion.num_tokens,
            "reward": grade.reward,
            "reward_shaped": round(scored[place][0].shaped, 9),
            "advantage": round(float(advantages[place]), 6),
            "verdicts": dict(Counter(verdict.verdict for verdict in grade.verdicts)),
            "tampering": list(grade.tampering),
        }
