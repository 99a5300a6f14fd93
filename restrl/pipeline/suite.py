"""Stand-alone evaluation: any policy, any problem sets, any decoder; resumable, with grading behind generation.

Layout of the folder::

    manifest.json        settings, versions, hashes of the problems, state
    generations.jsonl    every answer, a line each: whole program, continuation, whether it was finished, its value
    problems.jsonl       every problem, a line each: the grades of its answers, or why it was not gradable, and its cost
    trees.jsonl.gz       every search, if they are kept: one per answer, in the order of the chunks
    samples/             the answers in the layouts of EvalPlus and BigCodeBench, and one plain file per other set
    results.json         every number
    results.md           the table

Problems of all sets form one list, cut into fixed chunks. A chunk is decoded while the one before it is graded; both
steps keep a journal of what was answered (`restrl.pipeline.journal`), so a killed evaluation redoes at most one batch
of each, and ends with the same files.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restrl.artifacts import RunDirectory, dump_json, dump_jsonl, read_jsonl, write_atomic
from restrl.decoding import SEARCHES, DecodeConfig, Execution, decode, open_execution
from restrl.decoding.results import Candidate
from restrl.errors import ArtifactError
from restrl.evaluation.config import SuiteConfig
from restrl.evaluation.layouts import samples_path, samples_text
from restrl.evaluation.suite import Scored, ScoredAnswer, summarise
from restrl.evaluation.tables import markdown
from restrl.evaluation.trees import TreeEntry, trees_bytes
from restrl.grading.config import GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.pipeline.evaluating import TreeSaver, join_trees
from restrl.pipeline.journal import Journal
from restrl.pipeline.suite_parts import digest_of, grade_all, no_answer, score_answer, why_not_gradable
from restrl.pipeline.suite_settings import ONE_EACH
from restrl.policy import PolicyConfig, close_policy, load_policy
from restrl.problems.registry import LoadedSet, load_set
from restrl.progress import Progress
from restrl.seeds import derive_seed
from restrl.types import Policy, Problem, State, ValueModel

KIND = "evaluation"


@dataclass(frozen=True, slots=True)
class SuiteSettings:
    """Everything that decides the result of an evaluation."""

    suite: SuiteConfig
    policy: PolicyConfig
    decode: DecodeConfig
    grading: GradingConfig


@dataclass(frozen=True, slots=True)
class _Item:
    """One problem of one set."""

    set: str
    problem: Problem


LoadedSets = Mapping[str, LoadedSet]
"""Set -> its problems, in the order in which they are evaluated."""


def load_sets(suite: SuiteConfig) -> LoadedSets:
    """Loads the sets of an evaluation: before its folder is made, so that a wrong name leaves none behind.

    Raises:
        ProblemError: A problem set cannot be loaded.
    """
    return {spec: load_set(spec, count=suite.count or None, seed=suite.seed) for spec in suite.problems}


class SuiteEvaluation:
    """Evaluates a policy into a folder. The run directory carries the settings; see `run`."""

    def __init__(self, run: RunDirectory, settings: SuiteSettings, loaded: LoadedSets, progress: Progress) -> None:
        self._run = run
        self._settings = settings
        self._suite = settings.suite
        self._loaded = loaded
        self._progress = progress
        self._work = run.path / "work"
        self._execution: Execution | None = None

    def run(self) -> dict[str, Any]:
        """Does what is left to do and returns the results, which are also written.

        Raises:
            ArtifactError: The problems are not those that the folder was begun with.
            ModelError: The policy or the value model cannot be used.
        """
        items, refusals = self._items()
        size = self._suite.chunk_size
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        with self._run.stage("evaluate"), SandboxGrader(self._settings.grading) as grader:
            reasons = {id(item.problem): why_not_gradable(item.problem, self._settings.grading) for item in items}
            self._run.manifest["grading_layers"] = list(grader.layers)
            self._progress.start(f"evaluate {len(self._suite.problems)} sets", len(items))
            self._make(chunks, grader, reasons)
            self._progress.finish()
            results = self._write(chunks, refusals)
        shutil.rmtree(self._work, ignore_errors=True)
        return results

    def _items(self) -> tuple[list[_Item], dict[str, dict[str, int]]]:
        items: list[_Item] = []
        refusals: dict[str, dict[str, int]] = {}
        hashes: dict[str, str] = {}
        for spec, loaded in self._loaded.items():
            items += [_Item(spec, problem) for problem in loaded.problems]
            refusals[spec] = dict(loaded.refusals)
            hashes[spec] = digest_of(loaded.problems)
        known = self._run.manifest.setdefault("problems", hashes)
        changed = [spec for spec in hashes if known.get(spec) != hashes[spec]]
        if changed:
            raise ArtifactError(
                f"{self._run.path} was begun with other problems of {changed[0]!r} than those that are there now; "
                "bring the old ones back, or give another --out"
            )
        return items, refusals

    def _make(self, chunks: Sequence[Sequence[_Item]], grader: SandboxGrader, reasons: dict[int, str]) -> None:
        """Decodes the chunks in order; each is graded in a second thread while the next one is decoded."""
        finished = (self._run.path / "problems.jsonl").exists()
        done = [finished or self._graded_path(index).exists() for index in range(len(chunks))]
        for chunk, is_done in zip(chunks, done, strict=True):
            if is_done:
                self._progress.advance(len(chunk))
        if all(done):
            return
        todo = [index for index in range(len(chunks)) if not done[index]]
        needs_policy = any(not self._decoded_path(index).exists() for index in todo)
        grading: Future[None] | None = None
        with (
            ThreadPoolExecutor(1, "restrl-grade") as pool,
            self._models(needs_policy) as (policy, value_model),
            # Nothing starts there unless the decoder runs candidates.
            open_execution(self._settings.grading) as self._execution,
        ):
            for index in todo:
                if not self._decoded_path(index).exists():
                    assert policy is not None
                    with Journal(self._journal_path(index, "decode")) as journal:
                        records, trees = self._decode(chunks[index], policy, value_model, journal)
                    if self._keeps_trees:
                        write_atomic(self._trees_path(index), trees_bytes(trees))
                    write_atomic(self._decoded_path(index), dump_jsonl(records))
                if grading is not None:
                    grading.result()
                grading = pool.submit(self._grade, index, chunks[index], grader, reasons)
            if grading is not None:
                grading.result()

    @contextmanager
    def _models(self, needed: bool) -> Iterator[tuple[Policy | None, ValueModel | None]]:
        if not needed:
            yield None, None
            return
        policy = load_policy(self._settings.policy)
        try:
            yield policy, self._value_model()
        finally:
            close_policy(policy)

    def _value_model(self) -> ValueModel | None:
        if not self._suite.value_model:
            return None
        from restrl.value.load import open_value_model

        config = self._settings.policy
        return open_value_model(
            Path(self._suite.value_model), device=config.device, dtype=config.dtype, prompt_style=config.prompt_style
        )

    def _decode(
        self, chunk: Sequence[_Item], policy: Policy, value_model: ValueModel | None, journal: Journal
    ) -> tuple[list[dict[str, Any]], list[TreeEntry]]:
        """Returns one record per problem, its answers and what they cost, and the searches if they are kept."""
        # An engine that knows its context says which prompts leave no room: those problems have no answer.
        fits = getattr(policy, "fits", None)
        room = [fits is None or bool(fits(State(item.problem))) for item in chunk]
        problems = [item.problem for item, has_room in zip(chunk, room, strict=True) if has_room]
        found, trees = self._answers(problems, policy, value_model, journal)
        answers = iter(found)
        records = []
        for item, has_room in zip(chunk, room, strict=True):
            candidates, cost = next(answers) if has_room else ([no_answer()] * self._suite.samples, {"too_long": 1.0})
            records.append(
                {
                    "problem_id": item.problem.id,
                    "answers": [dataclasses.asdict(candidate) for candidate in candidates],
                    "cost": cost,
                }
            )
        return records, trees

    def _answers(
        self, problems: Sequence[Problem], policy: Policy, value_model: ValueModel | None, journal: Journal
    ) -> tuple[list[tuple[list[Candidate], dict[str, float]]], list[TreeEntry]]:
        """Returns every problem's independent answers and their cost.

        A single sample is an answer of its own: they come from one request. Every other decoder runs once per answer.
        """
        if not problems:
            return [], []
        suite, params = self._suite, self._settings.policy.sampling_params()
        single = suite.decoder in ONE_EACH
        config = dataclasses.replace(
            self._settings.decode, budget=suite.samples if single else suite.budget, window=max(1, suite.chunk_size)
        )
        answers: list[tuple[list[Candidate], dict[str, float]]] = [([], {}) for _ in problems]
        trees: list[TreeEntry] = []
        for index in range(1 if single else suite.samples):
            seed = derive_seed(suite.seed, "evaluate", index)
            saver = TreeSaver(problems, f"{suite.decoder}, answer {index + 1}") if self._keeps_trees else None
            decoded = decode(
                suite.decoder,
                problems,
                policy,
                value_model,
                config,
                seed,
                params=params,
                on_round=saver.on_round if saver else None,
                layer=journal.layer,
                execution=self._execution,
            )
            for (candidates, cost), result in zip(answers, decoded, strict=True):
                candidates += result.candidates if single else [result.answer]
                for name, value in dataclasses.asdict(result.ledger).items():
                    if name != "wall_s":
                        cost[name] = cost.get(name, 0.0) + value
                if config.public_tests:
                    cost["public_tests"] = float(result.public_tests)
            if saver is not None:
                trees += saver.entries(decoded, {})
        return answers, trees

    def _grade(self, index: int, chunk: Sequence[_Item], grader: SandboxGrader, reasons: dict[int, str]) -> None:
        """Grades a decoded chunk and writes its scores."""
        records = read_jsonl(self._decoded_path(index))
        keys = [
            (place, answer["code"])
            for place, (item, record) in enumerate(zip(chunk, records, strict=True))
            for answer in record["answers"]
            if not reasons[id(item.problem)] and self._is_run(answer)
        ]
        unique = list(dict.fromkeys(keys))
        with Journal(self._journal_path(index, "grade")) as journal:
            pairs = [(chunk[place].problem, code) for place, code in unique]
            grades, failures = grade_all(journal.grader(grader), pairs)
        by_key = {key: grade for key, grade in zip(unique, grades, strict=True) if grade is not None}
        scored = []
        for place, (item, record) in enumerate(zip(chunk, records, strict=True)):
            reason = reasons[id(item.problem)] or failures.get(id(item.problem), "")
            answers: tuple[ScoredAnswer, ...] = ()
            if not reason:
                answers = tuple(
                    score_answer(item.problem, a["finished"], by_key[place, a["code"]] if self._is_run(a) else None)
                    for a in record["answers"]
                )
            scored.append(Scored(item.set, item.problem.id, answers, reason, record["cost"]).to_record())
        write_atomic(self._graded_path(index), dump_jsonl(scored))
        self._progress.advance(len(chunk))

    def _is_run(self, answer: dict[str, Any]) -> bool:
        return bool(answer["finished"] or (self._suite.grade_unfinished and answer["code"]))

    def _write(self, chunks: Sequence[Sequence[_Item]], refusals: dict[str, dict[str, int]]) -> dict[str, Any]:
        """Puts the chunks together into the tables, the samples and the results."""
        out = self._run.path
        if not (out / "problems.jsonl").exists():
            self._write_generations(chunks)
            scored_text = "".join(self._graded_path(index).read_text(encoding="utf-8") for index in range(len(chunks)))
            if self._keeps_trees:
                write_atomic(out / "trees.jsonl.gz", join_trees(self._work))
            # Last: where this file is, the others are whole.
            write_atomic(out / "problems.jsonl", scored_text)
        scored = [Scored.from_record(record) for record in read_jsonl(out / "problems.jsonl")]
        settings = {
            "policy": self._suite.policy,
            "value_model": self._suite.value_model,
            "decoder": self._suite.decoder,
            "budget": self._suite.budget,
            "selection": self._settings.decode.selection,
            "public_tests": self._settings.decode.public_tests,
            "samples": self._suite.samples,
            "seed": self._suite.seed,
            "temperature": self._settings.policy.temperature,
            "top_p": self._settings.policy.top_p,
            "max_new_tokens": self._settings.policy.max_new_tokens,
            "confidence": self._suite.confidence,
        }
        results = {"settings": settings, **summarise(scored, self._suite.problems, self._suite), "refused": refusals}
        write_atomic(out / "results.json", dump_json(results))
        write_atomic(out / "results.md", markdown(results))
        return results

    def _write_generations(self, chunks: Sequence[Sequence[_Item]]) -> None:
        lines: list[dict[str, Any]] = []
        solutions: dict[str, list[tuple[str, str]]] = {spec: [] for spec in self._suite.problems}
        for index, chunk in enumerate(chunks):
            for item, record in zip(chunk, read_jsonl(self._decoded_path(index)), strict=True):
                for number, answer in enumerate(record["answers"]):
                    program = item.problem.initial_state + answer["code"]
                    solutions[item.set].append((item.problem.id, program))
                    lines.append(
                        {
                            "set": item.set,
                            "problem_id": item.problem.id,
                            "sample_index": number,
                            "solution": program,
                            "completion": answer["code"],
                            "finished": answer["finished"],
                            "value": answer["score"],
                        }
                    )
        write_atomic(self._run.path / "generations.jsonl", dump_jsonl(lines))
        name, temperature = Path(self._suite.policy).name, self._settings.policy.temperature
        for spec, pairs in solutions.items():
            path = self._run.path / "samples" / samples_path(spec, name, temperature, self._suite.samples)
            write_atomic(path, samples_text(pairs))

    def _decoded_path(self, index: int) -> Path:
        return self._work / f"{index:05d}.decoded.jsonl"

    @property
    def _keeps_trees(self) -> bool:
        return self._suite.save_trees and self._suite.decoder in SEARCHES

    def _trees_path(self, index: int) -> Path:
        return self._work / f"{index:05d}.jsonl.gz"

    def _journal_path(self, index: int, step: str) -> Path:
        return self._work / f"{index:05d}.{step}.journal"

    def _graded_path(self, index: int) -> Path:
        return self._work / f"{index:05d}.graded.jsonl"
