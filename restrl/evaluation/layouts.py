"""Answers as files that other harnesses accept: one JSON object a line, ``{"task_id", "solution"}``.

* **EvalPlus** (``evalplus.evaluate --dataset D --samples FILE``): ``evalplus/SET/D/MODEL_restrl_temp_T.jsonl``, D being
  ``humaneval`` or ``mbpp``. It wants every problem of the dataset to be there.
* **BigCodeBench** (``bigcodebench.evaluate --split S --subset U --samples FILE``):
  ``bigcodebench/MODEL--main--bigcodebench[-hard]-S--restrl-T-N-sanitized_calibrated.jsonl``. "Sanitized" and
  "calibrated" are that harness's words for: whole programs, cut to the code, to be run behind the task's own stub.
* **every other set**: ``NAME.jsonl`` with the same two keys.

``restrl grade`` reads all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from restrl.evaluation.suite import family_of, stem_of

EVALPLUS_DATASETS = ("humaneval", "mbpp")


def samples_path(spec: str, model: str, temperature: float, samples: int) -> Path:
    """Returns where the samples of a set go, relative to the folder of samples.

    Args:
        spec: Specification of the problem set.
        model: Name of the policy: the last part of its directory, or ``owner/name``.
        temperature: Sampling temperature.
        samples: Answers per problem.

    >>> samples_path("humaneval+", "org/tiny", 0.0, 1).as_posix()
    'evalplus/humaneval+/humaneval/org--tiny_restrl_temp_0.0.jsonl'
    >>> samples_path("bigcodebench/hard-instruct", "tiny", 0.0, 1).as_posix()
    'bigcodebench/tiny--main--bigcodebench-hard-instruct--restrl-0.0-1-sanitized_calibrated.jsonl'
    """
    stem, name = stem_of(spec), _plain(model.replace("/", "--"))
    dataset = family_of(spec)
    if dataset in EVALPLUS_DATASETS:
        return Path("evalplus") / slug(spec) / dataset / f"{name}_restrl_temp_{temperature}.jsonl"
    words = spec.partition("@")[0].lower()
    if stem.startswith("bigcodebench") and not words.endswith("/sample"):
        split = "complete" if "complete" in words else "instruct"
        subset = "-hard" if "hard" in words else ""
        identifier = f"{name}--main--bigcodebench{subset}-{split}--restrl-{temperature}-{samples}"
        return Path("bigcodebench") / f"{identifier}-sanitized_calibrated.jsonl"
    return Path(f"{slug(spec)}.jsonl")


def slug(spec: str) -> str:
    """Returns a file name for a set: its name and split, without the source.

    >>> slug("mbpp/test@/data/mbpp.jsonl"), slug("mine/problems.jsonl")
    ('mbpp-test', 'problems')
    """
    head = spec.partition("@")[0]
    return stem_of(spec) if head.endswith(".jsonl") else _plain(head.replace("/", "-"))


def samples_text(solutions: Iterable[tuple[str, str]]) -> str:
    """Returns the lines of a samples file for (task id, whole program) pairs, in their order."""
    lines = (json.dumps({"task_id": task, "solution": solution}) for task, solution in solutions)
    return "".join(line + "\n" for line in lines)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", name)
