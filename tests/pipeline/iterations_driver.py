"""Runs two or three iterations on a tiny model in forked children that die at every stage's bounds and inside it.

    python iterations_driver.py WORKDIR ITERATIONS

The first run is not interrupted. The children of the second are killed by SIGKILL, each at the first event that none
before it has died at: a stage begins, writes a file, notes an answer, trains a step, has written a checkpoint, is about
to be done, is done. Then every artifact is compared. Prints one JSON object. Heavy imports come once, before the forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import torch
import trl  # noqa: F401
from resume_driver import artifacts_of
from tiny_models import save_tiny_model

import restrl.grpo.trainer
import restrl.value.train  # noqa: F401
from restrl import artifacts
from restrl.config import load_recipe
from restrl.grpo import checkpoints
from restrl.pipeline import Pipeline, context, journal, reporting
from restrl.progress import Silent
from restrl.seeds import derive_seed
from restrl.types import CaseVerdict, Grade, Problem

SETTINGS = (
    "run.keep=best",
    "run.chunk_size=2",
    "problems.train_count=4",
    "problems.value_count=3",
    "problems.validation_count=3",
    "problems.test_count=3",
    "policy.max_new_tokens=8",
    "policy.temperature=1.0",
    "rest.r_0=0.3",
    "rest.num_prefixes=1",
    "grpo.max_steps=2",
    "grpo.num_generations=2",
    "grpo.prompts_per_step=2",
    "grpo.learning_rate=0.001",
    "collect.budget=3",
    "evaluate.validation_samples=3",
    "evaluate.values_for=trained",
    "evaluate.budget=3",
    "evaluate.spread_instances=0",
    "evaluate.resamples=100",
)


class HashGrader:
    """Rewards that depend on the program alone; nothing runs."""

    layers = ("none",)

    def __init__(self, config: object) -> None:
        pass

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [self._grade(problem, program) for problem, program in pairs]

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        await asyncio.sleep(0)
        return self.grade(pairs)

    @staticmethod
    def _grade(problem: Problem, program: str) -> Grade:
        good = derive_seed(problem.id, program) % 3
        verdicts = tuple(CaseVerdict(str(i), "pass" if i < good else "wrong") for i in range(2))
        return Grade(problem.id, good / 2, good == 2, verdicts, layers=("none",))


class Deaths(Silent):
    """Kills this process at the first event that is not in the list yet; also the progress of the run.

    Args:
        path: The list, one event a line; None kills nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.stage = path, "start"

    def at(self, kind: str) -> None:
        """An event of the stage under way."""
        event = f"{self.stage} {kind}"
        if self.path is None or event in self.path.read_text().splitlines():
            return
        with open(self.path, "a") as file:
            file.write(event + "\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def advance(self, units: int = 1, **figures: float) -> None:
        """The stage has made progress: a step, where it trains, and otherwise what it also writes."""
        if self.stage.endswith(("/train", "/train-policy")):
            self.at("steps")

    def install(self) -> None:
        """Puts itself around everything that a stage does to the disk."""
        self._around_stages()
        self._before(artifacts, "write_atomic", "writes")
        self._before(checkpoints, "mark_complete", "has written")
        original = journal.append_line

        def append(file: Any, line: bytes) -> None:
            half = len(line) // 2
            if self.path is not None and f"{self.stage} answer" not in self.path.read_text().splitlines():
                original(file, line[:half])
            self.at("answer")
            original(file, line)

        journal.append_line = append

    def _around_stages(self) -> None:
        original = artifacts.RunDirectory.stage

        @contextlib.contextmanager
        def stage(run: Any, name: str, inputs: Any = None) -> Iterator[None]:
            with original(run, name, inputs):
                self.stage = name
                self.at("begins")
                yield
                self.at("ends")
            self.at("is done")

        artifacts.RunDirectory.stage = stage  # type: ignore[method-assign]

    def _before(self, module: Any, name: str, kind: str) -> None:
        original = getattr(module, name)

        def replaced(path: Path, *data: Any) -> Any:
            # The manifest is written at the bounds of the stages, and one chunk is as good as another.
            if path.name != "manifest.json" and not path.name.startswith("00001"):
                self.at(f"{kind} {path.parent.name}/{path.name}")
            return original(path, *data)

        for each in list(sys.modules.values()):
            if getattr(each, name, None) is original:
                setattr(each, name, replaced)


def run_child(out: Path, overrides: Sequence[str], deaths: Path | None) -> int:
    """Runs the whole loop but for the report in a fork; returns its wait status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        torch.set_num_threads(1)
        with open(out.with_suffix(".log"), "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        progress = Deaths(deaths)
        progress.install()
        context.SandboxGrader = HashGrader  # type: ignore[assignment, misc]
        reporting.report = lambda context: ("", {})  # type: ignore[assignment]
        recipe = load_recipe("smoke", overrides)
        with (
            artifacts.open_run(out, recipe.to_dict(), recipe.to_toml(), recipe.name) as run,
            Pipeline(run, recipe, progress) as pipeline,
        ):
            pipeline.run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    work, iterations = Path(sys.argv[1]), int(sys.argv[2])
    model = save_tiny_model(work / "model")
    overrides = [*SETTINGS, f"policy.model={model}", f"run.iterations={iterations}", *sys.argv[3:]]
    gc.freeze()
    whole = run_child(work / "whole", overrides, None)
    deaths = work / "deaths"
    deaths.touch()
    status, limit = -1, 400
    while status and limit and not (status > 0 and not os.WIFSIGNALED(status)):
        status = run_child(work / "killed", overrides, deaths)
        limit -= 1
    before, after = (artifacts_of(work / name) for name in ("whole", "killed"))
    different = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    manifests = [json.loads((work / name / "manifest.json").read_text()) for name in ("whole", "killed")]
    print(
        json.dumps(
            {
                "whole": whole,
                "final": status,
                "deaths": deaths.read_text().splitlines(),
                "files": sorted(before),
                "different": different,
                "stages": [list(manifest["stages"]) for manifest in manifests],
                "kept": [manifest["kept"] for manifest in manifests],
            }
        )
    )


if __name__ == "__main__":
    main()
