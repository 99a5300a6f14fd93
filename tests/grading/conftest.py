"""One grader for the whole suite: what a hostile program leaves behind would show in the tests after it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from restrl.grading import GradingConfig, SandboxGrader

# The tests are no package; this makes `import hostile_run` work from the test files here.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def grader() -> Iterator[SandboxGrader]:
    with SandboxGrader(GradingConfig(workers=2, wall_factor=3.0, max_timeouts=1)) as shared:
        yield shared
