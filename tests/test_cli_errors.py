"""Bad input: one clear line on standard error, exit code 2, and nothing made or lost."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from restrl.cli import main


def fails(capsys, *argv: str) -> str:
    """Runs the command, checks exit code 2 and a single line, and returns the line."""
    try:
        code = main(list(argv))
    except SystemExit as exit:
        code = exit.code
    error = capsys.readouterr().err.strip()
    assert code == 2, error
    assert len(error.splitlines()) == 1, error
    return error


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "missing.toml"], ["missing.toml", "not found", "starter"]),
        (["run", "--set", "grpo.learning_rat=1"], ["grpo.learning_rat", "did you mean learning_rate?"]),
        (["run", "--set", "grpo.learning_rate=fast"], ["grpo.learning_rate", "'fast'", "expected float"]),
        (["run", "--set", "rest.alpha=2"], ["rest.alpha", "2", "at most 1"]),
        (["run", "--set", "nonsense"], ["nonsense", "section.key=value"]),
        (["run", "--set", "policy.model=no/such/dir"], ["no/such/dir", "does not exist"]),
        (["run", "--set", "policy.model="], ["policy.model", "empty"]),
        (["run", "--set", "problems.test=no.jsonl"], ["no.jsonl"]),
        (["run", "--set", "problems.test=starter/tset"], ["starter/tset", "starter/test"]),
        (["launch"], ["launch", "run"]),
        (["run", "--ou", "x", "--frobnicate"], ["--frobnicate"]),
        (["problems", "show", "starter/test"], ["starter/test", "starter/SPLIT/NUMBER"]),
        (["problems", "validate", "nowhere.jsonl"], ["nowhere.jsonl"]),
        (["solve", "--problem", "starter/test/3", "--policy", "no/dir"], ["no/dir"]),
        (["solve", "--problem", "starter/test/3", "--policy", ".", "--decoder", "magic"], ["magic", "vm-mcts"]),
        (["solve", "--problem", "starter/test/3", "--policy", ".", "--decoder", "vm-mcts"], ["--value-model"]),
        (["solve", "--problem", "starter/test/3", "--policy", ".", "--budget", "0"], ["--budget 0"]),
        (["sample", "--out", "README.md"], ["README.md", "is a file"]),
    ],
)
def test_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, argv: list[str], words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    line = fails(capsys, *argv)
    for word in words:
        assert word in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md"], "something was left behind"
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_model_directory_without_a_tokenizer(tmp_path, tiny_plain_model_dir, capsys) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        (model / name).write_bytes((tiny_plain_model_dir / name).read_bytes())
    line = fails(capsys, "run", "smoke", "--out", str(tmp_path / "run"), "--set", f"policy.model={model}")
    assert "tokenizer" in line
    assert str(model) in line
    assert not (tmp_path / "run").exists()


def test_problems_without_tests_are_refused_with_their_line(tmp_path, capsys) -> None:
    path = tmp_path / "mine.jsonl"
    good = {
        "id": "a",
        "statement": "Return x.",
        "initial_state": "def f(x):\n",
        "entry_point": "f",
        "tests": {"kind": "call", "cases": [{"args": [1], "expected": 1}]},
    }
    bad = {**good, "id": "b", "tests": {"kind": "call", "cases": []}}
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    line = fails(capsys, "run", "smoke", "--out", str(tmp_path / "run"), "--set", f"problems.train={path}")
    assert f"{path}:2" in line
    assert not (tmp_path / "run").exists()


def test_held_out_problems_must_not_be_training_problems(tmp_path, capsys) -> None:
    out = str(tmp_path / "run")
    line = fails(capsys, "run", "smoke", "--out", out, "--set", "problems.test=starter/train")
    assert "problems.test" in line
    assert "also in problems.train" in line


def test_another_recipe_on_an_old_directory_changes_nothing(tmp_path, capsys) -> None:
    out = tmp_path / "run"
    out.mkdir()
    from restrl.artifacts import open_run
    from restrl.config import load_recipe

    recipe = load_recipe("smoke")
    with open_run(out, recipe.to_dict(), recipe.to_toml(), recipe.name):
        pass
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    line = fails(capsys, "run", "smoke", "--out", str(out), "--set", "rest.alpha=0.5")
    assert "rest.alpha: 0.95 there, 0.5 here" in line
    line = fails(capsys, "run", "--out", str(out), "--set", "rest.alpha=0.5")
    assert "rest.alpha: 0.95 there, 0.5 here" in line
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_stage_without_its_input_names_the_command_that_makes_it(tmp_path, capsys) -> None:
    line = fails(capsys, "train-value", "smoke", "--out", str(tmp_path / "run"))
    assert "make it with: restrl collect-values --out" in line or "make it with: restrl train-policy --out" in line


def test_dry_run_prints_the_resolved_recipe_and_makes_nothing(tmp_path, monkeypatch, capsys) -> None:
    import tomllib

    monkeypatch.chdir(tmp_path)
    assert main(["run", "starter", "--dry-run", "--set", "run.seed=9"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["run"]["seed"] == 9
    assert list(tmp_path.iterdir()) == []


def test_help_and_version_load_no_torch() -> None:
    code = "import sys; from restrl.cli import main; main(['--version']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0
    assert done.stdout.startswith("restrl ")
