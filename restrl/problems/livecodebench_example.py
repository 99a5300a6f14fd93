"""The solved example that LiveCodeBench's harness puts before a question for a model without a chat template.

The harness keeps its examples beside its code (``lcb_runner/prompts/few_shot_examples/generation/func.json`` and
``stdin.json``), not in the data set. Where they lie in the benchmarks' folder, as ``livecodebench/few_shot_func.json``
and ``livecodebench/few_shot_stdin.json`` (``.gz`` too), the first of each is the example, as there; elsewhere a problem
of our own in the same layout takes its place.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from restrl.problems.problem_set import field
from restrl.problems.sources import FOLDER_VARIABLE, read_records
from restrl.types import Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A solved problem; ``starter`` is the code that its answer starts from, empty where it reads its input."""

    question: str
    starter: str
    answer: str


OWN_FUNCTION = Example(
    question=(
        "You are given a list of integers named heights. A position i is called a peak if both of its neighbours "
        "exist and are lower than heights[i].\nReturn the number of peaks.\n \nExample 1:\n\n"
        "Input: heights = [1,4,2,3,1]\nOutput: 2\nExplanation: The positions 1 and 3 are peaks.\n\nExample 2:\n\n"
        "Input: heights = [5,5,1]\nOutput: 0\n\n \nConstraints:\n\n1 <= heights.length <= 1000\n"
    ),
    starter="class Solution:\n    def countPeaks(self, heights: List[int]) -> int:\n        ",
    answer=(
        "class Solution:\n    def countPeaks(self, heights: List[int]) -> int:\n        peaks = 0\n"
        "        for i in range(1, len(heights) - 1):\n"
        "            if heights[i - 1] < heights[i] > heights[i + 1]:\n                peaks += 1\n        return peaks"
    ),
)
OWN_PROGRAM = Example(
    question=(
        "A shop sells pencils in boxes of k. For every order, find the least number of boxes that hold at least n "
        "pencils.\n\nInput\n\nThe first line holds the number of orders t (1 <= t <= 1000). Each of the next t lines "
        "holds the integers n and k (1 <= n, k <= 10^9).\n\nOutput\n\nFor each order, print the number of boxes on a "
        "line of its own.\n\nSample Input 1:\n2\n7 3\n4 2\n\nSample Output 1:\n3\n2\n"
    ),
    starter="",
    answer="t = int(input())\nfor _ in range(t):\n    n, k = map(int, input().split())\n    print((n + k - 1) // k)",
)


def layout(question: str, starter: str, answer: str = "") -> str:
    """Returns a question as the harness shows it to a model without a chat template, with its answer or without."""
    given = f"### Starter Code\n{starter}\n\n" if starter else ""
    return f"### Question\n{question}\n\n{given}### Answer\n\n" + (f"{answer}\n\n" if answer else "")


def with_example(problems: Iterator[Problem], folder: str | None = None) -> Iterator[Problem]:
    """Puts the solved example before every problem's base prompt; ``metadata["example"]`` says whose it is.

    Args:
        problems: LiveCodeBench's.
        folder: Where the harness's examples may be; empty: nowhere, None: ``$RESTRL_BENCHMARKS``.

    Raises:
        ProblemError: A file of examples is there and is malformed.
    """
    root = os.environ.get(FOLDER_VARIABLE, "") if folder is None else folder
    found = {functional: _find(root, functional) for functional in (True, False)}
    for problem in problems:
        functional = problem.metadata["starter"]
        harness = found[functional]
        example = harness or (OWN_FUNCTION if functional else OWN_PROGRAM)
        yield dataclasses.replace(
            problem,
            preamble=layout(example.question, example.starter, example.answer) + problem.preamble,
            metadata={**problem.metadata, "example": "harness" if harness else "own"},
        )


def _find(root: str, functional: bool) -> Example | None:
    """Returns the harness's example, if its file is in the folder."""
    name = f"livecodebench/few_shot_{'func' if functional else 'stdin'}.json"
    paths = [Path(root).expanduser() / (name + end) for end in ("", ".gz")] if root else []
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    where, record = next(iter(read_records(path)), (str(path), dict[str, Any]()))
    starter = field(record, "sample_code", str, where) if functional else ""
    return Example(field(record, "question", str, where), starter, field(record, "answer", str, where))
