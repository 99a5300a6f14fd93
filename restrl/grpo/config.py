"""Settings of the GRPO stage, with the paper's values (ReST-RL, section 4 and appendix)."""

from __future__ import annotations

from dataclasses import dataclass

from restrl.errors import ConfigError
from restrl.settings import setting

# The methods that train on completions of the policy as it is at each step; the others learn from stored samples.
ONLINE_METHODS = ("rest-grpo", "grpo", "dapo")


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """Settings of the GRPO stage.

    One optimizer step trains on ``prompts_per_step * num_generations`` completions, all sampled from the policy as it
    is at that step (on-policy: the importance ratio is 1 where the gradient is taken).
    """

    method: str = setting(
        "rest-grpo", "the training method; see restrl.grpo.methods", choices=ONLINE_METHODS, owner="train"
    )
    epochs: int = setting(1, "passes over the instances", low=1, paper=1)
    max_steps: int = setting(0, "exact number of optimizer steps, whatever the epochs; 0 = as the epochs say", low=0)
    num_generations: int = setting(8, "completions per instance, the group size G", low=2, paper=8)
    prompts_per_step: int = setting(16, "instances per optimizer step, over all processes", low=1)
    micro_batch: int = setting(
        0, "completions per forward and backward pass and process; 0 = the whole step at once", low=0
    )
    learning_rate: float = setting(1e-7, "peak learning rate of AdamW", above=0.0, paper=1e-7)
    lr_scheduler: str = setting(
        "linear", "schedule of the learning rate", choices=("linear", "cosine", "constant", "constant_with_warmup")
    )
    warmup_steps: int = setting(0, "steps of linear warm-up", low=0)
    weight_decay: float = setting(0.0, "decoupled weight decay", low=0.0)
    max_grad_norm: float = setting(1.0, "gradients are scaled down to this norm", above=0.0)
    beta: float = setting(0.0, "weight of the KL penalty to the starting policy; 0 loads no reference model", low=0.0)
    epsilon: float = setting(0.2, "the ratio is clipped to [1 - epsilon, 1 + epsilon_high]", low=0.0, high=1.0)
    epsilon_high: float = setting(0.0, "upper clip; 0 = the same as epsilon", low=0.0)
    loss_type: str = setting(
        "grpo",
        "how token losses are averaged: grpo = by completion, then over completions; dapo = over the step's tokens; "
        "bnpo = over a micro batch's tokens; dr_grpo = divided by completions times max_new_tokens",
        choices=("grpo", "bnpo", "dr_grpo", "dapo"),
        paper="grpo",
    )
    scale_rewards: str = setting(
        "group",
        "advantages are divided by the standard deviation of their group, of the batch, or not at all",
        choices=("group", "batch", "none"),
        paper="group",
    )
    refill_rounds: int = setting(
        0,
        "dynamic sampling: groups whose verifier rewards are all equal are replaced by groups of other instances, in "
        "at most so many more rounds of sampling a step; 0 = off",
        low=0,
    )
    overlong_buffer: int = setting(
        0,
        "the last so many of max_new_tokens lower the reward, linearly from 0 down to -overlong_penalty; 0 = off",
        low=0,
    )
    overlong_penalty: float = setting(1.0, "penalty of a completion of max_new_tokens tokens", low=0.0)
    mask_truncated: bool = setting(
        False, "completions cut off by max_new_tokens carry no loss; they still count in their group's statistics"
    )
    skip_explore: float = setting(
        0.0,
        "an instance whose last z groups had no spread is left out before sampling with probability "
        "1 - skip_explore^z; 0 = off",
        low=0.0,
        high=1.0,
    )
    order: str = setting(
        "shuffled", "instances in shuffled passes, or as given", choices=("shuffled", "given"), owner="rest"
    )
    temperature: float = setting(0.7, "sampling temperature", above=0.0, paper=0.7, owner="policy")
    top_p: float = setting(1.0, "nucleus mass of sampling", above=0.0, high=1.0, owner="policy")
    max_new_tokens: int = setting(1024, "tokens per completion", low=1, paper=1024, owner="policy")
    symbol_reward: float = setting(1e-3, "reward for ending with the right stop symbol", low=0.0, paper=1e-3)
    trailing_penalty: float = setting(1e-6, "penalty per character after the stop symbol", low=0.0, paper=1e-6)
    lora_rank: int = setting(0, "rank of LoRA adapters on all linear layers; 0 = train all weights", low=0)
    lora_alpha: int = setting(32, "LoRA scale: the update is multiplied by alpha / rank", low=1)
    generation: str = setting(
        "engine",
        "what samples: engine = the project's own sampler on the training model; vllm = TRL's vLLM (needs a GPU)",
        choices=("engine", "vllm"),
    )
    vllm_mode: str = setting(
        "colocate", "vLLM in the training processes, or a server started apart", choices=("colocate", "server")
    )
    vllm_memory: float = setting(0.3, "share of the GPU memory for a colocated vLLM", above=0.0, high=1.0)
    max_batch_tokens: int = setting(0, "token limit of a generation batch; 0 = the engine's default", low=0)
    rollout_chunks: int = setting(
        2, "a step samples in so many parts, each with less memory; programs are graded while others are sampled", low=1
    )
    save_every: int = setting(20, "optimizer steps between checkpoints", low=1)
    keep_checkpoints: int = setting(
        2, "checkpoints kept while training (all are removed at the end); 0 = keep every one, for good", low=0
    )
    grader_patience_s: float = setting(
        600.0, "seconds that training waits for a grader that fails, asking again, before it stops; 0 = stop", low=0.0
    )
    report_to: tuple[str, ...] = setting(("tensorboard",), "where metrics go besides metrics.jsonl", owner="train")
    log_completions: int = setting(2, "completions of a step in completions.jsonl", low=0, owner="train")
    dtype: str = setting(
        "float32", "precision of the weights while training", choices=("float32", "bfloat16"), paper="bfloat16"
    )
    bf16: bool = setting(False, "compute in bfloat16 (autocast), weights as dtype says")
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, slower updates")
    device: str = setting("auto", "auto = GPU where there is one", choices=("auto", "cpu"))

    def __post_init__(self) -> None:
        if self.keep_checkpoints == 1:
            # The newest checkpoint may be half-written when the process dies; the one before it must still be there.
            raise ConfigError("keep_checkpoints is 1; use 2 or more (or 0 to keep all), so that one is always complete")
        batch = self.num_generations * self.prompts_per_step
        if self.micro_batch and batch % self.micro_batch:
            raise ConfigError(
                f"micro_batch is {self.micro_batch}; it must divide num_generations * prompts_per_step = "
                f"{self.num_generations} * {self.prompts_per_step} = {batch}"
            )

    @property
    def completions_per_step(self) -> int:
        """Completions of one optimizer step, over all processes."""
        return self.num_generations * self.prompts_per_step
