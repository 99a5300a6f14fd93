"""The value model before and after training: the policy's backbone with a scalar head that starts from a ridge
regression, and the calibration that its configuration carries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from restrl.policy.model_dir import load_error, quiet
from restrl.value.calibration import Predictions
from restrl.value.calibrators import FITS, CalibrationCheck, best_method, check_calibration
from restrl.value.config import ValueConfig
from restrl.value.data import ValueData
from restrl.value.kinds import ValueKind
from restrl.value.model import META_KEY, check_value_head, features
from restrl.value.surprise import SurpriseForSequenceClassification

_RIDGE_STATES = 20_000


def load_untrained(
    path: Path, tokenizer: PreTrainedTokenizerBase, config: ValueConfig, style: str, kind: ValueKind = "vm"
) -> PreTrainedModel:
    """The policy's backbone, or a reader of the policy's surprise, with one scalar output at zero."""
    try:
        with quiet():
            model = cast(PreTrainedModel, _load(path, config.architecture))
    except Exception as error:
        # Whatever its libraries raise: the user needs the path and one line.
        raise load_error(path, error) from error
    check_value_head(model)
    with torch.no_grad():
        cast(torch.nn.Linear, model.score).weight.zero_()
        if model.score.bias is not None:
            model.score.bias.zero_()
    text_config = model.config.get_text_config(decoder=True)
    text_config.pad_token_id = choose_pad_id(tokenizer)
    setattr(model.config, META_KEY, {"kind": kind, "output": _output_of(config), "prompt_style": style})
    return model


def _load(path: Path, architecture: str) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if architecture == "surprise":
        model = SurpriseForSequenceClassification.from_policy(path, **options)
        # The policy is not trained: its predictions for a program are made once.
        model.reader.remembered = {}
        return cast(PreTrainedModel, model)
    return cast(PreTrainedModel, AutoModelForSequenceClassification.from_pretrained(str(path), num_labels=1, **options))


def choose_pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns a padding token that never ends a state.

    A plain sequence classifier reads its output at the last token that is not padding. If padding were the
    end-of-sequence token, it would read a finished program one token too early.
    """
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if pad is not None and pad != eos:
        return cast(int, pad)
    others = [i for i in (tokenizer.unk_token_id, tokenizer.bos_token_id, *tokenizer.all_special_ids) if i is not None]
    return cast(int, next((i for i in others if i != eos), eos))


def _output_of(config: ValueConfig) -> str:
    return "sigmoid" if config.loss == "bce" else "identity"


@torch.no_grad()
def fit_head(model: PreTrainedModel, data: ValueData, config: ValueConfig, ridge: float = 1e-3) -> None:
    """Sets the scalar head to the ridge regression of the targets on the features of (at most 20,000) states.

    ``w = (X' W X + ridge * mean(diag(X' W X)) I)^-1 X' W y``. For cross-entropy, y is the logit's tangent at 1/2,
    ``4 (v - 1/2)``.
    """
    head = cast(torch.nn.Linear, model.score)
    size = head.weight.shape[1]
    gram = torch.zeros(size, size, dtype=torch.float64)
    moment = torch.zeros(size, dtype=torch.float64)
    seen = 0
    was_training = model.training
    model.eval()
    batches = data.batches(config.batch_tokens)
    # Every so-manyth batch: batches are sorted by length, and the head should see all lengths.
    stride = max(1, -(-len(data.targets) // _RIDGE_STATES))
    for batch in batches[::stride]:
        hidden_BTD = features(model, [sequence.ids for sequence in batch], [sequence.start for sequence in batch])
        for row, sequence in zip(hidden_BTD, batch, strict=True):
            x_ND = row[list(sequence.positions)].double().cpu()
            targets = [data.targets[slot] for slot in sequence.slots]
            weight_N = torch.tensor([target.weight for target in targets], dtype=torch.float64)
            y_N = torch.tensor([target.value for target in targets], dtype=torch.float64)
            y_N = 4 * (y_N - 0.5) if config.loss == "bce" else y_N
            gram += x_ND.T @ (weight_N[:, None] * x_ND)
            moment += x_ND.T @ (weight_N * y_N)
            seen += len(targets)
    model.train(was_training)
    damping = ridge * gram.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    solution = torch.linalg.solve(gram + damping, moment)
    if seen and torch.isfinite(solution).all():
        head.weight.copy_(solution[None].to(head.weight))


def calibrate(model: PreTrainedModel, data: Predictions, wanted: str) -> tuple[tuple[CalibrationCheck, ...], str]:
    """Fits every calibration on all validation problems, and puts them into the model's configuration.

    Args:
        model: The trained model.
        data: Its values of the validation states.
        wanted: The method to apply on load; ``auto`` is the one with the lowest held-out Brier score, or ``none``.

    Returns:
        What every method gives on problems that it was not fitted on, and the one to apply.
    """
    checks = check_calibration(data.predicted, data.target, data.weight, data.problem)
    method = best_method(checks) if wanted == "auto" else wanted
    fits = {name: fit(data.predicted, data.target, data.weight).to_json() for name, fit in FITS.items()}
    meta = {**getattr(model.config, META_KEY), "calibration": {"method": method, "fits": fits}}
    setattr(model.config, META_KEY, meta)
    return checks, method
