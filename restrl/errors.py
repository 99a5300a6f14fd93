"""The exception tree.

::

    RestRLError
    ├── UserError                 the user's input is wrong: exit code 2, one line
    │   ├── ConfigError           a recipe or a flag
    │   ├── ProblemError          a problem file or record
    │   │   ├── NotGradable       this machine lacks what a problem's tests need, for example packages
    │   │   └── ReferenceFailed   a canonical solution fails on an input whose answer it should give
    │   ├── ModelError            a model directory
    │   └── ArtifactError         a run directory
    └── InfraError                something of ours or of the machine failed: exit code 1
        ├── GraderError           the grader could not grade (never a reward of 0)
        └── EngineError           a generation or training engine failed

A message says what is wrong, the actual value, what is allowed, and the next step, in one line.
"""

from __future__ import annotations


class RestRLError(Exception):
    """Base of every error that restrl raises on purpose."""


class UserError(RestRLError):
    """The user's input is wrong; the command exits with code 2."""


class ConfigError(UserError):
    """A recipe or a flag is wrong."""


class ProblemError(UserError):
    """A problem file, or one record of it, is wrong."""


class NotGradable(ProblemError):
    """This machine lacks what a problem's tests need, for example packages. Never counted as failed.

    Attributes:
        packages: The imports that are missing, if that is what it lacks.
    """

    def __init__(self, message: str, packages: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.packages = packages


class ReferenceFailed(ProblemError):
    """A canonical solution fails on an input whose expected output it should give.

    Attributes:
        problem_id: The problem.
    """

    def __init__(self, message: str, problem_id: str) -> None:
        super().__init__(message)
        self.problem_id = problem_id


class ModelError(UserError):
    """A model directory is missing something or does not fit."""


class ArtifactError(UserError):
    """A run directory is missing an artifact, or belongs to another recipe."""


class InfraError(RestRLError):
    """Something other than the user's input failed; the command exits with code 1."""


class GraderError(InfraError):
    """The grader could not grade. It is never turned into a reward of 0."""


class EngineError(InfraError):
    """A generation or training engine failed."""
