"""The importance ratios of a step: what the update's forward says of the sampled tokens, over what the sampler said.

While on-policy they are 1 up to rounding. Where they are not, sampling and training disagree: other weights, another
precision, other tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from restrl.grpo.metrics import Ratios
from restrl.types import Completion


class RatioMeter:
    """Compares the forwards of a step with the step's samples."""

    def __init__(self) -> None:
        # By prompt and completion apart: a problem and a prefix of its solution may end in the same whole sequence.
        self._sampled: dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[float, ...]] = {}
        self._found = Ratios()

    def expect(self, prompts: Sequence[Sequence[int]], completions: Sequence[Completion]) -> None:
        """Takes the samples of a new step; those without log-probabilities are not measured."""
        self._found = Ratios()
        self._sampled = {
            (tuple(prompt), tuple(completion.token_ids)): completion.token_logprobs
            for prompt, completion in zip(prompts, completions, strict=True)
            if completion.token_ids is not None and completion.token_logprobs is not None
        }

    def measure(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, logps_BC: torch.Tensor) -> None:
        """Takes the log-probabilities of a forward.

        Args:
            ids_BT: Prompts, padded on the left, and completions, padded on the right.
            mask_BT: 0 on padding.
            logps_BC: Of the completions' tokens; the last C columns of ``ids_BT``.
        """
        if not self._sampled:
            return
        begin = ids_BT.shape[1] - logps_BC.shape[1]
        logps = logps_BC.detach().float().tolist()
        sampled: list[float] = []
        trained: list[float] = []
        for ids, mask, values in zip(ids_BT, mask_BT.bool(), logps, strict=True):
            prompt, completion = ids[:begin][mask[:begin]], ids[begin:][mask[begin:]]
            known = self._sampled.get((tuple(prompt.tolist()), tuple(completion.tolist())), ())
            sampled += known
            trained += values[: len(known)]
        if not sampled:
            return
        ratios = torch.exp(torch.tensor(trained, dtype=torch.float64) - torch.tensor(sampled, dtype=torch.float64))
        self._found = Ratios(
            self._found.total + float(ratios.sum()),
            self._found.count + len(ratios),
            max(self._found.deviation, float((ratios - 1).abs().max())),
        )

    def take(self) -> Ratios:
        """Returns what was measured since `expect`."""
        return self._found
