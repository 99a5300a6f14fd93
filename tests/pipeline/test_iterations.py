"""Iterations: the order of the stages, the evaluation after each, which policy is kept, and what a kill costs."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from restrl.artifacts import open_run, read_jsonl
from restrl.config import load_recipe
from restrl.errors import ArtifactError, ProblemError
from restrl.evaluation.results import CandidateResult, ProblemResult
from restrl.pipeline import Pipeline, evaluating, reporting, training, validation, values
from restrl.pipeline.context import Context, load_problem_sets
from restrl.pipeline.dry_run import describe
from restrl.policy.scripted import ScriptedPolicy
from restrl.progress import Silent
from restrl.seeds import derive_seed
from restrl.types import Grade, Problem, SampleRequest

SMALL = ["problems.train_count=2", "problems.value_count=1", "problems.test_count=2", "problems.validation_count=3"]
SAMPLES = 4


@contextlib.contextmanager
def pipeline(out: Path, *options: str) -> Iterator[Pipeline]:
    recipe = load_recipe("smoke", [*SMALL, "run.keep=best", f"evaluate.validation_samples={SAMPLES}", *options])
    with open_run(out, recipe.to_dict(), recipe.to_toml(), recipe.name) as run, Pipeline(run, recipe, Silent()) as made:
        yield made


def score(context: Context, iteration: int, passed: Sequence[Sequence[bool]], rewards: float = 0.0) -> None:
    """Stands in for the samples of an iteration: whether they pass, and what those that do not earn."""
    folder = context.run.path / f"iteration-{iteration}"
    folder.mkdir(parents=True, exist_ok=True)
    records = [
        ProblemResult(
            problem.id,
            "",
            tuple(CandidateResult("", True, 1.0 if ok else rewards, ok) for ok in row),
            (0,) * len(row),
            {"completions": len(row), "generated_tokens": 3 * len(row), "cut_off": 0},
        ).to_record()
        for problem, row in zip(context.problems.validation, passed, strict=True)
    ]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "validation-samples.jsonl").write_text(text)
    for part in ("train-policy", "validate"):
        context.run.manifest["stages"][f"iteration-{iteration}/{part}"] = {"state": "done", "seconds": 0.0}
    (folder / "policy/model").mkdir(parents=True, exist_ok=True)
    validation.validate(context, iteration)


def rows(*counts: int) -> list[list[bool]]:
    return [[place < count for place in range(SAMPLES)] for count in counts]


@pytest.mark.parametrize(
    ("scores", "kept", "said"),
    [
        ([(1, 1, 1), (2, 1, 1), (3, 2, 1)], 2, "The policy of iteration 2 is kept, the best"),
        ([(1, 1, 1), (4, 2, 2), (3, 2, 1)], 1, "base 0.250, iteration 1 0.667, iteration 2 0.500"),
        ([(3, 3, 3), (2, 2, 3), (3, 3, 2)], 0, "No iteration is better than the base policy, so that is kept"),
        ([(1, 0, 0), (2, 2, 0), (0, 1, 3)], 2, "Of equals, the later one is kept."),
        ([(2, 0, 0), (1, 1, 0), (1, 0, 0)], 1, "Its difference to the base policy is not clear."),
    ],
)
def test_the_best_on_validation_problems_is_kept(
    tmp_path: Path, scores: list[tuple[int, ...]], kept: int, said: str
) -> None:
    with pipeline(tmp_path / "run", "run.iterations=2") as made:
        context = made.context
        for iteration, counts in enumerate(scores):
            score(context, iteration, rows(*counts))
        assert context.kept is None
        with pytest.raises(ArtifactError, match=r"kept\.json does not exist yet.*restrl validate"):
            context.policy_dir("trained")
        validation.choose(context)
        folder = context.base_policy if kept == 0 else context.run.path / f"iteration-{kept}/policy/model"
        assert context.kept == kept and context.policy_dir("trained") == folder
        assert values.tags(context) == (("base", "trained") if kept else ("base",))
        assert {tag for tag, _ in evaluating.jobs(context)} == ({"base", "trained"} if kept else {"base"})
        shown = reporting.iteration_rows(context)
        assert [row.kept for row in shown] == [place == kept for place in range(3)]
        assert [row.pass_at_1.mean for row in shown] == pytest.approx([sum(counts) / 12 for counts in scores])
        for before, row, counts in zip(scores, shown[1:], scores[1:], strict=False):
            assert row.vs_previous is not None and row.vs_base is not None
            assert row.vs_previous.mean == pytest.approx((sum(counts) - sum(before)) / 12)
            assert row.vs_base.mean == pytest.approx((sum(counts) - sum(scores[0])) / 12)
        assert [note for note in reporting._notes(context) if said in note]
        result = made.run("validate")
        assert said in result.text and "iteration 2  " in result.text and result.data["kept"]["iteration"] == kept
        assert [record["iteration"] for record in result.data["iterations"]] == [0, 1, 2]
    record = json.loads((tmp_path / "run/kept.json").read_text())
    assert record["iteration"] == kept and record["rule"] == "best" and said in record["reason"]
    assert json.loads((tmp_path / "run/manifest.json").read_text())["kept"] == record


def test_of_equal_pass_rates_the_higher_reward_decides(tmp_path: Path) -> None:
    with pipeline(tmp_path / "run", "run.iterations=2") as made:
        for iteration, reward in enumerate((0.0, 0.5, 0.25)):
            score(made.context, iteration, rows(1, 1, 0), reward)
        validation.choose(made.context)
        assert made.context.kept == 1
    assert "Of equals, the higher mean reward decides." in (tmp_path / "run/kept.json").read_text()


@pytest.mark.parametrize("option", ["run.keep=last", "evaluate.validation_samples=0"])
def test_the_last_is_kept_where_nothing_chooses(tmp_path: Path, option: str) -> None:
    with pipeline(tmp_path / "run", "run.iterations=2", option) as made:
        context = made.context
        # Also before anything is decided: what is kept does not hang on scores.
        with pytest.raises(ArtifactError, match=r"iteration-2/policy/model does not exist yet.*train-policy"):
            context.policy_dir("trained")
        if context.problems.validation:
            for iteration, counts in enumerate([(3, 3, 3), (4, 4, 4), (0, 0, 0)]):
                score(context, iteration, rows(*counts))
        else:
            validation.validate(context, 0)
            assert not (context.run.path / "iteration-0").exists()
            (context.run.path / "iteration-2/policy/model").mkdir(parents=True)
        validation.choose(context)
        assert context.policy_dir("trained") == context.run.path / "iteration-2/policy/model"
    record = json.loads((tmp_path / "run/kept.json").read_text())
    assert record["rule"] == "last" and record["iteration"] == 2
    assert ("run.keep = 'last'" if "keep" in option else "no validation problems") in record["reason"]


class Grader:
    """Half of the tests pass for every program, and all of them for one in three."""

    layers = ("none",)

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        good = [derive_seed(problem.id, program) % 3 == 0 for problem, program in pairs]
        return [Grade(pair[0].id, 1.0 if ok else 0.5, ok, ()) for pair, ok in zip(pairs, good, strict=True)]

    def close(self) -> None:
        pass


def test_every_policy_answers_the_same_validation_problems_by_the_same_draws(tmp_path: Path) -> None:
    asked: list[list[SampleRequest]] = []

    class Policy(ScriptedPolicy):
        def sample(self, requests: Sequence[SampleRequest], params: Any) -> Any:
            asked.append(list(requests))
            return super().sample(requests, params)

    with pipeline(tmp_path / "run", "run.iterations=1") as made:
        context = made.context
        context._grader = Grader()  # type: ignore[assignment]
        programs = {item.id: [(f"    return {i}\n", 1.0) for i in range(9)] for item in context.problems.validation}
        context.policy = lambda directory: contextlib.nullcontext(Policy.from_programs(programs))  # type: ignore[method-assign, assignment]
        (tmp_path / "run/iteration-1/policy/model").mkdir(parents=True)
        for iteration in (0, 1, 1):
            validation.validate(context, iteration)
        names = [problem.id for problem in context.problems.validation]
        base, trained = asked
        assert [request.state.problem.id for request in base] == names and all(request.n == SAMPLES for request in base)
        assert [(request.seed, request.state) for request in base] == [(item.seed, item.state) for item in trained]
        assert not set(names) & {problem.id for problem in context.problems.held_out}
    folder = tmp_path / "run/iteration-1"
    record = json.loads((folder / "validation.json").read_text())
    table = read_jsonl(folder / "validation-samples.jsonl")
    passed = [[item["passed"] for item in row["candidates"]] for row in table]
    assert record["pass@1"]["mean"] == pytest.approx(fmean(map(fmean, passed)))
    assert record["mean_reward"]["mean"] == pytest.approx(fmean(1.0 if ok else 0.5 for row in passed for ok in row))
    # By definition: the share of the pairs of samples with one that passes.
    pairs = [fmean(any(pair) for pair in combinations(row, 2)) for row in passed]
    assert record["pass@k"]["2"]["mean"] == pytest.approx(fmean(pairs))
    assert list(record["pass@k"]) == ["1", "2", "4"] and record["completions"] == 3 * SAMPLES
    assert 0 < record["pass@1"]["mean"] < 1 and record["vs_base"] == {"mean": 0.0, "low": 0.0, "high": 0.0}


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every stage writes its name here and is done at once."""
    done: list[str] = []

    def stage(text: str) -> Callable[..., None]:
        def run(context: Context, what: object = "", *more: object) -> None:
            name = text.format(what)
            if not context.run.is_done(name):
                with context.run.stage(name):
                    done.append(name)

        return run

    monkeypatch.setattr(training, "sample", stage("iteration-{}/sample"))
    monkeypatch.setattr(training, "assemble_instances", stage("iteration-{}/assemble"))
    monkeypatch.setattr(training, "measure_spread", lambda context, iteration: None)
    monkeypatch.setattr(training, "train", stage("iteration-{}/train-policy"))
    monkeypatch.setattr(validation, "validate", stage("iteration-{}/validate"))
    monkeypatch.setattr(validation, "choose", stage("choose"))
    monkeypatch.setattr(values, "tags", lambda context: ("base", "trained"))
    monkeypatch.setattr(values, "collect", stage("values-{}/collect"))
    monkeypatch.setattr(values, "train", stage("values-{}/train"))
    monkeypatch.setattr(evaluating, "evaluate", stage("evaluate"))
    monkeypatch.setattr(reporting, "report", lambda context: ("", {}))
    return done


PARTS = ("sample", "assemble", "train-policy", "validate")
VALUES = ["values-base/collect", "values-base/train", "values-trained/collect", "values-trained/train", "evaluate"]


@pytest.mark.parametrize("iterations", [0, 1, 2, 3])
def test_every_iteration_samples_assembles_trains_and_is_evaluated_and_values_come_last(
    tmp_path: Path, order: list[str], iterations: int
) -> None:
    with pipeline(tmp_path / "run", f"run.iterations={iterations}") as made:
        made.run()
        made.run()
    each = [f"iteration-{number}/{part}" for number in range(1, iterations + 1) for part in PARTS]
    assert order == ["iteration-0/validate", *each, "choose", *VALUES]


def test_stage_by_stage_every_call_does_the_next_one(tmp_path: Path, order: list[str]) -> None:
    with pipeline(tmp_path / "run", "run.iterations=2") as made:
        for _ in range(2):
            for part in PARTS[:3]:
                made.run(part)
        made.run("validate")
        made.run("collect-values")
    trained = [f"iteration-{number}/{part}" for number in (1, 2) for part in PARTS[:3]]
    validated = [f"iteration-{number}/validate" for number in (0, 1, 2)]
    assert order == [*trained, *validated, "choose", "values-base/collect", "values-trained/collect"]


def test_validate_in_the_middle_chooses_nothing_yet(tmp_path: Path, order: list[str]) -> None:
    with pipeline(tmp_path / "run", "run.iterations=2") as made:
        for part in PARTS:
            made.run(part)
    assert order == [*(f"iteration-1/{part}" for part in PARTS[:3]), "iteration-0/validate", "iteration-1/validate"]


def test_a_run_from_before_there_was_validation_goes_on_without(tmp_path: Path) -> None:
    with pipeline(tmp_path / "run") as made:
        assert len(made.context.problems.validation) == 3
    (tmp_path / "run/problems/validation.jsonl").unlink()
    path = tmp_path / "run/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["recipe"]["run"]["keep"], manifest["recipe"]["evaluate"]["validation_samples"]
    path.write_text(json.dumps(manifest))
    recipe = load_recipe("smoke", [*SMALL, "run.keep=best"])
    with open_run(tmp_path / "run", recipe.to_dict(), recipe.to_toml(), recipe.name) as run:
        context = Context(run, recipe, Silent())
        assert context.problems.validation == () and len(context.problems.train) == 2
        assert context.kept == 1


def problem_file(path: Path, *numbers: int) -> Path:
    from tiny_models import make_problem

    from restrl.problems.jsonl import write_problems

    write_problems(path, [make_problem(f"p/{number}", statement=f"Do {number}.") for number in numbers])
    return path


def own_problems(folder: Path, *options: str) -> list[str]:
    train, test = problem_file(folder / "train.jsonl", 0, 1), problem_file(folder / "test.jsonl", 5, 6)
    files = [f"problems.train={train}", f"problems.test={test}"]
    return [*files, *(f"problems.{name}_count=0" for name in ("train", "value", "validation", "test")), *options]


def test_validation_problems_are_neither_for_training_nor_for_the_test(tmp_path: Path) -> None:
    shared = {"problems.train": (1, 7), "problems.test, which must choose nothing": (6, 7)}
    for what, numbers in shared.items():
        path = problem_file(tmp_path / "validation.jsonl", *numbers)
        options = own_problems(tmp_path, f"problems.validation={path}")
        with pytest.raises(ProblemError, match=rf"1 problems are also in {what}.*first 'p/{numbers[0]}'"):
            load_problem_sets(load_recipe("smoke", options))
        load_problem_sets(load_recipe("smoke", [*options, "evaluate.validation_samples=0"]))
    path = problem_file(tmp_path / "validation.jsonl", 8, 9)
    sets = load_problem_sets(load_recipe("smoke", own_problems(tmp_path, f"problems.validation={path}")))
    assert [problem.id for problem in sets.validation] == ["p/8", "p/9"]


def test_the_starters_validation_problems_say_nothing_about_other_problems(tmp_path: Path) -> None:
    assert load_problem_sets(load_recipe("smoke", own_problems(tmp_path))).validation == ()
    assert load_problem_sets(load_recipe("smoke", [*SMALL, "run.iterations=0"])).validation == ()
    split = load_problem_sets(load_recipe("smoke", [*SMALL, "evaluate.split=validation"]))
    assert split.validation == split.held_out


def test_a_missing_validation_set_names_both_ways_out(tmp_path: Path) -> None:
    options = own_problems(tmp_path, f"problems.validation={tmp_path / 'none.jsonl'}")
    with pytest.raises(ProblemError, match=r"none\.jsonl.*evaluate\.validation_samples=0"):
        load_problem_sets(load_recipe("smoke", options))


def test_the_plan_counts_the_validation_samples() -> None:
    plan = describe(load_recipe("smoke", [*SMALL, f"evaluate.validation_samples={SAMPLES}"]))
    assert f"  validate, and once before the first: 3 problems x {SAMPLES} = {3 * SAMPLES}" in plan
    assert "Kept: the policy of the last iteration" in plan
    assert not [line for line in describe(load_recipe("smoke", ["run.iterations=0"])) if "validate" in line]


@pytest.mark.slow
def test_killed_at_every_bound_of_a_stage_and_inside_it_two_iterations_end_with_the_same_bytes(tmp_path: Path) -> None:
    driver = Path(__file__).parent / "iterations_driver.py"
    done = subprocess.run([sys.executable, str(driver), str(tmp_path), "2"], capture_output=True, text=True)
    logs = "\n".join(path.read_text()[-2000:] for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stderr[-2000:] + logs
    outcome = json.loads(done.stdout)
    assert outcome["whole"] == outcome["final"] == 0, logs
    assert outcome["different"] == []
    assert outcome["stages"][0] == outcome["stages"][1] and outcome["kept"][0] == outcome["kept"][1]
    stages = outcome["stages"][0]
    assert stages[1:10] == ["iteration-0/validate", *(f"iteration-{k}/{part}" for k in (1, 2) for part in PARTS)]
    assert stages.index("values-trained/collect") > stages.index("iteration-2/validate")
    files = {f"iteration-{k}/{name}" for k in (0, 1, 2) for name in ("validation.json", "validation-samples.jsonl")}
    assert files | {"kept.json", "iteration-2/policy/model/model.safetensors"} <= set(outcome["files"])
    for stage in stages:
        kinds = {event.split(" ", 1)[1].split()[0] for event in outcome["deaths"] if event.startswith(f"{stage} ")}
        inside = {"writes", "steps"} & kinds
        assert {"begins", "ends", "is"} <= kinds and (inside or stage == "problems"), (stage, kinds)
