"""`restrl evaluate --policy --problems` end to end: known policies get known numbers; kills change nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from restrl.cli import main
from restrl.types import Completion, SampleRequest, SamplingParams

NAMES = ("double", "same", "negate", "inc")
RIGHT = {"double": "2 * x", "same": "x", "negate": "-x", "inc": "x + 1"}


def record(name: str, **changes: Any) -> dict[str, Any]:
    """A problem whose half right answer passes one of its two tests."""
    value = {x: eval(RIGHT[name], {"x": x}) for x in (3, 5)}
    return {
        "id": name,
        "statement": f"Return {RIGHT[name]}.",
        "initial_state": "def f(x):\n",
        "entry_point": "f",
        "canonical_solution": f"def f(x):\n    return {RIGHT[name]}\n",
        "tests": {"kind": "call", "cases": [{"args": [x], "expected": value[x]} for x in (3, 5)]},
        **changes,
    }


def write(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in records))
    return path


class NumberedPolicy:
    """Answer i of a problem is right where ``i < right[problem]``; else it passes one of the two tests."""

    def __init__(self, right: dict[str, int]) -> None:
        self.right = right
        self.calls = 0

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        self.calls += 1
        return [[self.one(r.state.problem.id, i) for i in range(r.n)] for r in requests]

    def one(self, name: str, index: int) -> Completion:
        if index < self.right[name]:
            return Completion(f"    return {RIGHT[name]}\n", "stop", 8, 10)
        return Completion(f"    return {eval(RIGHT[name], {'x': 3})}\n", "stop", 8, 10)


def evaluate(tmp_path: Path, *flags: str, out: str = "out", problems: str = "") -> tuple[int, dict[str, Any]]:
    """Runs the command with a policy that load_policy is patched to, and returns its code and results."""
    chosen = problems or str(write(tmp_path / "p.jsonl", [record(name) for name in NAMES]))
    (tmp_path / "none.json").write_text("{}")
    argv = ["evaluate", "--policy", str(tmp_path / "none.json"), "--problems", chosen, "--out", str(tmp_path / out)]
    code = main([*argv, "--set", "policy.engine=scripted", "--quiet", *flags])
    path = tmp_path / out / "results.json"
    return code, json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> NumberedPolicy:
    made = NumberedPolicy(dict.fromkeys(NAMES, 0))
    monkeypatch.setattr("restrl.pipeline.suite.load_policy", lambda config: made)
    return made


@pytest.mark.parametrize(("right", "score", "tests"), [(4, 1.0, 1.0), (0, 0.0, 0.5)])
def test_a_policy_that_is_always_right_or_wrong(tmp_path, policy, right: int, score: float, tests: float) -> None:
    policy.right = dict.fromkeys(NAMES, right)
    code, results = evaluate(tmp_path, "--samples", "4")
    (row,) = results["sets"]
    assert code == 0
    for metric in ("pass@1", "strict_accuracy"):
        assert row[metric] == {"mean": score, "low": score, "high": score}
    assert row["test_case_average"]["mean"] == tests
    assert {k: v["mean"] for k, v in row["pass@k"].items()} == {"1": score, "2": score, "4": score}
    assert results["average"]["score"]["mean"] == score
    assert results["cost"]["completions"] == 16


def test_a_mix_gives_the_exact_numbers(tmp_path, policy, capsys) -> None:
    policy.right = {"double": 4, "same": 2, "negate": 1, "inc": 0}
    code, results = evaluate(tmp_path, "--samples", "4", "--chunk-size", "3")
    (row,) = results["sets"]
    assert code == 0
    assert row["pass@1"]["mean"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 0) / 4)
    assert row["test_case_average"]["mean"] == pytest.approx((1 + 3 / 4 + 5 / 8 + 1 / 2) / 4)
    # 1 - C(n - c, 2) / C(n, 2) with n = 4: of 6 pairs 6, 5, 3 and 0 hold a right one.
    assert row["pass@k"]["2"]["mean"] == pytest.approx((6 + 5 + 3 + 0) / 6 / 4)
    assert row["pass@k"]["4"]["mean"] == pytest.approx(3 / 4)
    shown = capsys.readouterr().out
    assert "0.438" in shown
    assert "| 4 |" in (tmp_path / "out" / "results.md").read_text()


def test_the_files_are_what_other_commands_and_harnesses_read(tmp_path, policy, capsys) -> None:
    policy.right = {"double": 2, "same": 1, "negate": 0, "inc": 0}
    evaluate(tmp_path, "--samples", "2")
    lines = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    assert [(line["problem_id"], line["sample_index"]) for line in lines] == [(n, i) for n in NAMES for i in (0, 1)]
    assert lines[0]["solution"] == "def f(x):\n" + lines[0]["completion"] == "def f(x):\n    return 2 * x\n"
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples" / "p.jsonl").read_text().splitlines()]
    assert samples == [{"task_id": line["problem_id"], "solution": line["solution"]} for line in lines]
    for name in ("generations.jsonl", "samples/p.jsonl"):
        argv = ["grade", "--problems", str(tmp_path / "p.jsonl"), "--samples", str(tmp_path / "out" / name), "--json"]
        capsys.readouterr()
        assert main([*argv, "--quiet", "--out", str(tmp_path / (name.replace("/", "-") + ".graded"))]) == 0
        assert json.loads(capsys.readouterr().out)["passed"] == 3


def test_problems_that_cannot_be_graded_are_named_and_left_out(tmp_path, policy, capsys) -> None:
    policy.right = dict.fromkeys(NAMES, 1)
    odd = record("inc")
    cases = [{"id": "t", "code": "import unittest"}]
    odd["tests"] = {"kind": "unittest", "packages": ["no_such_package_here"], "cases": cases}
    problems = write(tmp_path / "odd.jsonl", [record("double"), odd])
    code, results = evaluate(tmp_path, problems=str(problems))
    assert code == 0
    (row,) = results["sets"]
    assert (row["num_problems"], row["num_graded"], row["pass@1"]["mean"]) == (2, 1, 1.0)
    (bad,) = results["not_gradable"]
    assert bad["problem_id"] == "inc"
    assert bad["reason"]
    assert "1 problems are not gradable" in capsys.readouterr().out
    # Its answers are there all the same: another machine may grade them.
    assert '"inc"' in (tmp_path / "out" / "samples" / "odd.jsonl").read_text()


def test_several_sets_are_averaged_without_weights(tmp_path, policy) -> None:
    policy.right = {"double": 1, "same": 0, "negate": 0, "inc": 1}
    one = write(tmp_path / "one.jsonl", [record("double")])
    three = write(tmp_path / "three.jsonl", [record(name) for name in ("same", "negate", "inc")])
    _, results = evaluate(tmp_path, problems=f"{one},{three}")
    assert [row["pass@1"]["mean"] for row in results["sets"]] == pytest.approx([1.0, 1 / 3])
    assert results["average"]["score"]["mean"] == pytest.approx((1 + 1 / 3) / 2)


def test_cut_off_programs_score_nothing_unless_asked(tmp_path, policy, monkeypatch) -> None:
    cut = Completion("    return 2 * x\n", "length", 8, 10)
    monkeypatch.setattr(policy, "one", lambda name, index: cut)
    problems = str(write(tmp_path / "d.jsonl", [record("double")]))
    _, results = evaluate(tmp_path, problems=problems, out="a")
    assert (results["sets"][0]["pass@1"]["mean"], results["sets"][0]["unfinished_share"]) == (0.0, 1.0)
    _, results = evaluate(tmp_path, "--grade-unfinished", problems=problems, out="b")
    assert (results["sets"][0]["pass@1"]["mean"], results["sets"][0]["unfinished_share"]) == (1.0, 1.0)


def test_prompts_without_room_score_nothing_and_are_said(tmp_path, policy, capsys) -> None:
    policy.right = dict.fromkeys(NAMES, 1)
    policy.fits = lambda state: state.problem.id != "same"
    _, results = evaluate(tmp_path)
    assert results["sets"][0]["pass@1"]["mean"] == 0.75
    assert "1 prompts leave no room" in capsys.readouterr().out


SCRIPT = {name: [[f"    return {RIGHT[name]}\n", 1.0], ["    return 0\n", 1.0]] for name in NAMES}
KILLER = """
import os, signal, sys
from restrl import artifacts, cli
import restrl.pipeline.suite
from restrl.pipeline import journal
original, note, left = artifacts.write_atomic, journal.append_line, int(sys.argv[1].lstrip("j"))
def append(file, line):
    global left
    left -= 1
    if left == 0:
        note(file, line[:20])
        os.kill(os.getpid(), signal.SIGKILL)
    note(file, line)
def write(path, data):
    global left
    left -= 1
    if left == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.{os.getpid()}.tmp").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    original(path, data)
if sys.argv[1].startswith("j"):
    journal.append_line = append
else:
    artifacts.write_atomic = restrl.pipeline.suite.write_atomic = write
sys.exit(cli.main(sys.argv[2:]))
"""


def files_of(out: Path) -> dict[str, bytes]:
    names = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(p.relative_to(out)): p.read_bytes() for p in names if p.name not in ("lock", "manifest.json")}


def test_a_killed_evaluation_continues_and_ends_the_same(tmp_path, capsys) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps(SCRIPT))
    problems = write(tmp_path / "p.jsonl", [record(name) for name in NAMES])
    flags = ["--policy", str(script), "--problems", str(problems), "--set", "policy.engine=scripted", "--quiet"]
    flags += ["--samples", "6", "--chunk-size", "1"]
    assert main(["evaluate", *flags, "--out", str(tmp_path / "whole")]) == 0
    out = str(tmp_path / "killed")
    again = [*flags, "--out", out]
    # Writes: manifest, recipe, manifest, then per problem its answers and its grades.
    # With a j: entries of the journals.
    for number, argv in (("j2", again), *((n, ["--out", out, "--quiet"]) for n in ("j1", "6", "5", "8"))):
        command = [sys.executable, "-c", KILLER, number, "evaluate", *argv]
        assert subprocess.run(command, capture_output=True, cwd=tmp_path, check=False).returncode == -9
    assert list((tmp_path / "killed" / "work").glob("*.graded.jsonl"))
    assert main(["evaluate", "--out", out, "--quiet"]) == 0
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    before = files_of(tmp_path / "killed")
    assert main(["evaluate", *again]) == 0
    assert files_of(tmp_path / "killed") == before
    capsys.readouterr()
    assert main(["evaluate", *again, "--seed", "1"]) == 2
    assert "suite.seed: 0 there, 1 here" in capsys.readouterr().err
    write(problems, [record(name) for name in NAMES[:2]])
    assert main(["evaluate", *again]) == 2
    assert "other problems" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--problems", "starter/test"], ["--policy"]),
        (["--policy", "no/dir", "--problems", "starter/test"], ["--out"]),
        (["--policy", "no/dir"], ["--problems"]),
        (["--decoder", "sample"], ["--decoder", "--policy"]),
        (["starter", "--policy", "x", "--problems", "p.jsonl", "--out", "o"], ["starter", "the one or the other"]),
        (["--policy", "no/dir", "--problems", "starter/test", "--out", "o"], ["no/dir", "does not exist"]),
        (["--policy", "no/dir", "--problems", ",", "--out", "o"], ["--problems is empty"]),
        (["--policy", "x", "--problems", "a.jsonl,b/a.jsonl", "--out", "o"], ["a.jsonl", "the same files"]),
        (["--policy", "x", "--problems", "a.jsonl", "--out", "o", "--decoder", "magic"], ["magic", "best_of_n"]),
        (["--policy", "x", "--problems", "a.jsonl", "--out", "o", "--decoder", "vm-mcts"], ["--value-model"]),
        (["--policy", "x", "--problems", "a.jsonl", "--out", "o", "--budget", "3"], ["--budget 3", "--samples"]),
        (["--policy", "starter", "--problems", "gone.jsonl", "--out", "o"], ["gone.jsonl", "cannot read"]),
        (["--policy", "starter", "--problems", "humanevl", "--out", "o"], ["humanevl", "did you mean humaneval"]),
        (["--policy", "x", "--problems", "a.jsonl", "--out", "o", "--samples", "0"], ["--samples 0", "at least 1"]),
        (["--policy", "x", "--problems", "a.jsonl", "--out", "o", "--temperature", "-1"], ["temperature", "-1"]),
        (["--policy", "x", "--problems", "a.jsonl", "--out", "o", "--set", "grpo.beta=1"], ["grpo.beta", "policy.KEY"]),
    ],
)
def test_wrong_flags_are_one_line_and_make_nothing(tmp_path, monkeypatch, capsys, flags, words) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["evaluate", *flags])
    except SystemExit as exit:
        code = exit.code
    error = capsys.readouterr().err.strip()
    assert code == 2
    assert len(error.splitlines()) == 1
    assert all(word in error for word in words), error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_an_evaluation_is_no_run_directory(tmp_path, policy, capsys) -> None:
    evaluate(tmp_path)
    capsys.readouterr()
    assert main(["report", "--out", str(tmp_path / "out")]) == 2
    assert "restrl evaluate" in capsys.readouterr().err


def test_dry_run_prints_the_settings(tmp_path, capsys) -> None:
    import tomllib

    flags = ["--policy", "x", "--problems", "a.jsonl", "--out", str(tmp_path / "o"), "--set", "policy.device=cpu"]
    assert main(["evaluate", *flags, "--value-model", "v", "--max-new-tokens", "7", "--dry-run"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert (shown["suite"]["decoder"], shown["suite"]["budget"]) == ("vm_mcts", 30)
    assert (shown["policy"]["max_new_tokens"], shown["policy"]["device"]) == (7, "cpu")
    assert not (tmp_path / "o").exists()


class LengthValues:
    """A value model: the longer the better, and a little by what else is in the batch."""

    def __init__(self, path: Path, **options: Any) -> None:
        pass

    def score_states(self, states: Sequence[Any]) -> list[float]:
        return [len(state.code) / 100 + 1e-9 * len(states) for state in states]


def test_searches_are_kept_if_asked_and_survive_a_stop(tmp_path, monkeypatch, capsys) -> None:
    from restrl.evaluation.trees import read_trees
    from restrl.policy.scripted import ScriptedPolicy

    monkeypatch.setattr("restrl.value.load.open_value_model", LengthValues)
    monkeypatch.setattr("restrl.policy.model_dir.check_model_dir", lambda path: None)
    script = tmp_path / "script.json"
    programs = [["    y = x\n    return y\n", 1.0], ["    y = x + 1\n    return y\n", 1.0], ["    return 0\n", 1.0]]
    script.write_text(json.dumps({name: programs for name in NAMES}))
    problems = write(tmp_path / "p.jsonl", [record(name) for name in NAMES])
    flags = ["evaluate", "--policy", str(script), "--problems", str(problems), "--set", "policy.engine=scripted"]
    flags += ["--value-model", str(tmp_path), "--decoder", "vm_mcts", "--budget", "12", "--samples", "2"]
    flags += ["--chunk-size", "3", "--save-trees", "--quiet"]
    assert main([*flags, "--out", str(tmp_path / "whole")]) == 0
    trees = read_trees(tmp_path / "whole" / "trees.jsonl.gz")
    answers = [json.loads(line) for line in (tmp_path / "whole" / "generations.jsonl").read_text().splitlines()]
    assert len(trees) == len(answers) == 8
    for tree in trees:
        index = int(tree.method.removeprefix("vm_mcts, answer ")) - 1
        (answer,) = [a for a in answers if (a["problem_id"], a["sample_index"]) == (tree.tree.problem_id, index)]
        assert tree.tree.programs[tree.answer] == answer["completion"] and len(tree.tree.draws) == 12
    original, calls = ScriptedPolicy.sample, []

    def stops(self: Any, requests: Any, params: Any) -> Any:
        calls.append(len(requests))
        if len(calls) in (3, 5):
            raise KeyboardInterrupt
        return original(self, requests, params)

    monkeypatch.setattr(ScriptedPolicy, "sample", stops)
    out = ["--out", str(tmp_path / "stopped")]
    assert [main([*flags, *out]) for _ in range(3)] == [130, 130, 0]
    assert files_of(tmp_path / "stopped") == files_of(tmp_path / "whole")
    capsys.readouterr()
    assert main(["tree", str(tmp_path / "stopped" / "trees.jsonl.gz"), "--problem", "inc"]) == 0
    assert capsys.readouterr().out.count("inc (vm_mcts, answer") == 2
