"""Which value model ranks? Both architectures on the same collected values, measured on validation problems.

    python benchmarks/value_architectures.py runs/decoders/seed-0 --sizes 250 1000 --out runs/architectures

Trains on the trajectories that `decoders.py` collected, on the first so many of their problems, and scores 30 samples
of the base policy for each of 100 validation problems: how often a passing program is scored above a failing one of
the same problem, the squared error of the reward, and the share of problems that the best-scored of n samples solves.
Beside them: the policy's own mean log-likelihood, and the policy's greedy program.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from decoders import PARAMS, VALUE

from restrl.actions import finish
from restrl.artifacts import read_jsonl
from restrl.evaluation.statistics import ranking_accuracy
from restrl.grading.grader import SandboxGrader
from restrl.policy.likelihood import mean_log_likelihoods
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.problems import load_problems
from restrl.seeds import derive_seed
from restrl.starter import POLICY_DIR
from restrl.types import SampleRequest, State
from restrl.value.model import TrainedValueModel
from restrl.value.targets import Trajectory
from restrl.value.train import train_value_model

CHOICES = (1, 2, 4, 8, 16, 30)
CLASSIFIER = replace(VALUE, architecture="classifier", learning_rate=5e-4)


def row(name: str, scores_PN: np.ndarray, passed_PN: np.ndarray, rewards_PN: np.ndarray, note: str) -> str:
    """One line of the table."""
    ranks = [ranking_accuracy(list(s), list(p)) for s, p in zip(scores_PN.tolist(), passed_PN.tolist(), strict=True)]
    rank = np.mean([value for value in ranks if value is not None])
    chosen = [
        np.mean([passed[int(np.argmax(scores[:n]))] for scores, passed in zip(scores_PN, passed_PN, strict=True)])
        for n in CHOICES
    ]
    error = f"{np.mean((scores_PN - rewards_PN) ** 2):.3f}" if scores_PN.min() > -0.5 else ""
    return f"| {name} | {rank:.3f} | {error} | " + " | ".join(f"{value:.2f}" for value in chosen) + f" | {note} |"


def main() -> None:
    """Samples, trains, measures, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collected", type=Path, help="a seed's folder that decoders.py made")
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--value-problems", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="the seed of the folder")
    args = parser.parse_args()
    policy = TransformersPolicy(POLICY_DIR)
    held_out = load_problems("starter/validation", count=100)
    requests = [SampleRequest(State(problem), CHOICES[-1], derive_seed(0, problem.id)) for problem in held_out]
    codes_PN = [[finish(completion.text) for completion in group] for group in policy.sample(requests, PARAMS)]
    states = [State(problem, code, True) for problem, codes in zip(held_out, codes_PN, strict=True) for code in codes]
    with SandboxGrader() as grader:
        grades = grader.grade([(state.problem, state.program) for state in states])
        greedy = policy.sample([replace(request, n=1) for request in requests], replace(PARAMS, temperature=0.0))
        solved = grader.grade(
            [(p, p.initial_state + finish(group[0].text)) for p, group in zip(held_out, greedy, strict=True)]
        )
    shape = (len(held_out), CHOICES[-1])
    passed_PN = np.array([grade.passed for grade in grades]).reshape(shape)
    rewards_PN = np.array([grade.reward for grade in grades]).reshape(shape)
    share = np.mean([grade.passed for grade in solved])
    print(f"greedy solves {share:.2f}; the mean alone has the error {rewards_PN.var():.3f}")
    print("| score | ranks right | squared error | " + " | ".join(f"best of {n}" for n in CHOICES) + " | training |")
    print("|---|---|---|" + "---|" * (len(CHOICES) + 1))
    likely_PN = np.array(mean_log_likelihoods(policy, states)).reshape(shape)
    print(row("mean log-likelihood", likely_PN - 10, passed_PN, rewards_PN, ""), flush=True)
    problems = load_problems("starter/train", count=1000 * (args.seed + 1) + args.value_problems)[
        -args.value_problems :
    ]
    collected = [Trajectory.from_json(record) for record in read_jsonl(args.collected / "trajectories.jsonl")]
    for size in args.sizes:
        known = {problem.id: problem for problem in problems[:size]}
        trajectories: Sequence[Trajectory] = [item for item in collected if item.problem_id in known]
        for name, config in {"classifier": CLASSIFIER, "surprise": VALUE}.items():
            folder = args.out / f"{name}-{size}"
            began = time.perf_counter()
            train_value_model(POLICY_DIR, trajectories, known, config, folder, args.seed)
            note = f"{len(trajectories)} programs, {time.perf_counter() - began:.0f} s"
            scores_PN = np.array(TrainedValueModel(folder / "model").score_states(states)).reshape(shape)
            print(row(f"{name}, {size} problems", scores_PN, passed_PN, rewards_PN, note), flush=True)


if __name__ == "__main__":
    main()
