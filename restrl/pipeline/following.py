"""What the other processes of a launch do: they wait until the first one trains, and train with it.

The first process runs the stages and writes the run directory. The others read it, so it must lie where all of them can
see it; they learn from the manifest which training stage has begun.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from restrl import launch
from restrl.artifacts import RunDirectory, read_manifest
from restrl.config import Recipe
from restrl.pipeline import training
from restrl.pipeline.context import Context
from restrl.progress import Silent
from restrl.stages import RunConfig


class FollowedRun(RunDirectory):
    """The run directory of another process: read, never written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, {"stages": {}})

    def save(self) -> None:
        """The first process writes the manifest."""

    def state(self, stage: str) -> str:
        """Returns what the manifest says of a stage now, empty if nothing."""
        manifest = read_manifest(self.path)
        return "" if manifest is None else str(manifest["stages"].get(stage, {}).get("state", ""))

    def is_done(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return self.state(stage) == "done"

    @contextmanager
    def stage(self, name: str, inputs: Mapping[str, Path] | None = None) -> Iterator[None]:
        """The first process keeps the books."""
        yield


def follow(recipe: Recipe, path: Path, stage: str | None = None) -> None:
    """Trains along with the first process, as long as its command has anything to train.

    Args:
        recipe: The same as the first process has.
        path: The run directory.
        stage: The stage that the command runs; None is the whole loop.
    """
    if stage not in (None, "train-policy"):
        return
    run = FollowedRun(path)
    context = Context(run, recipe, Silent())
    for iteration in range(1, recipe.section("run", RunConfig).iterations + 1):
        name = training.stage_name(iteration)
        launch.wait_for(lambda name=name: run.state(name) in ("running", "done"))  # type: ignore[misc]
        if not run.is_done(name):
            training.train_stage(context, iteration)
            if stage is not None:
                # A stage alone does the next iteration only.
                return
