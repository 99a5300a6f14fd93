"""Where problems come from: the embedded starter, JSON-lines files, and the public benchmarks.

`PROBLEM_SETS` is the whole list; a new set is one module and one line in it.
"""

from __future__ import annotations

from restrl.problems.registry import PROBLEM_SETS, ProblemSet, load_problems
from restrl.problems.validate import ValidationReport, validate_problems

__all__ = ["PROBLEM_SETS", "ProblemSet", "ValidationReport", "load_problems", "validate_problems"]
