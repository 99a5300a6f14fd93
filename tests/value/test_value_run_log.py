"""The log of a value model's training."""

from pathlib import Path

import pytest
import torch

from restrl.errors import EngineError
from restrl.grpo.metrics import read_metrics
from restrl.tracking.tensorboard import read_events
from restrl.types import State
from restrl.value.run_log import VALUE_METRICS, ValueLog


def epoch(log: ValueLog, steps: range) -> None:
    """What the trainer says of some steps and the evaluation after them."""
    log.add({"total_steps": 6.0, "step": float(steps.start - 1)})
    for step in steps:
        log.add({"step": step, "loss": 1 / step, "grad_norm": 1.0, "learning_rate": 0.1, "epoch": step / 3})
    figures = {"eval_mse": 0.2, "eval_baseline_mse": 0.3, "eval_ece": 0.1, "eval_ranking_accuracy": 0.6}
    log.add({"step": steps.stop - 1, **figures})
    log.add({"step": steps.stop - 1, "train_runtime": 3.0})


def test_steps_and_epochs_are_logged_once_after_a_kill(tmp_path: Path) -> None:
    with ValueLog(tmp_path, ("tensorboard",), {"epochs": 2}) as log:
        epoch(log, range(1, 4))
        log.add({"step": 4, "loss": 9.0})  # killed in the second epoch; the checkpoint is at step 3
    with ValueLog(tmp_path, ("tensorboard",), {"epochs": 2}) as log:
        epoch(log, range(4, 7))
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert {name for record in records for name in record} == set(VALUE_METRICS)
    assert [record["validation_mse"] for record in records if "ece" in record] == [0.2, 0.2]
    (file,) = (tmp_path / "logs").glob("events*")
    events = [(event.step, {value.tag for value in event.summary.value}) for event in read_events(file) if event.step]
    assert [step for step, _ in events] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert events[0][1] == {"value/loss", "value/grad_norm", "value/lr"} and "value/ranking_accuracy" in events[-1][1]


def test_out_of_memory_while_scoring_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_models import make_model, make_problem, make_tokenizer
    from transformers import LlamaForSequenceClassification

    from restrl.value.model import TrainedValueModel

    tokenizer = make_tokenizer()
    config = make_model(tokenizer).config
    config.num_labels = 1
    model = TrainedValueModel.from_model(LlamaForSequenceClassification(config), tokenizer, max_batch_tokens=512)

    def fail(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("restrl.value.model.outputs", fail)
    with pytest.raises(EngineError, match=r"memory while scoring states: lower the value model's .* \(now 512\)"):
        model.score_states([State(make_problem())])
