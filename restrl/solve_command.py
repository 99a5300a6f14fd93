"""`restrl solve`: one problem, any decoder, with a view of the search while it runs and afterwards."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restrl.errors import ArtifactError, ConfigError, ProblemError
from restrl.solve_watch import Watch
from restrl.types import Grade, Problem

if TYPE_CHECKING:
    from restrl.decoding import DecodeConfig
    from restrl.decoding.results import Candidate, Decoded
    from restrl.evaluation.trees import TreeEntry
    from restrl.policy import PolicyConfig

SECTIONS = ("policy", "decode", "grading")
"""Sections of a recipe that ``--set`` reaches here."""
STOPPED = 130


def run(args: argparse.Namespace) -> int:
    """Prints the best program that a decoder finds for one problem; its tests are run only if asked for."""
    settings = _settings(args)
    problem = one_problem(args.problem)
    _check(args, settings, problem)
    from restrl.solve_live import open_view

    watch = Watch(problem)
    with open_view(watch, problem.id, settings.decoder, settings.decode.budget, args.quiet):
        decoded = _decode(args, settings, problem, watch)
    if decoded is None:
        print("restrl: stopped before the first completion", file=sys.stderr)
        return STOPPED
    grades = _grade(problem, decoded.candidates, settings.tables) if args.grade else {}
    _report(args, settings, problem, decoded, watch, grades)
    return STOPPED if watch.stopped else 0


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the flags say, checked."""

    decoder: str
    policy: PolicyConfig
    decode: DecodeConfig
    tables: Mapping[str, Mapping[str, Any]]


def _settings(args: argparse.Namespace) -> Settings:
    """Checks the flags that need no file."""
    from restrl.config import build_section, parse_override
    from restrl.decoding import DECODERS, WITHOUT_VALUES
    from restrl.pipeline.context import policy_path
    from restrl.policy import policy_settings

    decoder = (args.decoder or ("vm_mcts" if args.value_model else "sample")).replace("-", "_")
    if decoder not in DECODERS:
        names = ", ".join(name.replace("_", "-") for name in DECODERS)
        raise ConfigError(f"--decoder {args.decoder!r}: allowed: {names}")
    if decoder not in WITHOUT_VALUES and args.value_model is None:
        raise ConfigError(f"--decoder {args.decoder} needs a value model; give its directory with --value-model")
    if args.budget < 1:
        raise ConfigError(f"--budget {args.budget}: at least 1 completion")
    if args.temperature < 0 or args.max_new_tokens < 1:
        raise ConfigError(
            f"--temperature {args.temperature} and --max-new-tokens {args.max_new_tokens}: at least 0 and at least 1"
        )
    if args.show_tree is not None and args.show_tree < 1:
        raise ConfigError(f"--show-tree {args.show_tree}: at least 1 state")
    for flag, path in (("--html", args.html), ("--save-tree", args.save_tree)):
        if path is not None and path.is_dir():
            raise ConfigError(f"{flag} {path}: is a directory; give a file")
    tables: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for flag in args.overrides:
        section, key, value = parse_override(flag)
        if section not in SECTIONS:
            raise ConfigError(f"--set {flag}: allowed here: {', '.join(f'{name}.KEY' for name in SECTIONS)}")
        tables[section][key] = value
    tables["policy"] = {
        **policy_settings(str(args.policy)),
        "temperature": float(args.temperature),
        "max_new_tokens": args.max_new_tokens,
    } | tables["policy"]
    tables["decode"] |= {"method": decoder, "budget": args.budget}
    if args.public_tests:
        tables["decode"]["public_tests"] = True
    where = "restrl solve"
    policy = build_section("policy", tables["policy"], where)
    build_section("grading", tables["grading"], where)
    if policy.engine in ("transformers", "vllm"):
        policy = dataclasses.replace(policy, model=str(policy_path(policy)))
    return Settings(decoder, policy, build_section("decode", tables["decode"], where), tables)


def _check(args: argparse.Namespace, settings: Settings, problem: Problem) -> None:
    """Checks files before anything is loaded."""
    from restrl.policy import check_policy
    from restrl.policy.model_dir import check_model_dir

    check_policy(settings.policy)
    if args.value_model is not None:
        check_model_dir(args.value_model)
    if args.grade:
        from restrl.config import build_section
        from restrl.grading.registry import judge_for

        judge_for(problem, build_section("grading", settings.tables["grading"], "restrl solve"))


def _decode(args: argparse.Namespace, settings: Settings, problem: Problem, watch: Watch) -> Decoded | None:
    """Decodes; stopped by the user, it gives the best so far."""
    from restrl.decoding import decode
    from restrl.policy import load_policy

    try:
        policy = load_policy(settings.policy)
        value_model = None
        if args.value_model is not None:
            from restrl.value.load import open_value_model

            config = settings.policy
            value_model = open_value_model(
                args.value_model, device=config.device, dtype=config.dtype, prompt_style=config.prompt_style
            )
        watch.began = time.monotonic()
        watch.on_change()
        return decode(
            settings.decoder,
            [problem],
            policy,
            value_model,
            settings.decode,
            args.seed,
            params=settings.policy.sampling_params(),
            on_round=watch.on_round,
            layer=watch.layer,
        )[0]
    except KeyboardInterrupt:
        watch.stopped = True
        return watch.result()


def _grade(
    problem: Problem, candidates: Sequence[Candidate], tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, Grade]:
    """Runs the problem's tests on every distinct finished program; by code."""
    from restrl.config import build_section
    from restrl.grading.grader import SandboxGrader

    codes = list(dict.fromkeys(candidate.code for candidate in candidates if candidate.finished))
    with SandboxGrader(build_section("grading", tables["grading"], "restrl solve")) as grader:
        grades = grader.grade([(problem, problem.initial_state + code) for code in codes])
    return dict(zip(codes, grades, strict=True))


def _report(
    args: argparse.Namespace,
    settings: Settings,
    problem: Problem,
    decoded: Decoded,
    watch: Watch,
    grades: Mapping[str, Grade],
) -> None:
    """Prints the answer and writes the files that were asked for."""
    from restrl.report.tree_text import tree_text

    entry = _entry(settings, problem, decoded, watch, grades)
    answer = decoded.answer
    program = problem.initial_state + answer.code
    if args.save_tree is not None:
        from restrl.evaluation.trees import trees_bytes

        _write(args.save_tree, trees_bytes([entry], compressed=args.save_tree.suffix == ".gz"))
    if args.html is not None:
        from restrl.report.tree_viewer import tree_page

        _write(args.html, tree_page([entry], title=f"Search of {problem.id}").encode())
    grade = grades.get(answer.code) if answer.finished else None
    if args.json:
        record = {
            "problem_id": problem.id,
            "program": program,
            "finished": answer.finished,
            "value": answer.score,
            "decoder": settings.decoder,
            "stopped": watch.stopped,
            "public_tests": decoded.public_tests,
            "cost": dataclasses.asdict(decoded.ledger),
        }
        if args.grade:
            record["reward"], record["passed"] = (grade.reward, grade.passed) if grade else (0.0, False)
        if args.show_tree is not None:
            record["tree"] = entry.to_record()
        print(json.dumps(record, ensure_ascii=False))
        return
    if args.show_tree is not None:
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print(tree_text(entry, args.show_tree, unicode=unicode))
    print(program, end="" if program.endswith("\n") else "\n", flush=True)
    if watch.stopped:
        print(
            f"restrl: stopped after {len(decoded.candidates)} of {settings.decode.budget} completions; this is the "
            "best so far",
            file=sys.stderr,
        )
    if settings.decode.public_tests:
        print(f"public tests used: {decoded.public_tests} examples that the problem shows", file=sys.stderr)
    if args.grade:
        print(_verdict(grade), file=sys.stderr)


def _entry(
    settings: Settings, problem: Problem, decoded: Decoded, watch: Watch, grades: Mapping[str, Grade]
) -> TreeEntry:
    from restrl.evaluation.trees import entry_of, tree_of_candidates, tree_of_search

    method = f"{settings.decoder}, public tests used" if settings.decode.public_tests else settings.decoder
    if watch.search is None:
        tree = tree_of_candidates(problem.id, decoded.candidates, settings.decoder)
        return entry_of(problem, tree, method, decoded.answers[-1], grades)
    tree = tree_of_search(watch.search, problem.id, settings.decoder)
    # A search that was stopped has not counted its last completions yet: they are no part of its tree.
    answer = decoded.answers[-1] if decoded.answers[-1] < len(tree.draws) else tree.answer()
    return entry_of(problem, tree, method, answer, grades)


def _verdict(grade: Grade | None) -> str:
    from restrl.evaluation.trees import ProgramGrade
    from restrl.report.tree_text import verdict_text

    if grade is None:
        return "tests: the program is not finished, so it was not run"
    verdicts = tuple(verdict.verdict for verdict in grade.verdicts)
    return f"tests: {verdict_text(ProgramGrade(grade.reward, grade.passed, verdicts))}"


def _write(path: Path, content: bytes) -> None:
    from restrl.artifacts import write_atomic

    try:
        write_atomic(path, content)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be written ({error.strerror}); give another file") from None


def one_problem(source: str) -> Problem:
    """Reads the one problem of a file or of standard input, or one of a set by its id."""
    from restrl.problems import load_problems
    from restrl.tools import find_problem

    if source == "-":
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
            file.write(sys.stdin.read())
            file.flush()
            problems = load_problems(file.name)
    elif Path(source).suffix == ".jsonl":
        problems = load_problems(source)
    else:
        return find_problem(source)
    if len(problems) != 1:
        raise ProblemError(f"--problem {source}: holds {len(problems)} problems; give a file with exactly one")
    return problems[0]


def view(args: argparse.Namespace) -> int:
    """`restrl tree`: saved searches as text or as a page."""
    from restrl.evaluation.trees import read_trees
    from restrl.report.tree_text import tree_text

    entries = [entry for path in args.files for entry in read_trees(path)]
    if args.problem is not None:
        known = [entry.tree.problem_id for entry in entries]
        entries = [entry for entry in entries if entry.tree.problem_id == args.problem]
        if not entries:
            raise ArtifactError(f"--problem {args.problem!r}: not among the {len(known)} searches, first {known[0]!r}")
    if args.html is not None:
        from restrl.report.tree_viewer import tree_page

        _write(args.html, tree_page(entries, title=args.title).encode())
        print(f"{len(entries)} searches: {args.html}")
        return 0
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    for place, entry in enumerate(entries):
        gap = "\n" if place else ""
        method = f" ({entry.method})" if entry.method else ""
        print(f"{gap}{entry.tree.problem_id}{method}\n{tree_text(entry, args.states, unicode=unicode)}", end="")
    return 0
