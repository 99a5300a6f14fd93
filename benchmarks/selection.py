"""Who chooses well? Best-of-n on validation problems by the value model, by the policy's likelihood, and by both.

    python benchmarks/selection.py runs/starter --problems 60 --samples 30

Prints, for every weight of the likelihood, how often a passing program is ranked above a failing one of the same
problem, and the share of problems solved by the best-scored of the first n samples; beside chance, majority and the
oracle.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from restrl.actions import finish
from restrl.evaluation.statistics import ranking_accuracy
from restrl.grading.grader import SandboxGrader
from restrl.policy.likelihood import mean_log_likelihoods
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.problems import load_problems
from restrl.seeds import derive_seed
from restrl.starter import POLICY_DIR
from restrl.types import SampleRequest, SamplingParams, State
from restrl.value.model import TrainedValueModel

WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run directory")
    parser.add_argument("--policy", choices=("base", "trained"), default="base")
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--samples", type=int, default=30)
    args = parser.parse_args()
    directory = POLICY_DIR if args.policy == "base" else args.run / "iteration-1/policy/model"
    policy = TransformersPolicy(directory)
    problems = load_problems("starter/validation", count=args.problems)
    requests = [SampleRequest(State(problem), args.samples, derive_seed(0, problem.id)) for problem in problems]
    groups = policy.sample(requests, SamplingParams(0.7, 1.0, 160))
    codes_PN = [[finish(completion.text) for completion in group] for group in groups]
    states = [State(problem, code, True) for problem, codes in zip(problems, codes_PN, strict=True) for code in codes]
    with SandboxGrader() as grader:
        grades = grader.grade([(state.problem, state.program) for state in states])
    shape = (len(problems), args.samples)
    passed_PN = np.array([grade.passed for grade in grades]).reshape(shape)
    values_PN = np.array(TrainedValueModel(args.run / f"values-{args.policy}/model").score_states(states)).reshape(
        shape
    )
    likely_PN = np.array(mean_log_likelihoods(policy, states)).reshape(shape)

    budgets = [n for n in (1, 2, 4, 8, 16, 30) if n <= args.samples]
    print(f"| score ({args.policy} policy) | ranking accuracy | " + " | ".join(f"best of {n}" for n in budgets) + " |")
    print("|---|---|" + "---|" * len(budgets))
    scores = {f"value + {weight:g} likelihood": values_PN + weight * likely_PN for weight in WEIGHTS}
    for name, scores_PN in {**scores, "likelihood": likely_PN}.items():
        ranks = [ranking_accuracy(s, p) for s, p in zip(scores_PN.tolist(), passed_PN.tolist(), strict=True)]
        solved = [np.mean([p[np.argmax(s[:n])] for s, p in zip(scores_PN, passed_PN, strict=True)]) for n in budgets]
        _row(name, f"{np.mean([rank for rank in ranks if rank is not None]):.3f}", solved)
    majority = [
        np.mean([p[c.index(Counter(c[:n]).most_common(1)[0][0])] for c, p in zip(codes_PN, passed_PN, strict=True)])
        for n in budgets
    ]
    _row("majority of equal programs", "", majority)
    _row("chance", "0.500", [passed_PN.mean()] * len(budgets))
    _row("oracle", "1.000", [passed_PN[:, :n].any(1).mean() for n in budgets])


def _row(name: str, ranking: str, solved: list[float]) -> None:
    print(f"| {name} | {ranking} | " + " | ".join(f"{share:.3f}" for share in solved) + " |")


if __name__ == "__main__":
    main()
