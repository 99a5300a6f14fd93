"""The rivals that learn from stored samples: ReST-DPO on TRL's `DPOTrainer`, rejection sampling on its `SFTTrainer`.

As in GRPO (`restrl.grpo.trainer`): rows reach the engine as token ids, never as text; the order of all steps is laid
out beforehand; a killed run continues from its last complete checkpoint and ends in the weights of an uninterrupted
one; the trained policy lies at the same place.

The reference of DPO is the policy that the iteration started from, the one that gave the samples.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.utils.data import SequentialSampler
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from restrl import stopping
from restrl.errors import ConfigError
from restrl.grpo.checkpoints import check_identity, checkpoint_step, latest_complete, remove_incomplete
from restrl.grpo.guards import Guarded, run_training
from restrl.grpo.metrics import OFFLINE_METRICS, read_metrics
from restrl.grpo.offline_config import OfflineConfig
from restrl.grpo.offline_data import Example, demonstration_row, encode_example, pair_row
from restrl.grpo.processes import Processes, join
from restrl.grpo.report import write_json
from restrl.grpo.run_log import OnLog, RunLog
from restrl.grpo.schedule import num_steps, plan_steps
from restrl.grpo.session import (
    context_length,
    global_rng_kept,
    load_model,
    lora,
    quiet,
    save_model,
    split_step,
)
from restrl.policy.model_dir import check_model_dir, load_tokenizer, recompute_option

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OfflineReport:
    """What a training run did.

    Attributes:
        steps: Optimizer steps.
        instances: Pairs or demonstrations used.
        dropped: Left out because prompt and program do not fit the model's context.
        first_loss: Mean loss over the first (up to) 10 steps.
        last_loss: Mean loss over the last (up to) 10 steps.
        update_s: Seconds of the steps.
    """

    steps: int
    instances: int
    dropped: int
    first_loss: float
    last_loss: float
    update_s: float


class _LaidOut(Guarded):
    """Takes the rows in their order. Put before an engine's trainer class."""

    section = "offline"

    def _get_train_sampler(self, dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(dataset if dataset is not None else self.train_dataset)  # type: ignore[attr-defined]

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        """The rows are tokens already."""
        return dataset


class PairTrainer(_LaidOut, DPOTrainer):
    """DPO on rows ``prompt_ids``, ``chosen_ids``, ``rejected_ids``."""


class DemonstrationTrainer(_LaidOut, SFTTrainer):
    """SFT on rows ``input_ids``, ``labels``."""


class _StepLog(TrainerCallback):
    """Turns the engine's log of a step into ours."""

    def __init__(self, log: RunLog | None) -> None:
        self._log = log
        self._begin = self._step_s = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step_s = time.perf_counter() - self._begin

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        if self._log is not None:
            self._log.add(offline_record(state.global_step, logs, self._step_s))


# Names in the engines' logs, and ours.
_ENGINE_KEYS = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
    "entropy": "entropy",
    "mean_token_accuracy": "token_accuracy",
    "rewards/accuracies": "preference_accuracy",
    "rewards/margins": "preference_margin",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
}


def offline_record(step: int, engine_logs: Mapping[str, Any], step_s: float) -> dict[str, float]:
    """Returns the record of one step, every key of it defined in `restrl.grpo.metrics.OFFLINE_METRICS`."""
    record: dict[str, float] = {"step": step}
    record |= {ours: float(engine_logs[theirs]) for theirs, ours in _ENGINE_KEYS.items() if theirs in engine_logs}
    record["step_s"] = step_s
    return {key: value for key, value in record.items() if key in OFFLINE_METRICS}


def train_offline(
    model: Path,
    examples: Sequence[Example],
    config: OfflineConfig,
    output_dir: Path,
    seed: int,
    prompt_style: str = "auto",
    on_log: OnLog | None = None,
) -> OfflineReport:
    """Trains a policy on stored samples.

    Called again on the same ``output_dir`` it continues after the last complete checkpoint, or returns the report at
    once if the training is done.

    Args:
        model: Directory of the policy to start from.
        examples: Pairs (two programs each) for ``rest-dpo``, demonstrations (one each) for ``sft``.
        config: The settings.
        output_dir: Gets ``model/``, ``report.json``, ``metrics.jsonl``, ``identity.json`` and, while training,
            ``checkpoints/``.
        seed: Of the order and the adapters' initial weights.
        prompt_style: How a state becomes a prompt, see `restrl.policy.prompting`.
        on_log: Called after every step with the record that goes to ``metrics.jsonl``. What it raises ends the run.

    Raises:
        ModelError: The model directory is incomplete.
        ConfigError: No example is left, or the settings do not fit the number of processes.
        ArtifactError: ``output_dir`` belongs to another training run.
        EngineError: Training diverged, memory ran out, or a checkpoint could not be written.
        Terminated: The process was asked to end (`restrl.stopping`); the state is saved.
    """
    processes = join(config.device)
    output_dir.mkdir(parents=True, exist_ok=True)
    if processes.first:
        check_identity(output_dir, [state for item in examples for state in item.states()], config, seed, prompt_style)
    processes.wait()
    final, report_path = output_dir / "model", output_dir / "report.json"
    if final.is_dir() and report_path.exists():
        return OfflineReport(**json.loads(report_path.read_text(encoding="utf-8")))
    tokenizer = load_tokenizer(check_model_dir(model))
    rows = _rows(examples, tokenizer, prompt_style, context_length(model), config)
    steps = num_steps(len(rows), config.batch_size, config.epochs, config.max_steps)
    plan = plan_steps(len(rows), config.batch_size, steps, seed)
    with global_rng_kept(), quiet():
        _train(model, [rows[index] for index in plan], tokenizer, config, output_dir, steps, seed, on_log, processes)
    processes.wait()
    records = read_metrics(output_dir / "metrics.jsonl")
    report = OfflineReport(
        steps=len(records),
        instances=len(rows),
        dropped=len(examples) - len(rows),
        first_loss=_mean_loss(records[:10]),
        last_loss=_mean_loss(records[-10:]),
        update_s=sum(record["step_s"] for record in records),
    )
    if processes.first:
        write_json(report_path, dataclasses.asdict(report))
        if config.keep_checkpoints:
            shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)
    return report


def _mean_loss(records: Sequence[Mapping[str, float]]) -> float:
    return sum(record["loss"] for record in records) / len(records)


def _rows(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    style: str,
    context: int | None,
    config: OfflineConfig,
) -> list[dict[str, Any]]:
    """Encodes the examples and leaves out those that do not fit the model's context (nothing is truncated)."""
    make = pair_row if config.method == "rest-dpo" else demonstration_row
    rows = []
    for example in examples:
        prompt, completions = encode_example(example, tokenizer, style)
        if context is None or len(prompt) + max(map(len, completions)) <= context:
            rows.append(make(prompt, completions))
    if len(rows) < len(examples):
        _log.warning(
            "left out %d of %d %s: prompt and program exceed the model's context of %s tokens",
            len(examples) - len(rows),
            len(examples),
            "pairs" if config.method == "rest-dpo" else "demonstrations",
            context,
        )
    if not rows:
        need = (
            "pairs of samples whose rewards differ" if config.method == "rest-dpo" else "samples of at least rest.r_0"
        )
        raise ConfigError(f"there are 0 {need} to train on; sample more, or other problems (sample.num_samples)")
    return rows


def _train(
    model_dir: Path,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    config: OfflineConfig,
    output_dir: Path,
    steps: int,
    seed: int,
    on_log: OnLog | None,
    processes: Processes,
) -> None:
    checkpoints = output_dir / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    trainer = build_trainer(model_dir, rows, tokenizer, config, checkpoints, steps, seed)
    main = trainer.args.should_save
    if main:
        remove_incomplete(checkpoints)
    processes.wait()
    resume = latest_complete(checkpoints)
    last_step = checkpoint_step(resume) if resume else 0
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(RunLog(output_dir, config, last_step, on_log)) if main else None
        trainer.add_callback(_StepLog(log))
        memory = {
            "offline.micro_batch": config.micro_batch or config.batch_size,
            "offline.gradient_checkpointing": config.gradient_checkpointing,
        }
        with stopping.deferred():
            run_training(trainer, resume, memory)
            trainer.check_weights()
            save_model(trainer, tokenizer, output_dir / "model")


def build_trainer(
    model_dir: Path,
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    config: OfflineConfig,
    checkpoints: Path,
    steps: int,
    seed: int,
) -> PairTrainer | DemonstrationTrainer:
    """Returns the engine's trainer for rows in the order of their steps."""
    pairs = config.method == "rest-dpo"
    options = _engine_options(config, checkpoints, steps, seed)
    options |= {"beta": config.beta} if pairs else {"dataset_kwargs": {"skip_prepare_dataset": True}}
    arguments = DPOConfig if pairs else SFTConfig
    trainer = (PairTrainer if pairs else DemonstrationTrainer)(
        model=load_model(model_dir, config.dtype),
        args=arguments(**options, **recompute_option(arguments, config.gradient_checkpointing)),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
        peft_config=lora(config.lora_rank, config.lora_alpha),
    )
    # It prints every record; the library logs instead.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _engine_options(config: OfflineConfig, checkpoints: Path, steps: int, seed: int) -> dict[str, Any]:
    micro, forwards = split_step("offline.batch_size", config.batch_size, config.micro_batch, "examples")
    return {
        "output_dir": str(checkpoints),
        "max_steps": steps,
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": forwards,
        # Nothing is truncated: what does not fit is left out beforehand.
        "max_length": None,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": config.bf16,
        "seed": seed % 2**32,
        "save_strategy": "steps",
        "save_steps": config.save_every,
        "save_total_limit": config.keep_checkpoints or None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": config.device == "cpu" or not torch.accelerator.is_available(),
        "dataloader_pin_memory": False,
        "dataloader_num_workers": 0,
        "ddp_find_unused_parameters": False,
    }
