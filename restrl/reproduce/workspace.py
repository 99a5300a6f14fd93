"""The workspace of all experiments: one ordinary run directory per seed and arm, and what they have in common.

Layout::

    OUT/reproduce.json              scale and overrides, so that another command does not go on with this folder
    OUT/seed-S/ARM/                 a run directory (`restrl.artifacts`); `restrl report --out` and the like work on it
    OUT/seed-S/ARM/measure/         what the experiments measured on it
    OUT/EXPERIMENT.md .json .png .svg

Everything is resumable, because the runs are: a killed command goes on where it was. Different seeds may be worked on
by different processes at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from restrl.artifacts import RunDirectory, dump_json, open_run, read_manifest, write_atomic
from restrl.config import Recipe
from restrl.errors import ArtifactError
from restrl.pipeline import Pipeline, check, training, values
from restrl.progress import Progress
from restrl.reproduce.arms import METHODS, Scale, arm_recipe
from restrl.value.kinds import ValueKind

FORMAT = 1
SHARED_FROM = "rest-grpo"
SCORERS: Mapping[str, tuple[ValueKind, ...]] = {"base": ("vm", "orm", "prm"), "trained": ("vm",)}
"""Policy -> what is trained on the values collected for it."""
# What the stages that arms share depend on; arms that differ in any of it share nothing.
SHARED_SECTIONS = ("problems", "policy", "sample", "grading")


@dataclass(frozen=True, slots=True)
class Workspace:
    """See the module.

    Attributes:
        out: The folder.
        scale: How large everything is.
        label: Name of the scale, as in the command.
        seeds: One run of every arm for each.
        overrides: Flags ``section.key=value`` for all arms.
        progress: Told what is going on.
    """

    out: Path
    scale: Scale
    label: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    progress: Progress = field(kw_only=True)

    def begin(self) -> None:
        """Checks the recipes and the folder before anything is computed.

        Raises:
            UserError: A model or a problem set is missing, or the folder belongs to another scale.
        """
        record = {"format": FORMAT, "scale": self.label, "overrides": list(self.overrides)}
        path = self.out / "reproduce.json"
        if path.exists():
            self._compare(json.loads(path.read_text(encoding="utf-8")), record)
        elif self.out.is_file() or (self.out.is_dir() and any(self.out.iterdir())):
            raise ArtifactError(f"{self.out} holds something else; give a new directory with --out")
        recipes = [self.recipe(seed, arm) for seed in self.seeds for arm in METHODS]
        if read_manifest(self.path(self.seeds[0], SHARED_FROM)) is None:
            check(recipes[0])
        write_atomic(path, dump_json(record))

    def _compare(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        for key, value in new.items():
            if old.get(key) != value:
                raise ArtifactError(
                    f"{self.out} was begun with {key} = {old.get(key)!r}, not {value!r}; give another --out, or the "
                    "same flags to go on"
                )

    def recipe(self, seed: int, arm: str) -> Recipe:
        """Returns the recipe of an arm."""
        return arm_recipe(arm, self.scale, seed, self.overrides)

    def path(self, seed: int, arm: str) -> Path:
        """Returns the run directory of an arm."""
        return self.out / f"seed-{seed}" / arm

    @contextmanager
    def open(self, seed: int, arm: str) -> Iterator[Pipeline]:
        """Opens the run of an arm; what another arm of the seed has already made for both is taken from there."""
        recipe = self.recipe(seed, arm)
        with open_run(self.path(seed, arm), recipe.to_dict(), recipe.to_toml(), recipe.name) as run:
            if arm != SHARED_FROM:
                _adopt(run, recipe, self.path(seed, SHARED_FROM))
            with Pipeline(run, recipe, self.progress) as pipeline:
                yield pipeline

    def train(self, seed: int, arm: str) -> None:
        """Trains the policy of an arm through all its iterations, as far as that is not done yet."""
        iterations = self.recipe(seed, arm).to_dict()["run"]["iterations"]
        if arm != SHARED_FROM and self.shares_samples(arm):
            self._first_samples(seed)
        with self.open(seed, arm) as pipeline:
            run = pipeline.context.run
            if all(run.is_done(f"iteration-{k}/train-policy") for k in range(1, iterations + 1)):
                return
            self.progress.note(f"seed {seed}: arm {arm}")
            for iteration in range(1, iterations + 1):
                training.sample(pipeline.context, iteration)
                training.assemble_instances(pipeline.context, iteration)
                training.train(pipeline.context, iteration)

    def prepare_values(self, seed: int) -> None:
        """Collects values for the base policy and for the ReST-GRPO policy, and trains what scores programs.

        The value model, the outcome and the process reward model of the base policy learn from the same programs.
        """
        with self.open(seed, SHARED_FROM) as pipeline:
            context = pipeline.context
            for tag, kinds in SCORERS.items():
                values.collect(context, tag)
                for kind in kinds:
                    values.train(context, tag, kind)

    def measure_spread(self, seed: int) -> None:
        """Measures the reward spread of groups before and after the first assembly; needs no training."""
        with self.open(seed, SHARED_FROM) as pipeline:
            training.sample(pipeline.context, 1)
            training.assemble_instances(pipeline.context, 1)
            training.measure_spread(pipeline.context, 1)

    def shares_samples(self, arm: str) -> bool:
        """Whether an arm learns, in its first iteration, from the samples that the ReST-GRPO arm learns from."""
        return METHODS[arm] == "rest-dpo"

    def _first_samples(self, seed: int) -> None:
        with self.open(seed, SHARED_FROM) as pipeline:
            training.sample(pipeline.context, 1)


def _adopt(run: RunDirectory, recipe: Recipe, source: Path) -> None:
    """Copies what an arm would otherwise make again, byte for byte: the problems, and the first samples."""
    other = read_manifest(source)
    if other is None or not _same_inputs(other["recipe"], recipe.to_dict()):
        return
    names = ["problems"]
    if recipe.to_dict()["train"]["method"] == "rest-dpo":
        names.append("iteration-1/sample")
    for name in names:
        entry = other["stages"].get(name, {})
        if run.is_done(name) or entry.get("state") != "done":
            continue
        pattern = "problems/*.jsonl" if name == "problems" else "iteration-1/samples.jsonl"
        for path in sorted(source.glob(pattern)):
            write_atomic(run.path / path.relative_to(source), path.read_bytes())
        run.manifest["stages"][name] = {**entry, "taken_from": source.name}
        run.save()


def _same_inputs(one: dict[str, Any], other: dict[str, Any]) -> bool:
    keys = [(section, key) for section in SHARED_SECTIONS for key in other[section]]
    keys += [("run", "seed"), ("run", "chunk_size")]
    return all(one.get(section, {}).get(key) == other[section][key] for section, key in keys)
