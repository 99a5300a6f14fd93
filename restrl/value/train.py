"""Training the value model (ReST-RL, section 3.3): ``loss = sum_i w_i (V(S_i) - v_i)^2 / sum_i w_i``.

The model starts from the policy's weights, and learns all the states of a program from one forward over it.

Deviations from the published implementation:

1. Train and validation are split by *problem*, not by row.
2. A finished program ends in the end-of-sequence token, so it looks different from a prefix.
3. Nothing is truncated: a program longer than the model's context is left out, with a warning.
4. The scalar head starts from a ridge regression on the untrained features (``head_init``), not from noise.
5. The epoch with the lowest validation error is kept.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from restrl.errors import ConfigError, EngineError
from restrl.policy.memory import memory_advice
from restrl.policy.model_dir import check_model_dir, choose_device, load_tokenizer, recompute_option
from restrl.policy.prompting import resolve_style, warn_about_boundaries
from restrl.policy.storage import written
from restrl.types import Problem
from restrl.value.adapters import add_adapters, merge_adapters
from restrl.value.breakdown import full_report
from restrl.value.calibration import Predictions, ValueReport, evaluate_predictions
from restrl.value.config import ValueConfig
from restrl.value.data import Batches, ValueData, encode_trajectories, predictions, split_problems, unwrap
from restrl.value.encoding import ValueSequence
from restrl.value.head import calibrate, choose_pad_id, fit_head, load_untrained
from restrl.value.kinds import LONG_NAMES, ValueKind, check_kind, trajectories_of_kind
from restrl.value.model import outputs
from restrl.value.targets import Trajectory

OnLog = Callable[[dict[str, float]], None]

_COMPLETE = "complete"


def train_value_model(
    init_model: Path,
    trajectories: Sequence[Trajectory],
    problems: Mapping[str, Problem],
    config: ValueConfig,
    output_dir: Path,
    seed: int,
    prompt_style: str = "auto",
    on_log: OnLog | None = None,
    *,
    kind: ValueKind = "vm",
) -> ValueReport:
    """Trains a value model, or an outcome or process reward model, and measures it on problems that it has not seen.

    Whatever the kind, the same trajectories and the same seed hold out the same problems. Writes ``model/`` (with the
    tokenizer) and ``report.json`` into ``output_dir``, and checkpoints on its way: called again after a kill, it goes
    on from the last epoch.

    Args:
        init_model: The policy whose values these are.
        trajectories: Programs with the targets of their states.
        problems: The problems of the trajectories, by id.
        config: Settings.
        output_dir: Where to write.
        seed: Fixes the split, the order of the batches and dropout.
        prompt_style: ``auto``, ``plain`` or ``chat``; the same as the policy's.
        on_log: Called with ``total_steps`` first, then with the metrics of every step and epoch.
        kind: What is learned, see `restrl.value.kinds`; the model's configuration carries it.

    Raises:
        ModelError: The policy cannot be used.
        ConfigError: There are fewer than two problems to split, no targets of this kind, or no such kind.
        ProblemError: A trajectory names a problem that is not given.
        EngineError: The loss is not finite, memory ran out, or a checkpoint could not be written.
    """
    config = config.for_kind(check_kind(kind))
    tokenizer = load_tokenizer(check_model_dir(Path(init_model)))
    style = resolve_style(tokenizer, prompt_style)
    warn_about_boundaries(tokenizer)
    held_out = split_problems({trajectory.problem_id for trajectory in trajectories}, config.validation_share, seed)
    model = load_untrained(Path(init_model), tokenizer, config, style, kind)
    targeted = trajectories_of_kind(trajectories, kind, config.step_label)
    training, validation = (
        encode_trajectories(side, problems, config, tokenizer, style, model)
        for side in (
            [trajectory for trajectory in targeted if trajectory.problem_id not in held_out],
            [trajectory for trajectory in targeted if trajectory.problem_id in held_out],
        )
    )
    if not training.targets or not validation.targets:
        raise ConfigError(
            f"no targets are left to train or validate a {LONG_NAMES[kind]} on; collect values on more problems"
        )
    train_mean = float(np.average([t.value for t in training.targets], weights=[t.weight for t in training.targets]))
    checkpoints = output_dir / "checkpoints"
    # Evaluation keeps no activations for a backward pass, so its batches can be larger.
    validation_batches = Batches(validation.batches(4 * config.batch_tokens))
    trainer = _ValueTrainer(
        model=add_adapters(model, config, seed),
        args=_arguments(checkpoints, config, seed),
        train_dataset=Batches(training.batches(config.batch_tokens)),
        eval_dataset=validation_batches,
        data_collator=unwrap,
        callbacks=[_Progress(on_log)],
    )
    # The library's own printing of metrics: `on_log` has them.
    trainer.remove_callback(PrinterCallback)
    trainer.prepare(training, validation, config, train_mean)
    last = _last_checkpoint(checkpoints)
    if last is None and config.head_init == "ridge":
        fit_head(trainer.model_to_fit(), training, config)
    memory = {"value.batch_tokens": config.batch_tokens, "value.gradient_checkpointing": config.gradient_checkpointing}
    with memory_advice("training the value model", memory):
        trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    data = trainer.predict()
    checks, method = calibrate(trainer.model_to_fit(), data, config.calibration)
    report = replace(
        full_report(data, train_mean),
        calibration_checks=checks,
        calibration_method=method,
        best_epoch=trainer.best_epoch(),
        kind=kind,
        model_dir="model",
        num_train_states=len(training.targets),
    )
    if trainer.is_world_process_zero():
        _save(trainer, tokenizer, report, output_dir)
    return report


def _arguments(folder: Path, config: ValueConfig, seed: int) -> TrainingArguments:
    device = choose_device(config.device)
    return TrainingArguments(
        output_dir=str(folder),
        # One item of the dataset is a batch.
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.accumulation,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,
        lr_scheduler_type="linear",
        max_grad_norm=config.max_grad_norm,
        bf16=device != "cpu",
        use_cpu=device == "cpu",
        seed=seed % (1 << 31),
        data_seed=seed % (1 << 31),
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_mse",
        greater_is_better=False,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=device != "cpu",
        label_names=[],
        **recompute_option(TrainingArguments, config.gradient_checkpointing),
    )


class _ValueTrainer(Trainer):
    """Weighted regression at the boundaries of programs."""

    control: TrainerControl

    def prepare(self, training: ValueData, validation: ValueData, config: ValueConfig, train_mean: float) -> None:
        """Takes the data; its own method, as the parent's constructor takes none of it."""
        # The loss is divided here by the weight of a whole optimizer step, however many forwards it takes.
        self.model_accepts_loss_kwargs = True
        self._training = training
        self._validation = validation
        self._config = config
        self._train_mean = train_mean
        self._scores: dict[float, float] = {}

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(str(self.args.output_dir))
        remaining = "the same command continues from the last epoch that was saved"
        with written(folder / f"checkpoint-{self.state.global_step}", lambda: remaining, main=self.args.should_save):
            super()._save_checkpoint(model, trial)

    def model_to_fit(self) -> PreTrainedModel:
        """The bare model."""
        return cast(PreTrainedModel, self.accelerator.unwrap_model(cast(torch.nn.Module, self.model)))

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        """Collects the forwards of one optimizer step, and the weight of all their targets on all processes."""
        samples = list(itertools.islice(epoch_iterator, num_batches))
        slots = (slot for sample in samples for sequence in sample["batch"] for slot in sequence.slots)
        weight = torch.tensor(sum(self._training.targets[slot].weight for slot in slots), device=device)
        return samples, self.accelerator.gather(weight).sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """``sum w * error / (weight of the step)``, so it does not matter how the step is cut into forwards."""
        batch: list[ValueSequence] = inputs["batch"]
        outputs_BT = outputs(
            self.accelerator.unwrap_model(model),
            [sequence.ids for sequence in batch],
            [sequence.start for sequence in batch],
        ).float()
        rows = [row for row, sequence in enumerate(batch) for _ in sequence.positions]
        columns = [position for sequence in batch for position in sequence.positions]
        targets = [self._training.targets[slot] for sequence in batch for slot in sequence.slots]
        predicted = outputs_BT[rows, columns]
        value = torch.tensor([target.value for target in targets], device=predicted.device)
        weight = torch.tensor([target.weight for target in targets], device=predicted.device)
        if self._config.loss == "bce":
            error = torch.nn.functional.binary_cross_entropy_with_logits(predicted, value, reduction="none")
        else:
            error = (predicted - value) ** 2
        total = weight.sum() if num_items_in_batch is None else num_items_in_batch
        # The processes' gradients are averaged; their shares of the loss have to be added up.
        loss = (weight * error).sum() / total * self.accelerator.num_processes
        if not torch.isfinite(loss):
            raise EngineError(
                f"the value model's loss is {loss.item()} at step {self.state.global_step}; "
                "lower value.learning_rate, or start from a policy with sound weights"
            )
        return (loss, predicted) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measures the model on the validation problems."""
        report = self.measure()
        metrics = {
            "eval_mse": report.validation_mse,
            "eval_baseline_mse": report.baseline_mse,
            "eval_ece": report.ece,
            "eval_ranking_accuracy": report.ranking_accuracy,
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def measure(self) -> ValueReport:
        """Returns the report of the weights as they are."""
        return evaluate_predictions(self.predict(), self._train_mean)

    def predict(self) -> Predictions:
        """Returns the values of the validation states by the weights as they are."""
        model = self.model_to_fit()
        values = np.full(len(self._validation.targets), np.nan)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for batch in cast(Batches, self.eval_dataset):
                outputs_BT = outputs(
                    model, [sequence.ids for sequence in batch], [sequence.start for sequence in batch]
                ).float()
                if self._config.loss == "bce":
                    outputs_BT = torch.sigmoid(outputs_BT)
                for row, sequence in zip(outputs_BT.tolist(), batch, strict=True):
                    for position, slot in zip(sequence.positions, sequence.slots, strict=True):
                        values[slot] = row[position]
        model.train(was_training)
        if not np.isfinite(values).all():
            raise EngineError("the value model gives values that are not finite; lower value.learning_rate")
        return predictions(values, self._validation.targets)

    def best_epoch(self) -> int:
        """Epoch of the weights that were kept, from 1."""
        losses = {round(entry["epoch"]): entry["eval_mse"] for entry in self.state.log_history if "eval_mse" in entry}
        return min(losses, key=lambda epoch: (losses[epoch], epoch)) if losses else 0


class _Progress(TrainerCallback):
    """Passes metrics on, and marks checkpoints that are fully written."""

    def __init__(self, on_log: OnLog | None) -> None:
        self._on_log = on_log

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._on_log is not None and state.is_world_process_zero:
            self._on_log({"total_steps": float(state.max_steps), "step": float(state.global_step)})

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if self._on_log is not None and state.is_world_process_zero and logs:
            numbers = {key: float(value) for key, value in logs.items() if isinstance(value, int | float)}
            self._on_log({"step": float(state.global_step), **numbers})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def _last_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{_COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _save(trainer: _ValueTrainer, tokenizer: PreTrainedTokenizerBase, report: ValueReport, output_dir: Path) -> None:
    target = output_dir / "model"
    model = merge_adapters(trainer.model_to_fit())
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    temporary = output_dir / "report.json.tmp"
    temporary.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, output_dir / "report.json")


__all__ = ["ValueConfig", "ValueReport", "choose_pad_id", "split_problems", "train_value_model"]
