"""ReST-RL: a code LLM improves by its own practice, and a value model steers its decoding (arXiv 2508.19576).

The public names; importing this package loads no torch. The heavy ones load on first use::

    from restrl import Problem, State, load_problems, SandboxGrader, TransformersPolicy, TrainedValueModel, decode
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from restrl.errors import RestRLError, UserError
from restrl.types import (
    Case,
    Completion,
    Grade,
    Grader,
    Limits,
    Policy,
    Problem,
    SampleRequest,
    SamplingParams,
    State,
    Tests,
    ValueModel,
)

if TYPE_CHECKING:
    from restrl.decoding import DecodeConfig, decode
    from restrl.grading.config import GradingConfig
    from restrl.grading.grader import SandboxGrader
    from restrl.policy.transformers_engine import TransformersPolicy
    from restrl.problems import load_problems
    from restrl.rest.assembly import RestConfig, assemble
    from restrl.value.model import TrainedValueModel

_LAZY = {
    "DecodeConfig": "restrl.decoding",
    "GradingConfig": "restrl.grading.config",
    "RestConfig": "restrl.rest.assembly",
    "SandboxGrader": "restrl.grading.grader",
    "TrainedValueModel": "restrl.value.model",
    "TransformersPolicy": "restrl.policy.transformers_engine",
    "assemble": "restrl.rest.assembly",
    "decode": "restrl.decoding",
    "load_problems": "restrl.problems",
}

__all__ = [
    "Case",
    "Completion",
    "DecodeConfig",
    "Grade",
    "Grader",
    "GradingConfig",
    "Limits",
    "Policy",
    "Problem",
    "RestConfig",
    "RestRLError",
    "SampleRequest",
    "SamplingParams",
    "SandboxGrader",
    "State",
    "Tests",
    "TrainedValueModel",
    "TransformersPolicy",
    "UserError",
    "ValueModel",
    "assemble",
    "decode",
    "load_problems",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'restrl' has no attribute {name!r}")
