"""Grading where the training engine's own vLLM samples: token ids to completions, completions to rewards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from restrl.grpo.config import GRPOConfig
from restrl.grpo.metrics import RolloutStats
from restrl.grpo.ratios import RatioMeter
from restrl.grpo.rewards import Score, score
from restrl.grpo.rollout import TrainingSet, rollout_stats
from restrl.policy.prompting import eos_id, stop_strings
from restrl.policy.text import Detokenizer, find_stop
from restrl.types import Completion, Grader


class VllmScorer:
    """Grades what the engine's vLLM sampled; passed to the training engine as its reward function."""

    __name__ = "vllm_scorer"

    def __init__(self, data: TrainingSet, grader: Grader, config: GRPOConfig) -> None:
        self._data = data
        self._grader = grader
        self._config = config
        self._detokenizer = Detokenizer(data.tokenizer)
        self.last: RolloutStats | None = None
        self.scored: list[tuple[Score, Completion]] = []
        # The engine corrects for vLLM's precision, and logs the ratios by itself.
        self.ratios = RatioMeter()
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
        self.last = rollout_stats(
            scores,
            completions,
            self._config.num_generations,
            generate_s=self.generate_s,
            grade_s=seconds,
            grade_wait_s=seconds,
        )
        self.scored = list(zip(scores, completions, strict=True))
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
