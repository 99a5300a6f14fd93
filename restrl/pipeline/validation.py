"""The evaluation after each iteration, on validation problems, and which iteration's policy is kept.

Every policy of a run, the base included, answers the validation problems by plain samples, the same number of each and
with the same seeds, measured exactly as the single-sample rows of the final table. No test problem has a part in it.

Kept is the policy with the most passing samples; of equals the one with the higher mean reward, and of those the later
one, which has trained on more. Deviation from the paper: it keeps the last (``run.keep = "last"``).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from restrl.artifacts import dump_json, write_atomic
from restrl.evaluation.results import EvaluationResult, compare
from restrl.evaluation.statistics import Interval, bootstrap_means, pass_at_k
from restrl.pipeline.context import KEPT, Context
from restrl.pipeline.evaluating import Measurement, measure, read_result
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig


def policy_name(iteration: int) -> str:
    """Returns what the policy after an iteration is called.

    >>> policy_name(0), policy_name(2)
    ('base', 'iteration 2')
    """
    return f"iteration {iteration}" if iteration else "base"


def validate(context: Context, iteration: int) -> None:
    """Samples and grades the validation problems by the policy after an iteration (0: the base policy).

    Writes ``iteration-K/validation-samples.jsonl``, one record per problem, and ``iteration-K/validation.json``. Does
    nothing in a run without validation problems.
    """
    problems = context.problems.validation
    if not problems:
        return
    folder, stage = f"iteration-{iteration}", f"iteration-{iteration}/validate"
    if not context.run.is_done(stage):
        measure(
            context,
            Measurement(
                stage=stage,
                table=f"{folder}/validation-samples",
                label=f"{policy_name(iteration)}, validation problems",
                directory=context.iteration_policy(iteration),
                problems=problems,
                method="sample",
                budget=context.recipe.section("evaluate", EvaluateConfig).validation_samples,
                # The same draws for every policy: what differs between them is then the policy.
                seed=derive_seed(context.seed, "validate"),
            ),
        )
    path = context.run.path / folder / "validation.json"
    if not path.exists():
        record = _summary(context, iteration)
        write_atomic(path, dump_json(record))
        context.progress.note(_sentence(record))


def read_validations(context: Context) -> list[dict[str, Any]]:
    """Returns ``validation.json`` of every policy that has one, the base's first."""
    paths = [
        context.run.path / f"iteration-{index}/validation.json" for index in range(context.settings.iterations + 1)
    ]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]


def choose(context: Context) -> None:
    """Decides, once, which iteration's policy is kept: ``kept.json``, and ``kept`` in the manifest."""
    path = context.run.path / KEPT
    if not path.exists():
        record = _choice(context)
        write_atomic(path, dump_json(record))
        context.progress.note(record["reason"])
    context.run.manifest["kept"] = json.loads(path.read_text(encoding="utf-8"))
    context.run.save()


def _result(context: Context, iteration: int) -> EvaluationResult:
    path = context.run.need(f"iteration-{iteration}/validation-samples.jsonl", "validate")
    return read_result(context, path, independent=True)


def _summary(context: Context, iteration: int) -> dict[str, Any]:
    result = _result(context, iteration)
    ledger = result.ledger()
    others = {"vs_base": 0, "vs_previous": iteration - 1}
    return {
        "iteration": iteration,
        "num_problems": len(result.problems),
        "num_samples": result.budget,
        "confidence": result.confidence,
        "pass@1": dataclasses.asdict(result.interval("sample_pass@1")),
        "mean_reward": dataclasses.asdict(result.interval("sample_test_case_average")),
        "pass@k": {str(k): dataclasses.asdict(interval) for k, interval in _pass_at_k(result).items()},
        **{
            name: dataclasses.asdict(compare(result, _result(context, other), "sample_pass@1")) if iteration else None
            for name, other in others.items()
        },
        "completions": round(ledger["completions"]),
        "generated_tokens": round(ledger["generated_tokens"]),
        "unfinished_share": ledger["cut_off"] / ledger["completions"],
    }


def _pass_at_k(result: EvaluationResult) -> dict[int, Interval]:
    """Returns pass@k at the powers of two up to the number of samples, and there; all on the same resamples."""
    n = result.budget
    ks = sorted({2**power for power in range(n.bit_length())} | {n})
    passed = [sum(candidate.passed for candidate in problem.candidates) for problem in result.problems]
    values_KP = np.array([[pass_at_k(n, count, k) for count in passed] for k in ks])
    return dict(zip(ks, bootstrap_means(values_KP, result.num_resamples, result.seed, result.confidence), strict=True))


def _sentence(record: dict[str, Any]) -> str:
    mean, against = record["pass@1"], record["vs_base"]
    text = (
        f"{policy_name(record['iteration'])}: pass@1 {mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}] on "
        f"{record['num_problems']} validation problems"
    )
    if against is not None:
        text += f", {against['mean']:+.3f} [{against['low']:+.3f}, {against['high']:+.3f}] against the base policy"
    return text


def _choice(context: Context) -> dict[str, Any]:
    last = context.settings.iterations
    if context.settings.keep == "last" or not context.problems.validation:
        why = (
            "run.keep = 'last'" if context.settings.keep == "last" else "there are no validation problems to choose by"
        )
        return {"iteration": last, "rule": "last", "reason": f"The last policy is kept ({policy_name(last)}): {why}."}
    scores = [_score(_result(context, iteration)) for iteration in range(last + 1)]
    best = max(range(last + 1), key=lambda iteration: (*scores[iteration], iteration))
    return {"iteration": best, "rule": "best", "reason": _reason(read_validations(context), scores, best)}


def _score(result: EvaluationResult) -> tuple[int, float]:
    """Returns what policies are compared by: samples that pass, then the sum of rewards. Equals are equal exactly."""
    candidates = [candidate for problem in result.problems for candidate in problem.candidates]
    return sum(c.passed for c in candidates), round(math.fsum(c.reward for c in candidates), 6)


def _reason(records: Sequence[dict[str, Any]], scores: Sequence[tuple[int, float]], best: int) -> str:
    shown = ", ".join(f"{policy_name(item['iteration'])} {item['pass@1']['mean']:.3f}" for item in records)
    where = f"pass@1 on {records[0]['num_problems']} validation problems: {shown}"
    equals = ""
    if sum(score[0] == scores[best][0] for score in scores) > 1:
        decided = scores.count(scores[best]) == 1
        equals = " Of equals, the higher mean reward decides." if decided else " Of equals, the later one is kept."
    if best == 0:
        return f"No iteration is better than the base policy, so that is kept: no trained policy ({where}).{equals}"
    clear = Interval(**records[best]["vs_base"]).excludes_zero()
    unclear = "" if clear else " Its difference to the base policy is not clear."
    return f"The policy of {policy_name(best)} is kept, the best on validation problems ({where}).{equals}{unclear}"
