"""Every training method through the pipeline: two steps on a handful of problems, and what it is said to take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest

from restrl.artifacts import open_run, read_jsonl
from restrl.config import load_recipe
from restrl.errors import ConfigError
from restrl.grpo.methods import METHODS
from restrl.pipeline import Pipeline
from restrl.pipeline.compute import Compute, compute_notes, record_compute
from restrl.progress import Silent

SMALL = [
    "problems.train_count=6",
    "problems.value_count=1",
    "problems.test_count=1",
    "policy.max_new_tokens=64",
    "policy.temperature=1.0",
    "evaluate.spread_instances=0",
    "grpo.num_generations=3",
    "grpo.prompts_per_step=2",
    "grpo.max_steps=2",
    "offline.max_steps=2",
    "offline.batch_size=2",
    "offline.save_every=1",
    "rest.r_0=0.3",
]
DAPO_CAP = 1


def run(out: Path, method: str, options: Sequence[str] = ()) -> dict[str, Any]:
    """Samples, assembles and trains; returns the iteration's compute record."""
    recipe = load_recipe(
        "smoke", [*SMALL, f"train.method={method}", f"grpo.refill_rounds={DAPO_CAP * (method == 'dapo')}", *options]
    )
    with (
        open_run(out, recipe.to_dict(), recipe.to_toml(), recipe.name) as directory,
        Pipeline(directory, recipe, Silent()) as pipeline,
    ):
        for stage in ("sample", "assemble", "train-policy"):
            pipeline.run(stage)
        assert pipeline.context.policy_dir("trained") == out / "iteration-1/policy/model"
        (out / "iteration-1/compute.json").unlink()
        record_compute(pipeline.context, 1)  # as after a kill between training and its record
    return json.loads((out / "iteration-1/compute.json").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_method_trains_and_says_what_it_took(tmp_path: Path, method: str) -> None:
    record = run(tmp_path, method)
    folder = tmp_path / "iteration-1"
    assert (folder / "policy/model/model.safetensors").exists()
    assert len(read_jsonl(folder / "policy/metrics.jsonl")) == 2
    training, sampling, total = (Compute(**record[name]) for name in ("training", "sampling", "total"))
    assert record["method"] == method and training.optimizer_steps == 2 and training.wall_s > 0
    assert total.completions == sampling.completions + training.completions
    assert total.wall_s == pytest.approx(sampling.wall_s + training.wall_s)
    kind = METHODS[method]
    if kind.samples:
        samples = [item for row in read_jsonl(folder / "samples.jsonl") for item in row["samples"]]
        assert sampling.completions == sampling.grader_calls == len(samples) == 6 * 4
        assert sampling.generated_tokens == sum(item["num_tokens"] for item in samples) > 0
    else:
        assert sampling.completions == sampling.generated_tokens == 0 and not (folder / "samples.jsonl").exists()
        instances = read_jsonl(folder / "instances.jsonl")
        assert len(instances) == 6 and all(item["prefix"] == "" for item in instances)
    if kind.online:
        # Two steps of two groups of three; dynamic sampling may add rounds of replaced groups.
        refills = training.completions - 2 * 2 * 3
        assert refills % 3 == 0 and 0 <= refills <= 12 * DAPO_CAP * (method == "dapo")
        assert training.grader_calls == training.completions and training.generated_tokens > 0
    else:
        assert training.completions == training.grader_calls == 0
        assert (folder / f"{kind.data}.jsonl").exists() and not (folder / "instances.jsonl").exists()


def test_options_of_the_assembly(tmp_path: Path) -> None:
    """Adapted prefixes, re-filtered, in reverse order: the instances follow from what the probes found."""
    options = ["rest.mode=adaptive", "rest.refilter_samples=3", "rest.curriculum=reverse", "rest.adaptive_target=1.0"]
    record = run(tmp_path, "rest-grpo", options)
    folder = tmp_path / "iteration-1"
    instances = read_jsonl(folder / "instances.jsonl")
    kept = [item for item in read_jsonl(folder / "assembly.jsonl") if item["reason"] is None]
    assert sorted(item["problem_id"] for item in instances if not item["prefix"]) == [i["problem_id"] for i in kept]
    probes = {
        (row["problem_id"], row["prefix"]): row["rewards"] for row in read_jsonl(folder / "probes-refilter.jsonl")
    }
    assert probes and all(len(rewards) == 3 for rewards in probes.values())
    prefixes = [(item["problem_id"], item["prefix"]) for item in instances if item["prefix"]]
    assert set(prefixes) == {key for key, rewards in probes.items() if pstdev(rewards) >= 0.05}
    # At most one prefix a problem, and what was probed before it was too hard.
    assert len({problem for problem, _ in probes}) == len(probes)
    lengths = {problem: prefix.count("\n") for problem, prefix in probes}
    for table in folder.glob("probes-length-*.jsonl"):
        for row in read_jsonl(table):
            enough = fmean(row["rewards"]) >= 1.0
            assert (row["prefix"].count("\n") >= lengths[row["problem_id"]]) == enough
    order = [item["num_actions"] > 0 for item in instances]
    assert order == sorted(order, reverse=True)
    tables = [row for table in folder.glob("probes-*.jsonl") for row in read_jsonl(table)]
    assert record["sampling"]["completions"] == 6 * 4 + sum(len(row["rewards"]) for row in tables)


def test_compute_is_said_in_words_over_all_iterations() -> None:
    parts = {
        "sampling": {"completions": 1000, "generated_tokens": 9000, "grader_calls": 1000, "wall_s": 10.0},
        "total": {
            "completions": 1500,
            "generated_tokens": 12000,
            "grader_calls": 1500,
            "optimizer_steps": 7,
            "wall_s": 30.4,
        },
    }
    assert compute_notes([]) == []
    assert compute_notes([{"method": "rest-grpo", **parts}] * 2) == [
        "Training by ReST-GRPO, 2 iterations: 3,000 completions sampled (2,000 of them before training), 24,000 tokens "
        "generated, 3,000 programs graded, 14 optimizer steps, 61 s."
    ]


@pytest.mark.parametrize("name", ["grpo", "dapo", "rest-dpo", "sft"])
def test_recipes_of_the_rivals_share_problems_policy_and_samples_with_the_starter(name: str) -> None:
    recipe, starter = load_recipe(name).to_dict(), load_recipe("starter").to_dict()
    assert recipe["train"]["method"] == name and starter["train"]["method"] == "rest-grpo"
    for section in ("problems", "policy", "sample"):
        assert recipe[section] == starter[section]
    if METHODS[name].online:
        for key in ("num_generations", "prompts_per_step", "max_steps", "learning_rate"):
            assert recipe["grpo"][key] == starter["grpo"][key]


def test_unknown_method_names_the_allowed_ones() -> None:
    with pytest.raises(ConfigError, match=r"rest-grpo.*dapo.*rest-dpo"):
        load_recipe("smoke", ["train.method=ppo"])
