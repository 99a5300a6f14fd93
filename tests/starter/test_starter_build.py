from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from restrl.starter import POLICY_DIR
from restrl.starter.build import BuildConfig, batches, build_starter, learning_rate_at, weighted_loss
from restrl.starter.card import write_card
from restrl.starter.corpus import END, documents
from restrl.starter.measure import Measurement
from restrl.starter.tokenizer import PAD, train_tokenizer

SMALL = BuildConfig(
    steps=7, batch=4, warmup=2, decay=1, hidden=16, layers=1, heads=2, threads=1, save_every=2, tokenizer_documents=50
)


@pytest.fixture(scope="module", params=["fresh", "shipped"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    if request.param == "shipped":
        return AutoTokenizer.from_pretrained(POLICY_DIR)
    return train_tokenizer(document.text for document in documents(0, 300))


def test_encoding_splits_at_every_line_boundary(tokenizer: PreTrainedTokenizerFast) -> None:
    for document in documents(1000, 40):
        whole = tokenizer(document.text)["input_ids"]
        for cut in (i + 1 for i, c in enumerate(document.text) if c == "\n"):
            first, second = document.text[:cut], document.text[cut:]
            assert tokenizer(first)["input_ids"] + tokenizer(second)["input_ids"] == whole


def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    for text in ["def f():\n        return 'é☃\\t'\n", "\t x  =\n\n 12345", *(d.prompt for d in documents(0, 20))]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_and_newlines_stand_alone_and_markers_are_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = [tokenizer.decode([i]) for i in tokenizer("n = 120\n    m\n")["input_ids"]]
    assert [p for p in pieces if any(c.isdigit() for c in p)] == ["1", "2", "0"]
    assert [p for p in pieces if "\n" in p] == ["\n", "\n"]
    assert tokenizer(END)["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.pad_token == PAD and tokenizer.pad_token_id != tokenizer.eos_token_id


def weights(policy: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(policy).state_dict()


def test_a_build_is_deterministic_and_a_resumed_one_is_the_same(tmp_path: Path) -> None:
    logged: list[dict[str, float]] = []
    straight = weights(build_starter(tmp_path / "a", seed=1, config=SMALL, on_log=logged.append))
    assert [metrics["step"] for metrics in logged] == [0]
    build_starter(tmp_path / "b", seed=1, config=replace(SMALL, steps=3))  # its checkpoint at step 2 precedes the decay
    logged.clear()
    product = build_starter(tmp_path / "b", seed=1, config=SMALL, on_log=logged.append)
    resumed = weights(product)
    assert not logged  # it did not begin at step 0 again
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (product / name).read_text() == (tmp_path / "a" / "policy" / name).read_text()
    other = weights(build_starter(tmp_path / "c", seed=2, config=SMALL))
    assert straight.keys() == resumed.keys()
    for name, tensor in straight.items():
        assert torch.equal(tensor, resumed[name]), name
    assert any(not torch.equal(tensor, other[name]) for name, tensor in straight.items())


def test_every_document_is_new_and_the_steps_are_as_many_as_asked_for() -> None:
    tokenizer = train_tokenizer(document.text for document in documents(0, 50))
    config = replace(SMALL, steps=19, batch=2, rough_steps=3)
    drawn = [ids_BT for ids_BT, _, _ in batches(tokenizer, config, 0, 0)]
    assert len(drawn) == 19 and {len(ids_BT) for ids_BT in drawn} == {2}
    texts = [tokenizer.decode(row, skip_special_tokens=True) for ids_BT in drawn for row in ids_BT]
    assert len(set(texts)) == len(texts)
    late = [ids_BT for ids_BT, _, _ in batches(tokenizer, config, 0, 17)]
    assert len(late) == 2 and all(torch.equal(a, b) for a, b in zip(drawn[17:], late, strict=True))


def test_the_learning_rate_rises_stays_and_falls() -> None:
    config = BuildConfig(steps=100, warmup=10, decay=20, learning_rate=1.0)
    rates = [learning_rate_at(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:80] == [1.0] * 71
    assert rates[90] == pytest.approx(0.5) and rates[99] == pytest.approx(0.05)


def test_the_loss_is_a_weighted_mean_that_ignores_padding() -> None:
    logits = torch.zeros(1, 4, 8)
    logits[0, 1, 3] = 5.0
    labels = torch.tensor([[1, 2, 3, -100]])
    weights_BT = torch.tensor([[1.0, 0.5, 1.0, 1.0]])
    uniform = torch.log(torch.tensor(8.0))
    confident = -torch.log_softmax(logits[0, 1], -1)[3]
    assert weighted_loss(logits, labels, weights_BT) == pytest.approx((0.5 * uniform + confident).item() / 1.5)


def test_the_card_states_the_measurements(tmp_path: Path) -> None:
    measurement = Measurement("validation", "all", 100, 50, 0.61, {1: 0.412, 10: 0.9}, 0.93, 55.2)
    write_card(tmp_path, [measurement], BuildConfig(), seed=0, parameters=1_180_800, vocab=1024)
    text = (tmp_path / "README.md").read_text()
    assert "| validation | all | 100 | 0.610 | 0.412 | 0.900 | 0.93 | 55 |" in text
    assert "1,180,800-parameter" in text and '"\\n#"' in text and "{" not in text


def test_the_shipped_policy_is_small_and_complete() -> None:
    names = {path.name for path in POLICY_DIR.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert sum(path.stat().st_size for path in POLICY_DIR.iterdir()) <= 8_000_000
    model = AutoModelForCausalLM.from_pretrained(POLICY_DIR)
    assert model.config.eos_token_id != model.config.pad_token_id and model.config.bos_token_id is None
