"""What a command would run, before it runs: arms, model, sets, and how many completions that takes at the least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from restrl.reproduce.arms import METHODS
from restrl.reproduce.experiments import EXPERIMENTS
from restrl.reproduce.workspace import SHARED_FROM, Workspace


def plan_text(workspace: Workspace, names: Sequence[str]) -> str:
    """Returns the plan, one line a part; counts that depend on files that are not read yet are given per problem."""
    chosen = [EXPERIMENTS[name] for name in names]
    arms = [arm for arm in METHODS if any(arm in item.arms for item in chosen)] or [SHARED_FROM]
    scorers = any(item.scorers for item in chosen)
    recipe = workspace.recipe(workspace.seeds[0], SHARED_FROM).to_dict()
    sets = workspace.scale.test_sets or (recipe["problems"]["test"],)
    lines = [
        f"experiments: {', '.join(names)}",
        f"seeds: {', '.join(map(str, workspace.seeds))}; folder: {workspace.out}",
        f"model: {recipe['policy']['model']} ({recipe['policy']['dtype']}, temperature "
        f"{recipe['policy']['temperature']:g}, {recipe['policy']['max_new_tokens']} new tokens)",
        f"training problems: {recipe['problems']['train']}, {_count(recipe['problems']['train_count'])}; "
        f"values: {_count(recipe['problems']['value_count'], 'those')}",
        f"test sets: {', '.join(sets)}, {_count(recipe['problems']['test_count'])} of each",
        "for every seed:",
    ]
    for arm in arms:
        lines.append(f"  arm {arm}: {arm_plan(workspace, arm, trains=any(item.arms for item in chosen))}")
    if scorers:
        budget, problems = recipe["collect"]["budget"], recipe["problems"]["value_count"]
        lines.append(
            f"  values of the base and of the ReST-GRPO policy: 2 x {_times(problems, budget)} completions; a value "
            "model each, an outcome and a process reward model of the base policy"
        )
        lines.append(
            f"  search: 4 x {recipe['evaluate']['budget']} completions for each of "
            f"{_count(workspace.scale.search_problems)} test problems of a set (single samples, ORM and PRM share "
            "theirs)"
        )
    if "table1" in names or "training-efficiency" in names:
        lines.append(f"  policies and checkpoints: {workspace.scale.policy_samples} samples of every test problem")
    return "\n".join(lines)


def arm_plan(workspace: Workspace, arm: str, *, trains: bool = True) -> str:
    """Returns what an arm samples: before training and while it trains."""
    recipe = workspace.recipe(workspace.seeds[0], arm).to_dict()
    method, iterations = METHODS[arm], recipe["run"]["iterations"]
    parts = []
    if method in ("rest-grpo", "rest-dpo"):
        before = _times(recipe["problems"]["train_count"], recipe["sample"]["num_samples"])
        parts.append(f"{iterations if trains else 1} x {before} completions before training")
    if trains and method == "rest-dpo":
        parts.append("none while training")
    elif trains:
        parts.append(_training(recipe, iterations, refills=recipe["grpo"]["refill_rounds"]))
    return "; ".join(parts)


def _training(recipe: dict[str, Any], iterations: int, refills: int) -> str:
    grpo = recipe["grpo"]
    step = grpo["prompts_per_step"] * grpo["num_generations"]
    more = f", and up to {refills} rounds of refilled groups a step" if refills else ""
    if grpo["max_steps"]:
        total = iterations * grpo["max_steps"] * step
        return f"{iterations} x {grpo['max_steps']} steps of {step} completions = {total:,}{more}"
    return (
        f"{iterations} x {grpo['epochs']} epoch over the instances, {grpo['num_generations']} completions of each{more}"
    )


def _times(count: int, each: int) -> str:
    return f"{count * each:,}" if count else f"{each} per problem"


def _count(count: int, everything: str = "all") -> str:
    return str(count) if count else everything
