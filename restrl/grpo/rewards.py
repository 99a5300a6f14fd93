"""From completions to rewards: the verifier's reward of prefix + completion, and the shaped reward that GRPO sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restrl.actions import finish
from restrl.errors import GraderError
from restrl.grading.rewards import shaped_reward
from restrl.grpo.advantages import overlong_penalty
from restrl.grpo.config import GRPOConfig
from restrl.types import Completion, Grade, Grader, State


@dataclass(frozen=True, slots=True)
class Score:
    """The rewards of one completion, and what they come from.

    Attributes:
        state: What was continued.
        grade: The grader's verdicts on the whole program.
        shaped: ``verifier + symbol_reward * [ended with a stop symbol] - trailing_penalty * trailing characters
            + overlong_penalty * [-1, 0]``; see `restrl.grpo.advantages.overlong_penalty`.
    """

    state: State
    grade: Grade
    shaped: float

    @property
    def verifier(self) -> float:
        """The grader's reward of the whole program, in [0, 1]."""
        return self.grade.reward


def program(state: State, completion: Completion) -> str:
    """Returns the program that is graded: initial state + prefix + completion. A cut-off one is graded as it is."""
    return state.problem.initial_state + finish(state.code + completion.text)


def score(
    states: Sequence[State], completions: Sequence[Completion], grader: Grader, config: GRPOConfig
) -> list[Score]:
    """Grades completions in one batch.

    Args:
        states: The state that each completion continues.
        completions: As many.
        grader: Grades the programs.
        config: The weights of the shaping terms.

    Raises:
        GraderError: The grader failed, or returned another number of grades. It is never turned into a reward of 0.
    """
    pairs = [(state.problem, program(state, completion)) for state, completion in zip(states, completions, strict=True)]
    grades = grader.grade(pairs)
    if len(grades) != len(pairs):
        raise GraderError(f"the grader returned {len(grades)} grades for {len(pairs)} programs; check the grader")
    for grade in grades:
        if not 0.0 <= grade.reward <= 1.0:
            raise GraderError(
                f"the grader gave problem {grade.problem_id!r} the reward {grade.reward}; "
                "a verifier reward lies in [0, 1]: check the grader"
            )
    return [
        Score(
            state,
            grade,
            shaped_reward(
                grade.reward,
                ended_with_stop=completion.finish_reason == "stop",
                trailing_chars=len(completion.trailing),
                symbol_reward=config.symbol_reward,
                trailing_penalty=config.trailing_penalty,
            )
            + config.overlong_penalty
            * overlong_penalty(completion.num_tokens, config.max_new_tokens, config.overlong_buffer),
        )
        for state, grade, completion in zip(states, grades, completions, strict=True)
    ]
