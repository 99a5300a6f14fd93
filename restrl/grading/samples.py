"""Grading a file of samples: validated before anything runs, streamed, resumable by what each record is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from restrl.errors import ArtifactError, NotGradable, ProblemError
from restrl.grading.each import grade_each
from restrl.types import Grade, Grader, Problem

_CHUNK = 64


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One program of a samples file.

    Attributes:
        problem: The problem that it solves.
        sample_index: Its position among the problem's samples in the file, from 0.
        program: The whole program (initial state included).
    """

    problem: Problem
    sample_index: int
    program: str

    @property
    def digest(self) -> str:
        """A short hash of the program, by which a resumed run knows that the samples are still the same."""
        return hashlib.blake2b(self.program.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def read_samples(path: Path, problems: Iterable[Problem]) -> list[SampleRecord]:
    """Reads a samples file: one JSON object a line, ``{"task_id" | "problem_id", "solution" | "completion"}``.

    ``solution`` is a whole program, ``completion`` continues the problem's initial state. Other keys are ignored, so
    files in the EvalPlus format read as they are. Blank lines are skipped.

    Raises:
        ProblemError: A record is wrong; the message starts with file:line.
    """
    by_id = {problem.id: problem for problem in problems}
    counts: dict[str, int] = {}
    records = []
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8").split("\n")
    except FileNotFoundError:
        raise ProblemError(f"{path}: no such samples file; give a JSONL file of samples") from None
    except UnicodeDecodeError as error:
        place = content[: error.start].count(b"\n") + 1
        raise ProblemError(f"{path}:{place}: not UTF-8 text ({error.reason}); give a JSONL file of samples") from None
    except OSError as error:
        raise ProblemError(f"{path}: cannot read the samples file: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem, program = _parse(line, by_id, f"{path}:{number}")
        index = counts.get(problem.id, 0)
        counts[problem.id] = index + 1
        records.append(SampleRecord(problem, index, program))
    return records


def _parse(line: str, by_id: dict[str, Problem], where: str) -> tuple[Problem, str]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ProblemError(f"{where}: not JSON ({error}); each line must be one JSON object") from None
    if not isinstance(record, dict):
        raise ProblemError(f"{where}: a JSON {type(record).__name__}; each line must be one JSON object")
    name = record.get("problem_id", record.get("task_id"))
    if not isinstance(name, str):
        raise ProblemError(f"{where}: no problem name; give the key 'task_id' or 'problem_id' with a string")
    if name not in by_id:
        raise ProblemError(f"{where}: unknown problem {name!r}; the problem set has {len(by_id)} others")
    for key in ("solution", "completion"):
        if key in record:
            if not isinstance(record[key], str):
                raise ProblemError(f"{where}: {key!r} is a {type(record[key]).__name__}; it must be a string")
            problem = by_id[name]
            return problem, record[key] if key == "solution" else problem.initial_state + record[key]
    raise ProblemError(
        f"{where}: no program; give the key 'solution' (whole) or 'completion' (after the initial state)"
    )


def grade_record(sample: SampleRecord, grade: Grade) -> dict[str, Any]:
    """Returns the output record of one graded sample; ``groups`` only where the problem's tests fall into groups."""
    groups = _groups(sample.problem, grade)
    return {
        "problem_id": sample.problem.id,
        "sample_index": sample.sample_index,
        "reward": grade.reward,
        "passed": grade.passed,
        **({"groups": groups} if groups else {}),
        "tests": [{"id": verdict.id, "verdict": verdict.verdict} for verdict in grade.verdicts],
        "cpu_s": round(grade.cpu_s, 6),
        "layers": list(grade.layers),
        "assurance": grade.assurance,
        **({"tampering": list(grade.tampering)} if grade.tampering else {}),
        "program": sample.digest,
    }


def _groups(problem: Problem, grade: Grade) -> dict[str, bool]:
    """Returns group of tests -> all of them passed, by the sizes in the problem's metadata (``groups``)."""
    found, start = {}, 0
    for name, size in problem.metadata.get("groups", {}).items():
        found[name] = all(verdict.verdict == "pass" for verdict in grade.verdicts[start : start + size])
        start += size
    return found


def pass_at_1(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Returns pass@1 over the problems of graded samples: of all tests, and of the first groups of them.

    The mean over the problems of the share of their samples that pass. Where tests fall into groups (base and plus), a
    key is the groups up to one, for example ``base`` and ``base + plus``; without groups there is the key ``all``.
    """
    outcomes: dict[str, dict[str, list[bool]]] = {}
    for record in records:
        groups: Mapping[str, bool] = record.get("groups", {"all": record["passed"]})
        names = list(groups)
        for number in range(1, len(names) + 1):
            passed = all(groups[name] for name in names[:number])
            label = " + ".join(names[:number])
            outcomes.setdefault(label, {}).setdefault(record["problem_id"], []).append(passed)
    return {
        label: sum(sum(passed) / len(passed) for passed in problems.values()) / len(problems)
        for label, problems in outcomes.items()
    }


def grade_samples(
    problems: Iterable[Problem],
    samples_path: Path,
    out_path: Path,
    grader: Grader,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Grades a samples file into a file of records, one a line, in the order of the samples.

    Running it again continues where it stopped: records that are already in `out_path` are kept if they are of the same
    samples. A record that a kill cut in half is redone, and so is, from the first on, what was not gradable: packages
    may have come since.

    Args:
        problems: The problem set.
        samples_path: See `read_samples`.
        out_path: Where the records go.
        grader: Grades.
        on_progress: Called with (graded so far, all), at the start and after every chunk.

    Returns:
        All records.

    Raises:
        ProblemError: A sample is wrong, or a problem's tests are.
        ArtifactError: `out_path` holds the records of other samples.
        GraderError: The grader failed; what was graded before is kept.
    """
    samples = read_samples(samples_path, problems)
    records = _resume(out_path, samples)
    _report(on_progress, len(records), len(samples))
    with out_path.open("a", encoding="utf-8") as file:
        for start in range(len(records), len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            grades = grade_each(grader, [(sample.problem, sample.program) for sample in chunk])
            fresh = [_record(sample, grade) for sample, grade in zip(chunk, grades, strict=True)]
            file.writelines(json.dumps(record) + "\n" for record in fresh)
            file.flush()
            records += fresh
            _report(on_progress, len(records), len(samples))
    return records


def _record(sample: SampleRecord, grade: Grade | ProblemError) -> dict[str, Any]:
    """Returns the output record of one sample; without a reward where its problem is not gradable."""
    if isinstance(grade, Grade):
        return grade_record(sample, grade)
    if not isinstance(grade, NotGradable):
        raise grade
    return {
        "problem_id": sample.problem.id,
        "sample_index": sample.sample_index,
        "reward": None,
        "passed": None,
        "not_gradable": str(grade),
        "program": sample.digest,
    }


def _report(on_progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if on_progress is not None:
        on_progress(done, total)


def _resume(out_path: Path, samples: list[SampleRecord]) -> list[dict[str, Any]]:
    """Returns the records that are already there, and cuts a half-written last line off the file."""
    if not out_path.exists():
        out_path.parent.mkdir(parents=True, exist_ok=True)
        return []
    records: list[dict[str, Any]] = []
    raw = out_path.read_bytes()
    complete = raw[: raw.rfind(b"\n") + 1]
    kept = 0
    for number, line in enumerate(complete.splitlines(keepends=True), 1):
        try:
            record = json.loads(line)
            found = (record["problem_id"], record["sample_index"], record["program"])
        except (ValueError, KeyError, TypeError):
            raise ArtifactError(f"{out_path}:{number}: not a grade record; delete the file or name another") from None
        sample = samples[number - 1] if number <= len(samples) else None
        if sample is None or found != (sample.problem.id, sample.sample_index, sample.digest):
            raise ArtifactError(f"{out_path}:{number}: the record of another sample; delete the file or name another")
        if record.get("not_gradable"):
            break
        records.append(record)
        kept += len(line)
    if kept < len(raw):
        with out_path.open("r+b") as file:
            file.truncate(kept)
    return records
