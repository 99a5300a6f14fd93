"""Stored samples as tokens: where the prompt ends, where the program ends, what carries loss.

The prompt is the token sequence that decoding uses for the problem. A program ends as the policy would have ended it:
by the closing fence of a chat answer, then the end-of-sequence token. Where a tokenizer merges the end of the prompt
with what follows, the merged token belongs to the completion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restrl.actions import finish
from restrl.policy.packing import common_prefix
from restrl.policy.prompting import FENCE, encode_prompt, encode_state, resolve_style
from restrl.types import Problem, State

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Example:
    """What is learnt about a problem.

    Attributes:
        problem: The problem.
        codes: Finished programs without the initial state: one to imitate, or the chosen and the rejected one.
    """

    problem: Problem
    codes: tuple[str, ...]

    def states(self) -> list[State]:
        """Returns the finished programs as states."""
        return [State(self.problem, finish(code), terminal=True) for code in self.codes]


def encode_example(
    example: Example, tokenizer: PreTrainedTokenizerBase, style: str
) -> tuple[list[int], list[list[int]]]:
    """Returns the prompt's tokens, and those of every completion, its end included."""
    prompt = encode_prompt(State(example.problem), tokenizer, style)
    close = FENCE if resolve_style(tokenizer, style) == "chat" else ""
    whole = [
        encode_state(State(example.problem, state.code + close, terminal=True), tokenizer, style)
        for state in example.states()
    ]
    shared = common_prefix([tuple(ids) for ids in (prompt, *whole)])
    return prompt[:shared], [ids[shared:] for ids in whole]


def pair_row(prompt: list[int], completions: list[list[int]]) -> dict[str, Any]:
    """Returns a row for DPO."""
    chosen, rejected = completions
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def demonstration_row(prompt: list[int], completions: list[list[int]]) -> dict[str, Any]:
    """Returns a row for SFT: the prompt's tokens carry no loss."""
    (completion,) = completions
    return {"input_ids": prompt + completion, "labels": [IGNORED] * len(prompt) + completion}
