"""The vLLM engine: on the real package where it is installed, else on the stand-in with its names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vllm_stand_in
from tiny_models import make_problem
from vllm_stand_in import REAL

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy import PolicyConfig, close_policy, load_policy
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.policy.vllm_engine import VLLMPolicy
from restrl.types import SampleRequest, SamplingParams, State

PARAMS = SamplingParams(temperature=0.9, max_new_tokens=12)
GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12)
STATES = [State(make_problem(f"p/{i}", preamble="#" * i, stop_strings=())) for i in range(3)]


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    with vllm_stand_in.available() as found:
        yield found


@pytest.fixture(scope="module")
def model_dir(package: Any, tiny_plain_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vllm_stand_in.suitable_model(tiny_plain_model_dir, tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="module")
def policy(model_dir: Path) -> Iterator[VLLMPolicy]:
    with VLLMPolicy(model_dir, dtype="float32", enforce_eager=True) as made:
        yield made


def test_greedy_and_log_probabilities_are_those_of_the_model(policy: VLLMPolicy, model_dir: Path) -> None:
    plain = TransformersPolicy(model_dir, device="cpu")
    requests = [SampleRequest(state, 1, 0) for state in STATES]
    for ours, theirs in zip(plain.sample(requests, GREEDY), policy.sample(requests, GREEDY), strict=True):
        assert (ours[0].text, ours[0].token_ids) == (theirs[0].text, theirs[0].token_ids)
        assert ours[0].logprob == pytest.approx(theirs[0].logprob, abs=2e-2)


def test_prompts_are_prefilled_once(policy: VLLMPolicy) -> None:
    state = State(make_problem(preamble="x = 1\n" * 60, stop_strings=()))
    (completions,) = policy.sample([SampleRequest(state, 3, 0)], PARAMS)
    (again,) = policy.sample([SampleRequest(state, 2, 1)], PARAMS)
    assert completions[0].prompt_tokens > 256
    assert all(c.reused_prompt_tokens > 0 for c in again)
    assert all(c.reused_prompt_tokens < c.prompt_tokens for c in again)


def test_settings_reach_the_engine(package: Any, model_dir: Path, tmp_path: Path) -> None:
    if REAL:
        pytest.skip("needs the stand-in's record of what it was given")
    adapter = vllm_stand_in.save_adapter(model_dir, tmp_path / "adapter")
    requests = [SampleRequest(state, 2, 3) for state in STATES]
    texts = []
    for lora in ("", str(adapter)):
        config = PolicyConfig(engine="vllm", model=str(model_dir), lora=lora, max_model_len=100)
        policy = load_policy(config)
        made = vllm_stand_in.LLM.made[-1]
        assert made.options["enable_lora"] == bool(lora)
        assert not lora or made.options["max_lora_rank"] == 8
        texts.append([[c.text for c in completions] for completions in policy.sample(requests, PARAMS)])
        long = State(make_problem("p/long", preamble="a = 1\n" * 30))
        assert not policy.fits(long)  # type: ignore[attr-defined]
        with pytest.raises(ModelError, match=r"p/long.*context holds 100"):
            policy.sample([SampleRequest(long, 1, 0)], PARAMS)
        close_policy(policy)
        assert made.llm_engine.engine_core.is_down
        with pytest.raises(EngineError, match="was closed"):
            policy.sample(requests, PARAMS)
    assert texts[0] != texts[1]


def test_an_adapter_changes_what_is_sampled(package: Any, policy: VLLMPolicy, model_dir: Path, tmp_path: Path) -> None:
    if not REAL:
        pytest.skip("the test of the settings covers the stand-in")
    adapter = vllm_stand_in.save_adapter(model_dir, tmp_path / "adapter")
    requests = [SampleRequest(state, 2, 3) for state in STATES]
    with VLLMPolicy(model_dir, lora_dir=adapter, dtype="float32", enforce_eager=True) as adapted:
        assert adapted.sample(requests, PARAMS) != policy.sample(requests, PARAMS)


def test_errors_say_what_to_do(
    package: Any, policy: VLLMPolicy, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"policy\.lora is .* no LoRA adapter"):
        VLLMPolicy(model_dir, lora_dir=tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 1000}')
    with pytest.raises(ModelError, match="has rank 1000; vLLM takes at most 512"):
        VLLMPolicy(model_dir, lora_dir=tmp_path)
    with pytest.raises(ConfigError, match="dtype is 'int3'"):
        VLLMPolicy(model_dir, dtype="int3")
    monkeypatch.setattr(policy._llm, "generate", lambda *args, **settings: 1 // 0)
    with pytest.raises(EngineError, match=r"^vLLM failed \(ZeroDivisionError[^\n]*$"):
        policy.sample([SampleRequest(STATES[0], 1, 0)], PARAMS)
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"does not load .*restrl\[vllm\]"):
        VLLMPolicy(model_dir)


@pytest.mark.skipif(not REAL, reason="vLLM is not installed")
def test_the_stand_in_has_the_names_and_defaults_of_the_real_package(package: Any) -> None:
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.request import LoRARequest
    from vllm.outputs import CompletionOutput, RequestOutput

    options = {**inspect.signature(EngineArgs).parameters, **inspect.signature(package.LLM.__init__).parameters}
    for name in inspect.signature(vllm_stand_in.LLM.__init__).parameters:
        assert name in options, name
    pairs = (
        (vllm_stand_in.SamplingParams, package.SamplingParams),
        (vllm_stand_in.LoRARequest, LoRARequest),
        (vllm_stand_in.CompletionOutput, CompletionOutput),
        (vllm_stand_in.RequestOutput, RequestOutput),
    )
    for stand_in, real in pairs:
        known = inspect.signature(real).parameters
        for name, parameter in inspect.signature(stand_in).parameters.items():
            assert name in known, (stand_in.__name__, name)
            if real is package.SamplingParams:
                assert parameter.default == known[name].default, name
    known = inspect.signature(package.LLM.generate).parameters
    assert set(inspect.signature(vllm_stand_in.LLM.generate).parameters) <= set(known)
