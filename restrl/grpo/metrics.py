"""What GRPO training logs, by name, and the append-only log of it.

Every step gives one line of ``metrics.jsonl`` and one call of ``on_log``, with the same keys. Nothing is logged that is
not defined in `METRICS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from restrl.grpo.advantages import group_spread

METRICS: dict[str, str] = {
    "step": "Optimizer steps done, counted from 1.",
    "reward": "Mean verifier reward of the step's completions (fraction of tests passed), in [0, 1].",
    "reward_shaped": "Mean reward that gives the advantages: verifier reward + stop-symbol reward - trailing penalty "
    "- overlong penalty.",
    "reward_planned": "Mean verifier reward of the groups that the step planned, before dynamic sampling replaced any; "
    "reward is that of the groups that were trained.",
    "reward_std": "Population standard deviation of the verifier reward within a group, mean over the groups.",
    "frac_zero_std": "Share of groups whose shaped rewards are all equal: they give no gradient.",
    "useful_group_share": "Share of groups whose verifier rewards differ: their gradient is about correctness. "
    "1 - frac_zero_std - useful_group_share is the share of groups that only teach the format.",
    "refilled_share": "Share of the step's groups that dynamic sampling put in the place of one without spread.",
    "skipped_share": "Share of the step's slots whose planned instance was left out for its history (skip_explore).",
    "sampled_completions": "Completions sampled and graded for the step, those of replaced groups included.",
    "sampled_tokens": "Tokens generated for the step, those of replaced groups included.",
    "pass_rate": "Share of completions whose program passes every test.",
    "pass_rate/BAND": "The same over the problems of one difficulty band that are in the step. Bands are the problem "
    "set's own, or, where it has none, solved 0, 1-49, 50-99 or 100: percent of the sampling stage's solutions.",
    "tampered_completions": "Completions in whose run a detector of tampering fired.",
    "entropy": "Mean entropy of the next token at the sampling temperature, over completion tokens, in nats.",
    "kl": "Mean KL estimate exp(d) - d - 1 with d = log pi_ref - log pi per completion token; only if beta > 0.",
    "clip_ratio": "Share of completion tokens whose importance ratio is clipped; 0 by construction while on-policy.",
    "clip_low": "Share of completion tokens clipped at 1 - epsilon, where the advantage is negative.",
    "clip_high": "Share of completion tokens clipped at 1 + epsilon_high, where the advantage is positive.",
    "ratio": "Mean over completion tokens of the probability in the update's forward over that at sampling: 1 up to "
    "rounding while on-policy. Not where the sampler gives no log-probabilities.",
    "ratio_deviation": "Largest distance of such a ratio from 1; if it is not small, sampling and training disagree.",
    "completion_length": "Mean tokens of a completion, end-of-sequence token included.",
    "truncation_share": "Share of completions cut off by max_new_tokens.",
    "tokens_per_s": "Generated tokens per second of generate_s, over all processes.",
    "generate_s": "Seconds of sampling.",
    "grade_s": "Seconds the grader was busy, mostly while sampling went on.",
    "grade_wait_s": "Seconds that the step waited for grades after sampling had ended: the visible part of grade_s.",
    "outage_s": "Seconds that the grader was out of order and training waited; they are part of grade_s.",
    "update_s": "The rest of the step in seconds: forward, backward, optimizer and overhead.",
    "step_s": "Seconds of the whole step: generate_s + grade_wait_s + update_s.",
    "lr": "Learning rate of the step.",
    "loss": "GRPO loss. Its value is near 0 while on-policy (advantages sum to 0); its gradient is what matters.",
    "grad_norm": "Norm of the gradient before clipping to max_grad_norm.",
}

OFFLINE_METRICS: dict[str, str] = {
    "step": "Optimizer steps done, counted from 1.",
    "loss": "Mean loss of the step: DPO's -log sigmoid(margin), or the mean cross-entropy of a program's token.",
    "preference_accuracy": "Share of pairs whose margin is positive; ReST-DPO only.",
    "preference_margin": "Mean of beta * (log pi/pi_ref of the chosen - log pi/pi_ref of the rejected); ReST-DPO only.",
    "logp_chosen": "Mean log-probability of the chosen program; ReST-DPO only. It may fall while the margin grows.",
    "logp_rejected": "Mean log-probability of the rejected program; ReST-DPO only.",
    "token_accuracy": "Share of the programs' tokens that are the most probable one.",
    "entropy": "Mean entropy of the next token over the programs' tokens, in nats.",
    "lr": "Learning rate of the step.",
    "grad_norm": "Norm of the gradient before clipping to max_grad_norm.",
    "step_s": "Seconds of the whole step.",
}


@dataclass(frozen=True, slots=True)
class Ratios:
    """Ratios of some tokens: their sum, number and largest distance from 1."""

    total: float = 0.0
    count: int = 0
    deviation: float = 0.0


@dataclass(frozen=True, slots=True)
class RolloutStats:
    """What sampling and grading of one step gave, on one process.

    Attributes:
        verifier_PG: Verifier rewards, one row per group.
        shaped_PG: Shaped rewards, one row per group.
        num_tokens: Generated tokens of every completion.
        truncated: Completions cut off by the token limit.
        generate_s: Seconds of sampling.
        grade_s: Seconds the grader was busy.
        grade_wait_s: Seconds waited for grades after sampling.
        refilled: Groups that dynamic sampling put in the place of a planned one.
        skipped: Slots whose planned instance was left out before sampling.
        spare_completions: Completions sampled and graded but not trained on.
        spare_tokens: Their generated tokens.
        planned_PG: Verifier rewards of the planned groups; None where they are the trained ones.
        solved: Completions that passed every test, and all completions, by difficulty band; ``""`` is no band.
        tampered: Completions in whose run a detector of tampering fired.
        outage_s: Seconds that the grader was out of order.
        ratios: Importance ratios of the step's tokens.
    """

    verifier_PG: list[list[float]]
    shaped_PG: list[list[float]]
    num_tokens: list[int]
    truncated: int
    generate_s: float
    grade_s: float
    grade_wait_s: float
    refilled: int = 0
    skipped: int = 0
    spare_completions: int = 0
    spare_tokens: int = 0
    planned_PG: list[list[float]] | None = None
    solved: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tampered: int = 0
    outage_s: float = 0.0
    ratios: Ratios = field(default_factory=Ratios)


def rollout_metrics(parts: Sequence[RolloutStats]) -> dict[str, float]:
    """Returns the metrics of one step's rollout, merged over the processes (times: the slowest process)."""
    verifier_PG = np.array([row for part in parts for row in part.verifier_PG])
    shaped_PG = np.array([row for part in parts for row in part.shaped_PG])
    tokens = [count for part in parts for count in part.num_tokens]
    generate_s = max(part.generate_s for part in parts)
    planned_PG = np.array([row for part in parts for row in part.planned_PG or part.verifier_PG])
    sampled_tokens = sum(tokens) + sum(part.spare_tokens for part in parts)
    return {
        "reward": float(verifier_PG.mean()),
        "reward_shaped": float(shaped_PG.mean()),
        "reward_planned": float(planned_PG.mean()),
        "reward_std": float(group_spread(verifier_PG).mean()),
        "frac_zero_std": float((np.ptp(shaped_PG, axis=1) < 1e-9).mean()),
        "useful_group_share": float((np.ptp(verifier_PG, axis=1) > 1e-9).mean()),
        "refilled_share": sum(part.refilled for part in parts) / len(verifier_PG),
        "skipped_share": sum(part.skipped for part in parts) / len(verifier_PG),
        "sampled_completions": len(tokens) + sum(part.spare_completions for part in parts),
        "sampled_tokens": sampled_tokens,
        **_pass_rates(parts),
        "tampered_completions": sum(part.tampered for part in parts),
        "completion_length": sum(tokens) / len(tokens),
        "truncation_share": sum(part.truncated for part in parts) / len(tokens),
        "tokens_per_s": sampled_tokens / max(generate_s, 1e-9),
        "generate_s": generate_s,
        "grade_s": max(part.grade_s for part in parts),
        "grade_wait_s": max(part.grade_wait_s for part in parts),
        "outage_s": max(part.outage_s for part in parts),
        **_ratios(parts),
    }


def _ratios(parts: Sequence[RolloutStats]) -> dict[str, float]:
    """Returns mean and spread of the importance ratios, if there are any."""
    count = sum(part.ratios.count for part in parts)
    if not count:
        return {}
    total = sum(part.ratios.total for part in parts)
    return {"ratio": total / count, "ratio_deviation": max(part.ratios.deviation for part in parts)}


def _pass_rates(parts: Sequence[RolloutStats]) -> dict[str, float]:
    """Returns the pass rate of all completions, and of every band."""
    counts: dict[str, list[int]] = {}
    for part in parts:
        for band, (solved, total) in part.solved.items():
            for name in {"pass_rate", f"pass_rate/{band}" if band else "pass_rate"}:
                count = counts.setdefault(name, [0, 0])
                count[0] += solved
                count[1] += total
    return {name: counts[name][0] / counts[name][1] for name in sorted(counts)}


# Names in the engine's log, and ours.
_ENGINE_KEYS = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
    "entropy": "entropy",
    "kl": "kl",
    "clip_ratio/region_mean": "clip_ratio",
    "clip_ratio/low_mean": "clip_low",
    "clip_ratio/high_mean": "clip_high",
    "sampling/importance_sampling_ratio/mean": "ratio",
}


def step_record(
    step: int, engine_logs: Mapping[str, Any], rollout: Mapping[str, float], step_s: float
) -> dict[str, float]:
    """Returns the record of one step, every key of it defined in `METRICS`."""
    record: dict[str, float] = {"step": step, **rollout}
    record |= {ours: float(engine_logs[theirs]) for theirs, ours in _ENGINE_KEYS.items() if theirs in engine_logs}
    record["step_s"] = step_s
    record["update_s"] = step_s - rollout["generate_s"] - rollout["grade_wait_s"]
    return record


class MetricsLog:
    """A file such as ``metrics.jsonl``: lines of steps, no step twice, whatever was killed and resumed in between."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Opens the log and drops the steps after ``last_step``, which will be trained again."""
        self._path = path
        kept = [record for record in read_metrics(path) if record["step"] <= last_step]
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
        os.replace(temporary, path)

    def append(self, *records: Mapping[str, Any]) -> None:
        """Adds lines of a step."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(dict(record)) + "\n" for record in records))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a log; a last line that was cut off by a kill is left out."""
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        records.append(json.loads(line))
    return records
