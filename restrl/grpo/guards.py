"""What keeps a training run safe, whatever the engine: divergence, checkpoints, a failing grader, memory, SIGTERM.

`Guarded` goes before an engine's trainer class; `run_training` runs the trainer. What ends a run leaves the last good
checkpoint, and the message names it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from restrl import stopping
from restrl.errors import EngineError, GraderError
from restrl.grpo.checkpoints import checkpoint_step, latest_complete, mark_complete
from restrl.grpo.diagnosis import bad_weight, find_cause, gradients_are_finite
from restrl.policy.memory import memory_advice
from restrl.policy.storage import written


class Diverged(EngineError):
    """A loss, a gradient or a weight is not finite."""


class Guarded:
    """Stops at the first number that is not finite, and writes checkpoints that are whole or not there."""

    section = "grpo"
    """Of the settings."""

    args: Any
    state: Any
    model: Any
    model_wrapped: Any
    accelerator: Any
    _batch: Mapping[str, Any] | None = None

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Keeps the batch in sight, for a diagnosis."""
        self._batch = inputs
        return super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """A forward and a backward pass; the loss must be finite."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not bool(torch.isfinite(loss).all()):
            raise self._diverged(f"the loss is {float(loss)}", gradients=False)
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        # Clipping spreads one bad number over all gradients, so the place is sought before.
        if self.args.world_size == 1 and not gradients_are_finite(model):
            raise self._diverged("a gradient is not finite")
        return super()._clip_grad_norm(model)  # type: ignore[misc]

    def log(self, logs: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        """The engine logs a step before it may save it."""
        for key in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(key) or 0.0):
                raise self._diverged(f"{key} is {logs[key]}", step=self.state.global_step)
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def check_weights(self) -> None:
        """Checks that the weights may be saved.

        Raises:
            EngineError: One is not finite.
        """
        if bad_weight(self.model) is not None:
            raise self._diverged("a weight is not finite", step=self.state.global_step)

    def _diverged(self, what: str, step: int | None = None, *, gradients: bool = True) -> Diverged:
        single = self.args.world_size == 1
        cause = find_cause(self.accelerator.unwrap_model(self.model), self._batch, forward=single, gradients=gradients)
        history = [entry for entry in self.state.log_history if "loss" in entry]
        last = ""
        if history:
            entry = history[-1]
            last = f"; step {entry['step']} had loss {entry['loss']:.4g}, gradient norm {entry['grad_norm']:.4g}"
        good = latest_complete(self._checkpoints())
        kept = f"the last good checkpoint is {good}" if good else "no checkpoint had been saved yet"
        dtype = str(next(self.model.parameters()).dtype).removeprefix("torch.")
        return Diverged(
            f"training has diverged: {what} at step {step or self.state.global_step + 1}; {cause}; "
            f"learning rate {self.args.learning_rate:g}, weights {dtype}{', bf16 autocast' if self.args.bf16 else ''}"
            f"{last}; {kept}; lower {self.section}.learning_rate and train again in another directory"
        )

    def explain(self, error: EngineError) -> EngineError:
        """Returns what is behind a failure of the sampler: broken weights, or the error itself."""
        known = isinstance(error, Diverged) or bad_weight(self.model) is None
        return error if known else self._diverged("a weight is not finite")

    def _checkpoints(self) -> Path:
        return Path(str(self.args.output_dir))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.check_weights()
        folder = self._checkpoints() / f"checkpoint-{self.state.global_step}"
        with written(folder, self._remaining, main=self.args.should_save):
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
            # Every process puts its random state there.
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                mark_complete(folder)

    def _remaining(self) -> str:
        good = latest_complete(self._checkpoints())
        return f"{good} is intact and the same command continues from it" if good else "no older checkpoint was there"

    def keep_state(self) -> str:
        """Saves the state after the last whole step, if that is not done yet; returns where the run continues.

        For a failure while a step is sampled and graded, before it has touched a weight.
        """
        step = self.state.global_step
        good = latest_complete(self._checkpoints())
        # Saving needs every process, and the others wait elsewhere.
        if step and self.args.world_size == 1 and (good is None or checkpoint_step(good) < step):
            self._save_checkpoint(self.model_wrapped, None)
            good = latest_complete(self._checkpoints())
        return f"the same command continues after step {checkpoint_step(good) if good else 0}"

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No model card in checkpoints."""

    def _send_telemetry(self) -> None:
        """No telemetry."""


class StopAtStep(TrainerCallback):
    """Ends training after the step under way, with a checkpoint, once the process was asked to end."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        asked = stopping.requested()
        if args.world_size > 1:
            # The signal reaches the processes at different steps; they have to stop at the same one.
            flag = torch.tensor(int(asked), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            asked = bool(flag.item())
        if asked:
            control.should_save = True
            control.should_training_stop = True


def run_training(trainer: Any, resume: Path | None, memory: Mapping[str, bool | int | float]) -> None:
    """Trains to the end; call it inside `stopping.deferred`.

    Args:
        trainer: A `Guarded` trainer.
        resume: The checkpoint to continue from.
        memory: Settings that take memory, see `restrl.policy.memory`.

    Raises:
        EngineError: Training diverged, memory ran out, or a checkpoint could not be written.
        GraderError: The grader failed; the state is saved.
        Terminated: The process was asked to end; the state is saved.
    """
    trainer.add_callback(StopAtStep())
    try:
        with memory_advice("training", memory):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    except GraderError as error:
        kept = trainer.keep_state()
        if stopping.requested():
            raise stopping.Terminated from None
        raise GraderError(f"{error}; {kept}") from error
    except EngineError as error:
        explained = trainer.explain(error)
        if explained is error:
            raise
        raise explained from error
    if trainer.state.global_step < trainer.state.max_steps:
        raise stopping.Terminated
