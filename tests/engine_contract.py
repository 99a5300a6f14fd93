"""What every policy engine has to do, as checks that any engine can be put through.

An engine under test is a `Subject`: a policy, and, where it has prompts, a function that gives the prompts that its
model saw in the latest call, as text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from tiny_models import make_problem

from restrl.errors import ConfigError
from restrl.policy.prompting import build_prompt
from restrl.types import Completion, Policy, SampleRequest, SamplingParams, State

PARAMS = SamplingParams(temperature=0.9, max_new_tokens=14)
GREEDY = replace(PARAMS, temperature=0.0)
CODES = ("", "    total = 0\n")


@dataclass(frozen=True)
class Subject:
    """An engine under test.

    Attributes:
        policy: The engine.
        prompts: The distinct prompts of the latest call, as the model saw them; None for an engine without a model.
        tokenizer: What `build_prompt` needs for them.
    """

    policy: Policy
    prompts: Callable[[], set[str]] | None = None
    tokenizer: object = None


def states(*, stops: tuple[str, ...] = ()) -> list[State]:
    """Four states of two problems."""
    problems = [make_problem(f"p/{i}", preamble="#" * i, stop_strings=stops) for i in range(2)]
    return [State(problem, code) for problem in problems for code in CODES]


def requests(n: int = 2, *, seed: int = 100, stops: tuple[str, ...] = ()) -> list[SampleRequest]:
    """One request per state, with different seeds and numbers of completions (n or n + 1)."""
    return [SampleRequest(state, n + i % 2, seed + i) for i, state in enumerate(states(stops=stops))]


def texts(result: list[list[Completion]]) -> list[list[tuple[str, str]]]:
    """The text and the end of every completion."""
    return [[(c.text, c.finish_reason) for c in completions] for completions in result]


def check_exact_number_and_order(subject: Subject) -> None:
    """As many completions as asked for; a permuted call gives the permuted answer."""
    asked = requests()
    result = subject.policy.sample(asked, PARAMS)
    assert [len(completions) for completions in result] == [request.n for request in asked]
    assert texts(subject.policy.sample(asked[::-1], PARAMS)) == texts(result)[::-1]
    assert len({text for completions in result for text, _ in texts([completions])[0]}) >= 3


def check_same_seed_whatever_the_batch(subject: Subject) -> None:
    """A request alone, in a batch, and again later: one answer. A larger n begins with the smaller one's."""
    asked = requests()
    together = texts(subject.policy.sample(asked, PARAMS))
    alone = [texts(subject.policy.sample([request], PARAMS))[0] for request in asked]
    assert alone == together
    more = texts(subject.policy.sample([replace(request, n=request.n + 1) for request in asked], PARAMS))
    assert [row[: request.n] for row, request in zip(more, asked, strict=True)] == together


def check_different_seeds_differ(subject: Subject) -> None:
    """Neither two seeds nor two completions of one seed share their draws, also where the seeds are neighbours."""
    state = states()[0]
    rows = texts(subject.policy.sample([SampleRequest(state, 5, seed) for seed in range(3)], PARAMS))
    assert len({tuple(row) for row in rows}) == 3
    assert all(len(set(row)) > 1 for row in rows)
    # An engine that gives completion i the seed s + i answers seed 1 with the tail of what it answered to seed 0.
    assert all(left[1:] != right[:-1] for left, right in itertools.pairwise(rows))


def check_stop_strings(subject: Subject, stop: str) -> None:
    """The same draw, cut before the stop string, and then it counts as finished."""
    free = subject.policy.sample(requests(5), PARAMS)
    stopped = subject.policy.sample(requests(5, stops=(stop, "never there")), PARAMS)
    cut = 0
    for before, after in zip(itertools.chain(*free), itertools.chain(*stopped), strict=True):
        assert stop not in after.text
        if stop in before.text:
            cut += 1
            assert (after.text, after.finish_reason) == (before.text[: before.text.index(stop)], "stop")
        elif before.finish_reason == "stop":
            assert (after.text, after.finish_reason) == (before.text, "stop")
    assert cut >= 1


def check_finish_reasons(subject: Subject) -> None:
    """``length`` exactly where the budget ran out, and a larger budget continues the text."""
    short, long = replace(PARAMS, max_new_tokens=4), replace(PARAMS, max_new_tokens=24)
    seen = set()
    for before, after in zip(
        itertools.chain(*subject.policy.sample(requests(5), short)),
        itertools.chain(*subject.policy.sample(requests(5), long)),
        strict=True,
    ):
        seen |= {before.finish_reason, after.finish_reason}
        assert before.num_tokens == 4 if before.finish_reason == "length" else before.num_tokens <= 4
        # Half a character at the end is shown as a replacement character.
        assert after.text.startswith(before.text.rstrip("\ufffd"))
        assert after.num_tokens > 4 or before.finish_reason == "stop"
    assert seen == {"stop", "length"}


def check_counts(subject: Subject) -> None:
    """Tokens and log-probabilities fit each other, and no more of a prompt is reused than there is."""
    before = subject.policy.stats.prompt_tokens_prefilled  # type: ignore[attr-defined]
    result = subject.policy.sample(requests(), PARAMS)
    for completions in result:
        assert len({c.prompt_tokens for c in completions}) == 1
        for completion in completions:
            assert 1 <= completion.num_tokens <= PARAMS.max_new_tokens
            assert 0 <= completion.reused_prompt_tokens <= completion.prompt_tokens
            assert completion.prompt_tokens > 0
            if completion.token_ids is not None:
                assert len(completion.token_ids) == completion.num_tokens
            if completion.token_logprobs is not None:
                assert len(completion.token_logprobs) == completion.num_tokens
                assert all(logprob <= 1e-6 for logprob in completion.token_logprobs)
                assert completion.logprob == pytest.approx(sum(completion.token_logprobs), abs=1e-4)
            if completion.token_ends is not None:
                assert completion.token_logprobs is not None
                assert len(completion.token_ends) == len(completion.token_logprobs)
                assert list(completion.token_ends) == sorted(completion.token_ends)
                assert completion.token_ends[-1] == len(completion.text)
    prefilled = sum(c.prompt_tokens - c.reused_prompt_tokens for completions in result for c in completions)
    assert subject.policy.stats.prompt_tokens_prefilled - before == prefilled  # type: ignore[attr-defined]


def check_greedy(subject: Subject) -> None:
    """Temperature 0: the same text whatever the seed and the index."""
    rows = texts(subject.policy.sample([SampleRequest(states()[0], 2, seed) for seed in (1, 2)], GREEDY))
    assert len({cell for row in rows for cell in row}) == 1
    assert rows == texts(subject.policy.sample([SampleRequest(states()[0], 2, seed) for seed in (1, 2)], GREEDY))


def check_nothing_asked(subject: Subject) -> None:
    """No requests, no completions."""
    assert subject.policy.sample([], PARAMS) == []


def check_wrong_requests(subject: Subject) -> None:
    """Out of range or from a finished program: a `ConfigError` in one line, and nothing is sampled."""
    request = requests()[0]
    for params in (
        replace(PARAMS, temperature=-0.5),
        replace(PARAMS, temperature=float("nan")),
        replace(PARAMS, top_p=0.0),
        replace(PARAMS, top_p=1.5),
        replace(PARAMS, max_new_tokens=0),
    ):
        with pytest.raises(ConfigError, match=r"^[^\n]*must be[^\n]*$"):
            subject.policy.sample([request], params)
    with pytest.raises(ConfigError, match="n is 0"):
        subject.policy.sample([request, replace(request, n=0)], PARAMS)
    with pytest.raises(ConfigError, match="terminal state"):
        subject.policy.sample([replace(request, state=replace(request.state, terminal=True))], PARAMS)


def check_prompts(subject: Subject) -> None:
    """The model saw exactly what `build_prompt` gives, for every state."""
    if subject.prompts is None:
        pytest.skip("an engine without a model has no prompts")
    asked = requests()
    subject.policy.sample(asked, PARAMS)
    assert subject.prompts() == {build_prompt(request.state, subject.tokenizer) for request in asked}  # type: ignore[arg-type]


SHORT_CHECKS = (check_same_seed_whatever_the_batch, check_counts)
CHECKS = (
    check_exact_number_and_order,
    check_same_seed_whatever_the_batch,
    check_different_seeds_differ,
    check_finish_reasons,
    check_counts,
    check_greedy,
    check_nothing_asked,
    check_wrong_requests,
    check_prompts,
)
