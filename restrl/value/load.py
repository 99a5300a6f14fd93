"""Opens a directory as the scorer that it holds: one trained here, or an off-the-shelf reward model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from restrl.policy.model_dir import check_model_dir
from restrl.types import ValueModel


def open_value_model(
    model_dir: Path,
    device: str = "auto",
    dtype: str = "auto",
    prompt_style: str = "auto",
    **options: Any,
) -> ValueModel:
    """Returns a `TrainedValueModel` for a model trained here, else a `StepRewardModel` or a `RewardModel`.

    Args:
        model_dir: A directory in the standard layout.
        device: As for the models.
        dtype: As for the models.
        prompt_style: As for the models; ``auto`` is what each kind takes by itself.
        **options: Further arguments of the class that fits.

    Raises:
        ModelError: The directory holds no scorer.
        ConfigError: A setting is not allowed.
    """
    path = check_model_dir(Path(model_dir))
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    classes = config.get("architectures") or []
    from restrl.value.model import META_KEY, TrainedValueModel

    if META_KEY not in config and any("TokenClassification" in name for name in classes):
        from restrl.value.step_reward_model import StepRewardModel

        style = "plain" if prompt_style == "auto" else prompt_style
        return StepRewardModel(path, device, dtype, style, **options)
    if META_KEY not in config and any("SequenceClassification" in name for name in classes):
        from restrl.value.reward_model import RewardModel

        return RewardModel(path, device, dtype, prompt_style, **options)
    return TrainedValueModel(path, device, dtype, prompt_style, **options)
