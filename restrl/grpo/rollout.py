"""Sampling and grading of one optimizer step.

`EngineRollout` is the rollout function of the training engine: it samples with the project's own sampler, on the model
being trained, from seeds derived from (seed, step, slot, problem), so a resumed run samples what an uninterrupted one
would. The step is sampled in parts; while one part is sampled, the one before it is graded in a thread.

`VllmScorer` is the counterpart where the engine's vLLM samples: it turns token ids into completions and grades them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from trl.models.utils import unwrap_model_for_generation

from restrl.errors import EngineError
from restrl.grpo.config import GRPOConfig
from restrl.grpo.metrics import RolloutStats
from restrl.grpo.rewards import Score, score
from restrl.policy.prompting import encode_prompt, eos_id, stop_strings
from restrl.policy.text import Detokenizer, find_stop
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.seeds import derive_seed
from restrl.types import Completion, Grader, Policy, SampleRequest, SamplingParams, State

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl.trainer.grpo_trainer import GRPOTrainer


@dataclass(slots=True)
class TrainingSet:
    """What is trained, and in which order.

    Attributes:
        states: The instances.
        plan: For every row of the training data, the index of its instance (see `restrl.grpo.schedule.plan_steps`).
        tokenizer: Of the policy.
        prompt_style: How a state becomes a prompt.
        seed: Of the run.
    """

    states: Sequence[State]
    plan: Sequence[int]
    tokenizer: PreTrainedTokenizerBase
    prompt_style: str
    seed: int
    _ids: dict[int, list[int]] = field(default_factory=dict)

    def state(self, row: int) -> State:
        """Returns the instance of a row."""
        return self.states[self.plan[row]]

    def prompt_ids(self, row: int) -> list[int]:
        """Returns the prompt of a row: the very tokens that decoding uses, the prefix among them."""
        instance = self.plan[row]
        if instance not in self._ids:
            self._ids[instance] = encode_prompt(self.states[instance], self.tokenizer, self.prompt_style)
        return self._ids[instance]

    def request(self, row: int, config: GRPOConfig) -> SampleRequest:
        """Returns the request for a row's group of completions."""
        step, slot = divmod(row, config.prompts_per_step)
        state = self.state(row)
        seed = derive_seed(self.seed, "grpo", step, slot, state.problem.id)
        return SampleRequest(state, config.num_generations, seed)


PolicyFactory = Callable[["PreTrainedModel", "PreTrainedTokenizerBase", GRPOConfig, str], Policy]


def engine_policy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: GRPOConfig, prompt_style: str
) -> Policy:
    """Returns the project's sampler on the model being trained."""
    options: dict[str, Any] = {"max_batch_tokens": config.max_batch_tokens} if config.max_batch_tokens else {}
    return TransformersPolicy.from_model(model, tokenizer, prompt_style=prompt_style, **options)


def group_rows(prompts: Sequence[str], group: int) -> list[int]:
    """Returns the row of each group from the engine's repeated row names.

    >>> group_rows(["4", "4", "5", "5"], 2)
    [4, 5]
    """
    rows = [int(name) for name in prompts[::group]]
    if list(prompts) != [str(row) for row in rows for _ in range(group)]:
        raise EngineError(
            f"the training engine split groups of {group} completions over processes or steps; "
            "make prompts_per_step a multiple of the number of processes"
        )
    return rows


@dataclass(slots=True)
class _Graded:
    scores: list[Score]
    seconds: float


class EngineRollout:
    """Samples and grades one step; passed to the training engine as its rollout function."""

    def __init__(
        self, data: TrainingSet, grader: Grader, config: GRPOConfig, policy_factory: PolicyFactory = engine_policy
    ) -> None:
        self._data = data
        self._grader = grader
        self._config = config
        self._factory = policy_factory
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grade")
        self._policy: tuple[object, Policy] | None = None
        self.last: RolloutStats | None = None

    def close(self) -> None:
        """Waits for a batch that is being graded and ends the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Samples one completion for every row name in ``prompts``, which come in groups of equal names."""
        rows = group_rows(prompts, self._config.num_generations)
        begin = time.perf_counter()
        completions, graded = self._sample(rows, trainer)
        sampled = time.perf_counter()
        parts = [future.result() for future in graded]
        waited = time.perf_counter()
        scores = [score for part in parts for score in part.scores]
        self.last = _stats(
            scores,
            completions,
            self._config.num_generations,
            generate_s=sampled - begin,
            grade_s=sum(part.seconds for part in parts),
            grade_wait_s=waited - sampled,
        )
        return {
            "prompt_ids": [self._data.prompt_ids(row) for row in rows for _ in range(self._config.num_generations)],
            "completion_ids": [_token_ids(completion) for completion in completions],
            "logprobs": None,
            "shaped_reward": [score.shaped for score in scores],
        }

    def _sample(self, rows: list[int], trainer: GRPOTrainer) -> tuple[list[Completion], list[Future[_Graded]]]:
        config = self._config
        args: Any = trainer.args
        params = SamplingParams(config.temperature, config.top_p, config.max_new_tokens)
        completions: list[Completion] = []
        graded: list[Future[_Graded]] = []
        chunk = -(-len(rows) // config.rollout_chunks)
        with (
            torch.no_grad(),
            trainer.accelerator.autocast(),
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                gather_deepspeed3_params=args.ds3_gather_for_generation,
                gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs,
            ) as model,
        ):
            training = model.training
            model.eval()
            try:
                for start in range(0, len(rows), chunk):
                    requests = [self._data.request(row, config) for row in rows[start : start + chunk]]
                    groups = self._policy_on(model).sample(requests, params)
                    states = [request.state for request in requests for _ in range(request.n)]
                    flat = [completion for group in groups for completion in group]
                    completions += flat
                    graded.append(self._thread.submit(self._grade, states, flat))
            finally:
                model.train(training)
        return completions, graded

    def _policy_on(self, model: PreTrainedModel) -> Policy:
        if self._policy is None or self._policy[0] is not model:
            policy = self._factory(model, self._data.tokenizer, self._config, self._data.prompt_style)
            self._policy = (model, policy)
        return self._policy[1]

    def _grade(self, states: list[State], completions: list[Completion]) -> _Graded:
        begin = time.perf_counter()
        return _Graded(score(states, completions, self._grader, self._config), time.perf_counter() - begin)


def take_rewards(**columns: Any) -> list[float]:
    """The engine's reward function: the rewards are already there, from the rollout."""
    return list(columns["shaped_reward"])


class VllmScorer:
    """Grades what the engine's vLLM sampled; passed to the training engine as its reward function."""

    __name__ = "vllm_scorer"

    def __init__(self, data: TrainingSet, grader: Grader, config: GRPOConfig) -> None:
        self._data = data
        self._grader = grader
        self._config = config
        self._detokenizer = Detokenizer(data.tokenizer)
        self.last: RolloutStats | None = None
        # Both are set by the trainer, which knows them.
        self.generate_s = 0.0
        self.eos_ids: frozenset[int] = frozenset({eos_id(data.tokenizer)})

    def close(self) -> None:
        """Nothing to end."""

    def __call__(self, *, prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        """Returns one shaped reward per completion."""
        rows = [int(name) for name in prompts]
        completions = [self.completion(row, ids) for row, ids in zip(rows, completion_ids, strict=True)]
        begin = time.perf_counter()
        scores = score([self._data.state(row) for row in rows], completions, self._grader, self._config)
        seconds = time.perf_counter() - begin
        self.last = _stats(
            scores,
            completions,
            self._config.num_generations,
            generate_s=self.generate_s,
            grade_s=seconds,
            grade_wait_s=seconds,
        )
        return [score.shaped for score in scores]

    def completion(self, row: int, ids: Sequence[int]) -> Completion:
        """Returns the completion that the token ids spell, cut before its stop string."""
        tokenizer = self._data.tokenizer
        state = self._data.state(row)
        stops = stop_strings(state, tokenizer, self._data.prompt_style)
        prompt_ids = self._data.prompt_ids(row)
        text = self._detokenizer.text(prompt_ids, ids)
        stop = find_stop(state.code, text, stops)
        ended = stop is not None or (len(ids) > 0 and ids[-1] in self.eos_ids)
        return Completion(
            text=text[:stop],
            finish_reason="stop" if ended else "length",
            num_tokens=len(ids),
            prompt_tokens=len(prompt_ids),
            token_ids=tuple(ids),
        )


def _stats(
    scores: Sequence[Score],
    completions: Sequence[Completion],
    group: int,
    *,
    generate_s: float,
    grade_s: float,
    grade_wait_s: float,
) -> RolloutStats:
    starts = range(0, len(scores), group)
    return RolloutStats(
        verifier_PG=[[score.verifier for score in scores[i : i + group]] for i in starts],
        shaped_PG=[[score.shaped for score in scores[i : i + group]] for i in starts],
        num_tokens=[completion.num_tokens for completion in completions],
        truncated=sum(completion.finish_reason == "length" for completion in completions),
        generate_s=generate_s,
        grade_s=grade_s,
        grade_wait_s=grade_wait_s,
    )


def _token_ids(completion: Completion) -> list[int]:
    if not completion.token_ids:
        raise EngineError("the policy engine returned a completion without its token ids; GRPO needs them")
    return list(completion.token_ids)
