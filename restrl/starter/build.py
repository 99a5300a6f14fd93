"""Makes the starter's policy from nothing: tokenizer, corpus, pre-training (`restrl starter build`).

The same seed, versions and number of threads give the same weights. A killed build continues from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from restrl.seeds import derive_seed
from restrl.starter.corpus import CorpusConfig, Document, documents
from restrl.starter.tokenizer import CONTEXT, load_tokenizer, train_tokenizer

Log = Callable[[dict[str, float]], None]

_CHUNK_BATCHES = 16
_IGNORE = -100


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """How the policy is pre-trained.

    Attributes:
        steps: Optimizer steps.
        batch: Documents per step.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear warm-up.
        decay: Steps of the linear decay at the end.
        weight_decay: Of AdamW.
        prompt_weight: Weight of the prompt's tokens in the loss; a solution's tokens weigh 1.
        hidden: Width.
        layers: Depth.
        heads: Attention heads.
        threads: CPU threads; the weights depend on it.
        save_every: Steps between checkpoints.
        tokenizer_documents: Documents that the tokenizer is trained on; training begins with the next one.
        corpus: How the documents are made.
        rough: How those of the first ``rough_steps`` steps (and the tokenizer's) are made: with more mistakes.
        rough_steps: Steps that begin with the rough documents.
    """

    steps: int = 3400
    batch: int = 32
    learning_rate: float = 2e-3
    warmup: int = 100
    decay: int = 1000
    weight_decay: float = 0.1
    prompt_weight: float = 0.1
    hidden: int = 128
    layers: int = 4
    heads: int = 4
    threads: int = 2
    save_every: int = 200
    tokenizer_documents: int = 20_000
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    rough: CorpusConfig = field(default_factory=lambda: CorpusConfig(careful=0.15, sloppy=0.5))
    rough_steps: int = 2200


def build_tokenizer(config: BuildConfig, seed: int) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on the corpus's first documents."""
    return train_tokenizer(document.text for document in documents(0, config.tokenizer_documents, seed, config.rough))


def build_model(tokenizer: PreTrainedTokenizerFast, config: BuildConfig, seed: int) -> LlamaForCausalLM:
    """Makes the untrained model, leaving the global random state as it was."""
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden,
        intermediate_size=4 * config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "starter weights") % 2**32)
        return LlamaForCausalLM(settings)


def _encode(tokenizer: PreTrainedTokenizerFast, chunk: list[Document]) -> list[tuple[list[int], int]]:
    prompts = tokenizer([document.prompt for document in chunk])["input_ids"]
    rests = tokenizer([document.rest for document in chunk])["input_ids"]
    return [((prompt + rest)[:CONTEXT], len(prompt)) for prompt, rest in zip(prompts, rests, strict=True)]


def batches(
    tokenizer: PreTrainedTokenizerFast, config: BuildConfig, seed: int, start: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yields (input ids, labels, loss weights), each ``[batch, length]``, from step ``start`` on.

    Every document is new. Documents of like length share a batch, within chunks of a few batches.
    """
    step = start
    while step < config.steps:
        chunk = step // _CHUNK_BATCHES
        size = _CHUNK_BATCHES * config.batch
        first = config.tokenizer_documents + chunk * size
        corpus = config.rough if chunk * _CHUNK_BATCHES < config.rough_steps else config.corpus
        encoded = sorted(_encode(tokenizer, list(documents(first, size, seed, corpus))), key=lambda e: len(e[0]))
        groups = [encoded[i : i + config.batch] for i in range(0, size, config.batch)]
        random.Random(derive_seed(seed, "starter batches", chunk)).shuffle(groups)
        for group in groups[step % _CHUNK_BATCHES : config.steps - chunk * _CHUNK_BATCHES]:
            yield _collate(group, int(tokenizer.pad_token_id), config.prompt_weight)
            step += 1


def _collate(group: list[tuple[list[int], int]], pad: int, prompt_weight: float) -> tuple[torch.Tensor, ...]:
    length = max(len(ids) for ids, _ in group)
    ids_BT = torch.full((len(group), length), pad)
    labels_BT = torch.full((len(group), length), _IGNORE)
    weights_BT = torch.ones((len(group), length))
    for row, (ids, prompt) in enumerate(group):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        labels_BT[row, : len(ids)] = torch.tensor(ids)
        weights_BT[row, :prompt] = prompt_weight
    return ids_BT, labels_BT, weights_BT


def weighted_loss(logits_BTV: torch.Tensor, labels_BT: torch.Tensor, weights_BT: torch.Tensor) -> torch.Tensor:
    """Next-token cross-entropy, averaged with the given weights; padding counts nothing."""
    labels = labels_BT[:, 1:].reshape(-1)
    losses = functional.cross_entropy(
        logits_BTV[:, :-1].reshape(-1, logits_BTV.shape[-1]), labels, ignore_index=_IGNORE, reduction="none"
    )
    weights = weights_BT[:, 1:].reshape(-1) * (labels != _IGNORE)
    return (losses * weights).sum() / weights.sum()


def learning_rate_at(step: int, config: BuildConfig) -> float:
    """Linear warm-up, constant, linear decay to 0 in the last ``config.decay`` steps.

    Until the decay nothing depends on the number of steps, so a checkpoint can be continued to another length.
    """
    rising = (step + 1) / config.warmup
    falling = (config.steps - step) / config.decay
    return config.learning_rate * min(1.0, rising, falling)


def _optimizer(model: LlamaForCausalLM, config: BuildConfig) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-8)


def _save(out: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, state: dict[str, Any] | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if state is not None:
        part = out / "training_state.pt.part"
        torch.save(state | {"model": model.state_dict()}, part)
        os.replace(part, out / "training_state.pt")


def build_starter(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    on_log: Log | None = None,
    config: BuildConfig | None = None,
) -> Path:
    """Builds the starter's policy.

    Args:
        out: Gets the model in the ``from_pretrained`` layout under ``policy``, and checkpoints under ``checkpoint``.
        seed: Of everything.
        steps: Overrides ``config.steps``.
        on_log: Gets ``step``, ``loss``, ``learning_rate``, ``elapsed_s`` every 20 steps.
        config: Everything else.

    Returns:
        The product's directory, ``out/policy``.
    """
    config = config or BuildConfig()
    if steps is not None:
        config = replace(config, steps=steps)
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _build(out, seed, on_log, config)
    finally:
        torch.set_num_threads(threads)


def _build(out: Path, seed: int, on_log: Log | None, config: BuildConfig) -> Path:
    checkpoint = out / "checkpoint"
    identity = json.dumps({"seed": seed, "config": asdict(config) | {"steps": 0}}, sort_keys=True)
    state_file = checkpoint / "training_state.pt"
    state = torch.load(state_file, weights_only=True) if state_file.is_file() else None
    if state is not None and (state["identity"] != identity or state["ends"] not in (0, config.steps)):
        state = None
    tokenizer = load_tokenizer(checkpoint / "tokenizer.json") if state else build_tokenizer(config, seed)
    model = build_model(tokenizer, config, seed)
    optimizer = _optimizer(model, config)
    first = 0
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    began = time.monotonic()
    model.train()
    for step, (ids_BT, labels_BT, weights_BT) in enumerate(batches(tokenizer, config, seed, first), first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        loss = weighted_loss(model(input_ids=ids_BT, use_cache=False).logits, labels_BT, weights_BT)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_log and step % 20 == 0:
            elapsed = time.monotonic() - began
            on_log({"step": step, "loss": loss.item(), "learning_rate": group["lr"], "elapsed_s": elapsed})
        if (step + 1) % config.save_every == 0:
            ends = config.steps if step + 1 > config.steps - config.decay else 0
            resume = {"identity": identity, "ends": ends, "step": step + 1, "optimizer": optimizer.state_dict()}
            _save(checkpoint, model, tokenizer, resume)
    product = out / "policy"
    _save(product, model, tokenizer, None)
    return product
