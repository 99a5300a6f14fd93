"""How much GPU memory training will take, by part, before anything is loaded. Arithmetic on a model's shape.

The numbers of bytes per token are those that autograd keeps for the layers of Llama- and Qwen-style models (counted on
them, and held to it by the tests); other architectures are like them, not the same. What the allocator loses to
fragmentation, and what CUDA and its libraries take for themselves, is a share on top.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from restrl.grpo.config import GRPOConfig
from restrl.grpo.hardware import HardwareConfig
from restrl.grpo.offline_config import OfflineConfig
from restrl.policy.config import PolicyConfig
from restrl.policy.model_shape import ModelShape
from restrl.value.config import ValueConfig

GIB = 1 << 30
# CUDA's context and the libraries' workspaces.
CONTEXT_BYTES = GIB
# Blocks of the caching allocator that are held and cannot be used.
FRAGMENTATION = 0.05
# The training engine projects hidden states to logits in tiles of so many tokens by so many words of the vocabulary.
_TILE = 4096 * 8192
# Bytes per (token, layer) that autograd keeps: of the width, and of the feed-forward width.
_KEPT = {"float32": (40, 16), "autocast": (34, 8), "bfloat16": (24, 8)}
_KEPT_HEAD_NORMS = {"float32": 8, "autocast": 6, "bfloat16": 6}
# Adapters in float32 keep their inputs once more.
_LORA_KEPT = 1.5


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the memory of a process.

    Attributes:
        name: What it is.
        bytes: Of one GPU.
        how: How it comes about, with the settings that change it.
    """

    name: str
    bytes: float
    how: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The memory of a stage on each GPU.

    Attributes:
        stage: The stage.
        held: What is there all the time.
        phases: What comes on top, one after the other: name of the phase and its parts.
        advice: Settings that lower it, the best first.
    """

    stage: str
    held: Sequence[Part]
    phases: Sequence[tuple[str, Sequence[Part]]]
    advice: str

    @property
    def peak(self) -> float:
        """Bytes of the largest phase, with what fragmentation takes."""
        largest = max((sum(part.bytes for part in parts) for _, parts in self.phases), default=0.0)
        return (sum(part.bytes for part in self.held) + largest) * (1 + FRAGMENTATION) + CONTEXT_BYTES

    def lines(self, gpu_bytes: float = 0.0) -> list[str]:
        """Returns the table, and a warning where it does not fit ``gpu_bytes`` (0 = not known)."""
        rows = [*self.held, *(part for _, parts in self.phases for part in parts)]
        text = [f"{self.stage}, GiB on each GPU"]
        text += [f"  {part.name:<28}{part.bytes / GIB:>8.2f}  {part.how}" for part in rows if part.bytes]
        names = [name for name, _ in self.phases]
        largest = f"with the larger of {' and '.join(names)}, " if len(names) > 1 else ""
        text.append(f"  {'peak':<28}{self.peak / GIB:>8.2f}  {largest}5% fragmentation and 1 GiB for CUDA")
        if gpu_bytes and self.peak > gpu_bytes:
            text.append(
                f"  WARNING: {self.peak / GIB:.1f} GiB do not fit a GPU of {gpu_bytes / GIB:.1f} GiB; {self.advice}"
            )
        return text


def training_estimate(
    shape: ModelShape, config: GRPOConfig | OfflineConfig, hardware: HardwareConfig, processes: int, gpu_bytes: float
) -> Estimate:
    """Estimates the training stage.

    Args:
        shape: Of the policy.
        config: Of the method.
        hardware: What the recipe declares.
        processes: That train together.
        gpu_bytes: Memory of a GPU, for a colocated vLLM's share of it; 0 = not known.
    """
    section = "grpo" if isinstance(config, GRPOConfig) else "offline"
    shards = processes if hardware.sharding == "fsdp" else 1
    held = _model_parts(shape, section, config.dtype, config.lora_rank, shards)
    if isinstance(config, GRPOConfig):
        if config.beta and not config.lora_rank:
            width = _width(config.dtype)
            held.append(
                Part("reference policy", shape.parameters * width / shards, f"grpo.beta = {config.beta:g}; 0: none")
            )
        sequence = _longest(shape, hardware.prompt_tokens + config.max_new_tokens)
        micro = config.micro_batch or config.completions_per_step // processes
        update = _update_parts(shape, config, section, micro, sequence, shards, trained_head=not config.lora_rank)
        return _with_sampling(shape, config, hardware, processes, held, update, gpu_bytes)
    sequence = _longest(shape, hardware.prompt_tokens * 2)
    micro = (config.micro_batch or config.batch_size // processes) * (2 if config.method == "rest-dpo" else 1)
    if config.method == "rest-dpo" and not config.lora_rank:
        held.append(Part("reference policy", shape.parameters * _width(config.dtype) / shards, "DPO needs one"))
    update = _update_parts(shape, config, section, micro, sequence, shards, trained_head=False)
    logits = micro * sequence * shape.vocab * 4 * 2
    update.append(Part("logits", logits, f"{micro} sequences x {sequence} tokens x {shape.vocab} words, and gradients"))
    return Estimate("train-policy", held, [("the update", update)], _advice(section, config, lora=config.lora_rank))


def value_estimate(shape: ModelShape, config: ValueConfig, hardware: HardwareConfig) -> Estimate:
    """Estimates the training of the value model: one process, weights in float32, on a GPU computed in bfloat16."""
    tokens = config.batch_tokens
    if config.architecture == "surprise":
        held = [Part("policy, only read", shape.parameters * 4, "float32, value.architecture = 'surprise'")]
        reading = [Part("logits", 2 * tokens * shape.vocab * 4, f"value.batch_tokens = {tokens}")]
        return Estimate("train-value", held, [("reading", reading)], "lower value.batch_tokens")
    rest = 0 if shape.tied else shape.head
    body = dataclasses.replace(shape, parameters=shape.parameters - rest)
    held = _model_parts(body, "value", "float32", config.lora_rank, 1)
    kept = _activations(body, "autocast", tokens, config.gradient_checkpointing, bool(config.lora_rank))
    frozen = bool(config.lora_rank) and config.gradient_checkpointing
    how = f"value.batch_tokens = {tokens}{', recomputed' if config.gradient_checkpointing else ''}"
    update = [Part("activations", kept, how), _casts(body, 1, one_layer=frozen)]
    advice = "set value.lora_rank = 32" if not config.lora_rank else "lower value.batch_tokens"
    if not config.gradient_checkpointing:
        advice = "set value.gradient_checkpointing = true, or " + advice
    return Estimate("train-value", held, [("the update", update)], advice)


def cache_bytes(shape: ModelShape, tokens: int, width: int) -> int:
    """Returns the bytes of the keys and values of so many tokens."""
    return 2 * shape.layers * shape.kv_width * tokens * width


def sampling_estimate(shape: ModelShape, policy: PolicyConfig, hardware: HardwareConfig, gpu_bytes: float) -> Estimate:
    """Estimates the stages that only sample; a value model of the policy's size is there when a search is decoded."""
    width = 4 if policy.dtype == "float32" else 2
    name = "sample, collect-values, evaluate"
    weights = Part("weights", shape.parameters * width, f"{shape.parameters:,}, policy.dtype = {policy.dtype!r}")
    scorer = Part("value model", (shape.parameters - (0 if shape.tied else shape.head)) * 2, "in evaluate, bfloat16")
    if policy.engine == "vllm":
        spread = dataclasses.replace(weights, bytes=weights.bytes / policy.tensor_parallel)
        room = max(policy.gpu_memory * gpu_bytes - spread.bytes, 0.0)
        rest = Part("vLLM's cache and workspace", room, f"the rest of policy.gpu_memory = {policy.gpu_memory:g}")
        return Estimate(name, [spread, rest, scorer], [], "lower policy.gpu_memory")
    sequence = _longest(shape, hardware.prompt_tokens + policy.max_new_tokens)
    parts = _sampler(shape, policy.max_batch_tokens, policy.max_batch_size, sequence, width, "policy.max_batch_tokens")
    return Estimate(
        name, [weights, scorer], [("sampling", parts)], "lower policy.max_batch_tokens or policy.max_batch_size"
    )


def _sampler(
    shape: ModelShape, batch_tokens: int, batch_size: int, sequence: int, width: int, setting: str
) -> list[Part]:
    """The project's own sampler, beside the weights."""
    rows = max(1, min(batch_size, batch_tokens // sequence))
    return [
        Part(
            "keys and values",
            cache_bytes(shape, rows * sequence, width),
            f"{rows} completions x {sequence} tokens at once ({setting})",
        ),
        Part("logits of a token", 3 * rows * shape.vocab * 4, f"{rows} x {shape.vocab} words, sorted and normalised"),
    ]


def _longest(shape: ModelShape, tokens: int) -> int:
    """Prompt and completion are at most what the model's context holds: nothing longer is trained or sampled."""
    return min(tokens, shape.context) if shape.context else tokens


def _width(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4


def _model_parts(shape: ModelShape, section: str, dtype: str, lora_rank: int, shards: int) -> list[Part]:
    width = _width(dtype)
    spread = f" / {shards} GPUs" if shards > 1 else ""
    trained, trained_width = shape.parameters, width
    parts = [Part("weights", shape.parameters * width / shards, f"{shape.parameters:,} in {dtype}{spread}")]
    if lora_rank:
        # The adapters are float32 whatever the weights are.
        trained, trained_width = lora_rank * shape.linear_width, 4
        parts.append(Part("adapters", trained * 4 / shards, f"{trained:,}, {section}.lora_rank = {lora_rank}"))
    parts.append(Part("gradients", trained * trained_width / shards, f"of {trained:,} trained weights{spread}"))
    parts.append(Part("optimizer", 2 * trained * trained_width / shards, f"AdamW: two numbers for each{spread}"))
    return parts


def _mode(config: GRPOConfig | OfflineConfig) -> str:
    return "bfloat16" if config.dtype == "bfloat16" else "autocast" if config.bf16 else "float32"


def _activations(shape: ModelShape, mode: str, tokens: int, recomputed: bool, lora: bool) -> float:
    """Bytes that autograd keeps for the layers; recomputed: every layer's input, and one layer in full."""
    wide, inner = _KEPT[mode]
    wide += _KEPT_HEAD_NORMS[mode] if shape.head_norms else 0
    layer = float(tokens * (wide * shape.hidden + inner * shape.intermediate))
    if lora:
        layer *= _LORA_KEPT
    if not recomputed:
        return layer * shape.layers
    return tokens * shape.hidden * (2 if mode == "bfloat16" else 4) * shape.layers + layer


def _casts(shape: ModelShape, shards: int, *, one_layer: bool) -> Part:
    """What bfloat16 copies of float32 weights take.

    Autocast keeps those of trained weights through the step; a frozen weight's lives as long as its layer's
    activations. FSDP gathers two layers and the ends at a time.
    """
    ends = shape.head * (1 if shape.tied else 2)
    if shards > 1:
        return Part(
            "gathered weights", (2 * shape.largest_layer + ends) * 2, "two layers, embedding and output, bfloat16"
        )
    if one_layer:
        return Part("bfloat16 copies", shape.largest_layer * 2, "of a layer's float32 weights")
    return Part("bfloat16 copies", (shape.parameters - ends) * 2, "of the float32 weights, while they are used")


def _update_parts(
    shape: ModelShape,
    config: GRPOConfig | OfflineConfig,
    section: str,
    micro: int,
    sequence: int,
    shards: int,
    *,
    trained_head: bool,
) -> list[Part]:
    mode = _mode(config)
    kept = _activations(shape, mode, micro * sequence, config.gradient_checkpointing, bool(config.lora_rank))
    how = f"{micro} sequences x {sequence} tokens{', recomputed' if config.gradient_checkpointing else ''}"
    parts = [Part("activations", kept, how)]
    if mode == "autocast" or shards > 1:
        one_layer = bool(config.lora_rank) and config.gradient_checkpointing
        parts.append(_casts(shape, shards, one_layer=one_layer))
    if section == "grpo":
        head = min(_TILE, 4096 * shape.vocab) * 4 + (shape.head * 4 if trained_head else 0)
        parts.append(Part("output layer", head, "logits tile by tile; the gradient in float32"))
    return parts


def _with_sampling(
    shape: ModelShape,
    config: GRPOConfig,
    hardware: HardwareConfig,
    processes: int,
    held: list[Part],
    update: list[Part],
    gpu_bytes: float,
) -> Estimate:
    advice = _advice("grpo", config, lora=config.lora_rank)
    if config.generation == "vllm":
        if config.vllm_mode == "colocate" and gpu_bytes:
            share = config.vllm_memory * gpu_bytes
            held.append(Part("vLLM", share, f"grpo.vllm_memory = {config.vllm_memory:g} of the GPU, weights and cache"))
        return Estimate("train-policy", held, [("the update", update)], advice)
    sequence = _longest(shape, hardware.prompt_tokens + config.max_new_tokens)
    rows = config.completions_per_step // processes // config.rollout_chunks or config.num_generations
    tokens = config.max_batch_tokens or 131_072
    width = 2 if config.bf16 else _width(config.dtype)
    sampling = _sampler(shape, tokens, min(rows, 256), sequence, width, "grpo.max_batch_tokens")
    return Estimate("train-policy", held, [("sampling", sampling), ("the update", update)], advice)


def _advice(section: str, config: GRPOConfig | OfflineConfig, *, lora: int) -> str:
    lower = []
    if not config.gradient_checkpointing:
        lower.append(f"set {section}.gradient_checkpointing = true")
    if config.micro_batch != 1:
        now = config.micro_batch or "the whole step"
        lower.append(f"lower {section}.micro_batch (now {now})")
    if not lora:
        lower.append(f"train adapters ({section}.lora_rank = 32)")
    if config.dtype == "float32":
        lower.append(f"set {section}.dtype = 'bfloat16'")
    if isinstance(config, GRPOConfig) and config.generation == "vllm":
        lower.append(f"lower grpo.vllm_memory (now {config.vllm_memory:g})")
    lower.append("spread it over more GPUs (hardware.sharding = 'fsdp')")
    return "; ".join(lower)
