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
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from restrl.actions import boundaries
from restrl.errors import ConfigError, EngineError, ProblemError
from restrl.policy.model_dir import check_model_dir, choose_device, load_error, load_tokenizer, quiet
from restrl.policy.prompting import resolve_style, warn_about_boundaries
from restrl.seeds import derive_seed
from restrl.types import Problem, State
from restrl.value.calibration import Predictions, ValueReport, evaluate_predictions
from restrl.value.config import ValueConfig
from restrl.value.encoding import ValueSequence, encode_outputs, length_batches
from restrl.value.model import META_KEY, check_value_head, features, outputs
from restrl.value.targets import Trajectory

OnLog = Callable[[dict[str, float]], None]

_COMPLETE = "complete"
_RIDGE_STATES = 20_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Target:
    """One state of the training data; the slots of the sequences count these."""

    value: float
    weight: float
    depth: int
    finished: bool
    problem_id: str
    code: str


@dataclass(frozen=True, slots=True)
class _Data:
    """Sequences and the targets that their slots name."""

    sequences: list[ValueSequence]
    targets: list[_Target]

    def batches(self, max_tokens: int) -> list[list[ValueSequence]]:
        lengths = [len(sequence.ids) for sequence in self.sequences]
        return [[self.sequences[i] for i in batch] for batch in length_batches(lengths, max_tokens)]


def train_value_model(
    init_model: Path,
    trajectories: Sequence[Trajectory],
    problems: Mapping[str, Problem],
    config: ValueConfig,
    output_dir: Path,
    seed: int,
    prompt_style: str = "auto",
    on_log: OnLog | None = None,
) -> ValueReport:
    """Trains a value model and measures it on problems that it has not seen.

    Writes ``model/`` (with the tokenizer) and ``report.json`` into ``output_dir``, and checkpoints on its way: called
    again after a kill, it goes on from the last epoch.

    Args:
        init_model: The policy whose values these are.
        trajectories: Programs with the targets of their states.
        problems: The problems of the trajectories, by id.
        config: Settings.
        output_dir: Where to write.
        seed: Fixes the split, the order of the batches and dropout.
        prompt_style: ``auto``, ``plain`` or ``chat``; the same as the policy's.
        on_log: Called with ``total_steps`` first, then with the metrics of every step and epoch.

    Raises:
        ModelError: The policy cannot be used.
        ConfigError: There are fewer than two problems to split.
        ProblemError: A trajectory names a problem that is not given.
        EngineError: The loss is not finite.
    """
    tokenizer = load_tokenizer(check_model_dir(Path(init_model)))
    style = resolve_style(tokenizer, prompt_style)
    warn_about_boundaries(tokenizer)
    held_out = split_problems({trajectory.problem_id for trajectory in trajectories}, config.validation_share, seed)
    model = _load(Path(init_model), tokenizer, config, style)
    training, validation = (
        _encode(side, problems, config, tokenizer, style, model)
        for side in (
            [trajectory for trajectory in trajectories if trajectory.problem_id not in held_out],
            [trajectory for trajectory in trajectories if trajectory.problem_id in held_out],
        )
    )
    if not training.targets or not validation.targets:
        raise ConfigError("no value targets are left to train or validate on; collect values on more problems")
    train_mean = float(np.average([t.value for t in training.targets], weights=[t.weight for t in training.targets]))
    checkpoints = output_dir / "checkpoints"
    # Evaluation keeps no activations for a backward pass, so its batches can be larger.
    validation_batches = _Batches(validation.batches(4 * config.batch_tokens))
    trainer = _ValueTrainer(
        model=model,
        args=_arguments(checkpoints, config, seed),
        train_dataset=_Batches(training.batches(config.batch_tokens)),
        eval_dataset=validation_batches,
        data_collator=_unwrap,
        callbacks=[_Progress(on_log)],
    )
    # The library's own printing of metrics: `on_log` has them.
    trainer.remove_callback(PrinterCallback)
    trainer.prepare(training, validation, config, train_mean)
    last = _last_checkpoint(checkpoints)
    if last is None and config.head_init == "ridge":
        fit_head(trainer.model_to_fit(), training, config)
    trainer.train(resume_from_checkpoint=str(last) if last is not None else None)
    report = replace(
        trainer.measure(),
        best_epoch=trainer.best_epoch(),
        model_dir=str(output_dir / "model"),
        num_train_states=len(training.targets),
    )
    if trainer.is_world_process_zero():
        _save(trainer, tokenizer, report, output_dir)
    return report


def split_problems(problem_ids: set[str], share: float, seed: int) -> frozenset[str]:
    """Returns the problems kept for validation: at least one, and by name and seed only, not by their order.

    Raises:
        ConfigError: There are fewer than two problems.
    """
    if len(problem_ids) < 2:
        raise ConfigError(f"values of {len(problem_ids)} problem(s) are given; at least 2 are needed to hold one out")
    count = min(max(1, round(share * len(problem_ids))), len(problem_ids) - 1)
    return frozenset(sorted(problem_ids, key=lambda name: (derive_seed(seed, "validation", name), name))[:count])


def _load(path: Path, tokenizer: PreTrainedTokenizerBase, config: ValueConfig, style: str) -> PreTrainedModel:
    """The policy's backbone with one scalar output at zero."""
    try:
        with quiet():
            model = cast(
                PreTrainedModel,
                AutoModelForSequenceClassification.from_pretrained(
                    str(path), num_labels=1, dtype=torch.float32, local_files_only=True
                ),
            )
    except Exception as error:
        # Whatever its libraries raise: the user needs the path and one line.
        raise load_error(path, error) from error
    check_value_head(model)
    with torch.no_grad():
        cast(torch.nn.Linear, model.score).weight.zero_()
    text_config = model.config.get_text_config(decoder=True)
    text_config.pad_token_id = choose_pad_id(tokenizer)
    setattr(model.config, META_KEY, {"output": _output_of(config), "prompt_style": style})
    return model


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


def _encode(
    trajectories: Sequence[Trajectory],
    problems: Mapping[str, Problem],
    config: ValueConfig,
    tokenizer: PreTrainedTokenizerBase,
    style: str,
    model: PreTrainedModel,
) -> _Data:
    context = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    data = _Data([], [])
    too_long = 0
    for trajectory in trajectories:
        if trajectory.problem_id not in problems:
            raise ProblemError(
                f"values name problem {trajectory.problem_id!r}, which is not among the {len(problems)} given; "
                "use the problem set that they were collected on"
            )
        if not trajectory.targets:
            continue
        state = State(problems[trajectory.problem_id], trajectory.code, trajectory.terminal)
        offsets = [offset for offset, _, _ in trajectory.targets]
        first = len(data.targets)
        sequences = encode_outputs(state, offsets, range(first, first + len(offsets)), tokenizer, style)
        if context is not None and max(len(sequence.ids) for sequence in sequences) > context:
            too_long += 1
            continue
        data.sequences.extend(sequences)
        data.targets.extend(_targets_of(trajectory, config.weight_by_visits))
    if too_long:
        _log.warning("%d programs are longer than the model's context of %s tokens: left out", too_long, context)
    return data


def _targets_of(trajectory: Trajectory, weight_by_visits: bool) -> list[_Target]:
    ends = boundaries(trajectory.code)
    return [
        _Target(
            value,
            weight if weight_by_visits else 1.0,
            sum(end <= offset for end in ends),
            offset == len(trajectory.code) + 1,
            trajectory.problem_id,
            trajectory.code[:offset],
        )
        for offset, value, weight in trajectory.targets
    ]


class _Batches(Dataset[list[ValueSequence]]):
    """Ready-made batches of sequences of like length; the sampler shuffles whole batches."""

    def __init__(self, batches: list[list[ValueSequence]]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> list[ValueSequence]:
        return self._batches[index]


def _unwrap(batches: list[list[ValueSequence]]) -> dict[str, Any]:
    return {"batch": [sequence for batch in batches for sequence in batch]}


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
        gradient_checkpointing=config.gradient_checkpointing,
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
    )


class _ValueTrainer(Trainer):
    """Weighted regression at the boundaries of programs."""

    control: TrainerControl

    def prepare(self, training: _Data, validation: _Data, config: ValueConfig, train_mean: float) -> None:
        """Takes the data; its own method, as the parent's constructor takes none of it."""
        # The loss is divided here by the weight of a whole optimizer step, however many forwards it takes.
        self.model_accepts_loss_kwargs = True
        self._training = training
        self._validation = validation
        self._config = config
        self._train_mean = train_mean
        self._scores: dict[float, float] = {}

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
        outputs_BT = outputs(self.accelerator.unwrap_model(model), [sequence.ids for sequence in batch]).float()
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
        model = self.model_to_fit()
        values = np.full(len(self._validation.targets), np.nan)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            for batch in cast(_Batches, self.eval_dataset)._batches:
                outputs_BT = outputs(model, [sequence.ids for sequence in batch]).float()
                if self._config.loss == "bce":
                    outputs_BT = torch.sigmoid(outputs_BT)
                for row, sequence in zip(outputs_BT.tolist(), batch, strict=True):
                    for position, slot in zip(sequence.positions, sequence.slots, strict=True):
                        values[slot] = row[position]
        model.train(was_training)
        if not np.isfinite(values).all():
            raise EngineError("the value model gives values that are not finite; lower value.learning_rate")
        return evaluate_predictions(_predictions(values, self._validation.targets), self._train_mean)

    def best_epoch(self) -> int:
        """Epoch of the weights that were kept, from 1."""
        losses = {round(entry["epoch"]): entry["eval_mse"] for entry in self.state.log_history if "eval_mse" in entry}
        return min(losses, key=lambda epoch: (losses[epoch], epoch)) if losses else 0


def _predictions(values: np.ndarray[Any, np.dtype[np.float64]], targets: Sequence[_Target]) -> Predictions:
    return Predictions(
        predicted=values,
        target=np.array([target.value for target in targets]),
        weight=np.array([target.weight for target in targets]),
        depth=np.array([target.depth for target in targets], dtype=np.int64),
        finished=np.array([target.finished for target in targets]),
        problem=[target.problem_id for target in targets],
        program=[target.code for target in targets],
    )


@torch.no_grad()
def fit_head(model: PreTrainedModel, data: _Data, config: ValueConfig, ridge: float = 1e-3) -> None:
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
        hidden_BTD = features(model, [sequence.ids for sequence in batch])
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
    model = trainer.model_to_fit()
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    temporary = output_dir / "report.json.tmp"
    temporary.write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, output_dir / "report.json")


__all__ = ["ValueConfig", "ValueReport", "choose_pad_id", "split_problems", "train_value_model"]
