"""Settings of the pipeline itself; every other section of a recipe is declared beside its owner."""

from __future__ import annotations

from dataclasses import dataclass

from restrl.settings import setting


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The run as a whole."""

    seed: int = setting(0, "seed of everything random in the run", low=0)
    iterations: int = setting(1, "ReST-GRPO iterations: sample, assemble, train", low=0, paper=2)
    keep: str = setting(
        "best",
        "the trained policy: that of the best iteration on validation problems (the base policy, if all are worse), or "
        "of the last",
        choices=("best", "last"),
        paper="last",
    )
    chunk_size: int = setting(64, "problems per chunk, the unit of resuming", low=1)
    threads: int = setting(0, "CPU threads of the numerical libraries; 0 = one per core", low=0)


@dataclass(frozen=True, slots=True)
class ProblemsConfig:
    """Which problems are used for what."""

    train: str = setting("starter/train", "problems for training: a set's name or a JSONL file")
    train_count: int = setting(0, "how many; 0 = all that the source has", low=0)
    value_count: int = setting(0, "further training problems for collecting values; 0 = those of the policy", low=0)
    validation: str = setting("starter/validation", "problems for choosing settings and iterations")
    validation_count: int = setting(0, "how many; 0 = all that the source has", low=0)
    test: str = setting("starter/test", "problems for the final numbers")
    test_count: int = setting(0, "how many; 0 = all that the source has", low=0)
    seed: int = setting(0, "seed of generated problem sets", low=0)


@dataclass(frozen=True, slots=True)
class SampleConfig:
    """Stage 1, step 1: samples per training problem (method: N)."""

    num_samples: int = setting(5, "solutions per training problem", low=2, paper=5)


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """The final comparison, and the evaluation after each iteration."""

    split: str = setting("test", "which problems are decoded", choices=("test", "validation"))
    budget: int = setting(30, "completions per problem for best-of-n and VM-MCTS", low=1, paper=100)
    validation_samples: int = setting(
        8, "samples per validation problem after each iteration, and of the base policy; 0 = off", low=0
    )
    values_for: str = setting(
        "both", "policies that get a value model of their own", choices=("both", "base", "trained")
    )
    spread_instances: int = setting(128, "training instances whose reward spread is measured, before and after", low=0)
    save_trees: bool = setting(True, "keep every search beside the results, for restrl tree")
    resamples: int = setting(10_000, "bootstrap resamples", low=100)
    confidence: float = setting(0.95, "mass of the intervals", above=0.0, high=0.999)
