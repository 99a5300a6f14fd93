"""The evaluation stage: decodes the held-out problems by every method and grades the candidates (paper, section 4).

One sample per problem is measured with the independent samples of best-of-n: the same draws serve both rows.

A chunk of problems keeps a journal of what the models and the grader have answered (`restrl.pipeline.journal`), so a
kill loses one batch at most and no finished problem. Searches are kept beside the results, one entry per problem, in
``evaluate/POLICY-METHOD.trees.jsonl.gz``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restrl.artifacts import read_jsonl, write_atomic
from restrl.decoding import INDEPENDENT, SEARCHES, Decoded, decode, open_execution
from restrl.decoding.config import DecodeConfig
from restrl.decoding.driver import SearchRun
from restrl.evaluation.evaluate import evaluate_decoded
from restrl.evaluation.results import EvaluationResult, from_records
from restrl.evaluation.trees import TreeEntry, entry_of, tree_of_search, trees_bytes
from restrl.grading.config import GradingConfig
from restrl.pipeline.context import Context
from restrl.pipeline.journal import Journal
from restrl.pipeline.values import tags
from restrl.search.saved import SavedTree
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig
from restrl.types import Grade, Problem

if TYPE_CHECKING:
    from restrl.value.model import TrainedValueModel

METHOD_NAMES = {"sample": "sample", "best_of_n": "best-of-n", "vm_mcts": "VM-MCTS"}
PUBLIC_LABEL = ", public tests used"


def jobs(context: Context) -> list[tuple[str, str]]:
    """Returns (policy, method) pairs: what is decoded, in order."""
    policies = ("base",) if context.kept == 0 else ("base", "trained")
    with_values = tags(context)
    return [
        (tag, method)
        for tag in policies
        for method in (("best_of_n", "vm_mcts") if tag in with_values else ("sample",))
    ]


def method_name(context: Context, method: str) -> str:
    """Returns what a method is called in results: with a label where public examples had a part in them."""
    used = method != "sample" and context.recipe.section("decode", DecodeConfig).public_tests
    return METHOD_NAMES[method] + (PUBLIC_LABEL if used else "")


def evaluate(context: Context) -> None:
    """Decodes and grades; one table per policy and method."""
    config = context.recipe.section("evaluate", EvaluateConfig)
    for tag, method in jobs(context):
        name = f"evaluate/{tag}-{method}"
        if context.run.is_done(name):
            continue
        measure(
            context,
            Measurement(
                stage=name,
                table=name,
                label=f"{tag} policy",
                directory=context.policy_dir(tag),
                problems=context.problems.held_out,
                method=method,
                budget=config.budget,
                seed=derive_seed(context.seed, "evaluate", tag),
                value_tag=tag,
                saves_trees=config.save_trees,
            ),
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """One stage that decodes problems by a policy and grades what comes out.

    Attributes:
        stage: Its name in the manifest.
        table: Path of its table below the run directory, without the ending.
        label: Of the policy, for people.
        directory: The policy.
        problems: What is decoded.
        method: A name of `restrl.decoding.DECODERS`.
        budget: Completions per problem.
        seed: Of everything random.
        value_tag: Whose value model takes part, where the method needs one.
        saves_trees: Keep the searches, where the method is one.
    """

    stage: str
    table: str
    label: str
    directory: Path
    problems: tuple[Problem, ...]
    method: str
    budget: int
    seed: int
    value_tag: str = ""
    saves_trees: bool = False


def measure(context: Context, what: Measurement) -> None:
    """Runs the stage; its table has one record per problem (`restrl.evaluation.results`)."""
    config = dataclasses.replace(context.recipe.section("decode", DecodeConfig), budget=what.budget)
    if what.method == "sample":  # it answers with its first completion, whatever the others are chosen by
        config = dataclasses.replace(config, selection="score", public_tests=False)
    keeps_trees = what.saves_trees and what.method in SEARCHES
    files = _Files(context.run.path, what.table)
    made: set[int] = set()

    def on_chunk(count: int) -> None:
        # Chunks that are made in this process tell their progress problem by problem.
        if not made:
            context.progress.advance(count)

    with (
        context.run.stage(what.stage, {"policy": what.directory}),
        context.policy(what.directory) as policy,
        _value_model(context, what.value_tag, what.method) as value_model,
        open_execution(context.recipe.section("grading", GradingConfig)) as execution,
    ):

        def make(chunk: Sequence[Problem], index: int) -> list[dict[str, Any]]:
            made.add(index)
            files.forget(index)
            saver = TreeSaver(chunk, f"{method_name(context, what.method)}, {what.label}") if keeps_trees else None
            with Journal(files.journal(index)) as journal:
                decoded = decode(
                    what.method,
                    chunk,
                    policy,
                    value_model,
                    config,
                    what.seed,
                    params=context.params,
                    on_progress=context.progress.advance,
                    on_round=saver.on_round if saver else None,
                    layer=journal.layer,
                    execution=execution,
                )
                grader = journal.grader(context.grader)
                records = evaluate_decoded(chunk, decoded, grader).to_records()
            if saver is not None:
                write_atomic(files.trees(index), trees_bytes(saver.entries(decoded, grader.grades)))
            return records

        context.progress.start(f"{what.label}: decode by {METHOD_NAMES[what.method]}", len(what.problems))
        context.run.table(f"{what.table}.jsonl", what.problems, context.settings.chunk_size, make, on_chunk)
        if keeps_trees:
            files.join_trees()
        files.clear()
        context.progress.finish()


class TreeSaver:
    """Collects the searches of a chunk as they become done.

    Args:
        problems: The chunk.
        method: What to call the method in the entries.
    """

    def __init__(self, problems: Sequence[Problem], method: str) -> None:
        self._problems, self._method = problems, method
        self._trees: dict[str, SavedTree] = {}

    def on_round(self, runs: Sequence[SearchRun]) -> None:
        """Keeps the searches that are done."""
        for run in runs:
            if run.tree.done:
                name = self._problems[run.index].id
                self._trees[name] = tree_of_search(run.tree, name, self._method)

    def entries(self, decoded: Sequence[Decoded], grades: Mapping[tuple[str, str], Grade]) -> list[TreeEntry]:
        """Returns one entry per problem, in order, with the grades of its programs."""
        by_problem: dict[str, dict[str, Grade]] = {problem.id: {} for problem in self._problems}
        starts = {problem.id: len(problem.initial_state) for problem in self._problems}
        for (name, program), grade in grades.items():
            by_problem[name][program[starts[name] :]] = grade
        return [
            entry_of(problem, self._trees[problem.id], self._method, item.answers[-1], by_problem[problem.id])
            for problem, item in zip(self._problems, decoded, strict=True)
        ]


def join_trees(folder: Path) -> bytes:
    """Returns the bytes of one file with the searches of all chunks in a folder, in order."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*.jsonl.gz")))


class _Files:
    """The files of one evaluation beside its table: journals and trees, chunk by chunk, then the trees in one."""

    def __init__(self, run: Path, name: str) -> None:
        self._journals, self._trees = run / f"{name}.journal", run / f"{name}.trees.jsonl.gz"
        self._parts = self._trees.with_name(self._trees.name + ".part")

    def journal(self, index: int) -> Path:
        return self._journals / f"{index:05d}.jsonl"

    def trees(self, index: int) -> Path:
        return self._parts / f"{index:05d}.jsonl.gz"

    def forget(self, index: int) -> None:
        """Removes the journals of the chunks before this one: their results are on disk."""
        for path in self._journals.glob("*.jsonl"):
            if path.stem < f"{index:05d}":
                path.unlink()

    def join_trees(self) -> None:
        """Makes one file of the chunks' trees."""
        if not self._trees.exists():
            write_atomic(self._trees, join_trees(self._parts))

    def clear(self) -> None:
        shutil.rmtree(self._journals, ignore_errors=True)
        shutil.rmtree(self._parts, ignore_errors=True)


@contextmanager
def _value_model(context: Context, tag: str, method: str) -> Iterator[TrainedValueModel | None]:
    if method == "sample":
        yield None
        return
    from restrl.value.model import TrainedValueModel

    config = context.policy_config
    yield TrainedValueModel(
        context.run.need(f"values-{tag}/model", "train-value"),
        device=config.device,
        dtype=config.dtype,
        prompt_style=config.prompt_style,
    )


def read_evaluations(context: Context) -> dict[tuple[str, str], EvaluationResult]:
    """Reads every evaluation that the run has.

    Raises:
        ArtifactError: There is none yet.
    """
    results = {}
    for tag, method in jobs(context):
        path = context.run.path / f"evaluate/{tag}-{method}.jsonl"
        if not path.exists() and (tag, method) != jobs(context)[0]:
            continue
        context.run.need(f"evaluate/{tag}-{method}.jsonl", "evaluate")
        results[tag, method] = read_result(context, path, independent=method in INDEPENDENT)
    return results


def read_result(context: Context, path: Path, *, independent: bool) -> EvaluationResult:
    """Reads one table of `measure`, with the run's bootstrap."""
    config = context.recipe.section("evaluate", EvaluateConfig)
    return from_records(
        read_jsonl(path),
        independent=independent,
        seed=derive_seed(context.seed, "bootstrap") % (1 << 31),
        num_resamples=config.resamples,
        confidence=config.confidence,
    )
