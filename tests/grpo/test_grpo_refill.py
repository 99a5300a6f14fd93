"""Dynamic sampling: what stands in for a group without spread, that its statistics are its own, the cap, resuming."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem, save_tiny_model

from restrl.errors import ConfigError
from restrl.grpo import engine as engine_module
from restrl.grpo.config import GRPOConfig
from restrl.grpo.metrics import METRICS, read_metrics, rollout_metrics
from restrl.grpo.refill import has_spread, spare_instances, stand_in
from restrl.grpo.rollout import TrainingSet
from restrl.grpo.trainer import train_policy
from restrl.types import Completion, SampleRequest, SamplingParams, State

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import RESUME, SMALL, Bench, CharGrader, build_bench, make_states

REFILL = dataclasses.replace(SMALL, prompts_per_step=3, refill_rounds=4, symbol_reward=0.0)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("refill_model"))


class FixedPolicy:
    """Flat problems get ``aaa``, steps ``a``, ``a``, ``aa``, ``aa``, spread ``a``, ``aa``, ``aaa``, ``aaaa``."""

    def __init__(self, model: Any, tokenizer: Any, config: GRPOConfig, style: str) -> None:
        self.tokenizer = tokenizer
        self.rounds: list[list[SampleRequest]] = []

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        self.rounds.append(list(requests))
        return [[self._answer(request, index) for index in range(request.n)] for request in requests]

    def _answer(self, request: SampleRequest, index: int) -> Completion:
        kind = request.state.problem.id.partition("/")[0]
        text = "a" * {"flat": 3, "steps": index // 2 + 1, "spread": index + 1}[kind]
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return Completion(text, "stop", num_tokens=len(ids), token_ids=tuple(ids))


def make_bench(model_dir: Path, tmp_path: Path, kinds: str, config: GRPOConfig = REFILL) -> Bench:
    """Instances by letter, f = flat, t = steps, s = spread; the first step plans the first ``prompts_per_step``."""
    names = {"f": "flat", "t": "steps", "s": "spread"}
    states = [State(make_problem(f"{names[kind]}/{index}"), "    b = 1\n" * index) for index, kind in enumerate(kinds)]
    config = dataclasses.replace(config, rollout_chunks=1)
    return build_bench(model_dir, tmp_path, config, states, CharGrader("a", goal=4), FixedPolicy)


def step(bench: Bench, slots: int = 3, group: int = 4) -> dict[str, Any]:
    return bench.rollout([str(row) for row in range(slots) for _ in range(group)], bench.trainer)


def test_groups_without_spread_are_replaced_and_statistics_are_their_own(model_dir: Path, tmp_path: Path) -> None:
    bench = make_bench(model_dir, tmp_path, "fsf" + "fsfsss")
    rows = [{"prompt": str(row)} for row in range(3) for _ in range(4)]
    made = bench.trainer._generate_and_score_completions(rows)
    stats = bench.rollout.last
    assert stats is not None and stats.refilled == 2
    # Every group has rewards 1/4, 2/4, 3/4, 4/4: its own mean and deviation, whoever was replaced.
    rewards = [0.25, 0.5, 0.75, 1.0]
    assert stats.verifier_PG == [rewards] * 3
    expected = [(r - 0.625) / (statistics.stdev(rewards) + 1e-4) for r in rewards] * 3
    assert made["advantages"].tolist() == pytest.approx(expected, abs=1e-5)
    # The prompt of every completion is that of the instance that stands in, the same for the four of a group.
    prompts = [
        [int(t) for t, m in zip(*pair, strict=True) if m]
        for pair in zip(made["prompt_ids"], made["prompt_mask"], strict=True)
    ]
    known = {tuple(bench.data.instance_ids(index)): index for index in range(9)}
    instances = [known[tuple(prompt)] for prompt in prompts]
    assert all(len(set(instances[start : start + 4])) == 1 for start in (0, 4, 8))
    chosen = instances[::4]
    assert chosen[1] == 1 and set(chosen) <= {1, 4, 6, 7, 8}
    bench.rollout.close()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_replaced_groups_are_normalised_like_planned_ones(model_dir: Path, tmp_path: Path, scale: str) -> None:
    """By hand: the mean is the group's own; the deviation is the group's, or that of what is trained, or 1.

    The rewards that were replaced take no part in it, nor do those of rounds in vain.
    """
    bench = make_bench(model_dir, tmp_path, "ftf" + "fssst", dataclasses.replace(REFILL, scale_rewards=scale))
    rows = [{"prompt": str(row)} for row in range(3) for _ in range(4)]
    made = bench.trainer._generate_and_score_completions(rows)
    stats = bench.rollout.last
    assert stats is not None and stats.refilled == 2 and stats.spare_completions >= 8
    steps, spread = [0.25, 0.25, 0.5, 0.5], [0.25, 0.5, 0.75, 1.0]
    groups = stats.verifier_PG
    assert groups[1] == steps and all(group in (steps, spread) for group in groups) and spread in groups
    trained = [reward for group in groups for reward in group]
    expected = []
    for group in groups:
        deviation = {"group": statistics.stdev(group), "batch": statistics.stdev(trained), "none": 1 - 1e-4}[scale]
        expected += [(reward - sum(group) / 4) / (deviation + 1e-4) for reward in group]
    assert made["advantages"].tolist() == pytest.approx(expected, abs=1e-5)
    bench.rollout.close()


def test_everything_sampled_is_counted(model_dir: Path, tmp_path: Path) -> None:
    bench = make_bench(model_dir, tmp_path, "fsf" + "fsfsss")
    step(bench)
    stats, rounds = bench.rollout.last, bench.policies[0].rounds
    assert stats is not None
    asked = sum(request.n for requests in rounds for request in requests)
    metrics = rollout_metrics([stats])
    assert metrics["sampled_completions"] == asked == 12 + stats.spare_completions
    assert metrics["refilled_share"] == pytest.approx(2 / 3)
    assert metrics["useful_group_share"] == 1.0 and metrics["frac_zero_std"] == 0.0
    # Planned: two flat groups at 3/4, one with mean 5/8. Trained: three with mean 5/8.
    assert metrics["reward_planned"] == pytest.approx((0.75 * 2 + 0.625) / 3)
    assert metrics["reward"] == pytest.approx(0.625)
    assert metrics["sampled_tokens"] == sum(stats.num_tokens) + stats.spare_tokens > sum(stats.num_tokens)
    # A round only samples for the slots that still lack spread.
    assert len(rounds[0]) == 3 and len(rounds[1]) == 2 and len(rounds) <= 1 + REFILL.refill_rounds
    assert set(metrics) <= set(METRICS)
    bench.rollout.close()


@pytest.mark.parametrize("cap", [1, 3])
def test_the_cap_ends_the_search_and_keeps_the_planned_groups(model_dir: Path, tmp_path: Path, cap: int) -> None:
    config = dataclasses.replace(REFILL, refill_rounds=cap)
    bench = make_bench(model_dir, tmp_path, "fsf" + "ffff", config)
    output = step(bench)
    stats, rounds = bench.rollout.last, bench.policies[0].rounds
    assert stats is not None and stats.refilled == 0
    assert [len(requests) for requests in rounds] == [3] + [2] * cap
    assert stats.spare_completions == 8 * cap
    for place, row in enumerate((0, 1, 2)):
        assert output["prompt_ids"][4 * place] == bench.data.prompt_ids(row)
    assert len(output["completion_ids"]) == 12
    bench.rollout.close()


def test_no_round_is_sampled_where_every_group_has_spread(model_dir: Path, tmp_path: Path) -> None:
    bench = make_bench(model_dir, tmp_path, "sssff")
    step(bench)
    assert [len(requests) for requests in bench.policies[0].rounds] == [3]
    bench.rollout.close()


def test_a_step_that_trains_every_instance_samples_them_again(model_dir: Path, tmp_path: Path) -> None:
    bench = make_bench(model_dir, tmp_path, "fss")
    step(bench)
    first, *more = bench.policies[0].rounds
    assert bench.rollout.last is not None and bench.rollout.last.refilled == 1
    seeds = [request.seed for requests in (first, *more) for request in requests]
    assert len(set(seeds)) == len(seeds)
    bench.rollout.close()


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 5), st.integers(0, 3))
@settings(deadline=None, max_examples=80)
def test_stand_ins_are_spare_and_differ(count: int, slots: int, index: int, seed: int) -> None:
    planned = list(range(min(slots, count)))
    spare = spare_instances(count, planned, seed, index)
    assert sorted(spare) == [i for i in range(count) if i not in planned] or sorted(spare) == list(range(count))
    if count > slots:
        assert not set(spare) & set(planned)
    assert spare == spare_instances(count, planned, seed, index)
    tried = [stand_in(spare, turn, slot, slots) for turn in range(4) for slot in range(slots)]
    # No instance a second time before every other was tried.
    counts = [tried.count(item) for item in spare]
    assert max(counts) - min(counts) <= 1


def test_spread_is_the_verifiers() -> None:
    assert has_spread([0.0, 0.0, 0.1]) and not has_spread([0.3, 0.3, 0.3])


def skip_bench(model_dir: Path, tmp_path: Path, explore: float) -> Bench:
    """Two steps of two slots that plan instances 0 (flat) and 1; 2 and 3 are spare."""
    config = dataclasses.replace(REFILL, prompts_per_step=2, refill_rounds=0, skip_explore=explore, rollout_chunks=1)
    names = ("flat/0", "spread/1", "spread/2", "flat/3")
    states = [State(make_problem(name), "    b = 1\n" * index) for index, name in enumerate(names)]
    return build_bench(model_dir, tmp_path, config, states, CharGrader("a", goal=4), FixedPolicy, plan=[0, 1, 0, 1])


def instances_of(bench: Bench, index: int) -> list[int]:
    output = bench.rollout([str(row) for row in (2 * index, 2 * index + 1) for _ in range(4)], bench.trainer)
    known = {tuple(bench.data.instance_ids(instance)): instance for instance in range(4)}
    return [known[tuple(ids)] for ids in output["prompt_ids"][::4]]


def test_instances_without_spread_are_skipped_the_next_time(model_dir: Path, tmp_path: Path) -> None:
    bench = skip_bench(model_dir, tmp_path, 1e-9)
    bench.rollout.remember(tmp_path / "groups.jsonl", 0)
    assert instances_of(bench, 0) == [0, 1]
    assert bench.rollout.last is not None and bench.rollout.last.skipped == 0
    second = instances_of(bench, 1)
    assert second[0] in (2, 3) and second[1] == 1 and bench.rollout.last.skipped == 1
    assert rollout_metrics([bench.rollout.last])["skipped_share"] == 0.5
    # Another process that takes up after the first step skips the same; what came later is forgotten.
    again = skip_bench(model_dir, tmp_path, 1e-9)
    again.rollout.remember(tmp_path / "groups.jsonl", 1)
    assert instances_of(again, 1) == second
    fresh = skip_bench(model_dir, tmp_path, 1e-9)
    fresh.rollout.remember(tmp_path / "groups.jsonl", 0)
    assert instances_of(fresh, 1) == [0, 1]
    for made in (bench, again, fresh):
        made.rollout.close()


def test_full_exploration_skips_nothing(model_dir: Path, tmp_path: Path) -> None:
    bench = skip_bench(model_dir, tmp_path, 1.0)
    bench.rollout.remember(tmp_path / "groups.jsonl", 0)
    assert [instances_of(bench, index) for index in (0, 1)] == [[0, 1], [0, 1]]
    bench.rollout.close()


@pytest.mark.parametrize(
    "options",
    [
        {"refill_rounds": 2, "loss_type": "dapo", "epsilon_high": 0.28, "overlong_buffer": 4},
        {"refill_rounds": 1, "skip_explore": 0.01, "order": "given"},
    ],
    ids=["dapo", "skip"],
)
def test_resumed_is_uninterrupted(model_dir: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    class Stop(Exception):
        pass

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == 3:
            raise Stop

    # A hard goal, so that many groups have no spread.
    grader = CharGrader("e", goal=1)
    config = dataclasses.replace(RESUME, max_steps=5, num_generations=2, **options)
    train_policy(model_dir, make_states(), grader, config, tmp_path / "whole", 3)
    with pytest.raises(Stop):
        train_policy(model_dir, make_states(), grader, config, tmp_path / "cut", 3, "auto", interrupt)
    train_policy(model_dir, make_states(), grader, config, tmp_path / "cut", 3)
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert sum(record["sampled_completions"] for record in logs[0]) > 5 * 4  # there were refills
    if config.skip_explore:
        assert sum(record["skipped_share"] for record in logs[0]) > 0
    names = ("step", "reward", "refilled_share", "skipped_share", "sampled_completions", "sampled_tokens", "grad_norm")
    assert [[r[n] for n in names] for r in logs[0]] == [[r[n] for n in names] for r in logs[1]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"refill_rounds": 3, "generation": "vllm"}, "refill_rounds is 3"),
        ({"mask_truncated": True, "generation": "vllm"}, "mask_truncated is True"),
        ({"skip_explore": 0.5, "generation": "vllm"}, r"skip_explore is 0\.5"),
        ({"overlong_buffer": 13}, "overlong_buffer is 13; it must be at most max_new_tokens = 12"),
    ],
)
def test_switches_that_do_not_fit_are_errors(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    data = TrainingSet(make_states(2), [0, 1], None, "auto", 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        engine_module.engine_config(dataclasses.replace(SMALL, **changes), data, tmp_path, 1)
