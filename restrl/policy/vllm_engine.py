"""The policy engine on vLLM in this process: paged attention, continuous batching, prefix caching, LoRA adapters.

Every completion is a request of its own with its own seed (vLLM expands ``n`` into the same requests): so the tokens
that the prefix cache had are known per completion, and completion ``i`` is the one that vLLM's server gives to
`restrl.policy.openai_engine`. The seed fixes the draws; as in every engine, rounding moves the logits a little with the
batch, on GPUs in 16-bit precision enough to change a draw now and then.
"""

from __future__ import annotations

import importlib
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy import prompting
from restrl.policy.engine import EngineStats, check_requests
from restrl.policy.model_dir import DTYPES, check_model_dir, load_error, load_tokenizer
from restrl.policy.openai_wire import base_seed
from restrl.policy.text import Detokenizer, find_stop
from restrl.types import Completion, SampleRequest, SamplingParams, State

# The ranks that vLLM makes room for.
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VLLMPolicy:
    """A `Policy` that samples through vLLM. Call `close`, or use it as a context manager: it frees the memory.

    Args:
        model_dir: A directory in the `save_pretrained` layout, with its tokenizer.
        lora_dir: A PEFT LoRA adapter on top of it.
        dtype: ``auto`` (what the model was saved in), ``float32``, ``bfloat16`` or ``float16``.
        prompt_style: ``auto``, ``plain`` or ``chat``; see `restrl.policy.prompting`.
        max_model_len: Longest sequence in tokens; 0 is the model's own.
        gpu_memory: Share of the device's memory that vLLM may take, in (0, 1].
        tensor_parallel: Devices that share the model.
        enforce_eager: No compilation and no CUDA graphs: starts faster, runs slower.

    Attributes:
        stats: Counters.

    Raises:
        ConfigError: vLLM is not installed, or a setting is not allowed.
        ModelError: The model or the adapter cannot be used.
    """

    def __init__(
        self,
        model_dir: Path,
        *,
        lora_dir: Path | None = None,
        dtype: str = "auto",
        prompt_style: str = "auto",
        max_model_len: int = 0,
        gpu_memory: float = 0.9,
        tensor_parallel: int = 1,
        enforce_eager: bool = False,
    ) -> None:
        path = check_model_dir(Path(model_dir))
        if dtype not in DTYPES:
            raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
        rank = None if lora_dir is None else _lora_rank(Path(lora_dir))
        self._vllm = import_vllm()
        self.tokenizer = load_tokenizer(path)
        self.prompt_style = prompting.resolve_style(self.tokenizer, prompt_style)
        self.boundaries = prompting.warn_about_boundaries(self.tokenizer)
        self._detokenizer = Detokenizer(self.tokenizer)
        options: dict[str, Any] = {
            "model": str(path),
            "dtype": dtype,
            "enable_prefix_caching": True,
            # Log-probabilities of the distribution that is sampled, temperature and nucleus applied.
            "logprobs_mode": "processed_logprobs",
            "tensor_parallel_size": tensor_parallel,
            "gpu_memory_utilization": gpu_memory,
            "enforce_eager": enforce_eager,
            # Requests bring their own seeds, and the settings of generation_config.json are not ours.
            "seed": 0,
            "generation_config": "vllm",
        }
        if max_model_len:
            options["max_model_len"] = max_model_len
        if rank is not None:
            options |= {"enable_lora": True, "max_lora_rank": rank}
        try:
            self._llm = self._vllm.LLM(**options)
        except Exception as error:
            # Whatever its libraries raise: the user needs the path and one line.
            raise load_error(path, error) from error
        self._lora = None
        if lora_dir is not None:
            requests = importlib.import_module("vllm.lora.request")
            self._lora = requests.LoRARequest(Path(lora_dir).name or "adapter", 1, str(Path(lora_dir).resolve()))
        self._context = int(self._llm.llm_engine.model_config.max_model_len)
        self._eos_ids = _eos_ids(self.tokenizer, path)
        self.stats = EngineStats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine and frees its memory; the policy cannot be used any more."""
        llm, self._llm = self._llm, None
        core = getattr(getattr(llm, "llm_engine", None), "engine_core", None)
        if core is not None and hasattr(core, "shutdown"):
            core.shutdown()

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Samples ``request.n`` completions per request, in the order of the requests.

        Raises:
            ConfigError: A sampling parameter or a request is out of range.
            ModelError: A prompt leaves no room for a token in the model's context.
            EngineError: vLLM failed, or the policy was closed.
        """
        check_requests(requests, params)
        if not requests:
            return []
        if self._llm is None:
            raise EngineError("the policy was closed; open it again")
        began = time.perf_counter()
        prompts: list[dict[str, list[int]]] = []
        wanted: list[Any] = []
        for request in requests:
            ids = self._encode(request.state)
            for index in range(request.n):
                prompts.append({"prompt_token_ids": ids})
                wanted.append(self._params(request, index, len(ids), params))
        try:
            outputs = self._llm.generate(prompts, wanted, use_tqdm=False, lora_request=self._lora)
        except Exception as error:
            # Whatever vLLM raises: the run needs one line and can be continued.
            text = " ".join(str(error).split())[:300]
            raise EngineError(f"vLLM failed ({type(error).__name__}: {text}); run the same command again") from error
        answers = iter(outputs)
        results = [[self._completion(request, next(answers)) for _ in range(request.n)] for request in requests]
        self.stats.seconds += time.perf_counter() - began
        return results

    def fits(self, state: State) -> bool:
        """Whether the prompt of a state leaves room for at least one token in the model's context."""
        return len(prompting.encode_prompt(state, self.tokenizer, self.prompt_style)) < self._context

    def _encode(self, state: State) -> list[int]:
        ids = prompting.encode_prompt(state, self.tokenizer, self.prompt_style)
        name = state.problem.id
        if not ids:
            raise ModelError(f"the prompt of problem {name!r} is empty; give it a statement or an initial state")
        if len(ids) >= self._context:
            raise ModelError(
                f"the prompt of problem {name!r} has {len(ids)} tokens and the model's context holds {self._context}; "
                "leave the problem out or use a model with a longer context"
            )
        return ids

    def _params(self, request: SampleRequest, index: int, prompt: int, params: SamplingParams) -> Any:
        stops = prompting.stop_strings(request.state, self.tokenizer, self.prompt_style)
        return self._vllm.SamplingParams(
            n=1,
            temperature=params.temperature,
            top_p=params.top_p,
            seed=base_seed(request.seed) + index,
            max_tokens=min(params.max_new_tokens, self._context - prompt),
            stop=list(stops),
            stop_token_ids=self._eos_ids,
            include_stop_str_in_output=False,
            logprobs=0,
        )

    def _completion(self, request: SampleRequest, output: Any) -> Completion:
        (given,) = output.outputs
        prompt_ids, tokens = list(output.prompt_token_ids), list(given.token_ids)
        logprobs = tuple(float(at[token].logprob) for at, token in zip(given.logprobs, tokens, strict=True))
        if not all(map(math.isfinite, logprobs)):
            raise EngineError(
                "the model gave log-probabilities that are not finite; its weights are broken or overflow in this "
                "precision: check them, or use dtype float32"
            )
        text = self._detokenizer.text(prompt_ids, tokens)
        stops = prompting.stop_strings(request.state, self.tokenizer, self.prompt_style)
        at = find_stop(request.state.code, text, stops)
        kept = text if at is None else text[:at]
        reused = min(output.num_cached_tokens or 0, len(prompt_ids))
        self.stats.prompt_tokens_prefilled += len(prompt_ids) - reused
        self.stats.prompt_tokens_reused += reused
        self.stats.generated_tokens += len(tokens)
        self.stats.completions += 1
        return Completion(
            text=kept,
            finish_reason="stop" if given.finish_reason == "stop" or at is not None else "length",
            num_tokens=len(tokens),
            prompt_tokens=len(prompt_ids),
            reused_prompt_tokens=reused,
            logprob=sum(logprobs),
            token_ids=tuple(tokens),
            token_logprobs=logprobs,
            token_ends=self._detokenizer.ends(prompt_ids, tokens, text, len(kept)),
        )


def import_vllm() -> Any:
    """Returns the package.

    Raises:
        ConfigError: It is not installed, or does not load.
    """
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise ConfigError(
            f"policy.engine is 'vllm' but vLLM does not load ({error}); pip install 'restrl[vllm]' on a machine with "
            "a GPU, or use policy.engine = 'transformers'"
        ) from error


def _lora_rank(path: Path) -> int:
    """The rank to make room for."""
    advice = "give a directory written by PEFT's save_pretrained (adapter_config.json, adapter_model.safetensors)"
    try:
        config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
        rank = int(config["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"policy.lora is {str(path)!r}, no LoRA adapter ({type(error).__name__}); {advice}") from error
    fitting = [room for room in _LORA_RANKS if room >= rank]
    if not fitting:
        raise ModelError(
            f"the adapter {str(path)!r} has rank {rank}; vLLM takes at most {_LORA_RANKS[-1]}: merge it into the model"
        )
    return fitting[0]


def _eos_ids(tokenizer: Any, path: Path) -> list[int]:
    """Every token that ends a completion: the tokenizer's and those of the generation settings."""
    found = {prompting.eos_id(tokenizer)}
    settings = path / "generation_config.json"
    if settings.is_file():
        declared = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id")
        if declared is not None:
            found.update([declared] if isinstance(declared, int) else declared)
    return sorted(found)
