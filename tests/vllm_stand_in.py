"""A module with vLLM's names, and a tiny model of `transformers` behind them: for machines where vLLM does not install.

Only what the engine uses is here, under the names, defaults and rules of vLLM 0.32 (`test_policy_vllm` compares them
with the real package where there is one): a seed per request, prefix caching in blocks of 16 tokens, stop strings left
out of the text but not out of the tokens, no several greedy completions, at least one log-probability per token.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from restrl.policy.decode_loop import Row, decode
from restrl.policy.sampling import uniforms
from restrl.policy.text import Detokenizer, StopChecker
from restrl.types import SamplingParams as Sampling

_BLOCK = 16
REAL = importlib.util.find_spec("vllm") is not None
"""The real package is installed."""


@dataclass
class SamplingParams:
    """The fields that the engine sets; others do not exist."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    include_stop_str_in_output: bool = False

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")


@dataclass
class LoRARequest:
    """An adapter."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class Logprob:
    """A log-probability."""

    logprob: float


@dataclass
class CompletionOutput:
    """One completion."""

    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    """One request's completions."""

    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    num_cached_tokens: int | None


@dataclass
class _ModelConfig:
    max_model_len: int


@dataclass
class _EngineCore:
    is_down: bool = False

    def shutdown(self) -> None:
        self.is_down = True


@dataclass
class _Engine:
    model_config: _ModelConfig
    engine_core: _EngineCore = field(default_factory=_EngineCore)


class LLM:
    """The offline engine.

    Attributes:
        made: Every engine made, the latest last.
    """

    made: list[LLM] = []  # noqa: RUF012

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.92,
        enforce_eager: bool = False,
        max_model_len: int | None = None,
        enable_prefix_caching: bool | None = None,
        logprobs_mode: str = "raw_logprobs",
        enable_lora: bool = False,
        max_lora_rank: int = 16,
        generation_config: str = "auto",
    ) -> None:
        assert logprobs_mode == "processed_logprobs"
        self.options = {"enable_lora": enable_lora, "max_lora_rank": max_lora_rank, "dtype": dtype}
        self._model: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._detokenizer = Detokenizer(self._tokenizer)
        self._adapted: Any = None
        self._caching = bool(enable_prefix_caching)
        self._blocks: set[tuple[int, ...]] = set()
        context = self._model.config.max_position_embeddings
        self.llm_engine = _Engine(_ModelConfig(min(context, max_model_len or context)))
        self.prompts: list[str] = []
        LLM.made.append(self)

    def generate(
        self,
        prompts: Sequence[dict[str, list[int]]],
        sampling_params: Sequence[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[RequestOutput]:
        """One output per prompt, in order."""
        assert len(prompts) == len(sampling_params) and not use_tqdm
        model = self._model if lora_request is None else self._with_adapter(lora_request.lora_path)
        rows = [
            self._row(tuple(prompt["prompt_token_ids"]), params)
            for prompt, params in zip(prompts, sampling_params, strict=True)
        ]
        (first,) = {(params.temperature, params.top_p) for params in sampling_params}
        ends = frozenset([self._tokenizer.eos_token_id, *(sampling_params[0].stop_token_ids or ())])
        with torch.inference_mode():
            decode(model, rows, Sampling(*first, max(row.budget for row in rows)), ends, 0, lambda *_: None)
        return [self._output(row) for row in rows]

    def _with_adapter(self, path: str) -> Any:
        assert self.options["enable_lora"]
        if self._adapted is None:
            from peft import PeftModel

            base = AutoModelForCausalLM.from_pretrained(self._model.name_or_path, dtype=torch.float32)
            self._adapted = PeftModel.from_pretrained(base, path).merge_and_unload().eval()
        return self._adapted

    def _row(self, ids: tuple[int, ...], params: SamplingParams) -> Row:
        assert params.n == 1 and params.max_tokens is not None and params.seed is not None
        stops = [params.stop] if isinstance(params.stop, str) else list(params.stop or ())
        checker = StopChecker(self._detokenizer, ids, "", stops)
        return Row(ids, params.max_tokens, uniforms(params.seed, 0, params.max_tokens), checker)

    def _output(self, row: Row) -> RequestOutput:
        ids = row.prompt_ids
        self.prompts.append(self._tokenizer.decode(list(ids)))
        blocks = [ids[:end] for end in range(_BLOCK, len(ids), _BLOCK)] if self._caching else []
        cached = sum(block in self._blocks for block in blocks) * _BLOCK
        self._blocks.update(blocks)
        text = self._detokenizer.text(ids, row.tokens)
        cut = row.checker.cut(text)
        logprobs = [{token: Logprob(x)} for token, x in zip(row.tokens, row.logprobs, strict=True)]
        reason = "stop" if row.stopped else "length"
        output = CompletionOutput(0, text if cut is None else cut, row.tokens, row.logprob, logprobs, reason)
        return RequestOutput(list(ids), [output], cached)


@contextmanager
def installed() -> Iterator[types.ModuleType]:
    """Makes `import vllm` find the stand-in for the length of a block."""
    names = ("vllm", "vllm.lora", "vllm.lora.request")
    before = {name: sys.modules.get(name) for name in names}
    package, lora, request = (types.ModuleType(name) for name in names)
    package.LLM, package.SamplingParams = LLM, SamplingParams  # type: ignore[attr-defined]
    request.LoRARequest = LoRARequest  # type: ignore[attr-defined]
    sys.modules.update(dict(zip(names, (package, lora, request), strict=True)))
    try:
        yield package
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


@contextmanager
def available() -> Iterator[Any]:
    """The real package where it is installed, else the stand-in."""
    if not REAL:
        with installed() as package:
            yield package
    else:
        yield importlib.import_module("vllm")


def suitable_model(tiny: Path, folder: Path) -> Path:
    """The tiny model; for the real package one whose heads are as large as its kernels want them."""
    if not REAL:
        return tiny
    from tiny_models import save_tiny_model

    return save_tiny_model(folder, hidden_size=128)


def save_adapter(model_dir: Path, path: Path) -> Path:
    """Writes a LoRA adapter of rank 4 that changes what the model says."""
    from peft import LoraConfig, get_peft_model

    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"]))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.5, generator=generator)
    adapted.save_pretrained(path)
    return path
