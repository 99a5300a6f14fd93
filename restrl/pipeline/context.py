"""What every stage of a run shares: the recipe, the run directory, the problems, the grader, the progress."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from restrl.artifacts import RunDirectory
from restrl.config import Recipe
from restrl.errors import ConfigError, ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.policy import PolicyConfig, close_policy, load_policy
from restrl.problems import load_problems
from restrl.problems.jsonl import read_problems, write_problems
from restrl.progress import Progress
from restrl.stages import EvaluateConfig, ProblemsConfig, RunConfig
from restrl.types import Policy, Problem


@dataclass(frozen=True, slots=True)
class ProblemSets:
    """The problems of a run; `value` and `train` come from the training source and share nothing unless so asked."""

    train: tuple[Problem, ...]
    value: tuple[Problem, ...]
    held_out: tuple[Problem, ...]

    @property
    def training(self) -> dict[str, Problem]:
        """Every training problem by id."""
        return {problem.id: problem for problem in (*self.train, *self.value)}


class Context:
    """See the module. Use `close` (or the pipeline's context manager) to end the grader's processes."""

    def __init__(self, run: RunDirectory, recipe: Recipe, progress: Progress) -> None:
        self.run = run
        self.recipe = recipe
        self.progress = progress
        self.settings = recipe.section("run", RunConfig)
        self.policy_config = recipe.section("policy", PolicyConfig)
        self.params = self.policy_config.sampling_params()
        self._grader: SandboxGrader | None = None

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.settings.seed

    @cached_property
    def problems(self) -> ProblemSets:
        """The problem sets: those of the run directory, or loaded now and kept there."""
        folder = self.run.path / "problems"
        names = [field.name for field in dataclasses.fields(ProblemSets)]
        if not self.run.is_done("problems"):
            loaded = load_problem_sets(self.recipe)
            folder.mkdir(exist_ok=True)
            with self.run.stage("problems"):
                for name in names:
                    write_problems(folder / f"{name}.jsonl", getattr(loaded, name))
        return ProblemSets(*(tuple(read_problems(self.run.need(f"problems/{name}.jsonl", "run"))) for name in names))

    @property
    def grader(self) -> SandboxGrader:
        """The grader, started on first use."""
        if self._grader is None:
            self._grader = SandboxGrader(self.recipe.section("grading", GradingConfig))
            self._grader.start()
            self.run.manifest["grading_layers"] = list(self._grader.layers)
        return self._grader

    @cached_property
    def base_policy(self) -> Path:
        """Directory of the policy that the run starts from."""
        return policy_path(self.policy_config)

    def policy_dir(self, tag: str) -> Path:
        """Directory of the policy ``base`` or ``trained`` (after the last iteration)."""
        last = self.settings.iterations
        if tag == "base" or last == 0:
            return self.base_policy
        return self.run.need(f"iteration-{last}/policy/model", "train-policy")

    @contextmanager
    def policy(self, directory: Path) -> Iterator[Policy]:
        """Loads a policy for the length of a block."""
        policy = load_policy(dataclasses.replace(self.policy_config, model=str(directory)))
        try:
            yield policy
        finally:
            close_policy(policy)
            del policy
            gc.collect()

    def close(self) -> None:
        """Ends the grader's processes."""
        if self._grader is not None:
            self._grader.close()
            self._grader = None


def policy_path(config: PolicyConfig) -> Path:
    """Returns the directory of the policy that a recipe names; ``starter`` is the embedded one."""
    if config.model == "starter":
        from restrl.starter import POLICY_DIR

        return POLICY_DIR
    if not config.model:
        raise ConfigError("policy.model is empty; name a model directory, for example --set policy.model=DIR")
    return Path(config.model)


@cache
def load_problem_sets(recipe: Recipe) -> ProblemSets:
    """Loads the problems that a recipe names.

    Raises:
        ProblemError: A source is missing or too small, or a held-out problem is also a training problem.
    """
    config = recipe.section("problems", ProblemsConfig)
    split = recipe.section("evaluate", EvaluateConfig).split
    wanted = config.train_count + config.value_count if config.train_count else 0
    training = _load(config.train, wanted, config.seed, "problems.train")
    count = config.train_count or len(training) - config.value_count
    train, value = training[:count], training[count:]
    if count < 1 or len(value) < config.value_count:
        raise ProblemError(
            f"problems.train = {config.train!r} has {len(training)} problems, fewer than problems.value_count = "
            f"{config.value_count} and one to train on; lower problems.value_count"
        )
    source, number = getattr(config, split), getattr(config, f"{split}_count")
    held_out = _load(source, number, config.seed, f"problems.{split}")
    known = {problem.statement.strip() for problem in training}
    shared = [problem.id for problem in held_out if problem.statement.strip() in known]
    if shared:
        raise ProblemError(
            f"problems.{split} = {source!r}: {len(shared)} problems are also in problems.train, first {shared[0]!r}; "
            "remove them from one of the two"
        )
    return ProblemSets(tuple(train), tuple(value) or tuple(train), tuple(held_out))


def _load(source: str, count: int, seed: int, key: str) -> Sequence[Problem]:
    problems = load_problems(source, count=count or None, seed=seed)
    if not problems:
        raise ProblemError(f"{key} = {source!r} holds no problem; give a set or a file with at least one")
    if count and len(problems) < count:
        raise ProblemError(
            f"{key} = {source!r} has {len(problems)} problems, but {count} are asked for; lower {key}_count"
        )
    return problems
