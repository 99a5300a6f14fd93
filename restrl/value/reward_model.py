"""Off-the-shelf reward models: a finished program scored as an assistant's answer to the problem.

Any sequence classifier in the standard layout that transformers knows by itself: with one label its output is the
reward; with two, the probability of label 1. With a chat template the text is a conversation, the user's message the
problem's statement and the assistant's a fenced program, rendered as the template does it for a whole conversation.
Without one it is the statement, a blank line and the program, and the end-of-sequence token.

Such models were made for finished answers. An unfinished state is the same text with the answer left open, which they
have not seen: use them in `best_of_n` or `orm_mcts`, or measure them first (`restrl.value.measure`). Their rewards are
on a scale of their own; what searches with values needs [0, 1], by ``output = "sigmoid"`` or a calibration.

Shapes: B rows, T tokens, L labels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from restrl.errors import ConfigError, EngineError, ModelError
from restrl.policy.model_dir import check_model_dir, choose_device, load_tokenizer, load_weights
from restrl.policy.prompting import FENCE, eos_id, resolve_style
from restrl.types import State
from restrl.value.calibrators import Calibrator
from restrl.value.encoding import length_batches
from restrl.value.model import ValueStats

OUTPUTS = ("auto", "identity", "sigmoid")


class RewardModel:
    """A `restrl.types.ValueModel` from any sequence classifier with one or two labels.

    Args:
        model_dir: A directory in the standard layout.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto`` (float32 on the CPU, bfloat16 on CUDA), ``float32``, ``bfloat16`` or ``float16``.
        prompt_style: ``chat``, ``plain``, or ``auto``: chat if the tokenizer has a chat template.
        max_batch_tokens: Tokens of one forward, padding included.
        output: What becomes of the one label's output: ``identity`` (``auto``) or ``sigmoid``. Two labels always give
            a probability.
        calibrator: A map of the outputs into (0, 1).

    Attributes:
        kind: ``orm``: it judges finished programs.
        stats: Counters.

    Raises:
        ModelError: The directory holds no sequence classifier of one or two labels.
        ConfigError: A setting is not allowed.
    """

    kind = "orm"

    def __init__(
        self,
        model_dir: Path,
        device: str = "auto",
        dtype: str = "auto",
        prompt_style: str = "auto",
        max_batch_tokens: int = 16_384,
        output: str = "auto",
        calibrator: Calibrator | None = None,
    ) -> None:
        if max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens is {max_batch_tokens}; it must be >= 1")
        if output not in OUTPUTS:
            raise ConfigError(f"output is {output!r}; allowed: {', '.join(OUTPUTS)}")
        path = check_model_dir(Path(model_dir))
        self.tokenizer = load_tokenizer(path)
        chosen = choose_device(device)
        self.model = _load(path, chosen, dtype)
        self.prompt_style = resolve_style(self.tokenizer, prompt_style)
        self.max_batch_tokens = max_batch_tokens
        self.stats = ValueStats()
        self._squash = output == "sigmoid"
        self._calibrator = calibrator
        text_config = self.model.config.get_text_config(decoder=True)
        self._context = getattr(text_config, "max_position_embeddings", None)
        # A decoder's output is read at its last token that is not padding; an encoder's at its first.
        self._is_decoder = hasattr(self.model, "score")

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns one reward per state, in order; equal states are scored once.

        Raises:
            EngineError: A text is longer than the model's context, or a reward is not finite.
        """
        began = time.perf_counter()
        encoded = [encode_answer(state, self.tokenizer, self.prompt_style) for state in states]
        for state, ids in zip(states, encoded, strict=True):
            if self._context is not None and len(ids) > self._context:
                raise EngineError(
                    f"a program for {state.problem.id} has {len(ids)} tokens with its problem, more than the reward "
                    f"model's {self._context}; lower policy.max_new_tokens, or take a model with a longer context"
                )
        rows = list(dict.fromkeys(encoded))
        rewards: dict[tuple[int, ...], float] = {}
        with torch.inference_mode():
            for batch in length_batches([len(ids) for ids in rows], self.max_batch_tokens):
                chosen = [rows[i] for i in batch]
                rewards.update(zip(chosen, self._forward(chosen), strict=True))
        values = [rewards[ids] for ids in encoded]
        bad = next((value for value in values if not math.isfinite(value)), None)
        if bad is not None:
            raise EngineError(f"the reward model gave {bad} for a program; use dtype float32, or check its weights")
        if self._calibrator is not None:
            values = self._calibrator(np.array(values, dtype=np.float64)).tolist()
        self.stats.tokens += sum(map(len, rows))
        self.stats.sequences += len(rows)
        self.stats.values += len(values)
        self.stats.seconds += time.perf_counter() - began
        return values

    def _forward(self, rows: Sequence[tuple[int, ...]]) -> list[float]:
        config = self.model.config.get_text_config(decoder=True)
        pad = self._padding(rows, config.pad_token_id)
        longest = max(map(len, rows))
        ids_BT = torch.tensor([[*row, *([pad] * (longest - len(row)))] for row in rows], device=self.model.device)
        mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self.model.device)
        if self._is_decoder:
            config.pad_token_id = self.model.config.pad_token_id = pad
        logits_BL = self.model(input_ids=ids_BT, attention_mask=mask_BT).logits.double()
        if logits_BL.shape[1] == 2:
            rewards_B = torch.softmax(logits_BL, dim=1)[:, 1]
        else:
            rewards_B = torch.sigmoid(logits_BL[:, 0]) if self._squash else logits_BL[:, 0]
        return cast(list[float], rewards_B.tolist())

    def _padding(self, rows: Sequence[tuple[int, ...]], own: int | None) -> int:
        """A token to pad with. A decoder looks for the last token that is another: none of the rows may hold it."""
        if not self._is_decoder:
            return own or 0
        used = set().union(*rows)
        candidates = [i for i in (own, self.tokenizer.pad_token_id) if i is not None and i not in used]
        return candidates[0] if candidates else next(i for i in range(len(used) + 1) if i not in used)


def encode_answer(state: State, tokenizer: PreTrainedTokenizerBase, style: str) -> tuple[int, ...]:
    """Returns the tokens of a state as a question and its answer.

    Args:
        state: A finished program is a whole answer; an unfinished one is left open.
        tokenizer: The reward model's.
        style: ``chat`` or ``plain``.
    """
    problem = state.problem
    question = problem.chat_message or problem.statement or problem.preamble or problem.initial_state
    if style == "plain":
        ids = tokenizer(f"{question}\n\n{state.program}", verbose=False)["input_ids"]
        end = eos_id(tokenizer) if state.terminal else None
        if end is None:
            return tuple(ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids)
        return tuple(ids) if ids and ids[-1] == end else (*ids, end)
    answer = f"{problem.chat_opening}{FENCE}python\n{state.program}"
    messages = [{"role": "user", "content": question}]
    # A fixed day for the templates that show one: the same program has the same reward tomorrow.
    options: dict[str, Any] = {"tokenize": False, "enable_thinking": False, "date_string": "26 Jul 2024"}
    if state.terminal:
        closed = [*messages, {"role": "assistant", "content": f"{answer}{FENCE}"}]
        text = tokenizer.apply_chat_template(closed, **options)
    else:
        text = cast(str, tokenizer.apply_chat_template(messages, add_generation_prompt=True, **options)) + answer
    return tuple(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _load(path: Path, device: str, dtype: str) -> PreTrainedModel:
    loaded, missing = load_weights(AutoModelForSequenceClassification, path, device, dtype)
    labels = loaded.config.num_labels
    if missing or labels not in (1, 2):
        why = (
            f"its weights lack {', '.join(missing[:2])}"
            if missing
            else f"it has {labels} labels, and one or two are needed"
        )
        raise ModelError(f"model directory {str(path)!r} is no reward model: {why}; give a sequence classifier")
    return cast(PreTrainedModel, loaded)
