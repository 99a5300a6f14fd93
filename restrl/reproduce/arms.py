"""The training runs that the experiments compare, and how large everything is at each scale.

An arm is an ordinary run directory of the pipeline, made with the scale's shared recipe
(``restrl/recipes/reproduce/SCALE.toml``) and what is said here. All arms of a seed start from the same policy and the
same problems, and those that learn from samples of the base policy take the same ones in iteration 1.

**Equal compute.** At starter scale ``grpo`` takes as many optimizer steps as its completions equal those that
``rest-grpo`` samples for both sampling and training: (128 problems * 8 samples + 16 steps * 128) / 128 = 24 steps an
iteration. The tables report what every arm took, from its ``compute.json``. At paper scale the published setting
stands: one epoch for both.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from restrl.config import RECIPES_DIR, Recipe, parse_override, recipe_from_dict
from restrl.errors import ConfigError

Settings = Mapping[str, Any]
"""``section.key`` -> value."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How large an experiment is.

    Attributes:
        recipe: Name of the shared recipe.
        seeds: The seeds, unless told.
        settings: What every arm changes in the shared recipe.
        arms: What each arm changes, beside its method.
        test_sets: Sets of held-out problems, averaged with equal weight; empty: the recipe's own.
        policy_samples: Independent samples per held-out problem that a policy is measured with.
        search_problems: Held-out problems that are decoded by search; 0 = all of them.
        new_problems: Every seed draws training and test problems of its own (the sets are made, not fixed).
    """

    recipe: str
    seeds: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    arms: Mapping[str, Settings] = field(default_factory=dict)
    test_sets: tuple[str, ...] = ()
    policy_samples: int = 8
    search_problems: int = 0
    new_problems: bool = False


PINNED: Settings = {"run.keep": "last", "evaluate.validation_samples": 0}
"""The published method keeps the last iteration's policy; nothing here is chosen by validation problems."""

METHODS: Mapping[str, str] = {"rest-grpo": "rest-grpo", "grpo": "grpo", "rest-dpo": "rest-dpo", "dapo": "dapo"}
"""Arm -> training method, in the order in which the arms are trained."""

STARTER_DAPO: Settings = {
    "run.iterations": 1,
    "grpo.loss_type": "dapo",
    "grpo.epsilon_high": 0.28,
    "grpo.refill_rounds": 4,
    "grpo.overlong_buffer": 32,
}

SCALES: Mapping[str, Scale] = {
    "starter": Scale(
        "starter",
        (0, 1, 2),
        arms={"grpo": {"grpo.max_steps": 24}, "dapo": {**STARTER_DAPO, "grpo.max_steps": 32}},
        search_problems=60,
        new_problems=True,
    ),
    "starter-quick": Scale(
        "starter",
        (0,),
        settings={
            "problems.train_count": 64,
            "problems.value_count": 200,
            "problems.test_count": 40,
            "grpo.max_steps": 8,
            "grpo.save_every": 4,
            "evaluate.budget": 30,
            "evaluate.spread_instances": 64,
        },
        arms={"grpo": {"grpo.max_steps": 12}, "dapo": {**STARTER_DAPO, "grpo.max_steps": 16}},
        policy_samples=6,
        search_problems=30,
        new_problems=True,
    ),
    "paper": Scale(
        "paper",
        (0, 1, 2),
        arms={"dapo": {"run.iterations": 1}},
        test_sets=("humaneval", "humaneval+", "mbpp/test", "mbpp+", "apps/test-500", "bigcodebench"),
        policy_samples=4,
    ),
}


def scale_named(name: str, quick: bool) -> Scale:
    """Returns a scale.

    Raises:
        ConfigError: There is no such scale, or it has no quick form.
    """
    names = [known for known in SCALES if not known.endswith("-quick")]
    if name not in names:
        raise ConfigError(f"--scale {name!r} is unknown; allowed: {', '.join(names)}")
    if quick and f"{name}-quick" not in SCALES:
        raise ConfigError(f"--quick: there is no quick form of --scale {name}; use --scale starter --quick")
    return SCALES[f"{name}-quick" if quick else name]


def arm_recipe(arm: str, scale: Scale, seed: int, overrides: Sequence[str] = ()) -> Recipe:
    """Returns the resolved recipe of one arm and seed.

    Args:
        arm: One of `METHODS`.
        scale: How large.
        seed: Of everything random in the run, and of its problems where every seed has its own.
        overrides: Flags ``section.key=value`` of the user, for all arms.
    """
    path = RECIPES_DIR / "reproduce" / f"{scale.recipe}.toml"
    tables: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
    settings: dict[str, Any] = {**scale.settings, **scale.arms.get(arm, {})}
    for flag in overrides:
        section, key, value = parse_override(flag)
        settings[f"{section}.{key}"] = value
    settings |= {"run.seed": seed, "train.method": METHODS[arm], **PINNED}
    if scale.new_problems:
        settings["problems.seed"] = seed
    for name, value in settings.items():
        section, _, key = name.partition(".")
        tables.setdefault(section, {})[key] = value
    return recipe_from_dict(tables, name=f"reproduce-{arm}", where=f"recipe of arm {arm}")
