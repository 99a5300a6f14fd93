"""Stage 1, step 4: trains the policy by GRPO on the assembled instances (ReST-RL, section 3.2), on TRL's `GRPOTrainer`.

How the engine is driven, and why:

1. A row of the training data is only the *name* of an instance. Prompts never reach the engine as text: it would add
   special tokens a second time, or open a new assistant turn. `TrainingSet` gives it token ids, the same that decoding
   uses. The prefix is part of the prompt, so it carries no loss.
2. The order of instances over all steps is laid out beforehand (`restrl.grpo.schedule`); the engine's own sampler
   would drop the last incomplete batch.
3. Sampling goes through the engine's rollout hook, on the model being trained, with per-request seeds; grading runs in
   a thread while sampling goes on. A failing grader is asked again for a while, then ends the run.
4. Every step samples afresh and updates once, so the policy that sampled is the policy that is updated.
5. A killed run continues from its last complete checkpoint and ends in the very weights of an uninterrupted one.

The engine seeds the global random number generators; `train_policy` puts them back as they were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig as EngineConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from restrl import stopping
from restrl.errors import ConfigError
from restrl.grpo.checkpoints import check_identity, checkpoint_step, latest_complete, remove_incomplete
from restrl.grpo.config import GRPOConfig
from restrl.grpo.engine import engine_config
from restrl.grpo.guards import Guarded, run_training
from restrl.grpo.metrics import read_metrics, rollout_metrics, step_record
from restrl.grpo.padding import deal_by_length, pad_back, used_columns
from restrl.grpo.patience import PatientGrader
from restrl.grpo.processes import Processes, check_sharding, join
from restrl.grpo.ratios import RatioMeter
from restrl.grpo.report import TrainReport, read_report, summarize
from restrl.grpo.rollout import EngineRollout, PolicyFactory, TrainingSet, engine_policy, take_rewards
from restrl.grpo.run_log import OnLog, RunLog, sample_completions
from restrl.grpo.schedule import num_steps, plan_steps
from restrl.grpo.session import context_length, global_rng_kept, load_model, lora, quiet, save_model
from restrl.grpo.vllm_scorer import VllmScorer
from restrl.policy.model_dir import check_model_dir, load_tokenizer
from restrl.policy.prompting import encode_prompt
from restrl.types import Grader, State

_log = logging.getLogger(__name__)


class StateTrainer(Guarded, GRPOTrainer):
    """TRL's trainer with prompts that are states, and checkpoints that say when they are complete."""

    # The forwards of the step, set by the parent.
    _buffered_inputs: Any

    def __init__(self, *args: Any, data: TrainingSet, ratios: RatioMeter, **kwargs: Any) -> None:
        self._data = data
        self.ratios = ratios
        super().__init__(*args, **kwargs)
        # It prints every record; the library logs instead.
        self.remove_callback(PrinterCallback)

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        """Used where vLLM samples: row names to the tokens of their states."""
        return [self._data.prompt_ids(int(name)) for name in prompts], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        """Times vLLM; the project's own sampler does not come through here."""
        begin = time.perf_counter()
        result = super()._generate_single_turn(*args, **kwargs)
        for scorer in self.reward_funcs:
            if isinstance(scorer, VllmScorer):
                scorer.generate_s = time.perf_counter() - begin
                scorer.eos_ids = frozenset(self.eos_token_ids)
        return result

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """Deals the sequences of a new step to its forwards by length."""
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training or self._buffered_inputs is before:
            return inputs
        self._buffered_inputs = deal_by_length(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int, **options: Any
    ) -> Any:
        """The parent's, on the columns that are not padding in every row."""
        first, end = used_columns(attention_mask, logits_to_keep)
        kept = logits_to_keep - (attention_mask.shape[1] - end)
        ids, mask = input_ids[:, first:end], attention_mask[:, first:end]
        logps, entropies, aux_loss = super()._get_per_token_logps_and_entropies(model, ids, mask, kept, **options)
        if torch.is_grad_enabled():
            self.ratios.measure(ids, mask, logps)
        padded = None if entropies is None else pad_back(entropies, logits_to_keep)
        return pad_back(logps, logits_to_keep), padded, aux_loss


class _StepLog(TrainerCallback):
    """Turns the engine's log of a step into ours."""

    def __init__(
        self, rollout: EngineRollout | VllmScorer, grader: PatientGrader, config: GRPOConfig, log: RunLog | None
    ) -> None:
        self._rollout = rollout
        self._grader = grader
        self._config = config
        self._log = log
        self._begin = 0.0
        self._step_s = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._begin = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._step_s = time.perf_counter() - self._begin

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        rollout = self._rollout
        if logs is None or "loss" not in logs or rollout.last is None:
            return
        own = dataclasses.replace(rollout.last, outage_s=self._grader.take_outage(), ratios=rollout.ratios.take())
        parts = gather_object([own]) if args.world_size > 1 else [own]
        if self._log is not None:
            record = step_record(state.global_step, logs, rollout_metrics(parts), self._step_s)
            self._log.add(record, list(sample_completions(state.global_step, rollout.scored, parts, self._config)))


def train_policy(
    model: Path,
    states: Sequence[State],
    grader: Grader,
    config: GRPOConfig,
    output_dir: Path,
    seed: int,
    prompt_style: str = "auto",
    on_log: OnLog | None = None,
    *,
    policy_factory: PolicyFactory = engine_policy,
) -> TrainReport:
    """Trains a policy by GRPO.

    Called again on the same ``output_dir`` it continues after the last complete checkpoint, or returns the report at
    once if the training is done.

    Args:
        model: Directory of the policy to start from.
        states: The training instances: problems with a prefix (empty or whole actions).
        grader: Grades prefix + completion; all completions of a part of a step in one call.
        config: The settings.
        output_dir: Gets ``model/`` (weights and tokenizer), ``report.json``, ``metrics.jsonl``, ``completions.jsonl``,
            ``logs/``, ``identity.json`` and, while training, ``checkpoints/``.
        seed: Of the order, the sampling and the adapters' initial weights.
        prompt_style: How a state becomes a prompt, see `restrl.policy.prompting`.
        on_log: Called after every step with the record that goes to ``metrics.jsonl``. What it raises ends the run.
        policy_factory: Makes the sampler from the model being trained.

    Raises:
        ModelError: The model directory is incomplete.
        ConfigError: No instance is left, or the settings do not fit the number of processes.
        ArtifactError: ``output_dir`` belongs to another training run.
        GraderError: The grader failed for longer than ``grader_patience_s``; the state is saved.
        EngineError: Training diverged, sampling failed, memory ran out, or a checkpoint could not be written.
        Terminated: The process was asked to end (`restrl.stopping`); the state is saved.
    """
    processes = join(config.device)
    output_dir.mkdir(parents=True, exist_ok=True)
    if processes.first:
        check_identity(output_dir, states, config, seed, prompt_style)
    processes.wait()
    final, report_path = output_dir / "model", output_dir / "report.json"
    if final.is_dir() and report_path.exists():
        return read_report(report_path)
    tokenizer = load_tokenizer(check_model_dir(model))
    kept = _fitting(states, tokenizer, prompt_style, model, config)
    steps = num_steps(len(kept), config.prompts_per_step, config.epochs, config.max_steps)
    plan = plan_steps(len(kept), config.prompts_per_step, steps, seed, shuffled=config.order == "shuffled")
    data = TrainingSet(kept, plan, tokenizer, prompt_style, seed)
    with global_rng_kept(), quiet():
        _train(model, data, grader, config, output_dir, steps, on_log, policy_factory, processes)
    processes.wait()
    report = summarize(
        read_metrics(output_dir / "metrics.jsonl"),
        instances=len(kept),
        dropped=len(states) - len(kept),
    )
    if processes.first:
        report.write(report_path)
        if config.keep_checkpoints:
            shutil.rmtree(output_dir / "checkpoints", ignore_errors=True)
    return report


def _train(
    model_dir: Path,
    data: TrainingSet,
    grader: Grader,
    config: GRPOConfig,
    output_dir: Path,
    steps: int,
    on_log: OnLog | None,
    policy_factory: PolicyFactory,
    processes: Processes,
) -> None:
    checkpoints = output_dir / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    args = engine_config(config, data, checkpoints, steps)
    if args.should_save:
        remove_incomplete(checkpoints)
    processes.wait()
    resume = latest_complete(checkpoints)
    if resume is not None:
        _log.info("continuing from %s", resume)
    last_step = checkpoint_step(resume) if resume else 0
    patient = PatientGrader(grader, config.grader_patience_s)
    rollout: EngineRollout | VllmScorer
    if config.generation == "vllm":
        rollout = VllmScorer(data, patient, config)
    else:
        rollout = EngineRollout(data, patient, config, policy_factory)
        if config.skip_explore:
            rollout.remember(output_dir / "groups.jsonl", last_step)
    with contextlib.ExitStack() as stack:
        stack.callback(rollout.close)
        log = stack.enter_context(RunLog(output_dir, config, last_step, on_log)) if args.should_save else None
        trainer = _build_trainer(model_dir, data, config, args, rollout, _StepLog(rollout, patient, config, log))
        with stopping.deferred():
            run_training(trainer, resume, _memory_settings(config))
            trainer.check_weights()
            save_model(trainer, data.tokenizer, output_dir / "model")


def _memory_settings(config: GRPOConfig) -> dict[str, bool | int | float]:
    """What an update's memory depends on, the most effective first."""
    settings: dict[str, bool | int | float] = {
        "grpo.micro_batch": config.micro_batch or config.completions_per_step,
        "grpo.gradient_checkpointing": config.gradient_checkpointing,
        "policy.max_new_tokens": config.max_new_tokens,
    }
    if config.generation == "vllm" and config.vllm_mode == "colocate":
        settings["grpo.vllm_memory"] = config.vllm_memory
    return settings


def _build_trainer(
    model_dir: Path,
    data: TrainingSet,
    config: GRPOConfig,
    args: EngineConfig,
    rollout: EngineRollout | VllmScorer,
    step_log: TrainerCallback,
) -> StateTrainer:
    engine = isinstance(rollout, EngineRollout)
    trainer = StateTrainer(
        data=data,
        ratios=rollout.ratios,
        model=load_model(model_dir, config.dtype),
        args=args,
        reward_funcs=[take_rewards if engine else rollout],
        rollout_func=rollout if engine else None,
        train_dataset=Dataset.from_dict({"prompt": [str(row) for row in range(len(data.plan))]}),
        processing_class=data.tokenizer,
        peft_config=lora(config.lora_rank, config.lora_alpha),
        callbacks=[step_log],
    )
    check_sharding(trainer.accelerator, config)
    return trainer


def _fitting(
    states: Sequence[State], tokenizer: PreTrainedTokenizerBase, style: str, model_dir: Path, config: GRPOConfig
) -> list[State]:
    """Leaves out the states whose prompt and completion would not fit the model's context (nothing is truncated)."""
    context = context_length(model_dir)
    if context is None:
        return list(states)
    limit = context - config.max_new_tokens
    kept = [state for state in states if len(encode_prompt(state, tokenizer, style)) <= limit]
    if states and not kept:
        raise ConfigError(
            f"none of the {len(states)} prompts fits: the model's context is {context} tokens and grpo.max_new_tokens "
            f"is {config.max_new_tokens}; lower grpo.max_new_tokens"
        )
    if len(kept) < len(states):
        _log.warning(
            "left out %d of %d instances: prompt + %d new tokens exceed the model's context of %d tokens",
            len(states) - len(kept),
            len(states),
            config.max_new_tokens,
            context,
        )
    return kept
