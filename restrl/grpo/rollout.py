"""Sampling and grading of one optimizer step.

`EngineRollout` is the rollout function of the training engine: it samples with the project's own sampler, on the model
being trained, from seeds derived from (seed, step, slot, problem), so a resumed run samples what an uninterrupted one
would. Completions are graded as they end, while the others are sampled. With dynamic sampling, groups without spread
are then sampled again for other instances (see `restrl.grpo.refill`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl.models.utils import unwrap_model_for_generation

from restrl.errors import EngineError
from restrl.grpo.config import GRPOConfig
from restrl.grpo.grading import Grading
from restrl.grpo.metrics import MetricsLog, RolloutStats, read_metrics
from restrl.grpo.ratios import RatioMeter
from restrl.grpo.refill import has_spread, spare_instances, stand_in
from restrl.grpo.rewards import Score
from restrl.policy.prompting import encode_prompt
from restrl.policy.transformers_engine import OnDone, TransformersPolicy
from restrl.rest.curriculum import Misses
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
        return self.instance_ids(self.plan[row])

    def instance_ids(self, instance: int) -> list[int]:
        """Returns the prompt of an instance."""
        if instance not in self._ids:
            self._ids[instance] = encode_prompt(self.states[instance], self.tokenizer, self.prompt_style)
        return self._ids[instance]

    def request(self, row: int, config: GRPOConfig) -> SampleRequest:
        """Returns the request for a row's group of completions."""
        step, slot = divmod(row, config.prompts_per_step)
        state = self.state(row)
        seed = derive_seed(self.seed, "grpo", step, slot, state.problem.id)
        return SampleRequest(state, config.num_generations, seed)

    def planned(self, step: int, config: GRPOConfig) -> Sequence[int]:
        """Returns the instances of a step."""
        return self.plan[step * config.prompts_per_step : (step + 1) * config.prompts_per_step]


PolicyFactory = Callable[["PreTrainedModel", "PreTrainedTokenizerBase", GRPOConfig, str], Policy]


def engine_policy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: GRPOConfig, prompt_style: str
) -> Policy:
    """Returns the project's sampler on the model being trained."""
    options: dict[str, Any] = {"max_batch_tokens": config.max_batch_tokens} if config.max_batch_tokens else {}
    policy = TransformersPolicy.from_model(model, tokenizer, prompt_style=prompt_style, **options)
    policy.section = "grpo"
    return policy


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
class _Group:
    """The completions of one instance and their scores."""

    instance: int
    completions: list[Completion]
    scores: list[Score]

    @property
    def verifier(self) -> list[float]:
        return [score.verifier for score in self.scores]


@dataclass(slots=True)
class _Seconds:
    generate: float = 0.0
    grade: float = 0.0
    wait: float = 0.0


def _sample(
    policy: Policy, requests: Sequence[SampleRequest], params: SamplingParams, on_done: OnDone
) -> list[list[Completion]]:
    """Samples, and hands over completions as they end, or all at once where the policy does not say when they do."""
    if isinstance(policy, TransformersPolicy):
        return policy.sample(requests, params, on_done)
    answers = policy.sample(requests, params)
    on_done([(place, sample, item) for place, items in enumerate(answers) for sample, item in enumerate(items)])
    return answers


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
        self._misses = Misses()
        self._history: MetricsLog | None = None
        self.last: RolloutStats | None = None
        self.scored: list[tuple[Score, Completion]] = []
        self.ratios = RatioMeter()

    def remember(self, path: Path, last_step: int) -> None:
        """Keeps which groups had spread in a file, for skipping; takes up what the first ``last_step`` steps wrote."""
        self._history = MetricsLog(path, last_step)
        for record in read_metrics(path):
            self._misses.note(int(record["instance"]), bool(record["spread"]))

    def close(self) -> None:
        """Waits for a batch that is being graded and ends the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Samples one completion for every row name in ``prompts``, which come in groups of equal names."""
        config, data = self._config, self._data
        rows = group_rows(prompts, config.num_generations)
        seconds = _Seconds()
        with self._sampling(trainer) as policy:
            wanted = [(data.plan[row], data.request(row, config)) for row in rows]
            skipped = self._skip(rows, wanted) if config.skip_explore else 0
            planned = self._round(wanted, policy, seconds)
            groups, spare = self._refill(rows, planned, policy, seconds) if config.refill_rounds else (planned, [])
        if self._history is not None:
            self._note(rows[0] // config.prompts_per_step, [*planned, *groups, *spare])
        scores = [score for group in groups for score in group.scores]
        completions = [completion for group in groups for completion in group.completions]
        self.last = dataclasses.replace(
            rollout_stats(
                scores,
                completions,
                config.num_generations,
                generate_s=seconds.generate,
                grade_s=seconds.grade,
                grade_wait_s=seconds.wait,
            ),
            refilled=sum(group is not before for group, before in zip(groups, planned, strict=True)),
            skipped=skipped,
            spare_completions=sum(len(group.completions) for group in spare),
            spare_tokens=sum(completion.num_tokens for group in spare for completion in group.completions),
            planned_PG=[group.verifier for group in planned],
        )
        self.scored = list(zip(scores, completions, strict=True))
        prompt_ids = [data.instance_ids(group.instance) for group in groups for _ in group.completions]
        self.ratios.expect(prompt_ids, completions)
        output = {
            "prompt_ids": prompt_ids,
            "completion_ids": [_token_ids(completion) for completion in completions],
            "logprobs": None,
            "shaped_reward": [score.shaped for score in scores],
        }
        if config.mask_truncated:
            # Tokens with a 0 here carry no loss and do not count in any average over tokens.
            output["env_mask"] = [[int(item.finish_reason != "length")] * len(_token_ids(item)) for item in completions]
        return output

    @contextlib.contextmanager
    def _sampling(self, trainer: GRPOTrainer) -> Iterator[Policy]:
        """Gives the sampler on the model being trained, which is in evaluation mode meanwhile."""
        args: Any = trainer.args
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
                yield self._policy_on(model)
            finally:
                model.train(training)

    def _round(self, wanted: Sequence[tuple[int, SampleRequest]], policy: Policy, seconds: _Seconds) -> list[_Group]:
        """Samples and grades a group for every request; what has ended is graded while the others are sampled."""
        config = self._config
        params = SamplingParams(config.temperature, config.top_p, config.max_new_tokens)
        begin = time.perf_counter()
        given: list[list[Completion]] = []
        grading = Grading([request.state for _, request in wanted], self._grader, config, self._thread)
        chunk = -(-len(wanted) // config.rollout_chunks)
        for start in range(0, len(wanted), chunk):
            requests = [request for _, request in wanted[start : start + chunk]]
            given += _sample(policy, requests, params, functools.partial(grading.add, start))
        sampled = time.perf_counter()
        scores = grading.scores()
        seconds.generate += sampled - begin
        seconds.grade += grading.seconds
        seconds.wait += time.perf_counter() - sampled
        return [
            _Group(instance, completions, [scores[place, sample] for sample in range(len(completions))])
            for place, ((instance, _), completions) in enumerate(zip(wanted, given, strict=True))
        ]

    def _skip(self, rows: Sequence[int], wanted: list[tuple[int, SampleRequest]]) -> int:
        """Puts other instances in the place of those that probably have no spread; returns how many."""
        config, data = self._config, self._data
        step = rows[0] // config.prompts_per_step
        pool = spare_instances(len(data.states), data.planned(step, config), data.seed, step)
        skipped = 0
        for place, row in enumerate(rows):
            slot = row % config.prompts_per_step
            turns = range(-(-len(pool) // config.prompts_per_step))
            others = [stand_in(pool, turn, slot, config.prompts_per_step) for turn in turns]
            for turn, instance in enumerate([wanted[place][0], *others]):
                draw = derive_seed(data.seed, "grpo-skip", step, slot, turn)
                if self._misses.skips(instance, config.skip_explore, draw):
                    continue
                if turn:
                    state = data.states[instance]
                    seed = derive_seed(data.seed, "grpo-instead", step, slot, state.problem.id)
                    wanted[place] = (instance, SampleRequest(state, config.num_generations, seed))
                    skipped += 1
                break
        return skipped

    def _note(self, step: int, groups: Sequence[_Group]) -> None:
        """Remembers which instances gave spread at a step; a group that is listed twice counts once."""
        assert self._history is not None
        for group in {id(group): group for group in groups}.values():
            spread = has_spread(group.verifier)
            self._misses.note(group.instance, spread)
            self._history.append({"step": step + 1, "instance": group.instance, "spread": float(spread)})

    def _refill(
        self, rows: Sequence[int], planned: Sequence[_Group], policy: Policy, seconds: _Seconds
    ) -> tuple[list[_Group], list[_Group]]:
        """Replaces groups without spread; returns the groups to train, and those sampled in vain."""
        config, data = self._config, self._data
        groups, spare = list(planned), []
        step = rows[0] // config.prompts_per_step
        pool = spare_instances(len(data.states), data.planned(step, config), data.seed, step)
        for turn in range(config.refill_rounds):
            places = [place for place, group in enumerate(groups) if not has_spread(group.verifier)]
            if not places:
                break
            wanted = []
            for place in places:
                slot = rows[place] % config.prompts_per_step
                instance = stand_in(pool, turn, slot, config.prompts_per_step)
                state = data.states[instance]
                seed = derive_seed(data.seed, "grpo-refill", step, slot, turn, state.problem.id)
                wanted.append((instance, SampleRequest(state, config.num_generations, seed)))
            for place, group in zip(places, self._round(wanted, policy, seconds), strict=True):
                if has_spread(group.verifier):
                    spare.append(groups[place])
                    groups[place] = group
                else:
                    spare.append(group)
        return groups, spare

    def _policy_on(self, model: PreTrainedModel) -> Policy:
        if self._policy is None or self._policy[0] is not model:
            policy = self._factory(model, self._data.tokenizer, self._config, self._data.prompt_style)
            self._policy = (model, policy)
        return self._policy[1]


def take_rewards(**columns: Any) -> list[float]:
    """The engine's reward function: the rewards are already there, from the rollout."""
    return list(columns["shaped_reward"])


def rollout_stats(
    scores: Sequence[Score],
    completions: Sequence[Completion],
    group: int,
    *,
    generate_s: float,
    grade_s: float,
    grade_wait_s: float,
) -> RolloutStats:
    """Returns the statistics of completions that come in groups of ``group``."""
    starts = range(0, len(scores), group)
    solved = {band: (0, 0) for band in sorted({score.state.problem.band for score in scores})}
    for item in scores:
        passed, total = solved[item.state.problem.band]
        solved[item.state.problem.band] = (passed + item.grade.passed, total + 1)
    return RolloutStats(
        verifier_PG=[[score.verifier for score in scores[i : i + group]] for i in starts],
        shaped_PG=[[score.shaped for score in scores[i : i + group]] for i in starts],
        num_tokens=[completion.num_tokens for completion in completions],
        truncated=sum(completion.finish_reason == "length" for completion in completions),
        generate_s=generate_s,
        grade_s=grade_s,
        grade_wait_s=grade_wait_s,
        solved=solved,
        tampered=sum(bool(score.grade.tampering) for score in scores),
    )


def _token_ids(completion: Completion) -> list[int]:
    if not completion.token_ids:
        raise EngineError("the policy engine returned a completion without its token ids; GRPO needs them")
    return list(completion.token_ids)
