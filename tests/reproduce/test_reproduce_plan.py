"""The arms' recipes at every scale, the plan of a dry run, and wrong input: one line, exit code 2."""

from pathlib import Path

import pytest

from restrl.cli import main
from restrl.config import RECIPES_DIR
from restrl.reproduce.arms import METHODS, SCALES, arm_recipe


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("arm", METHODS)
def test_every_arm_resolves_at_every_scale(scale: str, arm: str) -> None:
    tables = arm_recipe(arm, SCALES[scale], 5).to_dict()
    assert tables["run"]["seed"] == 5 and tables["train"]["method"] == METHODS[arm]
    # The published method keeps the last policy, and nothing here is chosen by looking.
    assert tables["run"]["keep"] == "last" and tables["evaluate"]["validation_samples"] == 0
    assert tables["evaluate"]["split"] == "test"
    assert tables["grpo"]["keep_checkpoints"] == 0


@pytest.mark.parametrize("scale", ["starter", "starter-quick"])
def test_arms_differ_in_their_method_alone_and_are_given_equal_completions(scale: str) -> None:
    arms = {arm: arm_recipe(arm, SCALES[scale], 0).to_dict() for arm in METHODS}
    for section in ("problems", "policy", "sample", "rest", "collect", "value", "decode", "evaluate", "grading"):
        assert all(tables[section] == arms["rest-grpo"][section] for tables in arms.values()), section
    rest, plain = arms["rest-grpo"], arms["grpo"]
    each = rest["grpo"]["prompts_per_step"] * rest["grpo"]["num_generations"]
    sampled = rest["problems"]["train_count"] * rest["sample"]["num_samples"]
    assert sampled + rest["grpo"]["max_steps"] * each == plain["grpo"]["max_steps"] * each
    assert arms["dapo"]["grpo"]["max_steps"] == rest["run"]["iterations"] * rest["grpo"]["max_steps"]
    # The checkpoints of all three curves stand at the same steps.
    assert all(
        arms[arm]["grpo"]["max_steps"] % rest["grpo"]["save_every"] == 0 for arm in ("rest-grpo", "grpo", "dapo")
    )


def test_seeds_of_the_starter_have_problems_of_their_own() -> None:
    assert [arm_recipe("grpo", SCALES["starter"], seed).to_dict()["problems"]["seed"] for seed in (0, 1)] == [0, 1]


def test_the_paper_scale_has_the_published_settings() -> None:
    tables = arm_recipe("rest-grpo", SCALES["paper"], 0).to_dict()
    assert tables["run"]["iterations"] == 2 and tables["sample"]["num_samples"] == 5
    assert (tables["rest"]["sigma_0"], tables["rest"]["r_0"], tables["rest"]["alpha"]) == (0.05, 0.9, 0.95)
    assert tables["rest"]["ratio"] == 0.5 and tables["grpo"]["learning_rate"] == 1e-7
    assert tables["grpo"]["num_generations"] == 8 and tables["evaluate"]["budget"] == 100
    assert {path.stem for path in (RECIPES_DIR / "reproduce").glob("*.toml")} == {"starter", "paper"}


def test_a_users_setting_reaches_every_arm_but_not_its_method() -> None:
    flags = ["grpo.max_steps=3", "train.method=sft", "run.seed=9"]
    tables = arm_recipe("dapo", SCALES["starter"], 1, flags).to_dict()
    assert tables["grpo"]["max_steps"] == 3
    assert tables["train"]["method"] == "dapo" and tables["run"]["seed"] == 1


def test_a_dry_run_prints_what_would_be_run_and_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", "all", "--seeds", "3,4", "--dry-run", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "seeds: 3, 4" in text and "model: starter" in text and "test sets: starter/test, 100 of each" in text
    assert "arm rest-grpo: 2 x 1,024 completions before training; 2 x 16 steps of 128 completions = 4,096" in text
    assert "arm grpo: 2 x 24 steps of 128 completions = 6,144" in text
    assert "arm rest-dpo: 2 x 1,024 completions before training; none while training" in text
    assert "arm dapo: 1 x 32 steps of 128 completions = 4,096, and up to 4 rounds" in text
    assert not out.exists()


def test_a_dry_run_at_paper_scale_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "table2", "--scale", "paper", "--dry-run", "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "humaneval, humaneval+, mbpp/test, mbpp+, apps/test-500, bigcodebench" in text
    assert "arm rest-grpo: 2 x 5 per problem completions before training" in text
    assert "search: 4 x 100 completions" in text and "arm dapo" not in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["table3"], ["table3", "table1", "budget", "all"]),
        (["table1", "--seeds", "1,1"], ["--seeds '1,1'", "0,1,2"]),
        (["table1", "--seeds", ""], ["--seeds ''"]),
        (["table1", "--seeds", "a"], ["--seeds 'a'"]),
        (["table1", "--seeds", "-1"], ["--seeds", "-1"]),
        (["table1", "--scale", "moon"], ["moon", "starter", "paper"]),
        (["table1", "--scale", "paper", "--quick"], ["--quick", "paper"]),
        (["table1", "--set", "grpo.learning_rat=1"], ["learning_rat", "learning_rate"]),
        (["table1", "--scale", "paper"], ["model", "does not exist"]),
    ],
)
def test_wrong_input_is_one_line(
    argv: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    try:
        code = main(["reproduce", *argv, "--out", str(out)])
    except SystemExit as exit:
        code = int(exit.code or 0)
    error = capsys.readouterr().err.strip()
    assert code == 2 and len(error.splitlines()) == 1, error
    assert all(word in error for word in words), error
    assert not out.exists()


def test_a_folder_of_another_scale_or_of_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "reproduce.json").write_text('{"format": 1, "scale": "starter-quick", "overrides": []}')
    assert main(["reproduce", "table1", "--out", str(out)]) == 2
    assert "scale = 'starter-quick', not 'starter'" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("")
    assert main(["reproduce", "table1", "--out", str(other)]) == 2
    assert "something else" in capsys.readouterr().err
