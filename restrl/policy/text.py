"""Tokens back to text, one token at a time, and where a completion stops."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Long enough to give decoders that treat a leading space apart something to lean on.
_CONTEXT_TOKENS = 4


def find_stop(context: str, text: str, stops: Sequence[str]) -> int | None:
    """Returns where in ``text`` the first stop string begins, or None.

    A stop string may begin in the context, where it ends in ``text``: the code before a completion ends in a newline,
    and stop strings begin with one. The completion is then empty: 0. So a completion stops at the same place whether it
    was sampled from the problem or from one of its own prefixes.

    >>> find_stop("", "return x\\n# end", ["\\n#"])
    8
    >>> find_stop("return x\\n", "# end", ["\\n#"])
    0
    >>> find_stop("", "return x\\n", ["\\n#"]) is None
    True
    """
    best: int | None = None
    for stop in stops:
        reach = min(len(stop) - 1, len(context))
        joined = context[len(context) - reach :] + text
        at = joined.find(stop)
        if at >= 0:
            begin = max(at - reach, 0)
            best = begin if best is None else min(best, begin)
    return best


class Detokenizer:
    """Decodes completions of one tokenizer, and keeps the text of single tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._pieces: dict[int, str] = {}
        anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
        self._anchor: list[int] = list(cast(list[int], anchor))
        self._anchor_text = self._decode(self._anchor)

    def _decode(self, ids: Sequence[int]) -> str:
        return cast(
            str,
            self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False),
        )

    def piece(self, token_id: int) -> str:
        """Returns the text of one token inside a text; empty for special tokens.

        A token that is part of a character gives a replacement character.
        """
        text = self._pieces.get(token_id)
        if text is None:
            text = self._decode([*self._anchor, token_id])[len(self._anchor_text) :]
            self._pieces[token_id] = text
        return text

    def text(self, prompt_ids: Sequence[int], ids: Sequence[int]) -> str:
        """Returns the text of the tokens as they follow the prompt (its leading spaces kept)."""
        head = list(prompt_ids[-_CONTEXT_TOKENS:])
        before = self._decode(head)
        joined = self._decode([*head, *ids])
        if joined.startswith(before):
            return joined[len(before) :]
        # The prompt's last tokens decode otherwise alone (half a character).
        return self._decode(ids)

    def ends(self, prompt_ids: Sequence[int], ids: Sequence[int], text: str, limit: int) -> tuple[int, ...]:
        """Returns how many characters of a text stand when each of its tokens is there, ascending.

        Args:
            prompt_ids: Tokens of the prompt.
            ids: Tokens of the text.
            text: What `text` gives for them.
            limit: No number is larger: the text may have been cut there.
        """
        ends = list(itertools.accumulate(len(self.piece(token)) for token in ids))
        if ends and ends[-1] != len(text):
            # A character that several tokens make up stands with the last of them.
            lengths = [len(self.text(prompt_ids, ids[: end + 1]).rstrip("\ufffd")) for end in range(len(ids))]
            ends = [*itertools.accumulate(lengths[:-1], max), len(text)]
        return tuple(min(end, limit) for end in ends)


class StopChecker:
    """Watches one completion for its stop strings while it grows."""

    __slots__ = ("_context", "_detokenizer", "_longest", "_prompt_ids", "_stops", "_tail")

    def __init__(self, detokenizer: Detokenizer, prompt_ids: Sequence[int], context: str, stops: Sequence[str]) -> None:
        self._detokenizer = detokenizer
        self._prompt_ids = prompt_ids
        self._stops = stops
        self._longest = max((len(stop) for stop in stops), default=0)
        self._context = context[len(context) - min(len(context), max(self._longest - 1, 0)) :]
        self._tail = self._context

    def hits(self, ids: Sequence[int]) -> bool:
        """Whether the text of ``ids``, whose last one is new, holds a stop string."""
        if not self._stops:
            return False
        piece = self._detokenizer.piece(ids[-1])
        window = self._tail + piece
        self._tail = window[-(self._longest - 1) :] if self._longest > 1 else ""
        if not any(stop in window for stop in self._stops):
            return False
        # Token by token the text may differ from the whole text: only the latter counts.
        return find_stop(self._context, self._detokenizer.text(self._prompt_ids, ids), self._stops) is not None

    def cut(self, text: str) -> str | None:
        """Returns the text before the first stop string, or None without one."""
        at = find_stop(self._context, text, self._stops)
        return None if at is None else text[:at]
