"""The nouns of the method, as frozen values that every layer shares.

ReST-RL (arXiv 2508.19576), section 3: a solution is a list of *actions* (lines of code); a *state* is the problem and a
partial solution; the *reward* of a finished solution is the fraction of the problem's tests that it passes.

This module imports the standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

TestKind = Literal["call", "stdio", "asserts", "unittest", "script"]
FinishReason = Literal["stop", "length"]
VerdictName = Literal["pass", "wrong", "error", "timeout", "memory", "output", "infra"]
Assurance = Literal["isolated", "in_process"]
Profile = Literal["strict", "lab"]

TEST_KINDS: tuple[TestKind, ...] = ("call", "stdio", "asserts", "unittest", "script")
PROFILES: tuple[Profile, ...] = ("strict", "lab")


@dataclass(frozen=True, slots=True)
class Case:
    """One declared test of a problem.

    Attributes:
        id: Name of the test, unique within its problem.
        args: Positional arguments (kind ``call``). Plain data only.
        stdin: Text given on standard input (kind ``stdio``).
        expected: The expected return value (``call``) or standard output (``stdio``). It never enters the process that
            runs the candidate.
        code: Source of the test (kinds ``asserts``, ``unittest``, ``script``).
        cpu_s: CPU seconds of this test (kind ``call``); 0 is the problem's limit.
        atol: Absolute tolerance of this test (kind ``call``); 0 is that of all tests.
    """

    id: str
    args: tuple[Any, ...] = ()
    stdin: str = ""
    expected: Any = None
    code: str = ""
    cpu_s: float = 0.0
    atol: float = 0.0


@dataclass(frozen=True, slots=True)
class Tests:
    """The declared tests of a problem; their number is the denominator of the reward.

    Attributes:
        kind: How the tests are run.
        cases: The tests, in a fixed order.
        atol: Absolute tolerance for floats; 0 compares exactly.
        all_or_nothing: The reward is 1 if every case passes, else 0.
        profile: What programs may do: ``strict`` is the standard library and nothing beside computing; ``lab`` adds
            what scientific packages need (temporary files, more of the system).
        packages: Third-party packages that the tests or their programs import, by the name of the import. Where one is
            missing, the problem is not gradable.
        checker: Name of the comparator of an actual and an expected answer; empty for the kind's usual one.
        prelude: Source that runs before the program, in its namespace (kinds ``call`` and ``stdio``): the imports that
            a benchmark's own harness puts there.
    """

    kind: TestKind
    cases: tuple[Case, ...]
    atol: float = 0.0
    all_or_nothing: bool = False
    profile: Profile = "strict"
    packages: tuple[str, ...] = ()
    checker: str = ""
    prelude: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits of one program run.

    Attributes:
        cpu_s: CPU seconds per test, > 0. CPU time decides a timeout; wall time is only a net.
        memory_bytes: Address space, bytes.
        output_bytes: Captured output, bytes.
        total_cpu_s: CPU seconds of all tests of kind ``call`` together; 0 is no such limit.
    """

    cpu_s: float = 4.0
    memory_bytes: int = 1 << 30
    output_bytes: int = 1 << 20
    total_cpu_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Problem:
    """A programming problem with tests.

    Attributes:
        id: Unique name, for example ``starter/train/00017``.
        statement: What to do, in words: the user's message for a chat model.
        initial_state: The code that every solution starts with (signature and docstring, or empty). Ends in a newline
            unless empty.
        entry_point: Name of the function to call (``call``, ``asserts``); empty for ``stdio``. For ``call`` also
            ``Class.method``, or alternatives as in ``Solution.f|f``: the first that the program defines.
        tests: The declared tests.
        preamble: Text before the initial state in the prompt of a model without a chat template; empty where the
            initial state already holds the statement.
        stop_strings: A completion ends before the first of these.
        limits: Limits of a run.
        canonical_solution: A whole correct program (initial state included), if known.
        split: ``train``, ``validation``, ``test`` or empty.
        band: Difficulty band, a free label.
        metadata: Anything else, for display and analysis only.
        chat_message: The whole user's message for a chat model where the set has an official one; empty: the statement
            and a standard instruction.
        chat_opening: What a chat model's answer starts with, before the fence of its code; a line, or empty.
        chat_stop_strings: Take the place of the stop strings for a chat model; None: the same. The closing fence of the
            code always ends a completion.
    """

    id: str
    statement: str
    initial_state: str
    entry_point: str
    tests: Tests
    preamble: str = ""
    stop_strings: tuple[str, ...] = ()
    limits: Limits = Limits()
    canonical_solution: str | None = None
    split: str = ""
    band: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chat_message: str = ""
    chat_opening: str = ""
    chat_stop_strings: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """``S_i = (q, a_1..a_i)``: a problem and a partial solution.

    Attributes:
        problem: The problem ``q``.
        code: The actions so far, joined, *after* the problem's initial state; each action is a line with its newline.
        terminal: The solution is complete: nothing follows ``code``.
    """

    problem: Problem
    code: str = ""
    terminal: bool = False

    @property
    def program(self) -> str:
        """The initial state followed by the actions: what the grader runs when the state is terminal."""
        return self.problem.initial_state + self.code


@dataclass(frozen=True, slots=True)
class Completion:
    """What a policy sampled from a state.

    Attributes:
        text: The text, cut before the stop string; the finished solution is ``state.code + text``.
        finish_reason: ``stop`` (end of sequence or a stop string) or ``length`` (cut off: *not* a finished program).
        num_tokens: Generated tokens, end-of-sequence token included.
        prompt_tokens: Tokens of the prompt.
        reused_prompt_tokens: How many of them took no forward for this completion: another sample of the same state,
            or a cache, had their keys and values.
        logprob: Sum of the log-probabilities of the generated tokens under the sampling distribution, if known.
        token_ids: The generated tokens, end-of-sequence token included, if known.
        trailing: Text that was generated after the stop symbol (empty for engines that stop there).
        token_logprobs: Log-probability of every generated token under the sampling distribution, the end-of-sequence
            token included, if known: what ``logprob`` sums up.
        token_ends: How many characters of ``text`` stand when each generated token is there, one number per entry of
            ``token_logprobs``, ascending, at most ``len(text)``: it places a token in its line. If known.
        cost: What a server charged for it, in the currency of the prices given; 0 for a model in this process.
    """

    text: str
    finish_reason: FinishReason
    num_tokens: int = 0
    prompt_tokens: int = 0
    reused_prompt_tokens: int = 0
    logprob: float | None = None
    token_ids: tuple[int, ...] | None = None
    trailing: str = ""
    token_logprobs: tuple[float, ...] | None = None
    token_ends: tuple[int, ...] | None = None
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How a policy samples.

    Attributes:
        temperature: > 0, or 0 for greedy. The paper samples at 0.7.
        top_p: Nucleus mass in (0, 1].
        max_new_tokens: Tokens per completion, >= 1. The paper uses 1024.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    max_new_tokens: int = 1024


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """``n`` completions from one state.

    Attributes:
        state: Where the completions start.
        n: How many, >= 1.
        seed: Seed of this request; completion ``i`` depends on (engine, state, params, seed, i), never on the batch.
    """

    state: State
    n: int
    seed: int


@dataclass(frozen=True, slots=True)
class CaseVerdict:
    """The outcome of one declared test."""

    id: str
    verdict: VerdictName
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """The outcome of one program on one problem.

    Attributes:
        problem_id: The problem.
        reward: Fraction of the declared tests that passed, in [0, 1] (0 or 1 where the tests are all-or-nothing).
        passed: Every declared test passed.
        verdicts: One per declared test, in the declared order.
        cpu_s: CPU seconds of the candidate's process(es).
        layers: Names of the isolation layers that were in force.
        assurance: ``isolated`` where the candidate never shared a process with the tests.
        tampering: Detectors that fired, if any.
    """

    problem_id: str
    reward: float
    passed: bool
    verdicts: tuple[CaseVerdict, ...]
    cpu_s: float = 0.0
    layers: tuple[str, ...] = ()
    assurance: Assurance = "isolated"
    tampering: tuple[str, ...] = ()


class Policy(Protocol):
    """Anything that samples completions from states."""

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Returns one list of ``request.n`` completions per request, in the order of the requests."""
        ...


class ValueModel(Protocol):
    """Anything that estimates ``V(S) = E[R | S]``."""

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns one finite value per state, in the order of the states."""
        ...


class Grader(Protocol):
    """Anything that turns (problem, program) pairs into grades."""

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """Returns one grade per pair, in order. Raises `GraderError` on infrastructure faults, never a reward of 0."""
        ...

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        """The same, without blocking the event loop."""
        ...
