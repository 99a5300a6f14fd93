"""Numbers for every token of given texts, made from a model's logits there: how likely a token was, how sure the model.

Shapes: B rows, T tokens, V vocabulary, F numbers of a note.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from restrl.policy.prefix_tree import Note, PrefixTree


def token_notes(
    model: PreTrainedModel,
    rows: Sequence[tuple[int, ...]],
    starts: Sequence[int],
    note: Note,
    tree: PrefixTree | None = None,
) -> list[torch.Tensor]:
    """Returns the notes on every row's tokens from the last one of its prompt on, shape (length - start + 1, F).

    Args:
        model: A causal language model in evaluation mode.
        rows: Token ids of B rows.
        starts: How many tokens of each row are the prompt's, in [1, length].
        note: Makes the notes (B, T, F) on tokens (B, T) from the logits (B, T, V) after each of them. What it says of
            the last token of the prompt as to the logits before that is not to be used.
        tree: Runs what it has not run before; None: every row is run whole.
    """
    if tree is not None:
        return tree.read(model, rows, starts, note)
    longest, first = max(map(len, rows)), min(starts) - 1
    ids_BT = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows], device=model.device)
    # No mask: in a causal model nothing before the padding sees it.
    logits_BTV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=longest - first).logits
    notes_BTF = note(logits_BTV, ids_BT[:, first:])
    return [
        notes_BTF[number, start - 1 - first : len(row) - first].clone()
        for number, (row, start) in enumerate(zip(rows, starts, strict=True))
    ]


def own_logprobs(logits_BTV: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
    """Returns the log-probability that each token had before it, shape (B, T, 1); 0 for the first."""
    logits_BTV = logits_BTV[:, :-1].float()
    own_BT1 = torch.gather(logits_BTV, 2, ids_BT[:, 1:, None]) - torch.logsumexp(logits_BTV, dim=-1, keepdim=True)
    return torch.nn.functional.pad(own_BT1, (0, 0, 1, 0))
