"""What every stage of a run shares: the recipe, the run directory, the problems, the grader, the progress."""

from __future__ import annotations

import dataclasses
import gc
import json
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

KEPT = "kept.json"
"""The file that says which iteration's policy is kept, and why."""


@dataclass(frozen=True, slots=True)
class ProblemSets:
    """The problems of a run.

    Attributes:
        train: For training the policy.
        value: For collecting values; from the same source, sharing nothing with `train` unless so asked.
        held_out: For the final comparison.
        validation: For the evaluation after each iteration; empty where there is none.
    """

    train: tuple[Problem, ...]
    value: tuple[Problem, ...]
    held_out: tuple[Problem, ...]
    validation: tuple[Problem, ...] = ()

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
        """The problem sets: those of the run directory, or loaded now and kept there.

        A run directory without validation problems, as it is where they are off, or in a run from before they were on
        by default, goes on without them.
        """
        folder = self.run.path / "problems"
        names = ["train", "value", "held_out"]
        if not self.run.is_done("problems"):
            loaded = load_problem_sets(self.recipe)
            folder.mkdir(exist_ok=True)
            with self.run.stage("problems"):
                for name in [*names, "validation"] if loaded.validation else names:
                    write_problems(folder / f"{name}.jsonl", getattr(loaded, name))
        if (folder / "validation.jsonl").exists():
            names.append("validation")
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

    @property
    def kept(self) -> int | None:
        """The iteration whose policy is the trained one; 0 is the base policy, None is not decided yet."""
        if self.settings.iterations == 0 or self.settings.keep == "last" or not self.problems.validation:
            return self.settings.iterations
        path = self.run.path / KEPT
        return int(json.loads(path.read_text(encoding="utf-8"))["iteration"]) if path.exists() else None

    def policy_dir(self, tag: str) -> Path:
        """Directory of the policy ``base`` or ``trained``: that of the iteration that is kept."""
        kept = 0 if tag == "base" else self.kept
        if kept is None:
            self.run.need(KEPT, "validate")
        return self.iteration_policy(kept or 0)

    def iteration_policy(self, iteration: int) -> Path:
        """Directory of the policy after an iteration; 0 is the base policy."""
        if iteration == 0:
            return self.base_policy
        return self.run.need(f"iteration-{iteration}/policy/model", "train-policy")

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
    _check_apart(held_out, training, f"problems.{split} = {source!r}", "problems.train")
    validation: Sequence[Problem] = ()
    if _validates(recipe):
        validation = held_out if split == "validation" else _validation(config, training, held_out)
    return ProblemSets(tuple(train), tuple(value) or tuple(train), tuple(held_out), tuple(validation))


def _validates(recipe: Recipe) -> bool:
    """Whether every iteration is evaluated on validation problems."""
    config = recipe.section("problems", ProblemsConfig)
    # The default of the setting says nothing about problems of another kind.
    foreign = config.validation.startswith("starter/") and not config.train.startswith("starter/")
    samples = recipe.section("evaluate", EvaluateConfig).validation_samples
    return bool(recipe.section("run", RunConfig).iterations and samples and not foreign)


def _validation(config: ProblemsConfig, training: Sequence[Problem], held_out: Sequence[Problem]) -> Sequence[Problem]:
    try:
        validation = _load(config.validation, config.validation_count, config.seed, "problems.validation")
    except ProblemError as error:
        raise ProblemError(f"{error}, or switch the evaluation after each iteration off: {_OFF}") from None
    where = f"problems.validation = {config.validation!r}"
    _check_apart(validation, training, where, "problems.train")
    _check_apart(validation, held_out, where, f"problems.test, which must choose nothing ({_OFF} chooses nothing)")
    return validation


_OFF = "--set evaluate.validation_samples=0"


def _check_apart(problems: Sequence[Problem], others: Sequence[Problem], where: str, other: str) -> None:
    known = {problem.statement.strip() for problem in others}
    shared = [problem.id for problem in problems if problem.statement.strip() in known]
    if shared:
        raise ProblemError(
            f"{where}: {len(shared)} problems are also in {other}, first {shared[0]!r}; remove them from one of the two"
        )


def _load(source: str, count: int, seed: int, key: str) -> Sequence[Problem]:
    problems = load_problems(source, count=count or None, seed=seed)
    if not problems:
        raise ProblemError(f"{key} = {source!r} holds no problem; give a set or a file with at least one")
    if count and len(problems) < count:
        raise ProblemError(
            f"{key} = {source!r} has {len(problems)} problems, but {count} are asked for; lower {key}_count"
        )
    return problems
