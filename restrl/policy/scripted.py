"""A policy without a model: it samples from a script. For tests, examples and dry runs.

A script is either whole programs with weights per problem, in which case a state is continued by the rest of a program
that starts with its code, or a function from (problem id, code) to weighted continuations.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from restrl.errors import EngineError, ModelError
from restrl.policy.engine import EngineStats, check_requests
from restrl.policy.text import find_stop
from restrl.seeds import derive_seed
from restrl.types import Completion, SampleRequest, SamplingParams

Continuations = Sequence[tuple[str, float]]
Script = Callable[[str, str], Continuations]


class ScriptedPolicy:
    """A `Policy` that draws continuations from a script, with per-request seeds.

    Args:
        script: From (problem id, code of the state) to ``(continuation, weight > 0)`` pairs; or a mapping with these
            keys. The weights are the sampling distribution at every temperature but 0.

    Attributes:
        num_calls: Calls of `sample`.
        num_completions: Completions returned.
        stats: Counters; a character counts as a token.
    """

    def __init__(self, script: Script | Mapping[tuple[str, str], Continuations]) -> None:
        self._script: Script = script if callable(script) else _lookup(script)
        self.num_calls = 0
        self.num_completions = 0
        self.stats = EngineStats()

    @classmethod
    def from_programs(cls, programs: Mapping[str, Sequence[tuple[str, float]]]) -> ScriptedPolicy:
        """Continues a state with the rest of a whole program, drawn by weight among those that start with its code.

        Args:
            programs: Problem id -> ``(code after the initial state, weight > 0)`` pairs.
        """

        def script(problem_id: str, code: str) -> Continuations:
            return [(text[len(code) :], weight) for text, weight in programs[problem_id] if text.startswith(code)]

        return cls(script)

    @classmethod
    def from_file(cls, path: Path) -> ScriptedPolicy:
        """Reads ``{"problem id": [["program", weight], ...]}`` and does as `from_programs`.

        Raises:
            ModelError: The file is missing or has another shape.
        """
        shape = 'a JSON object {"problem id": [["code", weight], ...]}'
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            programs = {
                str(key): [(str(code), float(weight)) for code, weight in pairs] for key, pairs in record.items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"cannot read the script {str(path)!r} ({type(error).__name__}); give {shape}") from error
        return cls.from_programs(programs)

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Draws ``request.n`` continuations per request.

        A "token" is a character here: at most ``params.max_new_tokens`` of them, then the completion is cut off with
        ``finish_reason`` ``length``. It ends before the first of the problem's stop strings. Temperature 0 takes the
        heaviest continuation.

        Raises:
            ConfigError: A sampling parameter or a request is out of range.
            EngineError: The script has nothing for a state.
        """
        check_requests(requests, params)
        self.num_calls += 1
        results = [[self._draw(request, index, params) for index in range(request.n)] for request in requests]
        completions = list(itertools.chain.from_iterable(results))
        self.num_completions += len(completions)
        self.stats.completions += len(completions)
        self.stats.generated_tokens += sum(completion.num_tokens for completion in completions)
        self.stats.prompt_tokens_reused += sum(completion.reused_prompt_tokens for completion in completions)
        self.stats.prompt_tokens_prefilled += sum(c.prompt_tokens - c.reused_prompt_tokens for c in completions)
        return results

    def _draw(self, request: SampleRequest, index: int, params: SamplingParams) -> Completion:
        state = request.state
        try:
            pairs = list(self._script(state.problem.id, state.code))
        except KeyError:
            pairs = []
        if not pairs:
            raise EngineError(
                f"the script has no continuation of problem {state.problem.id!r} after {state.code[-40:]!r}; add one"
            )
        weights = [weight for _, weight in pairs]
        if params.temperature == 0.0:
            chosen = weights.index(max(weights))
        else:
            ends = list(itertools.accumulate(weights))
            uniform = np.random.default_rng(derive_seed(request.seed, index)).random()
            chosen = min(bisect.bisect_right(ends, uniform * ends[-1]), len(ends) - 1)
        text = pairs[chosen][0]
        text = text[: find_stop(state.code, text, state.problem.stop_strings)]
        whole = len(text) <= params.max_new_tokens
        return Completion(
            text=text[: params.max_new_tokens],
            finish_reason="stop" if whole else "length",
            num_tokens=min(len(text) + 1, params.max_new_tokens) if whole else params.max_new_tokens,
            prompt_tokens=len(state.program),
            reused_prompt_tokens=len(state.program) if index else 0,
        )


def _lookup(mapping: Mapping[tuple[str, str], Continuations]) -> Script:
    def script(problem_id: str, code: str) -> Continuations:
        return mapping[problem_id, code]

    return script
