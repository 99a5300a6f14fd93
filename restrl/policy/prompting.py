"""State -> text -> token ids: the only place that does it, so that training, scoring and decoding see one string.

Two styles:

* ``plain``: ``problem.preamble + problem.initial_state + state.code``;
* ``chat``: the tokenizer's chat template with the statement as the user's message, then the start of the assistant's
  answer: an open code fence, the initial state and the code so far. The template only renders the user's turn and the
  generation prompt; the start of the answer is appended to its text, because templates strip the whitespace of a
  message, and the newline that ends a state matters.

``auto`` is ``chat`` where the tokenizer has a chat template, else ``plain``.

A terminal state (a finished program) is the same text plus one end-of-sequence token, so that a value model can tell a
finished program from a prefix. The beginning-of-sequence token comes exactly once: from the template (``chat``) or from
the tokenizer's own habit (``plain``).
"""

from __future__ import annotations

import bisect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from restrl.actions import boundaries
from restrl.errors import ConfigError, ModelError
from restrl.types import Problem, State

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PromptStyle = Literal["auto", "plain", "chat"]
PROMPT_STYLES: tuple[PromptStyle, ...] = ("auto", "plain", "chat")

FENCE = "```"
_OPEN_FENCE = "```python\n"
_INSTRUCTION = "Write the solution in Python. Answer with one code block and nothing else."
_CONTINUE = "The solution starts with:"
# Some templates (Llama 3.2) put the day into the prompt: the same state would be another prompt tomorrow. This is the
# day that they fall back on themselves.
_DATE = "26 Jul 2024"

_log = logging.getLogger(__name__)


def resolve_style(tokenizer: PreTrainedTokenizerBase, style: str) -> Literal["plain", "chat"]:
    """Returns ``plain`` or ``chat``.

    Raises:
        ConfigError: The style is unknown.
        ModelError: ``chat`` was asked of a tokenizer without a chat template.
    """
    if style not in PROMPT_STYLES:
        raise ConfigError(f"prompt_style is {style!r}; allowed: {', '.join(PROMPT_STYLES)}")
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if style == "auto":
        return "chat" if has_template else "plain"
    if style == "chat" and not has_template:
        raise ModelError(
            f"prompt_style is 'chat' but the tokenizer of {tokenizer.name_or_path!r} has no chat template; "
            "set prompt_style to 'plain' or 'auto'"
        )
    return "chat" if style == "chat" else "plain"


def build_prompt(state: State, tokenizer: PreTrainedTokenizerBase, style: str = "auto") -> str:
    """Returns the text of a state, ending in ``state.code`` (the end-of-sequence mark of a terminal state excluded)."""
    return _build_head(state, tokenizer, resolve_style(tokenizer, style)) + state.code


def chat_messages(state: State) -> list[dict[str, str]]:
    """Returns a chat that a server's own template renders: the user's message, and the start of the answer to go on
    with. The message is that of the ``chat`` style; what the template makes of the answer's last newline is its own."""
    problem = state.problem
    return [
        {"role": "user", "content": problem.chat_message or _usual_message(problem)},
        {"role": "assistant", "content": problem.chat_opening + _OPEN_FENCE + state.program},
    ]


def stops_of(problem: Problem, style: Literal["plain", "chat"]) -> tuple[str, ...]:
    """Returns what `stop_strings` does, for a style that is known."""
    if style == "plain":
        return tuple(dict.fromkeys(problem.stop_strings))
    own = problem.stop_strings if problem.chat_stop_strings is None else problem.chat_stop_strings
    return tuple(dict.fromkeys((*own, "\n" + FENCE)))


def stop_strings(state: State, tokenizer: PreTrainedTokenizerBase, style: str = "auto") -> tuple[str, ...]:
    """Returns the strings that end a completion of the state: the problem's, and the closing fence of a chat answer."""
    return stops_of(state.problem, resolve_style(tokenizer, style))


def encode_prompt(state: State, tokenizer: PreTrainedTokenizerBase, style: str = "auto") -> list[int]:
    """Returns the token ids from which a completion of the state continues (no end-of-sequence token)."""
    resolved = resolve_style(tokenizer, style)
    return _encode(_build_head(state, tokenizer, resolved) + state.code, tokenizer, resolved)


def encode_state(state: State, tokenizer: PreTrainedTokenizerBase, style: str = "auto") -> list[int]:
    """Returns the token ids of a state; a terminal state ends in the end-of-sequence token."""
    ids = encode_prompt(state, tokenizer, style)
    return [*ids, eos_id(tokenizer)] if state.terminal else ids


@dataclass(frozen=True, slots=True)
class EncodedBoundaries:
    """The tokens of a state and where its boundaries fall in them.

    Attributes:
        ids: What `encode_state` returns.
        positions: Index into ``ids`` of the last token of each boundary.
        exact: Whether ``ids`` up to the position are the tokens of the boundary's own state. Where they are not, the
            tokenizer merges a newline with what follows, and the boundary has to be scored on its own.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    exact: tuple[bool, ...]


def encode_boundaries(
    state: State, tokenizer: PreTrainedTokenizerBase, style: str = "auto", offsets: Sequence[int] | None = None
) -> EncodedBoundaries:
    """Encodes a state once and locates boundaries in its tokens.

    Args:
        state: The state.
        tokenizer: Its tokenizer.
        style: The prompt style.
        offsets: Character offsets into ``state.code``: 0 is the prompt alone, ``len(code) + 1`` the end-of-sequence
            token of a terminal state. Without them: the end of every action, and the end marker if terminal.
    """
    resolved = resolve_style(tokenizer, style)
    if offsets is None:
        offsets = state_offsets(state)
    head = _build_head(state, tokenizer, resolved)
    text = head + state.code
    ids, starts, ends = _encode_with_offsets(text, tokenizer, resolved)
    positions: list[int] = []
    exact: list[bool] = []
    for offset in offsets:
        if offset == len(state.code) + 1 and state.terminal:
            position, agrees = len(ids), True
        elif not 0 <= offset <= len(state.code):
            raise ValueError(f"boundary offset {offset} is outside the code of {len(state.code)} characters")
        else:
            position, agrees = _locate(text[: len(head) + offset], ids, starts, ends, tokenizer, resolved)
        positions.append(position)
        exact.append(agrees)
    if state.terminal:
        ids = [*ids, eos_id(tokenizer)]
    return EncodedBoundaries(tuple(ids), tuple(positions), tuple(exact))


def boundary_positions(state: State, tokenizer: PreTrainedTokenizerBase, style: str = "auto") -> list[int]:
    """Returns the index, in `encode_state`, of the last token of every action (and of the end marker if terminal)."""
    return list(encode_boundaries(state, tokenizer, style).positions)


def state_offsets(state: State) -> list[int]:
    """Returns the character offsets of the end of every action, and of the end marker if the state is terminal."""
    return [*boundaries(state.code), *([len(state.code) + 1] if state.terminal else [])]


def eos_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Returns the id of the end-of-sequence token.

    Raises:
        ModelError: The tokenizer has none.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path!r} has no end-of-sequence token; "
            "set eos_token in its tokenizer_config.json"
        )
    return cast(int, tokenizer.eos_token_id)


@dataclass(frozen=True, slots=True)
class BoundaryReport:
    """Whether a tokenizer keeps line ends apart.

    Attributes:
        num_checked: How many splits of sample code were checked.
        failures: The splits ``(prefix, rest)`` where the tokens of ``prefix + rest`` do not start with those of
            ``prefix``: a prompt that ends there is unlike anything the model was trained on.
    """

    num_checked: int
    failures: tuple[tuple[str, str], ...]

    @property
    def ok(self) -> bool:
        """No split failed."""
        return not self.failures

    @property
    def serious(self) -> tuple[tuple[str, str], ...]:
        """The failures at a line end that code follows at once.

        Where a blank line follows instead, tokenizers of the Qwen and Llama 3 kind merge the two line ends. The prompt
        is then like any that ends in a line end, and only the value at that line has to be scored on its own.
        """
        return tuple((prefix, rest) for prefix, rest in self.failures if not rest.startswith("\n"))


_SAMPLE_CODE = (
    "def merge(xs, k):\n"
    "    out = []\n"
    "    for i, x in enumerate(xs):\n"
    "        if x % 2 == 0:\n"
    "            out.append(x * k)\n"
    "\n"
    "        # odd ones\n"
    "        else:\n"
    "            out.append(-x)\n"
    "    s = {'a': 1}\n"
    "    return sorted(out)[:k]\n"
)


def check_boundaries(tokenizer: PreTrainedTokenizerBase, code: str = _SAMPLE_CODE) -> BoundaryReport:
    """Checks that the tokens of a prefix of code are a prefix of the code's tokens, at every line end.

    Args:
        tokenizer: The tokenizer.
        code: Sample code.
    """
    ends = boundaries(code)[:-1]
    whole = _encode_raw(code, tokenizer, special=False)
    failures: list[tuple[str, str]] = []
    for end in ends:
        ids = _encode_raw(code[:end], tokenizer, special=False)
        if whole[: len(ids)] != ids:
            failures.append((code[:end], code[end:]))
    return BoundaryReport(len(ends), tuple(failures))


def warn_about_boundaries(tokenizer: PreTrainedTokenizerBase) -> BoundaryReport:
    """Runs `check_boundaries` and warns where prompts that end in a newline would be off-distribution."""
    report = check_boundaries(tokenizer)
    if report.serious:
        prefix, rest = report.serious[0]
        _log.warning(
            "tokenizer of %r merges line ends with what follows (%d of %d sampled lines, first between %r and %r): "
            "prompts that end in a newline are off-distribution for this model, and values at lines are scored one by "
            "one; prefer a model whose pre-tokenizer keeps newlines apart",
            tokenizer.name_or_path,
            len(report.serious),
            report.num_checked,
            prefix[-12:],
            rest[:12],
        )
    return report


def _build_head(state: State, tokenizer: PreTrainedTokenizerBase, style: Literal["plain", "chat"]) -> str:
    """Everything before ``state.code``."""
    problem = state.problem
    if style == "plain":
        return problem.preamble + problem.initial_state
    message = problem.chat_message or _usual_message(problem)
    # Templates that know no thinking mode or no date ignore them.
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": message}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
        date_string=_DATE,
    )
    return cast(str, rendered) + problem.chat_opening + _OPEN_FENCE + problem.initial_state


def _usual_message(problem: Problem) -> str:
    message = f"{problem.statement}\n\n{_INSTRUCTION}"
    if problem.initial_state:
        message += f" {_CONTINUE}\n{_OPEN_FENCE}{problem.initial_state}{FENCE}"
    return message


def _encode(text: str, tokenizer: PreTrainedTokenizerBase, style: Literal["plain", "chat"]) -> list[int]:
    ids = _encode_raw(text, tokenizer, special=style == "plain")
    return ids[: len(ids) - _num_trailing_specials(ids, text, tokenizer)]


def _encode_raw(text: str, tokenizer: PreTrainedTokenizerBase, special: bool) -> list[int]:
    # verbose=False: the engine checks the length itself, with an error that names the problem.
    return cast(list[int], tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _num_trailing_specials(ids: Sequence[int], text: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """Number of closing special tokens that the tokenizer added by itself (some append an end-of-sequence token)."""
    eos = tokenizer.eos_token_id
    added = bool(ids) and eos is not None and ids[-1] == eos and not text.endswith(str(tokenizer.eos_token))
    return 1 if added else 0


def _encode_with_offsets(
    text: str, tokenizer: PreTrainedTokenizerBase, style: Literal["plain", "chat"]
) -> tuple[list[int], list[int], list[int]]:
    """Token ids with the start and end character of each; without offsets (slow tokenizers) the two lists are empty."""
    if not tokenizer.is_fast:
        return _encode(text, tokenizer, style), [], []
    encoded: Any = tokenizer(text, add_special_tokens=style == "plain", return_offsets_mapping=True, verbose=False)
    ids = cast(list[int], encoded["input_ids"])
    keep = len(ids) - _num_trailing_specials(ids, text, tokenizer)
    spans = encoded["offset_mapping"][:keep]
    return ids[:keep], [start for start, _ in spans], [end for _, end in spans]


def _locate(
    prefix: str,
    ids: list[int],
    starts: list[int],
    ends: list[int],
    tokenizer: PreTrainedTokenizerBase,
    style: Literal["plain", "chat"],
) -> tuple[int, bool]:
    """Position of the token that ends ``prefix``, and whether the tokens up to it are the prefix's own."""
    if starts:
        position = bisect.bisect_left(starts, len(prefix)) - 1
        if position >= 0 and ends[position] == len(prefix):
            return position, True
    alone = _encode(prefix, tokenizer, style)
    if not alone:
        raise ModelError(
            f"the prompt is empty and the tokenizer of {tokenizer.name_or_path!r} adds no beginning-of-sequence token; "
            "give the problem a statement, a preamble or an initial state"
        )
    return min(len(alone), len(ids)) - 1, ids[: len(alone)] == alone
