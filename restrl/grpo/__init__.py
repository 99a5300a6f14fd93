"""GRPO: trains the policy on the assembled instances (ReST-RL, section 3.2).

Importing this package imports no torch; the trainer is `restrl.grpo.trainer`.
"""

from __future__ import annotations

from restrl.grpo.config import GRPOConfig
from restrl.grpo.metrics import METRICS
from restrl.grpo.report import TrainReport

__all__ = ["METRICS", "GRPOConfig", "TrainReport"]
