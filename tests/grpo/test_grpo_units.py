"""The pure parts of the GRPO stage: schedule, formulas, metrics log, settings, checkpoints, rewards."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem

from restrl.errors import ArtifactError, ConfigError, GraderError
from restrl.grpo.advantages import clipped_loss, group_advantages, group_spread
from restrl.grpo.checkpoints import check_identity, latest_complete, mark_complete, remove_incomplete
from restrl.grpo.config import GRPOConfig
from restrl.grpo.methods import for_method
from restrl.grpo.metrics import (
    METRICS,
    OFFLINE_METRICS,
    MetricsLog,
    Ratios,
    RolloutStats,
    read_metrics,
    rollout_metrics,
    step_record,
)
from restrl.grpo.report import TrainReport, read_report, summarize
from restrl.grpo.rewards import score
from restrl.grpo.schedule import num_steps, plan_steps
from restrl.types import Completion, Grade, Problem, State


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 3), st.integers(0, 9), st.integers(0, 3))
def test_no_instance_is_lost(n: int, per_step: int, epochs: int, max_steps: int, seed: int) -> None:
    steps = num_steps(n, per_step, epochs, max_steps)
    plan = plan_steps(n, per_step, steps, seed)
    assert len(plan) == steps * per_step
    counts = Counter(plan)
    # Whole passes: after k instances every index was seen floor(k/n) or ceil(k/n) times.
    assert {counts[i] for i in range(n)} <= {len(plan) // n, -(-len(plan) // n)}
    if not max_steps:
        assert min(counts[i] for i in range(n)) >= epochs
        assert len(plan) - epochs * n < per_step
    assert plan == plan_steps(n, per_step, steps, seed)
    # A longer plan starts with the shorter one.
    assert plan_steps(n, per_step, steps + 1, seed)[: len(plan)] == plan


def test_epochs_are_shuffled_differently() -> None:
    plan = plan_steps(50, 50, 2, 0)
    assert plan[:50] != plan[50:]
    assert plan != plan_steps(50, 50, 2, 1)


def test_instances_as_given_keep_their_order_in_every_pass() -> None:
    assert plan_steps(5, 4, 3, 0, shuffled=False) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_no_instances_is_an_error() -> None:
    with pytest.raises(ConfigError, match="0 training instances"):
        plan_steps(0, 4, 1, 0)


def test_advantages_by_hand() -> None:
    # Mean 0.5, squared deviations 4 x 0.25, sample variance 1/3.
    rewards = np.array([[0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3]])
    value = 0.5 / ((1 / 3) ** 0.5 + 1e-4)
    np.testing.assert_allclose(group_advantages(rewards), [[-value, -value, value, value], [0, 0, 0, 0]])
    np.testing.assert_allclose(group_advantages(rewards, scale="none")[0], [-0.5, -0.5, 0.5, 0.5])
    np.testing.assert_allclose(group_spread(rewards), [0.5, 0.0])
    batch = float(np.std(rewards, ddof=1)) + 1e-4
    np.testing.assert_allclose(group_advantages(rewards, scale="batch")[0, 0], -0.5 / batch)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4), st.floats(-3, 3))
def test_advantages_ignore_a_shift_and_sum_to_zero(rewards: list[list[float]], shift: float) -> None:
    base = np.array(rewards)
    advantages = group_advantages(base)
    np.testing.assert_allclose(advantages.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(group_advantages(base + shift), advantages, atol=1e-7)


def test_loss_by_hand() -> None:
    # One completion of two tokens and a padded place, A = 2; ratios 1 and 1.5 (clipped to 1.2).
    logps = np.array([[np.log(0.5), np.log(0.3), -50.0]])
    old = np.array([[np.log(0.5), np.log(0.2), -1.0]])
    mask = np.array([[1.0, 1.0, 0.0]])
    loss = clipped_loss(logps, old, np.array([2.0]), mask, epsilon=0.2, epsilon_high=0.2)
    assert loss == pytest.approx(-(2.0 + 2.4) / 2)
    # A < 0: the unclipped ratio is the larger loss.
    loss = clipped_loss(logps, old, np.array([-2.0]), mask, epsilon=0.2, epsilon_high=0.2)
    assert loss == pytest.approx((2.0 + 3.0) / 2)
    with pytest.raises(ValueError, match="ref_logps_BT"):
        clipped_loss(logps, old, np.array([1.0]), mask, epsilon=0.2, epsilon_high=0.2, beta=0.1)


def rollout(verifier: list[list[float]], shaped: list[list[float]] | None = None, seconds: float = 2.0) -> RolloutStats:
    return RolloutStats(verifier, shaped or verifier, [10] * sum(map(len, verifier)), 1, seconds, 0.5, 0.25)


def test_rollout_metrics_tell_format_only_groups_apart() -> None:
    verifier = [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    shaped = [[0.0, 0.001], [0.001, 1.001], [1.001, 1.001]]
    metrics = rollout_metrics([rollout(verifier, shaped)])
    assert metrics["frac_zero_std"] == pytest.approx(1 / 3)
    assert metrics["useful_group_share"] == pytest.approx(1 / 3)
    assert metrics["reward_std"] == pytest.approx(0.5 / 3)
    assert metrics["reward"] == pytest.approx(0.5)
    assert metrics["tokens_per_s"] == pytest.approx(30.0)
    assert metrics["truncation_share"] == pytest.approx(1 / 6)


def test_rollout_metrics_merge_processes() -> None:
    merged = rollout_metrics([rollout([[0.0, 1.0]], seconds=1.0), rollout([[1.0, 1.0]], seconds=4.0)])
    assert merged["reward"] == pytest.approx(0.75)
    assert merged["generate_s"] == 4.0
    assert merged["tokens_per_s"] == pytest.approx(10.0)


def test_what_processes_saw_is_merged() -> None:
    first = dataclasses.replace(
        rollout([[0.0, 1.0]]), solved={"easy": (1, 2), "hard": (0, 2)}, tampered=1, ratios=Ratios(3.0, 2, 0.5)
    )
    second = dataclasses.replace(
        rollout([[1.0, 1.0]]), solved={"easy": (2, 2), "": (1, 2)}, tampered=2, outage_s=7.0, ratios=Ratios(1.0, 2, 0.1)
    )
    merged = rollout_metrics([first, second])
    assert {name: value for name, value in merged.items() if name.startswith("pass_rate")} == {
        "pass_rate": pytest.approx(4 / 8),
        "pass_rate/easy": pytest.approx(3 / 4),
        "pass_rate/hard": 0.0,
    }
    assert (merged["tampered_completions"], merged["outage_s"]) == (3, 7.0)
    assert (merged["ratio"], merged["ratio_deviation"]) == (1.0, 0.5)


def test_step_record_is_defined_and_adds_up() -> None:
    logs = {
        "loss": 0.1,
        "grad_norm": 1.0,
        "learning_rate": 1e-4,
        "entropy": 0.5,
        "kl": 0.0,
        "clip_ratio/region_mean": 0.0,
        "clip_ratio/low_mean": 0.0,
        "clip_ratio/high_mean": 0.0,
    }
    stats = dataclasses.replace(rollout([[0.0, 1.0]]), solved={"easy": (1, 2)}, ratios=Ratios(2.0, 2, 0.1))
    record = step_record(3, logs, rollout_metrics([stats]), step_s=5.0)
    assert {name.replace("/easy", "/BAND") for name in record} == set(METRICS)
    assert record["generate_s"] + record["grade_wait_s"] + record["update_s"] == pytest.approx(record["step_s"])


def test_metrics_log_has_no_step_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0)
    for step in range(1, 5):
        log.append({"step": step, "reward": 0.1})
    with path.open("a") as file:
        file.write('{"step": 5, "rew')  # killed while writing
    log = MetricsLog(path, 2)
    log.append({"step": 3, "reward": 0.9})
    assert [(r["step"], r["reward"]) for r in read_metrics(path)] == [(1, 0.1), (2, 0.1), (3, 0.9)]


def test_report_round_trip(tmp_path: Path) -> None:
    records = [
        {key: float(step) for key in METRICS}
        | {"reward": step / 20, "entropy": 1.0, "sampled_tokens": 12.0, "sampled_completions": 4.0}
        for step in range(1, 21)
    ]
    report = summarize(records, instances=7, dropped=1)
    assert report.steps == 20 and report.completions == 80 and report.tokens == 240
    assert report.first_reward == pytest.approx(5.5 / 20) and report.last_reward == pytest.approx(15.5 / 20)
    report.write(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
    assert set(json.loads((tmp_path / "report.json").read_text())) == {f.name for f in fields(TrainReport)}


def test_settings_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"micro_batch is 3; it must divide .* = 16"):
        GRPOConfig(num_generations=4, prompts_per_step=4, micro_batch=3)
    with pytest.raises(ConfigError, match="keep_checkpoints"):
        GRPOConfig(keep_checkpoints=1)


def test_every_setting_is_declared() -> None:
    assert all(field.metadata.get("help") for field in fields(GRPOConfig))


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    for step in (2, 10, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("w")
    (tmp_path / "checkpoint-old").mkdir()
    assert latest_complete(tmp_path) is None
    mark_complete(tmp_path / "checkpoint-2")
    mark_complete(tmp_path / "checkpoint-10")
    assert latest_complete(tmp_path) == tmp_path / "checkpoint-10"
    remove_incomplete(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2", "checkpoint-old"]


def test_another_run_in_the_directory_is_an_error(tmp_path: Path) -> None:
    states = [State(make_problem("a")), State(make_problem("b"), "    x = 1\n")]
    config = GRPOConfig()
    check_identity(tmp_path, states, config, 0, "auto")
    check_identity(tmp_path, states, GRPOConfig(save_every=3, micro_batch=8), 0, "auto")
    with pytest.raises(ArtifactError, match=r"beta = 0\.0, not 0\.1"):
        check_identity(tmp_path, states, GRPOConfig(beta=0.1), 0, "auto")
    with pytest.raises(ArtifactError, match="seed = 0, not 1"):
        check_identity(tmp_path, states, config, 1, "auto")
    with pytest.raises(ArtifactError, match="instances"):
        check_identity(tmp_path, states[:1], config, 0, "auto")


def test_a_run_from_before_a_setting_existed_goes_on_where_the_setting_has_its_default(tmp_path: Path) -> None:
    states, path = [State(make_problem("a"))], tmp_path / "identity.json"
    check_identity(tmp_path, states, GRPOConfig(), 0, "auto")
    identity = json.loads(path.read_text())
    del identity["skip_explore"], identity["loss_type"]
    path.write_text(json.dumps({**identity, "micro_batch": 3}))
    check_identity(tmp_path, states, GRPOConfig(), 0, "auto")
    with pytest.raises(ArtifactError, match=r"skip_explore = 0\.0, not 0\.5"):
        check_identity(tmp_path, states, GRPOConfig(skip_explore=0.5), 0, "auto")
    with pytest.raises(ArtifactError, match=r"loss_type = 'grpo', not 'dapo'"):
        check_identity(tmp_path, states, GRPOConfig(loss_type="dapo"), 0, "auto")


class TableGrader:
    """Grades by table; counts its calls."""

    def __init__(self, rewards: Sequence[float]) -> None:
        self.rewards = rewards
        self.calls: list[list[str]] = []

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        self.calls.append([program for _, program in pairs])
        return [Grade(p.id, r, r == 1.0, ()) for (p, _), r in zip(pairs, self.rewards, strict=False)]

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.grade(pairs)


def test_rewards_are_of_prefix_and_completion_in_one_call() -> None:
    problem = make_problem("a", initial_state="def f():\n")
    states = [State(problem, "    x = 1\n"), State(problem, "    x = 1\n"), State(problem)]
    completions = [
        Completion("    return x\n\n", "stop"),
        Completion("    retu", "length"),
        Completion("    return 2", "stop", trailing="# more"),
    ]
    grader = TableGrader([1.0, 0.0, 0.5])
    scores = score(states, completions, grader, GRPOConfig())
    assert grader.calls == [
        [
            "def f():\n    x = 1\n    return x\n",
            "def f():\n    x = 1\n    retu\n",
            "def f():\n    return 2\n",
        ]
    ]
    assert [s.verifier for s in scores] == [1.0, 0.0, 0.5]
    assert [s.shaped for s in scores] == pytest.approx([1.001, 0.0, 0.501 - 6e-6], abs=1e-12)


def test_missing_grades_are_an_error() -> None:
    with pytest.raises(GraderError, match="1 grades for 2 programs"):
        score([State(make_problem())] * 2, [Completion("x", "stop")] * 2, TableGrader([1.0]), GRPOConfig())


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), 1.5, -0.1])
def test_impossible_rewards_are_an_error(reward: float) -> None:
    with pytest.raises(GraderError, match="reward"):
        score([State(make_problem())], [Completion("x", "stop")], TableGrader([reward]), GRPOConfig())


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, restrl.grpo, restrl.rest; sys.exit('torch' in sys.modules or 'trl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_metric_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = [*METRICS.items(), *OFFLINE_METRICS.items()]
    missing = [name for name, meaning in told if f"| `{name}` | {meaning.replace('|', chr(92) + '|')} |" not in text]
    assert not missing


def test_overlong_completions_lose_reward_by_their_tokens() -> None:
    config = GRPOConfig(max_new_tokens=10, overlong_buffer=4, overlong_penalty=0.5, symbol_reward=0.0)
    lengths = [5, 6, 7, 8, 10]
    completions = [Completion("x", "stop", num_tokens=length) for length in lengths]
    scores = score([State(make_problem())] * 5, completions, TableGrader([1.0] * 5), config)
    assert [s.shaped for s in scores] == pytest.approx([1, 1, 1 - 0.125, 1 - 0.25, 0.5])
    assert [s.verifier for s in scores] == [1.0] * 5


def test_dapo_is_its_four_changes_where_nothing_else_is_set() -> None:
    base = GRPOConfig(max_new_tokens=100)
    dapo = for_method(base, "dapo")
    assert (dapo.loss_type, dapo.epsilon_high, dapo.refill_rounds, dapo.overlong_buffer) == ("dapo", 0.28, 10, 20)
    mine = for_method(GRPOConfig(epsilon_high=0.25, refill_rounds=2, overlong_buffer=7, loss_type="bnpo"), "dapo")
    assert (mine.loss_type, mine.epsilon_high, mine.refill_rounds, mine.overlong_buffer) == ("bnpo", 0.25, 2, 7)
    for name in ("grpo", "rest-grpo"):
        assert for_method(base, name) == GRPOConfig(max_new_tokens=100, method=name)
    with pytest.raises(ValueError, match="sft"):
        for_method(base, "sft")
