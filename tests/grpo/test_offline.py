"""ReST-DPO and rejection sampling: tokens, losses against float64 references, resuming, what they learn."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_problem, make_tokenizer, save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from restrl.errors import ArtifactError, ConfigError
from restrl.grpo.metrics import OFFLINE_METRICS, read_metrics
from restrl.grpo.offline import build_trainer, train_offline
from restrl.grpo.offline_config import OfflineConfig
from restrl.grpo.offline_data import Example, demonstration_row, encode_example, pair_row
from restrl.grpo.session import global_rng_kept, quiet
from restrl.policy.prompting import encode_prompt, encode_state
from restrl.types import State

DPO = OfflineConfig(
    method="rest-dpo", batch_size=2, learning_rate=1e-3, lr_scheduler="constant", save_every=2, device="cpu"
)
SFT = dataclasses.replace(DPO, method="sft")
GOOD = "    total = 0\n    for x in xs:\n        total += x\n    return total\n"
BAD = "    return n - 1\n"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("offline_model"), bos=True)


def make_examples(config: OfflineConfig, count: int = 3) -> list[Example]:
    codes = [(GOOD, BAD), ("    return xs\n", GOOD), ("    ys = []\n    return ys\n", "    x = 1\n")]
    pairs = [Example(make_problem(f"p/{index}"), codes[index % 3]) for index in range(count)]
    return pairs if config.method == "rest-dpo" else [Example(item.problem, item.codes[:1]) for item in pairs]


@pytest.mark.parametrize("chat", [False, True])
def test_rows_are_the_tokens_of_decoding_and_end_as_the_policy_ends(chat: bool) -> None:
    tokenizer = make_tokenizer(chat=chat, bos=not chat)
    example = Example(make_problem(), (GOOD, BAD.rstrip()))
    prompt, completions = encode_example(example, tokenizer, "auto")
    assert prompt == encode_prompt(State(example.problem), tokenizer, "auto")
    for code, ids in zip((GOOD, BAD), completions, strict=True):
        assert ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(ids[:-1]) == code + ("```" if chat else "")
        if not chat:
            assert prompt + ids == encode_state(State(example.problem, code, terminal=True), tokenizer, "auto")
    row = demonstration_row(prompt, completions[:1])
    assert row["labels"] == [-100] * len(prompt) + completions[0]
    assert row["input_ids"] == prompt + completions[0]


def test_a_merged_boundary_belongs_to_the_completion() -> None:
    tokenizer = make_tokenizer(merge_newlines=True)
    example = Example(make_problem(), (GOOD, BAD))
    prompt, completions = encode_example(example, tokenizer, "auto")
    whole = encode_prompt(State(example.problem), tokenizer, "auto")
    assert len(prompt) < len(whole) and whole[: len(prompt)] == prompt
    for code, ids in zip((GOOD, BAD), completions, strict=True):
        assert tokenizer.decode([*prompt, *ids[:-1]]) == example.problem.initial_state + code


def make_trainer(model_dir: Path, tmp_path: Path, config: OfflineConfig) -> tuple[Any, list[dict[str, Any]]]:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    make = pair_row if config.method == "rest-dpo" else demonstration_row
    rows = [make(*encode_example(item, tokenizer, "auto")) for item in make_examples(config)[: config.batch_size]]
    with quiet(), global_rng_kept():
        trainer = build_trainer(model_dir, rows, tokenizer, config, tmp_path, 1, 0)
    # A policy that has moved from its reference, flat enough for the engine's float32 parts.
    generator = torch.Generator().manual_seed(3)
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if model is not None:
            model.double()
            with torch.no_grad():
                model.lm_head.weight.div_(40)
    with torch.no_grad():
        weight = trainer.model.lm_head.weight
        weight.add_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) * 0.05)
    return trainer, rows


def token_logps(model: Any, prompt: list[int], ids: list[int]) -> tuple[list[float], np.ndarray]:
    """Log-probabilities of a completion's tokens from the unpadded sequence, and the states that predict them."""
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([prompt + ids])).last_hidden_state[0].numpy()
    states = hidden[len(prompt) - 1 : -1]
    logits = states @ model.lm_head.weight.detach().numpy().T
    return [float(row[t] - np.log(np.exp(row).sum())) for row, t in zip(logits, ids, strict=True)], states


def output_gradient(model: Any, states: np.ndarray, ids: list[int]) -> np.ndarray:
    """Gradient of the sum of log-probabilities by the output layer: ``sum_t (onehot(y_t) - p_t) h_t^T``."""
    weight = model.lm_head.weight.detach().numpy()
    total = np.zeros_like(weight)
    for state, token in zip(states, ids, strict=True):
        logits = weight @ state
        direction = -np.exp(logits) / np.exp(logits).sum()
        direction[token] += 1
        total += np.outer(direction, state)
    return total


def test_dpo_loss_and_gradient_are_the_references(model_dir: Path, tmp_path: Path) -> None:
    """``-mean log sigmoid(beta [(log pi - log ref)(chosen) - (log pi - log ref)(rejected)])``, prompts left out."""
    trainer, rows = make_trainer(model_dir, tmp_path, DPO)
    losses, gradient = [], 0.0
    for row in rows:
        prompt, margin, slopes = row["prompt_ids"], 0.0, []
        for sign, key in ((1, "chosen_ids"), (-1, "rejected_ids")):
            logps, states = token_logps(trainer.model, prompt, row[key])
            reference, _ = token_logps(trainer.ref_model, prompt, row[key])
            margin += sign * DPO.beta * (sum(logps) - sum(reference))
            slopes.append(sign * output_gradient(trainer.model, states, row[key]))
        losses.append(math.log1p(math.exp(-margin)))
        gradient = gradient - DPO.beta / (1 + math.exp(margin)) * sum(slopes) / len(rows)
    assert len({round(loss, 6) for loss in losses}) == 2 and abs(losses[0] - math.log(2)) > 1e-3
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    assert loss.item() == pytest.approx(sum(losses) / 2, rel=1e-5)
    found = trainer.model.lm_head.weight.grad.numpy()
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())


def test_sft_loss_and_gradient_are_the_references(model_dir: Path, tmp_path: Path) -> None:
    """``-sum log p / tokens of the programs``: prompt tokens carry no loss."""
    trainer, rows = make_trainer(model_dir, tmp_path, SFT)
    total, count, gradient = 0.0, 0, 0.0
    for row in rows:
        start = row["labels"].count(-100)
        prompt, ids = row["input_ids"][:start], row["input_ids"][start:]
        logps, states = token_logps(trainer.model, prompt, ids)
        total, count = total - sum(logps), count + len(ids)
        gradient = gradient - output_gradient(trainer.model, states, ids)
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    assert loss.item() == pytest.approx(total / count, rel=1e-5)
    found = trainer.model.lm_head.weight.grad.numpy()
    np.testing.assert_allclose(found, gradient / count, rtol=1e-4, atol=1e-5 * np.abs(found).max())


class Stop(Exception):
    """Stands for anything that ends a run."""


@pytest.mark.parametrize("config", [DPO, SFT], ids=["rest-dpo", "sft"])
def test_training_learns_and_a_resumed_run_is_an_uninterrupted_one(
    model_dir: Path, tmp_path: Path, config: OfflineConfig
) -> None:
    config = dataclasses.replace(config, epochs=4, micro_batch=1)
    examples = make_examples(config)

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == 5:
            raise Stop

    before = random.getstate()
    report = train_offline(model_dir, examples, config, tmp_path / "whole", 3)
    assert random.getstate() == before
    assert (report.steps, report.instances, report.dropped) == (6, 3, 0)
    assert report.last_loss > 0
    with pytest.raises(Stop):
        train_offline(model_dir, examples, config, tmp_path / "cut", 3, "auto", interrupt)
    records: list[dict[str, float]] = []
    train_offline(model_dir, examples, config, tmp_path / "cut", 3, "auto", records.append)
    assert records[0]["step"] == 5
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    logs = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")]
    assert all(set(record) <= set(OFFLINE_METRICS) for record in logs[0])
    assert [r["loss"] for r in logs[0]] == [r["loss"] for r in logs[1]] and len(logs[0]) == 6
    assert np.mean([r["loss"] for r in logs[0][-2:]]) < np.mean([r["loss"] for r in logs[0][:2]])
    if config.method == "rest-dpo":
        # The reference is the policy that training started from.
        assert logs[0][0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
        assert logs[0][-1]["preference_margin"] > 0
    # Done: nothing is trained again.
    assert train_offline(model_dir, examples, config, tmp_path / "whole", 3, "auto", pytest.fail) == report
    assert not (tmp_path / "whole/checkpoints").exists()
    AutoModelForCausalLM.from_pretrained(tmp_path / "whole/model")
    with pytest.raises(ArtifactError, match=r"learning_rate = 0\.001, not 0\.1"):
        train_offline(model_dir, examples, dataclasses.replace(config, learning_rate=0.1), tmp_path / "whole", 3)


def test_no_examples_and_overlong_ones(model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="0 pairs of samples whose rewards differ"):
        train_offline(model_dir, [], DPO, tmp_path / "a", 0)
    long = Example(make_problem("long"), ("    x = 1\n" * 200,))
    config = dataclasses.replace(SFT, max_steps=1, lora_rank=2)
    with caplog.at_level(logging.WARNING):
        report = train_offline(model_dir, [*make_examples(SFT, 2), long], config, tmp_path / "b", 0)
    assert report.dropped == 1 and "left out 1 of 3 demonstrations" in caplog.text


def test_settings_that_do_not_fit_are_errors() -> None:
    with pytest.raises(ConfigError, match="micro_batch is 3; it must divide batch_size = 4"):
        OfflineConfig(batch_size=4, micro_batch=3)
    with pytest.raises(ConfigError, match="keep_checkpoints"):
        OfflineConfig(keep_checkpoints=1)
