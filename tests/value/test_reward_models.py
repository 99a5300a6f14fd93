"""Off-the-shelf reward models: tiny ones in the published layouts, against transformers' own way of running them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_problem, make_tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification,
)

from restrl.errors import ConfigError, EngineError, ModelError, ProblemError
from restrl.types import State
from restrl.value.calibrators import Calibrator
from restrl.value.load import open_value_model
from restrl.value.measure import measure_scorer
from restrl.value.model import TrainedValueModel
from restrl.value.reward_model import RewardModel, encode_answer
from restrl.value.step_reward_model import StepRewardModel
from restrl.value.targets import GradedPath, targets_from_paths

CODES = ("    return sorted(xs)[:k]\n", "    total = 0\n    for x in xs:\n        total += x\n    return total\n", "")
PROBLEM = make_problem()
STATES = [State(PROBLEM, code, terminal) for code in CODES for terminal in (True, False)]

SIZES = {
    "vocab_size": 330,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}
KINDS = {
    "llama": (LlamaConfig, LlamaForSequenceClassification, {"num_labels": 1, "num_key_value_heads": 2}),
    "qwen2": (Qwen2Config, Qwen2ForSequenceClassification, {"num_labels": 1, "num_key_value_heads": 2}),
    "qwen2-two-labels": (Qwen2Config, Qwen2ForSequenceClassification, {"num_labels": 2, "num_key_value_heads": 2}),
    "bert": (BertConfig, BertForSequenceClassification, {"num_labels": 1}),
    "qwen2-three-labels": (Qwen2Config, Qwen2ForSequenceClassification, {"num_labels": 3}),
    "qwen2-steps": (Qwen2Config, Qwen2ForTokenClassification, {"num_labels": 2, "num_key_value_heads": 2}),
}


@pytest.fixture(scope="module")
def reward_model_dir(tmp_path_factory: pytest.TempPathFactory):
    made: dict[tuple, Path] = {}

    def make(kind: str, chat: bool = True, **changes: object) -> Path:
        key = (kind, chat, *sorted(changes.items()))
        if key not in made:
            config_class, model_class, own = KINDS[kind]
            path = tmp_path_factory.mktemp(kind)
            tokenizer = make_tokenizer(chat=chat, bos=not chat)
            ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
            with torch.random.fork_rng():
                torch.manual_seed(1)
                model = model_class(config_class(**{**SIZES, **own, **ids, **changes}))
                # Biases start at zero, where a mistake in them would not show.
                for parameter in model.parameters():
                    if parameter.dim() == 1:
                        parameter.data += 0.3 * torch.randn_like(parameter)
            model.save_pretrained(path)
            tokenizer.save_pretrained(path)
            made[key] = path
        return made[key]

    return make


def conversation(tokenizer, state):
    """The text by hand, for the template of the tiny tokenizers."""
    text = f"<|im_start|>user\n{PROBLEM.statement}<|im_end|>\n<|im_start|>assistant\n```python\n{state.program}"
    return text + "```<|im_end|>\n" if state.terminal else text


def alone(path: Path, tokenizer, texts: list[str]) -> np.ndarray:
    """Outputs of the plain library, one text at a time."""
    plain = AutoModelForSequenceClassification.from_pretrained(path).eval()
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with torch.no_grad():
        return np.array([plain(input_ids=torch.tensor([row])).logits[0].tolist() for row in rows])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "bert"])
@pytest.mark.parametrize("max_batch_tokens", [1, 100_000])
def test_rewards_are_the_plain_classifiers_on_the_conversation(reward_model_dir, kind, max_batch_tokens) -> None:
    path = reward_model_dir(kind)
    model = RewardModel(path, device="cpu", max_batch_tokens=max_batch_tokens)
    expected = alone(path, model.tokenizer, [conversation(model.tokenizer, state) for state in STATES])[:, 0]
    assert model.score_states(STATES) == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(set(np.round(expected, 3))) == len(STATES)
    squashed = RewardModel(path, device="cpu", output="sigmoid").score_states(STATES)
    assert squashed == pytest.approx((1 / (1 + np.exp(-expected))).tolist(), abs=1e-5)


def test_two_labels_are_the_probability_of_the_second(reward_model_dir) -> None:
    path = reward_model_dir("qwen2-two-labels")
    model = RewardModel(path, device="cpu")
    logits = alone(path, model.tokenizer, [conversation(model.tokenizer, state) for state in STATES])
    expected = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    assert model.score_states(STATES) == pytest.approx(expected.tolist(), abs=1e-5)


def test_without_a_template_the_text_is_statement_and_program(reward_model_dir) -> None:
    path = reward_model_dir("llama", chat=False)
    model = RewardModel(path, device="cpu")
    ids = encode_answer(STATES[0], model.tokenizer, "plain")
    bos, eos = model.tokenizer.bos_token_id, model.tokenizer.eos_token_id
    assert ids[0] == bos and ids.count(bos) == 1 and ids[-1] == eos and ids.count(eos) == 1
    assert model.tokenizer.decode(ids[1:-1]) == f"{PROBLEM.statement}\n\n{STATES[0].program}"
    assert encode_answer(STATES[1], model.tokenizer, "plain") == ids[:-1]
    plain = AutoModelForSequenceClassification.from_pretrained(path).eval()
    with torch.no_grad():
        assert model.score_states(STATES[:1])[0] == pytest.approx(plain(torch.tensor([ids])).logits.item(), abs=1e-4)


def test_padding_that_ends_answers_hides_no_token(reward_model_dir) -> None:
    """Where padding is the end token, the library would read a finished answer one token too early."""
    path = reward_model_dir("llama", chat=False, pad_token_id=2)
    model = RewardModel(path, device="cpu")
    assert model.tokenizer.eos_token_id == 2
    head = model.model.score
    expected = []
    for state in STATES:
        ids = torch.tensor([encode_answer(state, model.tokenizer, "plain")])
        with torch.no_grad():
            expected.append(head(model.model.model(ids).last_hidden_state)[0, -1, 0].item())
    assert model.score_states(STATES) == pytest.approx(expected, abs=1e-4)


def test_equal_programs_cost_one_row_and_calibration_is_applied(reward_model_dir) -> None:
    path = reward_model_dir("qwen2")
    calibrator = Calibrator("isotonic", (-3.0, 3.0), (0.0, 1.0))
    model = RewardModel(path, device="cpu", calibrator=calibrator)
    values = model.score_states([*STATES, *STATES])
    assert values[: len(STATES)] == values[len(STATES) :] and all(0 < value < 1 for value in values)
    assert (model.stats.sequences, model.stats.values) == (len(STATES), 2 * len(STATES))
    assert model.stats.tokens == sum(len(encode_answer(state, model.tokenizer, "chat")) for state in STATES)
    raw = RewardModel(path, device="cpu").score_states(STATES)
    assert np.argsort(values[: len(STATES)]).tolist() == np.argsort(raw).tolist()
    assert RewardModel(path, device="cpu").score_states([]) == []


def test_step_rewards_are_the_plain_token_classifiers_at_the_line_ends(reward_model_dir) -> None:
    path = reward_model_dir("qwen2-steps", chat=False)
    model = StepRewardModel(path, device="cpu")
    plain = AutoModelForTokenClassification.from_pretrained(path).eval()
    newline = model.tokenizer("\n", add_special_tokens=False)["input_ids"]
    for state in STATES:
        text = PROBLEM.initial_state + state.code
        ids = model.tokenizer(text)["input_ids"]
        with torch.no_grad():
            chances = torch.softmax(plain(torch.tensor([ids])).logits[0], dim=-1)[:, 1].tolist()
        ends = [i for i, token in enumerate(ids) if [token] == newline]
        lines = [chances[i] for i in ends[len(PROBLEM.initial_state.splitlines()) :]]
        expected = lines + lines[-1:] if state.terminal else lines
        assert model.score_boundaries([state])[0] == pytest.approx(expected, abs=1e-5)
        assert model.score_states([state])[0] == pytest.approx(chances[len(ids) - 1], abs=1e-5)
    assert model.kind == "prm"


def test_a_directory_opens_as_what_it_is(reward_model_dir, tmp_path: Path) -> None:
    assert isinstance(open_value_model(reward_model_dir("llama"), device="cpu"), RewardModel)
    steps = open_value_model(reward_model_dir("qwen2-steps"), device="cpu")
    assert isinstance(steps, StepRewardModel) and steps.prompt_style == "plain"
    own = LlamaForSequenceClassification.from_pretrained(reward_model_dir("llama"))
    own.config.restrl_value = {"kind": "orm", "output": "identity", "prompt_style": "plain"}
    own.save_pretrained(tmp_path)
    make_tokenizer(chat=True).save_pretrained(tmp_path)
    trained = open_value_model(tmp_path, device="cpu", calibration="none")
    assert type(trained) is TrainedValueModel and trained.kind == "orm" and trained.prompt_style == "plain"


def test_what_is_no_reward_model_is_named(reward_model_dir, tiny_plain_model_dir: Path) -> None:
    with pytest.raises(ModelError, match="3 labels"):
        RewardModel(reward_model_dir("qwen2-three-labels"), device="cpu")
    with pytest.raises(ModelError, match="its weights lack"):
        RewardModel(tiny_plain_model_dir, device="cpu")
    with pytest.raises(ModelError, match="no process reward model"):
        StepRewardModel(tiny_plain_model_dir, device="cpu")
    with pytest.raises(ConfigError, match="'tanh'"):
        RewardModel(reward_model_dir("llama"), device="cpu", output="tanh")


def test_nothing_is_cut_to_fit(reward_model_dir) -> None:
    model = RewardModel(reward_model_dir("llama", max_position_embeddings=64), device="cpu")
    with pytest.raises(EngineError, match="more than the reward model's 64"):
        model.score_states([State(PROBLEM, CODES[1] * 4, True)])


def test_weights_that_overflow_are_an_error(reward_model_dir) -> None:
    model = RewardModel(reward_model_dir("llama"), device="cpu")
    with torch.no_grad():
        model.model.score.weight.fill_(float("inf"))
    with pytest.raises(EngineError, match="dtype float32"):
        model.score_states(STATES)


def test_any_scorer_is_measured_on_graded_programs(reward_model_dir) -> None:
    """A scorer that says the reward, times two and upside down for one problem, and a reward model of chance."""
    problems = {f"p/{i}": make_problem(f"p/{i}", statement=f"Task {i}.") for i in range(8)}
    paths = {code: GradedPath(code, True, reward) for code, reward in zip(CODES[:2], (1.0, 0.25), strict=True)}
    values = [item for name in problems for item in targets_from_paths(name, paths.values())]

    class Told:
        def score_states(self, states):
            return [2 * paths[s.code].reward * (-1 if s.problem.id == "p/3" else 1) for s in states]

    found = measure_scorer(Told(), values, problems)
    assert found.report.ranking_accuracy == pytest.approx(7 / 8) and found.report.kind == "orm"
    assert found.report.num_states == 16 and found.report.finished_mse == pytest.approx(
        (7 * (1 + 0.0625) + 9 + 0.5625) / 16
    )
    assert found.report.search is not None and found.report.search.programs.num_groups == 8
    assert found.calibrators["isotonic"](np.array([2.0]))[0] == pytest.approx(1.0, abs=2e-3)
    real = measure_scorer(RewardModel(reward_model_dir("llama"), device="cpu"), values, problems, kind="vm")
    assert real.report.num_states == sum(len(item.targets) for item in values)
    with pytest.raises(ProblemError, match="p/7"):
        measure_scorer(Told(), values, {name: problem for name, problem in problems.items() if name != "p/7"})
    with pytest.raises(ProblemError, match="no graded state"):
        measure_scorer(Told(), [], problems)


def test_the_example_of_the_page_runs(reward_model_dir, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "value.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict = {}
    exec(compile(code, "docs/value.md", "exec"), names)
    problems = {f"p/{i}": make_problem(f"p/{i}", statement=f"Task {i}.") for i in range(4)}
    paths = [GradedPath(CODES[0], True, 1.0), GradedPath(CODES[1], True, 0.0)]
    values = [item for name in problems for item in targets_from_paths(name, paths)]
    model = names["measured"](reward_model_dir("qwen2"), values, problems)
    assert "Search by this score" in capsys.readouterr().out
    assert all(0 < value < 1 for value in model.score_states(STATES))
