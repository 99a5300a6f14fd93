"""The embedded default: an endless family of small programming problems and a small policy made for it.

Nothing here needs a network, a GPU or more than two cores: `restrl.starter.generator` makes the problems,
`restrl.starter.build` makes the policy from nothing, and `POLICY_DIR` is the policy that ships with the package.
"""

from __future__ import annotations

from pathlib import Path

POLICY_DIR = Path(__file__).parent / "policy"
"""The shipped policy, in the Hugging Face ``from_pretrained`` layout."""

__all__ = ["POLICY_DIR"]
