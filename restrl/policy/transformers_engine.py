"""The policy engine on `transformers`: any causal language model, on a CPU or a GPU.

Requests from many problems and trees are packed into batches by prompt length. Each completion has its own stream of
random numbers, so it does not depend on the batch it came in (`restrl.policy.sampling` tells the limit: rounding).
Decoding runs in the engine's own loop (`restrl.policy.decode_loop`), or in `model.generate` for models whose cache the
loop does not keep.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy import prompting
from restrl.policy.decode_loop import OnOver, Row, decode, supports_loop
from restrl.policy.engine import EngineStats, check_requests
from restrl.policy.generate_loop import decode_with_generate
from restrl.policy.memory import memory_advice
from restrl.policy.model_dir import check_model_dir, choose_device, load_tokenizer, load_weights
from restrl.policy.packing import Slot, fresh_tokens, pack
from restrl.policy.path_cache import PathCache
from restrl.policy.prefix_tree import PrefixTree
from restrl.policy.sampling import uniforms
from restrl.policy.shared_batch import supports_sharing
from restrl.policy.text import Detokenizer, StopChecker
from restrl.types import Completion, SampleRequest, SamplingParams, State

DECODE_LOOPS: tuple[str, ...] = ("auto", "shared", "loop", "generate")

# Prompt tokens whose keys and values a policy with fixed weights keeps for its next batches, each path once.
_PREFIX_TOKENS = 32_768
# Tokens and logits of one forward that scores given text.
_SCORING_TOKENS = 4_096
_SCORING_LOGITS = 1 << 28
# Below this many rows, or this many rows a prompt, every row reading its own copy is quicker.
_SHARING_ROWS = 32
_SHARING_FACTOR = 2

OnDone = Callable[[Sequence[tuple[int, int, Completion]]], None]

_log = logging.getLogger(__name__)


class TransformersPolicy:
    """A `Policy` that samples from a causal language model in this process.

    Args:
        model_dir: A directory in the `save_pretrained` layout, with its tokenizer.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (float32 on the CPU, bfloat16 on CUDA), ``float32``, ``bfloat16`` or ``float16``.
        prompt_style: ``auto``, ``plain`` or ``chat``; see `restrl.policy.prompting`.
        max_batch_tokens: Rows times (longest prompt + new tokens) in one batch: bounds the memory of the cache.
        max_batch_size: Rows in one batch.
        decode_loop: ``loop``: the own loop; ``shared``: the own loop, whose rows share prompts;
            ``generate``; or ``auto``: the first of ``shared`` (on a CPU), ``loop`` and ``generate`` that the model can.
        path_cache_tokens: Prompt tokens whose keys and values are kept, for prompts that begin with them; 0 keeps
            none. It needs the own loop.

    Attributes:
        stats: Counters.
        prefixes: Keys and values of prompts and what they begin with; None if rows do not share.
        scoring: The same for `restrl.policy.likelihood`, with the log-probability of every token.
        section: Of the settings that it was made from, for messages.

    Raises:
        ModelError: The directory is not a usable model.
        ConfigError: A setting is not allowed.
    """

    section = "policy"

    def __init__(
        self,
        model_dir: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        prompt_style: str = "auto",
        max_batch_tokens: int = 131_072,
        max_batch_size: int = 256,
        decode_loop: str = "auto",
        path_cache_tokens: int = 0,
    ) -> None:
        path = check_model_dir(Path(model_dir))
        tokenizer = load_tokenizer(path)
        chosen = choose_device(device)
        model, missing = load_weights(AutoModelForCausalLM, path, chosen, dtype)
        if missing:
            raise ModelError(
                f"model directory {str(path)!r} is no causal language model (its weights lack "
                f"{', '.join(missing[:2])}); save the model again with save_pretrained"
            )
        self._set_up(
            model,
            tokenizer,
            prompt_style,
            max_batch_tokens,
            max_batch_size,
            decode_loop,
            path_cache_tokens,
            prefix_tokens=_PREFIX_TOKENS,
        )

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt_style: str = "auto",
        max_batch_tokens: int = 131_072,
        max_batch_size: int = 256,
        decode_loop: str = "auto",
    ) -> TransformersPolicy:
        """Wraps a model in memory, where it is and as precise as it is; its weights may change between calls.

        `sample` switches it to evaluation mode and back.
        """
        policy = cls.__new__(cls)
        policy._set_up(model, tokenizer, prompt_style, max_batch_tokens, max_batch_size, decode_loop)
        return policy

    def _set_up(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt_style: str,
        max_batch_tokens: int,
        max_batch_size: int,
        decode_loop: str,
        path_cache_tokens: int = 0,
        prefix_tokens: int = 0,
    ) -> None:
        if decode_loop not in DECODE_LOOPS:
            raise ConfigError(f"decode_loop is {decode_loop!r}; allowed: {', '.join(DECODE_LOOPS)}")
        if max_batch_tokens < 1 or max_batch_size < 1:
            raise ConfigError(
                f"max_batch_tokens is {max_batch_tokens} and max_batch_size is {max_batch_size}; both must be >= 1"
            )
        if decode_loop in ("loop", "shared") and not supports_loop(model):
            raise ConfigError(
                f"decode_loop is {decode_loop!r} but {type(model).__name__} has layers other than full attention; "
                "use 'auto' or 'generate'"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.prompt_style = prompting.resolve_style(tokenizer, prompt_style)
        self.max_batch_tokens = max_batch_tokens
        self.max_batch_size = max_batch_size
        self.stats = EngineStats()
        self.boundaries = prompting.warn_about_boundaries(tokenizer)
        self._own_loop: bool = decode_loop in ("loop", "shared") or (decode_loop == "auto" and supports_loop(model))
        if path_cache_tokens and not self._own_loop:
            raise ConfigError(
                f"path_cache_tokens is {path_cache_tokens} but {type(model).__name__} runs in generate, which keeps "
                "nothing; set it to 0"
            )
        self._path_cache = PathCache(path_cache_tokens) if path_cache_tokens else None
        self.prefixes = self._prefix_cache(decode_loop, prefix_tokens)
        vocab = int(model.get_input_embeddings().weight.shape[0])
        scoring_tokens = min(_SCORING_TOKENS, max(1, _SCORING_LOGITS // vocab))
        self.scoring = None if self.prefixes is None else PrefixTree(prefix_tokens, scoring_tokens)
        self._detokenizer = Detokenizer(tokenizer)
        self._eos_ids = eos_ids(model, tokenizer)
        pad = tokenizer.pad_token_id
        self._pad_id = cast(int, pad) if pad is not None else min(self._eos_ids)
        self._context = context_length(model)

    def _prefix_cache(self, decode_loop: str, prefix_tokens: int) -> PrefixTree | None:
        """Returns where shared beginnings are kept; None if rows do not share."""
        wanted = decode_loop == "shared" or (decode_loop == "auto" and self.model.device.type == "cpu")
        if not wanted or not self._own_loop or self._path_cache is not None:
            return None
        with _evaluating(self.model):
            shares = supports_sharing(self.model)
        if not shares:
            if decode_loop == "shared":
                raise ConfigError(
                    f"decode_loop is 'shared' but the attention of {type(self.model).__name__} is its own, or not "
                    "'sdpa'; use 'auto' or 'loop'"
                )
            return None
        return PrefixTree(prefix_tokens)

    def sample(
        self, requests: Sequence[SampleRequest], params: SamplingParams, on_done: OnDone | None = None
    ) -> list[list[Completion]]:
        """Samples ``request.n`` completions per request, in the order of the requests.

        Args:
            requests: The requests.
            params: How to sample.
            on_done: Called on the way with completions that are done, so that something can be made of them while the
                others are sampled: the number of the request, which of its completions, and the completion.

        Raises:
            ConfigError: A sampling parameter or a request is out of range.
            ModelError: A prompt leaves no room for a token in the model's context.
            EngineError: The model gave logits that are not finite, or memory ran out.
        """
        check_requests(requests, params)
        began = time.perf_counter()
        prompts = [self._encode(request) for request in requests]
        results: list[list[Completion | None]] = [[None] * request.n for request in requests]
        memory = {
            f"{self.section}.max_batch_tokens": self.max_batch_tokens,
            "policy.max_new_tokens": params.max_new_tokens,
        }
        # What of a prompt is run at most: what earlier calls left does not count, so that nothing depends on them.
        fresh = fresh_tokens(requests, prompts)
        with _evaluating(self.model), torch.inference_mode(), memory_advice("sampling", memory):
            for slots in self._batches(requests, prompts, params.max_new_tokens):
                rows = [self._row(requests[s.request], s.sample, prompts[s.request], params) for s in slots]
                shares = self._shares(rows)
                self._decode(rows, params, shares, self._ending(slots, rows, results, fresh if shares else {}, on_done))
        self.stats.seconds += time.perf_counter() - began
        return [[completion for completion in result if completion is not None] for result in results]

    def forget(self) -> None:
        """Drops kept keys and values; call it when the weights have changed."""
        if self._path_cache is not None:
            self._path_cache.clear()
        for tree in (self.prefixes, self.scoring):
            if tree is not None:
                tree.clear()

    def _shares(self, rows: Sequence[Row]) -> bool:
        """Whether the rows of a batch share their prompts."""
        prompts = {row.prompt_ids for row in rows}
        enough = len(rows) >= max(_SHARING_ROWS, _SHARING_FACTOR * len(prompts))
        return self.prefixes is not None and enough and min(map(len, prompts)) > 1

    def _decode(self, rows: Sequence[Row], params: SamplingParams, shares: bool, on_over: OnOver) -> None:
        """Generates rows."""
        if self._own_loop:
            prefixes = self.prefixes if shares else None
            decode(self.model, rows, params, self._eos_ids, self._pad_id, on_over, self._path_cache, prefixes)
        else:
            decode_with_generate(self.model, rows, params, self._eos_ids, self._pad_id)
            on_over(None, range(len(rows)))

    def _ending(
        self,
        slots: Sequence[Slot],
        rows: Sequence[Row],
        results: list[list[Completion | None]],
        fresh: dict[tuple[int, ...], int],
        on_done: OnDone | None,
    ) -> OnOver:
        """Returns what makes completions of rows that have ended.

        Args:
            slots: Where the completion of each row goes.
            rows: The rows.
            results: Where it goes.
            fresh: What of each prompt is run at most, where that is not what the loop runs itself.
            on_done: Is told of completions.
        """
        run: list[int] = []

        def end(prefilled: Mapping[tuple[int, ...], int] | None, ended: Sequence[int]) -> None:
            if not run:
                # The first row of a prompt pays for what was run, the others share it.
                left = None if prefilled is None else dict(prefilled)
                for row in rows:
                    own = len(row.prompt_ids) if left is None else left.pop(row.prompt_ids, 0)
                    run.append(fresh.pop(row.prompt_ids, own) if own else 0)
            done = []
            for index in ended:
                slot, row = slots[index], rows[index]
                length = len(row.prompt_ids)
                self.stats.prompt_tokens_prefilled += run[index]
                self.stats.prompt_tokens_reused += length - run[index]
                completion = self._completion(row, length - run[index])
                results[slot.request][slot.sample] = completion
                done.append((slot.request, slot.sample, completion))
            if on_done is not None:
                on_done(done)

        return end

    def fits(self, state: State) -> bool:
        """Whether the prompt of a state leaves room for at least one token in the model's context."""
        ids = prompting.encode_prompt(state, self.tokenizer, self.prompt_style)
        return self._context is None or len(ids) < self._context

    def _encode(self, request: SampleRequest) -> tuple[int, ...]:
        ids = prompting.encode_prompt(request.state, self.tokenizer, self.prompt_style)
        name = request.state.problem.id
        if not ids:
            raise ModelError(f"the prompt of problem {name!r} is empty; give it a statement or an initial state")
        if self._context is not None and len(ids) >= self._context:
            raise ModelError(
                f"the prompt of problem {name!r} has {len(ids)} tokens and the model's context holds {self._context}; "
                "leave the problem out or use a model with a longer context"
            )
        return tuple(ids)

    def _batches(
        self,
        requests: Sequence[SampleRequest],
        prompts: Sequence[tuple[int, ...]],
        max_new_tokens: int,
    ) -> Iterator[list[Slot]]:
        return pack(requests, prompts, max_new_tokens, self.max_batch_size, self.max_batch_tokens)

    def _row(self, request: SampleRequest, sample: int, prompt: tuple[int, ...], params: SamplingParams) -> Row:
        budget = params.max_new_tokens
        if self._context is not None:
            budget = min(budget, self._context - len(prompt))
        stops = prompting.stop_strings(request.state, self.tokenizer, self.prompt_style)
        checker = StopChecker(self._detokenizer, prompt, request.state.code, stops)
        return Row(prompt, budget, uniforms(request.seed, sample, params.max_new_tokens), checker)

    def _completion(self, row: Row, reused_prompt_tokens: int) -> Completion:
        if not math.isfinite(row.logprob):
            raise EngineError(
                f"the model gave logits that are not finite (log-probability {row.logprob}); "
                "its weights are broken or overflow in this precision: check them, or use dtype float32"
            )
        text = self._detokenizer.text(row.prompt_ids, row.tokens)
        cut = row.checker.cut(text)
        self.stats.generated_tokens += len(row.tokens)
        self.stats.completions += 1
        return Completion(
            text=text if cut is None else cut,
            finish_reason="stop" if row.stopped or cut is not None else "length",
            num_tokens=len(row.tokens),
            prompt_tokens=len(row.prompt_ids),
            reused_prompt_tokens=reused_prompt_tokens,
            logprob=row.logprob,
            token_ids=tuple(row.tokens),
            token_logprobs=tuple(row.logprobs),
            token_ends=self._detokenizer.ends(row.prompt_ids, row.tokens, text, len(text if cut is None else cut)),
        )


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Returns every token that ends a completion: the tokenizer's and those of the generation settings."""
    found: set[int] = {prompting.eos_id(tokenizer)}
    declared: Any = getattr(model.generation_config, "eos_token_id", None)
    if declared is not None:
        found.update([declared] if isinstance(declared, int) else declared)
    return frozenset(found)


def context_length(model: PreTrainedModel) -> int | None:
    """Returns the longest sequence that the model takes, in tokens, or None where it declares none."""
    length = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return int(length) if length else None


@contextlib.contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
