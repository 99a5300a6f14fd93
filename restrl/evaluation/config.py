"""Settings of a stand-alone evaluation: which policy, on which problem sets, with which decoder."""

from __future__ import annotations

from dataclasses import dataclass

from restrl.settings import setting


@dataclass(frozen=True, slots=True)
class SuiteConfig:
    """One evaluation of one policy; see ``docs/evaluation.md``."""

    policy: str = setting("", "directory of the policy")
    problems: tuple[str, ...] = setting((), "problem sets: NAME[/SPLIT][@PATH] or a .jsonl file")
    value_model: str = setting("", "directory of the value model; empty = none")
    decoder: str = setting("sample", "how answers are decoded: a name of restrl.decoding.DECODERS")
    budget: int = setting(1, "completions that every answer is chosen from", low=1, paper=100)
    samples: int = setting(1, "independent answers per problem", low=1)
    count: int = setting(0, "the first so many problems of each set; 0 = all", low=0)
    seed: int = setting(0, "seed of everything random", low=0)
    chunk_size: int = setting(32, "problems decoded together: what a kill can lose", low=1)
    grade_unfinished: bool = setting(False, "also run programs that the token limit cut off, instead of scoring them 0")
    save_trees: bool = setting(False, "keep every search in trees.jsonl.gz, for restrl tree")
    resamples: int = setting(10_000, "bootstrap resamples", low=100)
    confidence: float = setting(0.95, "mass of the intervals", above=0.0, high=0.999)
