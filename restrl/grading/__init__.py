"""The grader: untrusted programs in, rewards out. A wrong program never earns credit and a correct one never loses it.

The candidate's process returns claims only (encoded return values or standard output); the parent, the only one that
holds the expected values, compares. See docs/grading.md.
"""

from restrl.grading.config import LAYERS, GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.grading.rewards import shaped_reward

__all__ = ["LAYERS", "GradingConfig", "SandboxGrader", "shaped_reward"]
