"""GRPO training on tiny random models: what the engine computes, what it trains on, resuming, options."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_model, make_problem, make_tokenizer, save_tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from restrl.errors import ConfigError, EngineError, GraderError, ModelError
from restrl.grpo import engine as engine_module
from restrl.grpo.advantages import clipped_loss, group_advantages
from restrl.grpo.metrics import METRICS, read_metrics
from restrl.grpo.rollout import TrainingSet
from restrl.grpo.trainer import StateTrainer, train_policy
from restrl.grpo.vllm_scorer import VllmScorer
from restrl.policy.prompting import build_prompt, encode_prompt
from restrl.types import Grade, Problem, State

sys.path.insert(0, str(Path(__file__).parent))
from grpo_helpers import (
    SMALL,
    Bench,
    CharGrader,
    RecordingPolicy,
    Stop,
    build_bench,
    make_states,
    padded,
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adds a beginning-of-sequence token, so that a doubled one would show."""
    return save_tiny_model(tmp_path_factory.mktemp("grpo_model"), bos=True)


def weights(path: Path) -> bytes:
    return (path / "model" / "model.safetensors").read_bytes()


@pytest.fixture
def bench(model_dir: Path, tmp_path: Path) -> Iterator[Bench]:
    made = build_bench(model_dir, tmp_path, SMALL, make_states(2))
    yield made
    made.rollout.close()


def plain_logps(model: Any, prompt: list[int], completion: list[int], temperature: float) -> torch.Tensor:
    """Log-probabilities of a completion's tokens, from the logits of the one unpadded sequence."""
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
    logps = torch.log_softmax(logits / temperature, dim=-1)
    places = torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return logps[places, torch.tensor(completion)]


@pytest.mark.parametrize("epsilon_high", [0.0, 0.3])
def test_loss_is_the_papers(model_dir: Path, tmp_path: Path, epsilon_high: float) -> None:
    config = dataclasses.replace(SMALL, beta=0.1, epsilon_high=epsilon_high)
    bench = build_bench(model_dir, tmp_path, config, make_states(2))
    trainer, model = bench.trainer, bench.trainer.model.double()
    trainer.current_gradient_accumulation_steps = 1
    with torch.no_grad():
        model.lm_head.weight.div_(40)  # flat enough for the engine's float32 parts (rotary angles, log-probabilities)
    generator = torch.Generator().manual_seed(1)
    prompts = [bench.data.prompt_ids(0), bench.data.prompt_ids(1), bench.data.prompt_ids(1)[:9]]
    completions = [torch.randint(3, 300, (n,), generator=generator).tolist() for n in (7, 3, 5)]
    inputs = padded(prompts, completions, 0)
    with torch.no_grad():
        exact = [plain_logps(model, p, c, config.temperature) for p, c in zip(prompts, completions, strict=True)]
    width = max(map(len, completions))
    logps = np.array([row.tolist() + [0.0] * (width - len(row)) for row in exact])
    noise = np.random.default_rng(0)
    old = logps + noise.normal(0, 0.4, logps.shape)
    reference = logps + noise.normal(0, 0.4, logps.shape)
    advantages = np.array([0.7, -1.2, 0.5])
    inputs |= {
        "old_per_token_logps": torch.tensor(old),
        "ref_per_token_logps": torch.tensor(reference),
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": inputs["completion_mask"].sum(),
    }
    model.train()
    loss = trainer._compute_loss(model, inputs).item()
    expected = clipped_loss(
        logps,
        old,
        advantages,
        inputs["completion_mask"].double().numpy(),
        epsilon=config.epsilon,
        epsilon_high=epsilon_high or config.epsilon,
        beta=config.beta,
        ref_logps_BT=reference,
    )
    assert loss == pytest.approx(expected, rel=1e-5)
    bench.rollout.close()


def test_prompt_and_prefix_tokens_carry_no_loss(bench: Bench) -> None:
    """The gradient equals that of the completions' tokens alone, from unpadded sequences."""
    trainer, model = bench.trainer, bench.trainer.model
    trainer.current_gradient_accumulation_steps = 1
    assert bench.data.states[1].code  # a prefix
    prompts = [bench.data.prompt_ids(0), bench.data.prompt_ids(1)]
    completions = [[5, 6, 7, 8], [9, 10]]
    advantages = torch.tensor([1.5, -0.5])
    inputs = padded(prompts, completions, 0)
    inputs |= {"advantages": advantages, "num_items_in_batch": torch.tensor(6)}
    model.train()
    trainer._compute_loss(model, inputs).backward()
    engine = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    terms = [
        -a * plain_logps(model, p, c, SMALL.temperature).mean()
        for a, p, c in zip(advantages, prompts, completions, strict=True)
    ]
    # On-policy the ratio is 1, so the gradient of ratio * A is A * grad log pi.
    torch.stack(terms).mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(engine[name], parameter.grad, rtol=2e-3, atol=2e-4)


def test_sampling_and_training_agree_on_every_token(bench: Bench) -> None:
    """The ratio of the first update is 1: the engine scores each completion as the sampler did."""
    trainer = bench.trainer
    output = bench.rollout(["0"] * 4 + ["1"] * 4, trainer)
    given = bench.policies[0].given
    assert [tuple(ids) for ids in output["completion_ids"]] == [c.token_ids for c in given]
    inputs = padded(output["prompt_ids"], output["completion_ids"], 0)
    with torch.no_grad():
        logps, _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            inputs["completion_ids"].size(1),
        )
    sums = (logps * inputs["completion_mask"]).sum(dim=1)
    for total, completion in zip(sums.tolist(), given, strict=True):
        assert completion.logprob is not None
        assert math.exp(total - completion.logprob) == pytest.approx(1.0, abs=1e-3)


def test_prompts_are_those_of_decoding_with_one_bos(bench: Bench) -> None:
    tokenizer = bench.data.tokenizer
    output = bench.rollout(["0"] * 4 + ["1"] * 4, bench.trainer)
    for row in (0, 1):
        state = bench.data.states[row]
        for ids in output["prompt_ids"][4 * row : 4 * row + 4]:
            assert ids == encode_prompt(state, tokenizer, "auto")
            assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
            assert tokenizer.decode(ids[1:]) == build_prompt(state, tokenizer, "auto") == state.program
    assert [c.prompt_tokens for c in bench.policies[0].given] == [len(ids) for ids in output["prompt_ids"]]


def test_chat_prompts_open_no_second_turn(tiny_chat_model_dir: Path, tmp_path: Path) -> None:
    bench = build_bench(tiny_chat_model_dir, tmp_path, SMALL, make_states(2))
    output = bench.rollout(["1"] * 4, bench.trainer)
    text = bench.data.tokenizer.decode(output["prompt_ids"][0])
    assert text.count("<|im_start|>assistant") == 1
    assert text.endswith("    x = 1\n")
    bench.rollout.close()


def test_groups_reach_the_loss_with_their_advantages(model_dir: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """What the whole engine hands to the loss: advantages by the formula, no stale log-probabilities."""
    seen: list[dict[str, Any]] = []
    original = StateTrainer._compute_loss

    def spy(self: Any, model: Any, inputs: dict[str, Any]) -> Any:
        seen.append({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()})
        return original(self, model, inputs)

    monkeypatch.setattr(StateTrainer, "_compute_loss", spy)
    policies: list[RecordingPolicy] = []

    def factory(*args: Any) -> RecordingPolicy:
        policies.append(RecordingPolicy(*args))
        return policies[-1]

    states = make_states(2)
    config = dataclasses.replace(SMALL, micro_batch=4, symbol_reward=0.0)
    train_policy(model_dir, states, CharGrader(), config, tmp_path, 0, policy_factory=factory)
    assert len(seen) == 2 and not any("old_per_token_logps" in inputs for inputs in seen)
    asked, given = policies[0].asked, policies[0].given
    rewards = [
        CharGrader().grade([(r.state.problem, r.state.program + c.text)])[0].reward
        for r, c in zip([r for r in asked for _ in range(4)], given, strict=True)
    ]
    expected = group_advantages(np.array(rewards).reshape(2, 4)).ravel()
    by_tokens = {c.token_ids: a for c, a in zip(given, expected, strict=True)}
    for inputs in seen:
        for ids, mask, advantage in zip(
            inputs["completion_ids"], inputs["completion_mask"].bool(), inputs["advantages"], strict=True
        ):
            assert advantage.item() == pytest.approx(by_tokens[tuple(ids[mask].tolist())], abs=1e-4)


def test_policy_learns_what_is_rewarded(model_dir: Path, tmp_path: Path) -> None:
    records: list[dict[str, float]] = []
    config = dataclasses.replace(SMALL, prompts_per_step=4, num_generations=8, max_steps=16, learning_rate=5e-3)
    report = train_policy(
        model_dir,
        make_states(3),
        CharGrader(),
        config,
        tmp_path,
        0,
        "auto",
        lambda record: records.append(dict(record)),
    )
    rewards = [record["reward"] for record in records]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.2
    assert report.steps == 16 and report.instances == 3 and report.dropped == 0
    assert report.completions == 16 * 32
    # Everything that is logged is defined, and the file says what the callback was told.
    assert all(set(record) <= set(METRICS) for record in records)
    assert set(METRICS) - {"kl", "pass_rate/BAND"} <= set(records[0])
    # Sampling and the update's forward agree on every token.
    assert all(record["ratio"] == pytest.approx(1.0, abs=1e-4) for record in records)
    assert 0 < max(record["ratio_deviation"] for record in records) < 2e-3
    assert read_metrics(tmp_path / "metrics.jsonl") == records
    assert [record["step"] for record in records] == list(range(1, 17))
    # Done: nothing is trained again, and the model loads with its tokenizer.
    again = train_policy(model_dir, make_states(3), CharGrader(), config, tmp_path, 0, "auto", pytest.fail)
    assert again == report
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("x = 1\n")["input_ids"]
    assert not (tmp_path / "checkpoints").exists()


def test_no_instance_is_lost_in_the_last_step(model_dir: Path, tmp_path: Path) -> None:
    policies: list[RecordingPolicy] = []

    def factory(*args: Any) -> RecordingPolicy:
        policies.append(RecordingPolicy(*args))
        return policies[-1]

    config = dataclasses.replace(SMALL, prompts_per_step=4)
    train_policy(model_dir, make_states(5), CharGrader(), config, tmp_path, 0, policy_factory=factory)
    asked = [request.state.problem.id for policy in policies for request in policy.asked]
    assert len(asked) == 8 and set(asked) == {f"p/{i}" for i in range(5)}
    seeds = [request.seed for policy in policies for request in policy.asked]
    assert len(set(seeds)) == 8


def test_lora_trains_and_merges(model_dir: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, lora_rank=4, learning_rate=1e-2, max_steps=2, beta=0.01, save_every=1)

    def interrupt(record: dict[str, float]) -> None:
        if record["step"] == 2:
            raise Stop

    train_policy(model_dir, make_states(2), CharGrader(), config, tmp_path / "a", 0)
    with pytest.raises(Stop):
        train_policy(model_dir, make_states(2), CharGrader(), config, tmp_path / "b", 0, "auto", interrupt)
    train_policy(model_dir, make_states(2), CharGrader(), config, tmp_path / "b", 0)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    start = AutoModelForCausalLM.from_pretrained(model_dir).state_dict()
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "a" / "model").state_dict()
    assert set(start) == set(trained)
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    assert changed and all("proj" in name for name in changed)


def test_kl_to_the_starting_policy(model_dir: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, beta=0.05, max_steps=3, learning_rate=5e-3)
    records: list[dict[str, float]] = []
    train_policy(model_dir, make_states(2), CharGrader(), config, tmp_path, 0, "auto", records.append)
    assert records[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert records[-1]["kl"] > 1e-4


class FailingGrader(CharGrader):
    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        raise GraderError("the sandbox is gone")


def test_failing_grader_ends_the_run(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(GraderError, match="the sandbox is gone"):
        train_policy(model_dir, make_states(2), FailingGrader(), SMALL, tmp_path, 0)
    assert not (tmp_path / "model").exists()


def test_divergence_ends_the_run(model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = StateTrainer._compute_loss
    monkeypatch.setattr(StateTrainer, "_compute_loss", lambda *args: original(*args) * float("nan"))
    with pytest.raises(EngineError, match="diverged"):
        train_policy(model_dir, make_states(2), CharGrader(), SMALL, tmp_path, 0)


def test_overlong_prompts_are_left_out_with_a_message(
    model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long = State(make_problem("long"), "    x = 1\n" * 200)
    with caplog.at_level(logging.WARNING):
        report = train_policy(model_dir, [*make_states(2), long], CharGrader(), SMALL, tmp_path / "a", 0)
    assert report.dropped == 1 and report.instances == 2
    assert "left out 1 of 3 instances" in caplog.text
    with pytest.raises(ConfigError, match="none of the 1 prompts fits"):
        train_policy(model_dir, [long], CharGrader(), SMALL, tmp_path / "b", 0)


def test_no_states_is_an_error(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 training instances"):
        train_policy(model_dir, [], CharGrader(), SMALL, tmp_path, 0)


def test_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        train_policy(tmp_path / "none", make_states(1), CharGrader(), SMALL, tmp_path / "out", 0)


def test_global_random_state_is_untouched(model_dir: Path, tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()
    train_policy(model_dir, make_states(2), CharGrader(), SMALL, tmp_path, 0)
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.random.get_rng_state(), before[2])


def test_vllm_completions_are_cut_at_their_stop_string() -> None:
    """The part of the vLLM path that runs here: token ids to completions, and one graded batch."""
    tokenizer = make_tokenizer()
    states = [State(make_problem("a"), "    x = 1\n")]
    data = TrainingSet(states, [0], tokenizer, "auto", 0)
    scorer = VllmScorer(data, CharGrader("x", goal=4), SMALL)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    stopped = scorer.completion(0, ids("    return x\n# next"))
    assert (stopped.text, stopped.finish_reason) == ("    return x", "stop")
    ended = scorer.completion(0, [*ids("    return x\n"), tokenizer.eos_token_id])
    assert (ended.text, ended.finish_reason) == ("    return x\n", "stop")
    cut = scorer.completion(0, ids("    return x"))
    assert (cut.text, cut.finish_reason) == ("    return x", "length")
    rewards = scorer(prompts=["0", "0"], completion_ids=[ids("    return x\n# x"), ids("    x = x")], other=1)
    assert rewards == pytest.approx([0.5 + 1e-3, 0.75])
    assert scorer.last is not None and scorer.last.truncated == 1


def test_vllm_needs_one_list_of_stop_strings() -> None:
    tokenizer = make_tokenizer()
    states = [State(make_problem("a")), State(make_problem("b", stop_strings=("\nprint",)))]
    with pytest.raises(ConfigError, match="2 different lists"):
        engine_module._common_stops(TrainingSet(states, [0, 1], tokenizer, "auto", 0))
    assert engine_module._common_stops(TrainingSet(states[:1], [0], tokenizer, "auto", 0))[0] == "\n#"


def test_split_groups_are_an_error(bench: Bench) -> None:
    with pytest.raises(EngineError, match="split groups"):
        bench.rollout(["0", "0", "1", "1"], bench.trainer)


def test_model_without_a_tokenizer_is_an_error(tmp_path: Path) -> None:
    make_model(make_tokenizer()).save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError, match="tokenizer"):
        train_policy(tmp_path / "bare", make_states(1), CharGrader(), SMALL, tmp_path / "out", 0)
    shutil.rmtree(tmp_path / "bare")


@pytest.fixture(scope="module")
def first_step(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    records: list[dict[str, float]] = []
    train_policy(
        model_dir, make_states(2), CharGrader(), SMALL, tmp_path_factory.mktemp("first"), 0, "auto", records.append
    )
    return records[0]


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"gradient_checkpointing": True}, 1e-3),
        ({"lora_rank": 4, "gradient_checkpointing": True}, None),
        ({"bf16": True}, None),
        ({"dtype": "bfloat16"}, None),
        ({"loss_type": "dapo"}, None),
    ],
)
def test_options_give_gradients(
    model_dir: Path, tmp_path: Path, first_step: dict[str, float], options: dict[str, Any], tolerance: float | None
) -> None:
    records: list[dict[str, float]] = []
    config = dataclasses.replace(SMALL, **options)
    train_policy(model_dir, make_states(2), CharGrader(), config, tmp_path, 0, "auto", records.append)
    assert first_step["grad_norm"] > 0 and records[0]["grad_norm"] > 0
    if tolerance is not None:
        assert records[0]["grad_norm"] == pytest.approx(first_step["grad_norm"], rel=tolerance)
