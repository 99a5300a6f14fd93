"""A value model that reads the policy's surprise: for policies too small to judge by their last hidden state alone.

The published value model is the policy's backbone with a linear head on the last hidden state. At the last token of a
program that state no longer holds what the policy thought of the tokens before, and a small backbone does not learn to
keep it (docs/value.md has the figures). Here the policy stays as it is, and a small network reads, token by token of
the code, how likely the policy found the token, how sure it had been, and which token it was:

    x_t = (log pi(s_t | s_<t), log pi(s_t | s_<t) - max log pi(. | s_<t), H(pi(. | s_<t)), max log pi(. | s_<t),
           H(pi(. | s_<=t)))
    a_t = relu(A x_t + B normalise(e(s_t))),    u_t = relu(U [a_t, relu(conv(a_<=t))])
    V(S_t) = w relu(W [mean(u_<=t), max(u_<=t), u_t])

with the entropy H in nats, logarithms cut at -12, e the policy's token embedding, a causal convolution over 5 tokens,
and x = 0 but for the last entry at the last token of the prompt, where reading starts. The maximum suits a program,
which is wrong as soon as one line is. It is no part of the published method (``value.architecture = "classifier"`` is).
The model is a sequence classifier with one label like the other, and is saved and loaded in the same way wherever this
module is imported.

Shapes: B rows, T tokens, F features, H reader size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from restrl.policy.notes import token_notes
from restrl.policy.prefix_tree import PrefixTree
from restrl.policy.shared_batch import supports_sharing

NUM_FEATURES = 5
_FLOOR = -12.0
_SPAN = 5
_MAX_LOGITS = 1 << 28
# Tokens whose keys, values and features are kept, each path once, and tokens of one forward.
_PREFIX_TOKENS = 65_536
_BATCH_TOKENS = 4_096


class SurpriseConfig(PreTrainedConfig):
    """Configuration of a `SurpriseForSequenceClassification`.

    Args:
        policy: The policy's configuration as plain data, its ``model_type`` included.
        reader_size: Units of every layer of the reading network, >= 1.
    """

    model_type = "restrl_surprise"

    def __init__(self, policy: dict[str, Any] | None = None, reader_size: int = 64, **kwargs: Any) -> None:
        # One scalar, as every value model: without these the library's default of two labels would apply.
        kwargs.setdefault("id2label", {0: "LABEL_0"})
        kwargs.setdefault("label2id", {"LABEL_0": 0})
        super().__init__(**kwargs)
        self.policy = policy or {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 1}
        self.reader_size = reader_size
        self.tie_word_embeddings = bool(self.policy.get("tie_word_embeddings", False))
        for name in ("hidden_size", "vocab_size", "max_position_embeddings", "pad_token_id"):
            if not hasattr(self, name) or getattr(self, name) is None:
                setattr(self, name, self.policy.get(name))

    def policy_config(self) -> PreTrainedConfig:
        """Returns the policy's configuration."""
        values = {key: value for key, value in self.policy.items() if key != "transformers_version"}
        return cast(PreTrainedConfig, AutoConfig.for_model(**values))


class SurpriseReader(torch.nn.Module):
    """The frozen policy and the network that reads its surprise.

    Attributes:
        remembered: Features by token ids, if it is a dict: training reads every program many times, and the policy
            does not change.
    """

    def __init__(self, config: SurpriseConfig) -> None:
        super().__init__()
        text_config = config.policy_config().get_text_config(decoder=True)
        self.policy: Any = AutoModelForCausalLM.from_config(config.policy_config())
        self.policy.requires_grad_(False)
        self.surprise = torch.nn.Linear(NUM_FEATURES, config.reader_size)
        self.token = torch.nn.Linear(text_config.hidden_size, config.reader_size, bias=False)
        self.nearby = torch.nn.Conv1d(config.reader_size, config.reader_size, _SPAN)
        self.mix = torch.nn.Linear(2 * config.reader_size, config.reader_size)
        self.sum_up = torch.nn.Linear(3 * config.reader_size, config.reader_size)
        self.remembered: dict[tuple[int, ...], torch.Tensor] | None = None
        self._prefixes: tuple[PrefixTree | None] | None = None

    def train(self, mode: bool = True) -> SurpriseReader:
        """Sets the mode of the reading network; the policy always predicts as it does when it samples."""
        super().train(mode)
        self.policy.eval()
        return self

    def forward(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> torch.Tensor:
        """Returns the reader's state at every token, shape (B, T, H), >= 0, 0 before the last token of the prompt.

        Args:
            rows: Token ids of B states.
            starts: How many tokens of each row are the prompt's, in [1, length].
        """
        features = self._features(rows, starts)
        longest = max(len(item) for item in features)
        device = self.surprise.weight.device
        x_BTF = torch.zeros(len(rows), longest, NUM_FEATURES, device=device)
        ids_BT = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
        for number, (row, start, item) in enumerate(zip(rows, starts, features, strict=True)):
            x_BTF[number, : len(item)] = item.to(device)
            ids_BT[number, : len(item)] = torch.tensor(list(row[start - 1 :]), device=device)
        embedded_BTD = self.policy.get_input_embeddings()(ids_BT).detach().float()
        normal_BTD = torch.nn.functional.layer_norm(embedded_BTD, embedded_BTD.shape[-1:])
        states_BTH = self._states(x_BTF, normal_BTD)
        # Back to the places in the rows, which differ by the lengths of the prompts.
        whole_BTH = states_BTH.new_zeros(len(rows), max(map(len, rows)), states_BTH.shape[-1])
        for number, (start, item) in enumerate(zip(starts, features, strict=True)):
            whole_BTH[number, start - 1 : start - 1 + len(item)] = states_BTH[number, : len(item)]
        return whole_BTH

    def _states(self, x_BTF: torch.Tensor, embedded_BTD: torch.Tensor) -> torch.Tensor:
        weight = self.surprise.weight.dtype
        own_BTH = torch.relu(self.surprise(x_BTF.to(weight)) + self.token(embedded_BTD.to(weight)))
        shifted_BHT = torch.nn.functional.pad(own_BTH.transpose(1, 2), (_SPAN - 1, 0))
        near_BTH = torch.relu(self.nearby(shifted_BHT)).transpose(1, 2)
        read_BTH = torch.relu(self.mix(torch.cat([own_BTH, near_BTH], dim=-1)))
        count_T1 = torch.arange(1, read_BTH.shape[1] + 1, device=read_BTH.device)[:, None]
        mean_BTH = (read_BTH.float().cumsum(1) / count_T1).to(read_BTH.dtype)
        worst_BTH = read_BTH.cummax(1).values
        return torch.relu(self.sum_up(torch.cat([mean_BTH, worst_BTH, read_BTH], dim=-1)))

    def _features(self, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> list[torch.Tensor]:
        memory = self.remembered if self.remembered is not None else {}
        keys = [tuple(row) for row in rows]
        missing = {key: start for key, start in zip(keys, starts, strict=True) if key not in memory}
        todo = sorted(missing, key=len)
        found: dict[tuple[int, ...], torch.Tensor] = {}
        while todo:
            kept = len(todo[-1]) - min(missing[key] for key in todo) + 1
            size = max(1, _MAX_LOGITS // (kept * int(self.policy.get_input_embeddings().weight.shape[0])))
            batch = todo[-size:]
            del todo[-size:]
            found.update(zip(batch, self._read(batch, [missing[key] for key in batch]), strict=True))
        if self.remembered is not None:
            self.remembered.update((key, item.cpu()) for key, item in found.items())
        return [memory[key] if key in memory else found[key] for key in keys]

    def _prefix_tree(self) -> PrefixTree | None:
        """Returns where keys, values and features are kept: the policy is frozen; None where rows cannot share."""
        if self._prefixes is None:
            shares = self.surprise.weight.device.type == "cpu" and supports_sharing(self.policy)
            vocab = int(self.policy.get_input_embeddings().weight.shape[0])
            tokens = min(_BATCH_TOKENS, max(1, _MAX_LOGITS // vocab))
            self._prefixes = (PrefixTree(_PREFIX_TOKENS, tokens) if shares else None,)
        return self._prefixes[0]

    @torch.no_grad()
    def _read(self, rows: Sequence[tuple[int, ...]], starts: Sequence[int]) -> list[torch.Tensor]:
        """Returns (tokens from the last of the prompt on, F) for every row."""
        items = token_notes(self.policy, rows, starts, _features_of, self._prefix_tree())
        for item in items:
            item[0, : NUM_FEATURES - 1] = 0.0
        return items


def _features_of(logits_BTV: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
    """Returns the features x of tokens (B, T), shape (B, T, F), from the logits after each; the first has no others."""
    logprobs_BTV = torch.log_softmax(logits_BTV.float(), dim=-1)
    entropy_BT = -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)
    best_BT = logprobs_BTV.max(-1).values
    own_BT = torch.gather(logprobs_BTV[:, :-1], 2, ids_BT[:, 1:, None])[..., 0]
    told_BTF = torch.stack([own_BT, own_BT - best_BT[:, :-1], entropy_BT[:, :-1], best_BT[:, :-1]], dim=-1)
    told_BTF = torch.nn.functional.pad(told_BTF, (0, 0, 1, 0)).clamp(min=_FLOOR)
    return torch.cat([told_BTF, entropy_BT[..., None]], dim=-1)


class SurpriseForSequenceClassification(PreTrainedModel):
    """A frozen causal language model, a reader of its surprise, and one scalar output per token."""

    config_class = SurpriseConfig
    base_model_prefix = "reader"
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: SurpriseConfig) -> None:
        super().__init__(config)
        self.num_labels = 1
        self.reader = SurpriseReader(config)
        self.score = torch.nn.Linear(config.reader_size, 1)
        tied = getattr(self.reader.policy, "_tied_weights_keys", None)
        if isinstance(tied, dict) and config.tie_word_embeddings:
            # The library saves and loads shared weights by the names that the outermost model knows.
            prefix = f"{self.base_model_prefix}.policy."
            self._tied_weights_keys = {prefix + key: prefix + value for key, value in tied.items()}
            self._keys_to_ignore_on_save = list(self._tied_weights_keys)
        self.post_init()

    @classmethod
    def from_policy(cls, path: Path, reader_size: int = 64, seed: int = 0, **kwargs: Any) -> Any:
        """Returns an untrained value model of a policy.

        Args:
            path: The policy's directory.
            reader_size: Units of the reader.
            seed: Of the reader's first weights.
            **kwargs: For ``AutoModelForCausalLM.from_pretrained``.
        """
        policy = AutoModelForCausalLM.from_pretrained(str(path), **kwargs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(SurpriseConfig(policy=policy.config.to_dict(), reader_size=reader_size))
        model.reader.policy = policy.requires_grad_(False).eval()
        return model

    def _init_weights(self, module: torch.nn.Module) -> None:
        # PyTorch's own initialisation has been done by then.
        return

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> torch.Tensor:  # pragma: no cover - the classifier interface for others; values are read by `outputs`
        """Returns the scalar at every token, shape (B, T); the whole row is read as code."""
        rows = [row.tolist() for row in input_ids]
        return cast(torch.Tensor, self.score(self.reader(rows, [1] * len(rows)))).squeeze(-1)


AutoConfig.register(SurpriseConfig.model_type, SurpriseConfig, exist_ok=True)
AutoModelForSequenceClassification.register(SurpriseConfig, SurpriseForSequenceClassification, exist_ok=True)
