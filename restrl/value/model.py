"""The trained value model (ReST-RL, section 3.3): the policy's architecture with one scalar output.

It is saved as a sequence-classification model with one label, in the standard layout, so that anything can load it; the
value of a state is the model's output at the state's last token. ``config.json`` holds in addition ``restrl_value``:
how the output becomes a value, what kind of scorer it is, its calibration
(`restrl.value.calibrators`), and the prompt style of the training.

Shapes: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy.memory import memory_advice
from restrl.policy.model_dir import check_model_dir, choose_device, load_tokenizer, load_weights
from restrl.policy.prompting import resolve_style, state_offsets
from restrl.types import State
from restrl.value.calibrators import Calibrator
from restrl.value.encoding import ValueSequence, encode_outputs, encode_path, host_states, length_batches
from restrl.value.surprise import SurpriseForSequenceClassification

META_KEY = "restrl_value"


@dataclass(slots=True)
class ValueStats:
    """What a value model did since it was made.

    Attributes:
        tokens: Tokens that went through the model, padding excluded.
        sequences: Forwards' rows.
        values: Values returned.
        seconds: Wall time of scoring.
    """

    tokens: int = 0
    sequences: int = 0
    values: int = 0
    seconds: float = 0.0


class TrainedValueModel:
    """A `ValueModel` from a directory that `restrl.value.train` wrote, or any one-label classifier.

    Args:
        model_dir: The directory.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (float32 on the CPU, bfloat16 on CUDA), ``float32``, ``bfloat16`` or ``float16``.
        prompt_style: ``plain`` or ``chat``; ``auto`` is the style of the training.
        max_batch_tokens: Tokens of one forward, padding included.
        clamp: Values outside [0, 1], which a squared-error model may give, are moved to the nearest end.
        calibration: The map that values go through: ``auto`` is what the training chose (nothing for a model without
            one); ``none``, ``isotonic`` or ``quantile``.

    Attributes:
        kind: What it has learned: ``vm``, ``orm`` or ``prm`` (see `restrl.value.kinds`).
        stats: Counters.

    Raises:
        ModelError: The directory is not a value model.
        ConfigError: A setting is not allowed.
    """

    def __init__(
        self,
        model_dir: Path,
        device: str = "auto",
        dtype: str = "auto",
        prompt_style: str = "auto",
        max_batch_tokens: int = 16_384,
        clamp: bool = False,
        calibration: str = "auto",
    ) -> None:
        path = check_model_dir(Path(model_dir))
        tokenizer = load_tokenizer(path)
        chosen = choose_device(device)
        model, missing = load_weights(AutoModelForSequenceClassification, path, chosen, dtype)
        if missing:
            raise ModelError(
                f"model directory {str(path)!r} is no value model (its weights lack "
                f"{', '.join(missing[:2])}); train one with `restrl train-value`"
            )
        self._set_up(model, tokenizer, prompt_style, max_batch_tokens, clamp, calibration)

    @classmethod
    def from_model(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt_style: str = "auto",
        max_batch_tokens: int = 16_384,
        clamp: bool = False,
        calibration: str = "auto",
    ) -> TrainedValueModel:
        """Wraps a sequence-classification model in memory."""
        value_model = cls.__new__(cls)
        value_model._set_up(model, tokenizer, prompt_style, max_batch_tokens, clamp, calibration)
        return value_model

    def _set_up(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prompt_style: str,
        max_batch_tokens: int,
        clamp: bool,
        calibration: str,
    ) -> None:
        if max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens is {max_batch_tokens}; it must be >= 1")
        check_value_head(model)
        self.model = model.eval()
        self.tokenizer = tokenizer
        meta: dict[str, Any] = getattr(model.config, META_KEY, None) or {}
        style = meta.get("prompt_style", "auto") if prompt_style == "auto" else prompt_style
        self.prompt_style = resolve_style(tokenizer, style)
        self.max_batch_tokens = max_batch_tokens
        self.stats = ValueStats()
        self.kind = str(meta.get("kind", "vm"))
        self._output = str(meta.get("output", "identity"))
        self._clamp = clamp
        self._calibrator = _calibrator(meta.get("calibration"), calibration)

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns one value per state, in order.

        A state that begins another of the call is read from the other's forward, and equal states are scored once.

        Raises:
            EngineError: A value is not finite.
        """
        sequences: list[ValueSequence] = []
        for host, offsets, slots in host_states(states):
            sequences += encode_outputs(host, offsets, slots, self.tokenizer, self.prompt_style)
        return self._run(sequences, len(states))

    def score_paths(self, states: Sequence[State]) -> list[list[tuple[int, float]]]:
        """Returns the value of each state, and what its forward says of the states on the way to it.

        A forward reads a program's first lines in any case, so their values cost nothing: a search asks for them later.

        Args:
            states: The states.

        Returns:
            For each state, pairs of a character offset into its code and a value: first its own end, then the ends of
            earlier actions, as many as the same forward gives (none where another state of the call has them).

        Raises:
            EngineError: A value is not finite.
        """
        sequences: list[ValueSequence] = []
        count = len(states)
        paths: list[tuple[int, int, list[int]]] = []
        for host, offsets, slots in host_states(states):
            encoded, inner = encode_path(host, offsets, slots, self.tokenizer, self.prompt_style, count)
            sequences += encoded
            paths.append((slots[0], count, inner))
            count += len(inner)
        values = self._run(sequences, count)
        found = [[(len(state.code), value)] for state, value in zip(states, values, strict=False)]
        for slot, first, inner in paths:
            found[slot] += zip(inner, values[first : first + len(inner)], strict=True)
        return found

    def score_boundaries(self, states: Sequence[State]) -> list[list[float]]:
        """Returns the values at the end of every action of each state, from one forward per state.

        A terminal state has one more: the value of the finished program, at the end-of-sequence token. The value of the
        problem alone (no action) is not among them: score the state without code.

        Raises:
            EngineError: A value is not finite.
        """
        sequences: list[ValueSequence] = []
        spans: list[tuple[int, int]] = []
        count = 0
        for state in states:
            offsets = state_offsets(state)
            slots = range(count, count + len(offsets))
            spans.append((count, count + len(offsets)))
            count += len(offsets)
            if offsets:
                sequences += encode_outputs(state, offsets, slots, self.tokenizer, self.prompt_style)
        values = self._run(sequences, count)
        return [values[begin:end] for begin, end in spans]

    def _run(self, sequences: Sequence[ValueSequence], count: int) -> list[float]:
        began = time.perf_counter()
        unique = {sequence.ids: [] for sequence in sequences}  # type: dict[tuple[int, ...], list[ValueSequence]]
        for sequence in sequences:
            unique[sequence.ids].append(sequence)
        rows = list(unique)
        values = [math.nan] * count
        memory = {"the value model's max_batch_tokens": self.max_batch_tokens}
        with torch.inference_mode(), memory_advice("scoring states", memory):
            for batch in length_batches([len(ids) for ids in rows], self.max_batch_tokens):
                ids = [rows[i] for i in batch]
                outputs_BT = outputs(self.model, ids, [unique[row][0].start for row in ids]).float()
                if self._output == "sigmoid":
                    outputs_BT = torch.sigmoid(outputs_BT)
                self.stats.tokens += sum(len(row) for row in ids)
                scored: list[list[float]] = outputs_BT.tolist()
                for row, row_values in zip(ids, scored, strict=True):
                    for sequence in unique[row]:
                        for position, slot in zip(sequence.positions, sequence.slots, strict=True):
                            values[slot] = row_values[position]
        bad = next((value for value in values if not math.isfinite(value)), None)
        if bad is not None:
            raise EngineError(
                f"the value model gave {bad} for a state; its weights are broken or overflow in this precision: "
                "train it again, or use dtype float32"
            )
        self.stats.sequences += len(rows)
        self.stats.values += count
        self.stats.seconds += time.perf_counter() - began
        if self._calibrator is not None:
            values = self._calibrator(np.array(values, dtype=np.float64)).tolist()
        return [min(max(value, 0.0), 1.0) for value in values] if self._clamp else values


def _calibrator(stored: Any, wanted: str) -> Calibrator | None:
    """The calibration to apply, from what the configuration holds."""
    fits: Any = stored.get("fits", {}) if isinstance(stored, dict) else {}
    method = wanted
    if wanted == "auto":
        method = str(stored.get("method", "none")) if isinstance(stored, dict) else "none"
    if method == "none":
        return None
    if method not in fits:
        raise ConfigError(
            f"calibration {method!r} is not stored with this value model; there is {', '.join(['none', *fits])}"
        )
    return Calibrator.from_json(fits[method])


def outputs(model: PreTrainedModel, ids: Sequence[Sequence[int]], starts: Sequence[int] | None = None) -> torch.Tensor:
    """Returns the scalar head at every token, shape (B, T).

    Rows are padded on the right. No mask is needed: in a causal model nothing before the padding sees it.

    Args:
        model: The value model.
        ids: Token ids of B rows.
        starts: How many tokens of each row are the prompt's; a model that reads surprise starts there.
    """
    head = cast(torch.nn.Module, model.score)
    hidden_BTD = features(model, ids, starts)
    return cast(torch.Tensor, head(hidden_BTD)).squeeze(-1)


def features(model: PreTrainedModel, ids: Sequence[Sequence[int]], starts: Sequence[int] | None = None) -> torch.Tensor:
    """Returns what the scalar head reads at every token, shape (B, T, D), rows padded on the right."""
    if isinstance(model, SurpriseForSequenceClassification):
        return cast(torch.Tensor, model.reader(ids, starts or [1] * len(ids)))
    longest = max(len(row) for row in ids)
    pad = model.config.get_text_config(decoder=True).pad_token_id or 0
    ids_BT = torch.tensor([[*row, *([pad] * (longest - len(row)))] for row in ids], device=model.device)
    backbone: Any = getattr(model, model.base_model_prefix)
    return cast(torch.Tensor, backbone(input_ids=ids_BT, use_cache=False).last_hidden_state)


def check_value_head(model: PreTrainedModel) -> None:
    """Checks that a model has one scalar output per token.

    Raises:
        ModelError: It has another head.
    """
    head = getattr(model, "score", None)
    labels = getattr(model.config, "num_labels", None)
    if not isinstance(head, torch.nn.Module) or labels != 1:
        raise ModelError(
            f"{type(model).__name__} is no value model: it has {labels} labels and "
            f"{'a' if head is not None else 'no'} `score` head; one label and a `score` head are needed"
        )
