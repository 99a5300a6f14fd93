"""The transformers engine: one completion per (state, params, seed, index), whatever the batch; stops; softmax."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_model, make_problem, make_tokenizer
from transformers import GenerationConfig

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy import PolicyConfig, load_policy
from restrl.policy.prompting import encode_prompt
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import SampleRequest, SamplingParams, State

PARAMS = SamplingParams(temperature=0.7, max_new_tokens=24)


@pytest.fixture(scope="module")
def policy(tiny_plain_model_dir: Path) -> TransformersPolicy:
    return TransformersPolicy(tiny_plain_model_dir, device="cpu")


def _mixed_requests(count: int) -> list[SampleRequest]:
    codes = ["", "    total = 0\n", "    total = 0\n    for x in xs:\n", "    return k\n"]
    problems = [make_problem(f"p/{i}", preamble="#" * (3 * i)) for i in range(7)]
    return [SampleRequest(State(problems[i % 7], codes[i % 4]), 1 + i % 3, 1000 + i) for i in range(count)]


def test_same_completion_whatever_the_batch(policy: TransformersPolicy) -> None:
    requests = _mixed_requests(40)
    together = policy.sample(requests, PARAMS)
    alone = [policy.sample([request], PARAMS)[0] for request in requests]
    assert [[c.token_ids for c in cs] for cs in together] == [[c.token_ids for c in cs] for cs in alone]
    assert [[c.text for c in cs] for cs in together] == [[c.text for c in cs] for cs in alone]
    assert [len(cs) for cs in together] == [request.n for request in requests]
    for left, right in zip(itertools.chain(*together), itertools.chain(*alone), strict=True):
        assert left.logprob == pytest.approx(right.logprob, abs=1e-3)
    # The samples of one request differ, and so do requests that differ in the seed only.
    texts = {c.token_ids for cs in together for c in cs}
    assert len(texts) > 30


def test_small_batches_and_the_generate_loop_give_the_same_completions(tiny_plain_model_dir: Path) -> None:
    requests = _mixed_requests(12)
    results = [
        TransformersPolicy(tiny_plain_model_dir, device="cpu", **settings).sample(requests, PARAMS)
        for settings in ({}, {"max_batch_size": 3}, {"max_batch_tokens": 1}, {"decode_loop": "generate"})
    ]
    tokens = [[[c.token_ids for c in cs] for cs in result] for result in results]
    assert tokens[0] == tokens[1] == tokens[2] == tokens[3]
    texts = [[[(c.text, c.finish_reason) for c in cs] for cs in result] for result in results]
    assert texts[0] == texts[3]


def test_a_larger_n_or_budget_extends_what_a_smaller_one_gives(policy: TransformersPolicy) -> None:
    state = State(make_problem(stop_strings=()))
    few = policy.sample([SampleRequest(state, 2, 5)], PARAMS)[0]
    many = policy.sample([SampleRequest(state, 6, 5)], PARAMS)[0]
    longer = policy.sample([SampleRequest(state, 2, 5)], SamplingParams(0.7, 1.0, 48))[0]
    assert [c.token_ids for c in many[:2]] == [c.token_ids for c in few]
    for short, long in zip(few, longer, strict=True):
        assert long.token_ids is not None
        assert long.token_ids[: short.num_tokens] == short.token_ids


@pytest.mark.parametrize("decode_loop", ["loop", "generate"])
def test_greedy_is_what_generate_gives(tiny_plain_model_dir: Path, decode_loop: str) -> None:
    policy = TransformersPolicy(tiny_plain_model_dir, device="cpu", decode_loop=decode_loop)
    states = [State(make_problem(f"p/{i}", preamble="x" * i, stop_strings=())) for i in range(5)]
    completions = policy.sample([SampleRequest(state, 1, 0) for state in states], SamplingParams(0.0, 1.0, 20))
    config = GenerationConfig(max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=2)
    for state, (completion,) in zip(states, completions, strict=True):
        ids = torch.tensor([encode_prompt(state, policy.tokenizer)])
        expected = policy.model.generate(ids, generation_config=config)[0, ids.shape[1] :].tolist()
        assert list(completion.token_ids or ()) == expected


def _first_token_probabilities(policy: TransformersPolicy, state: State, temperature: float) -> np.ndarray:
    ids = torch.tensor([encode_prompt(state, policy.tokenizer)])
    with torch.no_grad():
        logits = policy.model(ids).logits[0, -1].double()
    return torch.softmax(logits / temperature, -1).numpy()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.3, 1.0), (1.3, 0.9)])
def test_first_tokens_follow_the_softmax(policy: TransformersPolicy, temperature: float, top_p: float) -> None:
    state = State(make_problem())
    n = 4000
    params = SamplingParams(temperature, top_p, 1)
    completions = policy.sample([SampleRequest(state, n, 17)], params)[0]
    probabilities = _first_token_probabilities(policy, state, temperature)
    if top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        kept = order[: int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1]
        nucleus = np.zeros_like(probabilities)
        nucleus[kept] = probabilities[kept]
        probabilities = nucleus / nucleus.sum()
    counts = np.bincount([c.token_ids[0] for c in completions if c.token_ids], minlength=len(probabilities))
    assert counts[probabilities == 0].sum() == 0
    big = probabilities * n >= 5
    observed = np.append(counts[big], counts[~big].sum())
    expected = np.append(probabilities[big], probabilities[~big].sum()) * n
    observed, expected = observed[expected > 0], expected[expected > 0]
    statistic = float(((observed - expected) ** 2 / expected).sum())
    degrees = len(expected) - 1
    # Wilson-Hilferty: the statistic's cube root is nearly normal; z = 4 is one chance in 30,000.
    z = ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))
    assert degrees >= 5
    assert z < 4.0
    for completion in completions[:20]:
        assert completion.token_ids is not None
        assert completion.logprob == pytest.approx(math.log(probabilities[completion.token_ids[0]]), abs=1e-4)


def test_logprob_is_that_of_the_whole_completion(policy: TransformersPolicy) -> None:
    state = State(make_problem(stop_strings=()), "    total = 0\n")
    (completion,) = policy.sample([SampleRequest(state, 1, 3)], PARAMS)[0:1][0]
    prompt = encode_prompt(state, policy.tokenizer)
    ids = torch.tensor([[*prompt, *(completion.token_ids or ())]])
    with torch.no_grad():
        logprobs = torch.log_softmax(policy.model(ids).logits[0].double() / 0.7, -1)
    expected = sum(logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion.token_ids or ()))
    assert completion.logprob == pytest.approx(expected, abs=1e-3)
    assert completion.prompt_tokens == len(prompt)


def test_finish_reasons_and_stop_strings(policy: TransformersPolicy) -> None:
    params = SamplingParams(1.0, 1.0, 30)
    free = policy.sample([SampleRequest(State(make_problem(stop_strings=())), 64, 9)], params)[0]
    eos = policy.tokenizer.eos_token_id
    for completion in free:
        ids = completion.token_ids or ()
        assert completion.num_tokens == len(ids) <= 30
        ended = ids[-1] == eos
        assert completion.finish_reason == ("stop" if ended else "length")
        assert ended or len(ids) == 30
        assert eos not in ids[:-1]
    assert {completion.finish_reason for completion in free} == {"stop", "length"}
    # A string in the middle of a free completion stops the same draw there, wherever its tokens begin and end.
    found = [re.search(r"(?<=...)[a-z()]{3}", completion.text, re.ASCII) for completion in free]
    stop = next(match.group() for match in found if match)
    stopped = policy.sample([SampleRequest(State(make_problem(stop_strings=("never!", stop))), 64, 9)], params)[0]
    hits = 0
    for before, after in zip(free, stopped, strict=True):
        ids = after.token_ids or ()
        assert (before.token_ids or ())[: len(ids)] == ids
        assert stop not in after.text
        if stop in before.text:
            hits += 1
            assert after.text == before.text[: before.text.index(stop)]
            assert after.finish_reason == "stop"
            shorter = policy.tokenizer.decode(ids[:-1], skip_special_tokens=True)
            assert len(shorter) < before.text.index(stop) + len(stop)
        else:
            assert after == before
    assert hits >= 1


def test_a_stop_string_may_begin_in_the_state(tiny_plain_model_dir: Path) -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    policy = TransformersPolicy.from_model(model, tokenizer)
    state = State(make_problem(stop_strings=()), "    return k\n")
    free = policy.sample([SampleRequest(state, 1, 4)], PARAMS)[0][0]
    stop = "\n" + free.text[:2]
    assert free.text[:2]
    from_prefix = State(make_problem(stop_strings=(stop,)), "    return k\n")
    stopped = policy.sample([SampleRequest(from_prefix, 1, 4)], PARAMS)[0][0]
    assert (stopped.text, stopped.finish_reason) == ("", "stop")


def test_from_model_leaves_the_mode_alone_and_counts(tiny_plain_model_dir: Path) -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).train()
    policy = TransformersPolicy.from_model(model, tokenizer)
    state = State(make_problem())
    completions = policy.sample([SampleRequest(state, 5, 0), SampleRequest(state, 3, 1)], PARAMS)
    assert model.training
    prompt = len(encode_prompt(state, tokenizer))
    assert policy.stats.prompt_tokens_prefilled == prompt
    assert policy.stats.prompt_tokens_reused == 7 * prompt
    assert policy.stats.completions == 8
    assert policy.stats.generated_tokens == sum(c.num_tokens for cs in completions for c in cs)
    assert policy.stats.seconds > 0
    policy.stats.reset()
    assert policy.stats.completions == 0


def test_tokens_are_capped_by_the_context_and_a_long_prompt_is_an_error() -> None:
    tokenizer = make_tokenizer()
    policy = TransformersPolicy.from_model(make_model(tokenizer, context=64), tokenizer)
    state = State(make_problem(stop_strings=()))
    prompt = len(encode_prompt(state, tokenizer))
    completions = policy.sample([SampleRequest(state, 8, 0)], SamplingParams(1.0, 1.0, 1000))[0]
    assert max(c.num_tokens for c in completions) == 64 - prompt
    long = State(make_problem("p/long", preamble="a = 1\n" * 30))
    with pytest.raises(ModelError, match=r"p/long.*context holds 64"):
        policy.sample([SampleRequest(long, 1, 0)], PARAMS)


def test_broken_weights_are_an_error_and_not_a_completion() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(EngineError, match="not finite"):
        TransformersPolicy.from_model(model, tokenizer).sample([SampleRequest(State(make_problem()), 2, 0)], PARAMS)


def test_chat_models_stop_at_the_closing_fence(tiny_chat_model_dir: Path) -> None:
    policy = load_policy(PolicyConfig(model=str(tiny_chat_model_dir), device="cpu"))
    assert isinstance(policy, TransformersPolicy)
    assert policy.prompt_style == "chat"
    completions = policy.sample([SampleRequest(State(make_problem()), 4, 0)], PARAMS)[0]
    assert all("\n```" not in c.text for c in completions)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SamplingParams(temperature=-1.0), "temperature is -1.0"),
        (SamplingParams(top_p=0.0), "top_p is 0.0"),
        (SamplingParams(max_new_tokens=0), "max_new_tokens is 0"),
    ],
)
def test_wrong_parameters_are_named(policy: TransformersPolicy, params: SamplingParams, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        policy.sample([SampleRequest(State(make_problem()), 1, 0)], params)


def test_no_requests_no_completions(policy: TransformersPolicy) -> None:
    assert policy.sample([], PARAMS) == []


@pytest.mark.parametrize("loop", ["auto", "loop", "generate"])
def test_completions_are_told_as_they_end_each_once(tiny_plain_model_dir: Path, loop: str) -> None:
    engine = TransformersPolicy(tiny_plain_model_dir, device="cpu", decode_loop=loop, max_batch_size=24)
    requests = _mixed_requests(30)
    told: list[int] = []
    seen = {}

    def on_done(done):
        told.append(len(done))
        for place, sample, completion in done:
            assert (place, sample) not in seen
            seen[place, sample] = completion

    answers = engine.sample(requests, PARAMS, on_done)
    assert seen == {(i, j): completion for i, row in enumerate(answers) for j, completion in enumerate(row)}
    quiet = TransformersPolicy(tiny_plain_model_dir, device="cpu", decode_loop=loop, max_batch_size=24)
    assert quiet.sample(requests, PARAMS) == answers and quiet.stats.completions == engine.stats.completions
    batches = math.ceil(sum(request.n for request in requests) / 24)
    assert len(told) == batches if loop == "generate" else len(told) > batches
