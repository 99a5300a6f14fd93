"""Every loss and its update against a reference written out by hand in float64, which shares no code with the package.

The reference takes logits apart by itself: probabilities, clipped ratios, the KL term, the weights of the tokens, and
the gradient of the output layer in closed form, with plain loops.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import save_tiny_model

from restrl.grpo.advantages import clipped_loss, group_advantages, overlong_penalty
from restrl.grpo.config import GRPOConfig

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import SMALL, Bench, build_bench, make_states, padded

LOSSES = ("grpo", "dapo", "bnpo", "dr_grpo")
ADVANTAGES = [0.7, -1.2, 0.5, -0.4]
LENGTHS = [7, 3, 5, 2]


def token_loss(logp: float, old: float, ref: float, advantage: float, config: GRPOConfig) -> tuple[float, float]:
    """Loss of one token and its derivative by the token's log-probability."""
    high = config.epsilon_high or config.epsilon
    ratio = math.exp(logp - old)
    clipped = min(max(ratio, 1 - config.epsilon), 1 + high)
    if ratio * advantage <= clipped * advantage:
        loss, slope = -ratio * advantage, -ratio * advantage
    else:
        loss, slope = -clipped * advantage, 0.0
    gap = ref - logp
    return loss + config.beta * (math.exp(gap) - gap - 1), slope + config.beta * (1 - math.exp(gap))


def token_weight(lengths: list[int], row: int, loss_type: str, limit: int) -> float:
    if loss_type == "grpo":
        return 1 / len(lengths) / lengths[row]
    if loss_type == "dr_grpo":
        return 1 / len(lengths) / limit
    return 1 / sum(lengths)


@dataclasses.dataclass
class Case:
    """A trainer, a batch, and the batch once more as lists of numbers."""

    bench: Bench
    inputs: dict[str, torch.Tensor]
    logps: list[list[float]]
    old: list[list[float]]
    ref: list[list[float]]
    hidden: list[np.ndarray]
    completions: list[list[int]]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("loss_model"), bos=True)


def make_case(model_dir: Path, tmp_path: Path, config: GRPOConfig) -> Case:
    """Noise on both sides of the log-probabilities, so that ratios are clipped above and below."""
    bench = build_bench(model_dir, tmp_path, config, make_states(2))
    model = bench.trainer.model.double()
    with torch.no_grad():
        model.lm_head.weight.div_(40)  # flat enough for the engine's float32 parts (rotary angles, log-probabilities)
    generator = torch.Generator().manual_seed(1)
    prompts = [bench.data.prompt_ids(index % 2)[: 9 + 3 * index] for index in range(len(LENGTHS))]
    completions = [torch.randint(3, 300, (n,), generator=generator).tolist() for n in LENGTHS]
    weight = model.lm_head.weight.detach().numpy()
    hidden, logps = [], []
    for prompt, completion in zip(prompts, completions, strict=True):
        with torch.no_grad():
            states = model.model(input_ids=torch.tensor([prompt + completion])).last_hidden_state[0].numpy()
        hidden.append(states[len(prompt) - 1 : -1])
        logits = hidden[-1] @ weight.T / config.temperature
        logps.append(
            [float(row[token] - np.log(np.exp(row).sum())) for row, token in zip(logits, completion, strict=True)]
        )
    noise = np.random.default_rng(0)
    old = [[value + noise.normal(0, 0.4) for value in row] for row in logps]
    ref = [[value + noise.normal(0, 0.4) for value in row] for row in logps]
    inputs = padded(prompts, completions, 0)
    inputs |= {
        "old_per_token_logps": square(old),
        "ref_per_token_logps": square(ref),
        "advantages": torch.tensor(ADVANTAGES, dtype=torch.float64),
        "num_items_in_batch": inputs["completion_mask"].sum(),
    }
    return Case(bench, inputs, logps, old, ref, hidden, completions)


def square(rows: list[list[float]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [0.0] * (width - len(row)) for row in rows], dtype=torch.float64)


def reference(case: Case, config: GRPOConfig, rows: list[int] | None = None) -> tuple[float, np.ndarray]:
    """The loss and its gradient by the output layer: ``sum_t c_t (onehot(y_t) - p_t) h_t^T / temperature``."""
    weight = case.bench.trainer.model.lm_head.weight.detach().numpy()
    loss, gradient = 0.0, np.zeros_like(weight)
    for row, tokens in enumerate(case.completions):
        if rows is not None and row not in rows:
            continue
        share = token_weight(LENGTHS, row, config.loss_type, config.max_new_tokens)
        for place, token in enumerate(tokens):
            value, slope = token_loss(
                case.logps[row][place], case.old[row][place], case.ref[row][place], ADVANTAGES[row], config
            )
            loss += share * value
            state = case.hidden[row][place]
            logits = weight @ state / config.temperature
            direction = -np.exp(logits) / np.exp(logits).sum()
            direction[token] += 1
            gradient += share * slope * np.outer(direction, state) / config.temperature
    return loss, gradient


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize(("epsilon_high", "beta"), [(0.0, 0.0), (0.28, 0.1)])
def test_loss_and_gradient_are_the_references(
    model_dir: Path, tmp_path: Path, loss_type: str, epsilon_high: float, beta: float
) -> None:
    config = dataclasses.replace(SMALL, loss_type=loss_type, epsilon_high=epsilon_high, beta=beta)
    case = make_case(model_dir, tmp_path, config)
    trainer, model = case.bench.trainer, case.bench.trainer.model
    trainer.current_gradient_accumulation_steps = 1
    ratios = [math.exp(a - b) for x, y in zip(case.logps, case.old, strict=True) for a, b in zip(x, y, strict=True)]
    assert min(ratios) < 0.8 and max(ratios) > 1.28  # both clips act
    expected, gradient = reference(case, config)
    model.train()
    loss = trainer._compute_loss(model, dict(case.inputs))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    found = model.lm_head.weight.grad.numpy()
    assert np.abs(gradient).max() > 1e-3
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-6 * np.abs(gradient).max())
    ours = clipped_loss(
        square(case.logps).numpy(),
        square(case.old).numpy(),
        np.array(ADVANTAGES),
        case.inputs["completion_mask"].double().numpy(),
        epsilon=config.epsilon,
        epsilon_high=epsilon_high or config.epsilon,
        beta=beta,
        ref_logps_BT=square(case.ref).numpy(),
        loss_type=loss_type,
        max_tokens=config.max_new_tokens,
    )
    assert ours == pytest.approx(expected, rel=1e-12)
    case.bench.rollout.close()


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_the_parts_of_a_step_add_up_to_its_loss(model_dir: Path, tmp_path: Path, loss_type: str) -> None:
    """Two micro batches: the token-level loss divides by the tokens of the step, not by those of a part."""
    config = dataclasses.replace(SMALL, loss_type=loss_type, micro_batch=4)
    case = make_case(model_dir, tmp_path, config)
    trainer, model = case.bench.trainer, case.bench.trainer.model
    trainer.current_gradient_accumulation_steps = 2
    assert trainer.args.steps_per_generation == 2
    model.train()
    total = 0.0
    for rows in ([0, 1], [2, 3]):
        part = {k: v[rows] if v.ndim else v for k, v in case.inputs.items()}
        total += trainer._compute_loss(model, part).item()
    assert total == pytest.approx(reference(case, config)[0], rel=1e-5)
    case.bench.rollout.close()


@pytest.mark.parametrize("loss_type", LOSSES)
def test_update_is_that_of_adamw(model_dir: Path, tmp_path: Path, loss_type: str) -> None:
    """One optimizer step, by hand: the gradient is scaled to the norm, then AdamW's first step."""
    config = dataclasses.replace(SMALL, loss_type=loss_type, max_grad_norm=1e9, weight_decay=0.1, learning_rate=0.01)
    case = make_case(model_dir, tmp_path, config)
    trainer, model = case.bench.trainer, case.bench.trainer.model
    trainer.current_gradient_accumulation_steps = 1
    before = model.lm_head.weight.detach().numpy().copy()
    _, gradient = reference(case, config)
    model.train()
    trainer.create_optimizer()
    trainer._compute_loss(model, dict(case.inputs)).backward()
    trainer.optimizer.step()
    # After the bias corrections the first moment is g and the root of the second is |g|.
    expected = before * (1 - 0.01 * 0.1) - 0.01 * gradient / (np.abs(gradient) + 1e-8)
    clear = np.abs(gradient) > 1e-5 * np.abs(gradient).max()
    assert clear.mean() > 0.5
    np.testing.assert_allclose(model.lm_head.weight.detach().numpy()[clear], expected[clear], rtol=0, atol=2e-5)
    case.bench.rollout.close()


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_of_the_engine_are_the_references(model_dir: Path, tmp_path: Path, scale: str) -> None:
    config = dataclasses.replace(SMALL, scale_rewards=scale, symbol_reward=0.01)
    bench = build_bench(model_dir, tmp_path, config, make_states(2))
    made = bench.trainer._generate_and_score_completions([{"prompt": str(i // 4)} for i in range(8)])
    assert bench.rollout.last is not None
    groups = bench.rollout.last.shaped_PG
    flat = [reward for group in groups for reward in group]
    assert statistics.pstdev(flat) > 0
    expected = []
    for group in groups:
        spread = {"group": statistics.stdev(group), "batch": statistics.stdev(flat), "none": 0.0}[scale]
        divisor = 1.0 if scale == "none" else spread + 1e-4
        expected += [(reward - statistics.fmean(group)) / divisor for reward in group]
    assert made["advantages"].tolist() == pytest.approx(expected, abs=1e-4)
    assert group_advantages(np.array(groups), scale=scale).ravel().tolist() == pytest.approx(expected, abs=1e-12)
    bench.rollout.close()


def test_truncated_completions_carry_no_loss_but_count_in_their_group(model_dir: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, mask_truncated=True, loss_type="dapo", num_generations=8, max_new_tokens=24)
    bench = build_bench(model_dir, tmp_path, config, make_states(2))
    made = bench.trainer._generate_and_score_completions([{"prompt": str(i // 8)} for i in range(16)])
    kept = [int(item.finish_reason != "length") for item in bench.policies[0].given]
    assert 0 < sum(kept) < 16
    lengths = made["completion_mask"].sum(dim=1).tolist()
    assert ((made["completion_mask"] * made["tool_mask"]).sum(dim=1) > 0).int().tolist() == kept
    # The token-level loss divides by the tokens that carry it.
    assert int(made["num_items_in_batch"]) == sum(n for n, keep in zip(lengths, kept, strict=True) if keep)
    assert bench.rollout.last is not None
    expected = group_advantages(np.array(bench.rollout.last.shaped_PG)).ravel()
    assert made["advantages"].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    # The gradient is that of the same batch without the masked rows' tokens.
    trainer, model = bench.trainer, bench.trainer.model
    trainer.current_gradient_accumulation_steps = 1
    model.train()
    trainer._compute_loss(model, dict(made)).backward()
    found = model.lm_head.weight.grad.clone()
    model.zero_grad()
    rows = [row for row, keep in enumerate(kept) if keep]
    part: dict[str, Any] = {k: v[rows] if v.ndim else v for k, v in made.items() if k != "tool_mask"}
    trainer._compute_loss(model, part).backward()
    torch.testing.assert_close(found, model.lm_head.weight.grad, rtol=1e-4, atol=1e-6)
    bench.rollout.close()


def test_overlong_penalty_at_its_boundaries() -> None:
    # Limit 100, buffer 20: nothing up to 80, half-way at 90, all of it at 100 and beyond.
    found = [overlong_penalty(n, 100, 20) for n in (0, 79, 80, 81, 90, 99, 100, 101, 1000)]
    assert found == pytest.approx([0, 0, 0, -0.05, -0.5, -0.95, -1, -1, -1])
    assert [overlong_penalty(n, 100, 0) for n in (1, 100, 1000)] == [0, 0, 0]
    assert [overlong_penalty(n, 4, 4) for n in (0, 1, 4)] == [0, -0.25, -1]
    assert [overlong_penalty(n, 4, 1) for n in (3, 4)] == [0, -1]


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 60))
@settings(deadline=None, max_examples=60)
def test_overlong_penalty_only_falls_and_stays_in_its_range(limit: int, buffer: int, length: int) -> None:
    buffer = min(buffer, limit)
    now, later = overlong_penalty(length, limit, buffer), overlong_penalty(length + 1, limit, buffer)
    assert -1 <= later <= now <= 0
