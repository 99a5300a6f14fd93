"""Decoders at equal budgets on the starter, with paired intervals: every decoder, or every option of the search.

    python benchmarks/decoders.py runs/decoders --seeds 0 1 2                                   # the test split
    python benchmarks/decoders.py runs/decoders --split validation --seeds 0 --budget 30 --options
    python benchmarks/decoders.py runs/long --family starter-long                              # right programs are rare

Per seed: collects values by tree search on training problems of the starter, trains a value model (VM), an outcome
model (ORM) and a process model (PRM) on the same trajectories, and decodes the same problems of the split by every
method. Decoders that only choose among samples share the samples. Each step is a file in the folder: the same command
goes on where it stopped. ``--options`` decodes by VM-MCTS with one option changed at a time instead.
``--family starter-long`` takes problems of six operations, also for training; the policy has seen five at most.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from restrl.artifacts import dump_jsonl, read_jsonl, write_atomic
from restrl.decoding import INDEPENDENT, DecodeConfig, decode
from restrl.evaluation.evaluate import evaluate_decoded
from restrl.evaluation.results import EvaluationResult, compare, from_records
from restrl.evaluation.statistics import Interval, bootstrap_mean, paired_bootstrap
from restrl.grading.grader import SandboxGrader
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.problems import load_problems
from restrl.seeds import derive_seed
from restrl.starter import POLICY_DIR
from restrl.types import Completion, SampleRequest, SamplingParams
from restrl.value.collect import CollectConfig, collect_values
from restrl.value.config import ValueConfig
from restrl.value.model import TrainedValueModel
from restrl.value.targets import Trajectory
from restrl.value.train import train_value_model

PARAMS = SamplingParams(0.7, 1.0, 160)
COLLECT = CollectConfig(budget=6, window=200)
VALUE = ValueConfig(architecture="surprise", epochs=5, learning_rate=3e-3)
BUDGETS = (1, 2, 5, 10, 20, 30, 50, 75, 100)

METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "single sample": ("sample", "", {}),
    "majority": ("majority", "", {}),
    "best-of-n by ORM": ("best_of_n", "orm", {}),
    "best-of-n by PRM, min": ("best_of_n_prm", "prm", {"prm_aggregation": "min"}),
    "best-of-n by PRM, last": ("best_of_n_prm", "prm", {"prm_aggregation": "last"}),
    "best-of-n by PRM, mean": ("best_of_n_prm", "prm", {"prm_aggregation": "mean"}),
    "best-of-n by VM": ("best_of_n", "vm", {}),
    "ORM-MCTS": ("orm_mcts", "orm", {}),
    "VM-MCTS": ("vm_mcts", "vm", {}),
    "VM-MCTS, as published": ("vm_mcts", "vm", {"preset": "paper"}),
    "beam search by VM": ("beam_search", "vm", {}),
    "DVTS by VM": ("dvts", "vm", {}),
}

OPTIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "VM-MCTS (c = 0.1)": ("vm_mcts", "vm", {}),
    "as published": ("vm_mcts", "vm", {"preset": "paper"}),
    "c = 0": ("vm_mcts", "vm", {"c": 0.0}),
    "c = 0.3": ("vm_mcts", "vm", {"c": 0.3}),
    "c = 1": ("vm_mcts", "vm", {"c": 1.0}),
    "PUCT, frequency prior": ("vm_mcts", "vm", {"formula": "puct", "line_prior": "frequency"}),
    "PUCT, log-probability prior": ("vm_mcts", "vm", {"formula": "puct", "line_prior": "logprob"}),
    "PUCT, frequency prior, c = 1": ("vm_mcts", "vm", {"formula": "puct", "line_prior": "frequency", "c": 1.0}),
    "maximum instead of mean": ("vm_mcts", "vm", {"aggregate": "max"}),
    "progressive widening": ("vm_mcts", "vm", {"widening": "progressive"}),
    "adaptive widening": ("vm_mcts", "vm", {"widening": "adaptive"}),
    "no reuse of suffixes": ("vm_mcts", "vm", {"reuse_suffixes": False}),
    "4 leaves in flight": ("vm_mcts", "vm", {"leaves_in_flight": 4}),
    "num_sample = 3": ("vm_mcts", "vm", {"num_sample": 3}),
    "num_sample = 10": ("vm_mcts", "vm", {"num_sample": 10}),
    "num_decision = 3": ("vm_mcts", "vm", {"num_decision": 3}),
    "likelihood weight 2": ("vm_mcts", "vm", {"likelihood_weight": 2.0}),
    "likelihood weight 2, 4 leaves in flight": ("vm_mcts", "vm", {"likelihood_weight": 2.0, "leaves_in_flight": 4}),
    "answer by clusters": ("vm_mcts", "vm", {"selection": "clusters"}),
    "public examples in the search": ("vm_mcts", "vm", {"public_tests": True}),
    "ORM-MCTS": ("orm_mcts", "orm", {}),
    "beam search, width 2": ("beam_search", "vm", {"beam_width": 2}),
    "beam search, width 4": ("beam_search", "vm", {"beam_width": 4}),
    "beam search, width 8": ("beam_search", "vm", {"beam_width": 8}),
    "DVTS, 2 subtrees": ("dvts", "vm", {"subtrees": 2}),
    "DVTS, 4 subtrees": ("dvts", "vm", {"subtrees": 4}),
    "best-of-n by VM": ("best_of_n", "vm", {}),
    "best-of-n by VM, clusters": ("best_of_n", "vm", {"selection": "clusters"}),
    "best-of-n by ORM": ("best_of_n", "orm", {}),
    "best-of-n by PRM, min": ("best_of_n_prm", "prm", {"prm_aggregation": "min"}),
    "best-of-n by PRM, last": ("best_of_n_prm", "prm", {"prm_aggregation": "last"}),
    "best-of-n by PRM, mean": ("best_of_n_prm", "prm", {"prm_aggregation": "mean"}),
    "majority": ("majority", "", {}),
    "greedy": ("greedy", "", {}),
}


class SharedSamples:
    """A policy that answers an equal request with the completions that it gave before."""

    def __init__(self, policy: TransformersPolicy) -> None:
        self._policy = policy
        self._known: dict[tuple[Any, ...], list[Completion]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        """Returns completions; only what is new goes to the policy."""
        keys = [(request.state.problem.id, request.state.code, request.n, request.seed, params) for request in requests]
        new = [i for i, key in enumerate(keys) if key not in self._known]
        fresh = dict(zip(new, self._policy.sample([requests[i] for i in new], params), strict=True))
        # States inside of trees are asked for once.
        self._known.update((keys[i], fresh[i]) for i in new if not requests[i].state.code)
        return [fresh[i] if i in fresh else self._known[key] for i, key in enumerate(keys)]


def prepare(
    folder: Path, seed: int, policy: TransformersPolicy, grader: SandboxGrader, count: int, family: str = "starter"
) -> None:
    """Collects values and trains the three scorers of a seed."""
    problems = load_problems(f"{family}/train", count=1000 * (seed + 1) + count)[-count:]
    path = folder / "trajectories.jsonl"
    if not path.exists():
        began = time.perf_counter()
        trees = collect_values(problems, policy, grader, COLLECT, derive_seed(seed, "collect"), params=PARAMS)
        write_atomic(path, dump_jsonl([trajectory.to_json() for tree in trees for trajectory in tree.trajectories]))
        print(f"seed {seed}: values of {count} problems in {time.perf_counter() - began:.0f} s", flush=True)
    trajectories = [Trajectory.from_json(record) for record in read_jsonl(path)]
    by_id = {problem.id: problem for problem in problems}
    for kind in ("vm", "orm", "prm"):
        if (folder / kind / "report.json").exists():
            continue
        began = time.perf_counter()
        report = train_value_model(POLICY_DIR, trajectories, by_id, VALUE, folder / kind, seed, kind=kind)  # type: ignore[arg-type]
        print(
            f"seed {seed}: {kind} ranks {report.ranking_accuracy:.3f}, error {report.validation_mse:.4f} "
            f"(mean alone {report.baseline_mse:.4f}), {time.perf_counter() - began:.0f} s",
            flush=True,
        )


def text(interval: Interval, sign: str = "") -> str:
    """Returns ``mean [low, high]``."""
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def tables(folder: Path, args: argparse.Namespace, jobs: dict[str, Any], reference: str) -> list[str]:
    """Returns the tables of everything that has been decoded, in Markdown."""
    results: dict[str, list[EvaluationResult]] = {}
    for name, (method, _, _) in jobs.items():
        paths = [folder / f"seed-{seed}" / file_name(args, name) for seed in args.seeds]
        if all(path.exists() for path in paths):
            results[name] = [from_records(read_jsonl(path), independent=method in INDEPENDENT) for path in paths]
    if reference not in results:
        return []
    lines = [
        f"| method | pass@1 at {args.budget} | {reference} minus it | test-case average | candidates hold a pass "
        f"| by seed | generated tokens | policy / reused prompt tokens | value tokens |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        passed_SP = np.array([run.values("pass@1") for run in runs])
        ledgers = [run.ledger() for run in runs]
        cost = {key: np.mean([ledger.get(key, 0.0) for ledger in ledgers]) for key in ledgers[0]}
        difference = "" if name == reference else text(compare(results[reference], runs), "+")
        cells = [
            name,
            text(bootstrap_mean(passed_SP.mean(0))),
            difference,
            f"{np.mean([run.values('test_case_average') for run in runs]):.3f}",
            f"{np.mean([problem.oracle(args.budget) for run in runs for problem in run.problems]):.3f}",
            ", ".join(f"{values.mean():.3f}" for values in passed_SP),
            f"{cost.get('generated_tokens', 0):.0f}",
            f"{cost.get('prompt_tokens', 0):.0f} / {cost.get('reused_prompt_tokens', 0):.0f}",
            f"{cost.get('value_tokens', 0):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    budgets = [budget for budget in BUDGETS if budget <= args.budget]
    header = f"| budget | {' | '.join(map(str, budgets))} |"
    lines += ["", "pass@1 at every budget:", "", header, "|---|" + "---|" * len(budgets)]
    curves = {
        name: {b: np.mean([run.values("pass@1", b) for run in runs], axis=0) for b in budgets}
        for name, runs in results.items()
    }
    for name, curve in curves.items():
        lines.append(f"| {name} | " + " | ".join(f"{curve[b].mean():.3f}" for b in budgets) + " |")
    lines += ["", f"{reference} minus the method, paired by problem:", "", header, "|---|" + "---|" * len(budgets)]
    for name, curve in curves.items():
        if name != reference:
            cells = [text(paired_bootstrap(curves[reference][b], curve[b]), "+") for b in budgets]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def file_name(args: argparse.Namespace, name: str) -> str:
    """The file of a method's records."""
    slug = "".join(character if character.isalnum() else "-" for character in name)
    return f"{args.split}-{args.problems}-{args.budget}-{slug}.jsonl"


def main() -> None:
    """Prepares, decodes and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="everything is written here")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument(
        "--value-problems", type=int, default=1000, help="training problems that values are collected on"
    )
    parser.add_argument("--options", action="store_true", help="one option of VM-MCTS at a time")
    parser.add_argument("--family", default="starter", choices=("starter", "starter-long"))
    parser.add_argument("--only", nargs="*", help="these methods only")
    parser.add_argument("--prepare-only", action="store_true", help="collect and train, and stop")
    args = parser.parse_args()
    jobs = OPTIONS if args.options else METHODS
    reference = next(iter(OPTIONS)) if args.options else "VM-MCTS"
    policy = SharedSamples(TransformersPolicy(POLICY_DIR))
    problems = load_problems(f"{args.family}/{args.split}", count=args.problems)
    with SandboxGrader() as grader:
        for seed in args.seeds:
            folder = args.folder / f"seed-{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            prepare(folder, seed, policy._policy, grader, args.value_problems, args.family)
            if args.prepare_only:
                continue
            for name, (method, kind, changes) in jobs.items():
                path = folder / file_name(args, name)
                if path.exists() or (args.only and name not in args.only):
                    continue
                model = TrainedValueModel(folder / kind / "model") if kind else None
                config = dataclasses.replace(DecodeConfig(method=method, budget=args.budget, window=100), **changes)
                began = time.perf_counter()
                engine = policy._policy if config.likelihood_weight else policy
                decoded = decode(method, problems, engine, model, config, derive_seed(seed, "decode"), params=PARAMS)
                took = time.perf_counter() - began
                result = evaluate_decoded(problems, decoded, grader, independent=method in INDEPENDENT)
                write_atomic(path, dump_jsonl(result.to_records(timing=True)))
                print(f"seed {seed}: {name}: {result.interval('pass@1').mean:.3f} in {took:.0f} s", flush=True)
    print("\n".join(tables(args.folder, args, jobs, reference)))


if __name__ == "__main__":
    main()
