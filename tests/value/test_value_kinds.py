"""Outcome and process reward models: their targets against the raw completions, and training from the same programs."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_problem
from transformers import AutoConfig

from restrl.actions import finish
from restrl.artifacts import dump_jsonl, open_run, write_atomic
from restrl.cli import main
from restrl.config import load_recipe
from restrl.errors import ConfigError
from restrl.pipeline import Pipeline, reporting
from restrl.progress import Silent
from restrl.types import State
from restrl.value.config import ValueConfig
from restrl.value.kinds import trajectories_of_kind
from restrl.value.model import TrainedValueModel
from restrl.value.targets import GradedPath, Trajectory, targets_from_paths
from restrl.value.train import train_value_model

codes = st.lists(st.sampled_from(["a\n", "b\n", "\n", "# n\n", "c"]), max_size=5).map("".join)
starts = st.integers(0, 3)
drawn = st.lists(st.tuples(codes, st.booleans(), starts), min_size=1, max_size=12)


def graded(drawn, seed):
    """Graded completions; equal programs have equal rewards."""
    return [
        GradedPath(code, finished, random.Random(f"{seed} {finish(code)}").choice([0.0, 0.5, 1.0]), start)
        for code, finished, start in drawn
    ]


paths = st.builds(graded, drawn, st.integers(0, 9))


def states_of(trajectories):
    """(code, finished) -> the targets that its carriers give it."""
    table = {}
    for trajectory in trajectories:
        for offset, value, weight in trajectory.targets:
            key = (trajectory.code[:offset], offset > len(trajectory.code))
            table.setdefault(key, []).append((value, weight))
    return table


@given(paths)
@settings(deadline=None, max_examples=150)
def test_hard_labels_say_whether_a_completion_through_the_state_is_right(paths):
    values = targets_from_paths("p", paths)
    labels = states_of(trajectories_of_kind(values, "prm", "hard"))
    assert set(labels) == {state for state in states_of(values) if state != ("", False)}
    right = [finish(path.code) for path in paths if path.finished and path.reward == 1.0]
    for (code, finished), found in labels.items():
        # The oracle looks at texts alone: a right completion begins with the state's lines, or is the finished program.
        through = [program for program in right if (program == code if finished else program.startswith(code))]
        assert {value for value, _ in found} == {1.0 if through else 0.0}, (code, finished)


@given(paths)
@settings(deadline=None, max_examples=60)
def test_soft_labels_are_the_values_and_outcomes_the_rewards(paths):
    values = targets_from_paths("p", paths)
    table = states_of(values)
    soft = states_of(trajectories_of_kind(values, "prm", "soft"))
    assert soft == {state: found for state, found in table.items() if state != ("", False)}
    outcomes = states_of(trajectories_of_kind(values, "orm"))
    assert outcomes == {state: found for state, found in table.items() if state[1]}
    for (code, _), ((value, weight),) in outcomes.items():
        rewards = [path.reward for path in paths if path.finished and finish(path.code) == code]
        assert value == pytest.approx(sum(rewards) / len(rewards)) and weight == len(rewards)
    assert trajectories_of_kind(values, "vm") == values


def test_a_right_program_of_another_problem_labels_nothing():
    both = [
        *targets_from_paths("p", [GradedPath("a\nb\n", True, 1.0)]),
        *targets_from_paths("q", [GradedPath("a\nb\n", True, 0.9)]),
    ]
    labels = [[value for _, value, _ in item.targets] for item in trajectories_of_kind(both, "prm")]
    assert labels == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]


def test_a_reward_of_one_by_floats_is_fully_right():
    (made,) = trajectories_of_kind([Trajectory("p", "a\n", True, ((2, 0.5, 1.0), (3, 1 - 1e-12, 1.0)))], "prm")
    assert [value for _, value, _ in made.targets] == [1.0, 1.0]


PROBLEMS = {f"p/{i}": make_problem(f"p/{i}", initial_state=f"def f{i}(xs):\n") for i in range(12)}
FIRST, GOOD, BAD = "    total = 0\n", "    return sorted(xs)\n", "    return xs[::-1]\n"
CONFIG = ValueConfig(epochs=4, learning_rate=2e-3, batch_tokens=300, validation_share=0.25, device="cpu")


def _values() -> list[Trajectory]:
    """The reward is in the last line; before it, the values say the contrary of what the line will be."""
    made = []
    for name in PROBLEMS:
        for code, reward in ((FIRST + GOOD, 1.0), (FIRST + BAD, 0.0)):
            ends = ((0, 0.5, 1.0), (len(FIRST), 0.25, 1.0), (len(code), reward, 1.0), (len(code) + 1, reward, 1.0))
            made.append(Trajectory(name, code, True, ends))
    return made


def test_outcome_model_learns_the_end_and_nothing_before_it(tiny_plain_model_dir: Path, tmp_path: Path) -> None:
    turned = [
        Trajectory(t.problem_id, t.code, True, tuple((o, v if o > len(t.code) else 1 - v, w) for o, v, w in t.targets))
        for t in _values()
    ]
    reports = []
    for index, trajectories in enumerate((_values(), turned)):
        reports.append(
            train_value_model(
                tiny_plain_model_dir, trajectories, PROBLEMS, CONFIG, tmp_path / str(index), 7, kind="orm"
            )
        )
    assert reports[0] == reports[1]
    assert reports[0].kind == "orm" and reports[0].num_states == 6 and reports[0].ranking_accuracy == 1.0
    model = TrainedValueModel(tmp_path / "0/model", device="cpu")
    new = make_problem("new", initial_state="def g(xs):\n")
    good, bad = model.score_states([State(new, FIRST + GOOD, True), State(new, FIRST + BAD, True)])
    assert model.kind == "orm" and good > bad + 0.3
    assert json.loads((tmp_path / "0/report.json").read_text())["kind"] == "orm"


def test_process_model_gives_the_probability_of_every_step(tiny_plain_model_dir: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, learning_rate=5e-4)
    report = train_value_model(tiny_plain_model_dir, _values(), PROBLEMS, config, tmp_path, 7, kind="prm")
    # Three problems of two programs: the first line, the last, the end; the problem alone is no step.
    assert (report.kind, report.num_states) == ("prm", 18)
    meta = AutoConfig.from_pretrained(tmp_path / "model").restrl_value
    assert (meta["kind"], meta["output"]) == ("prm", "sigmoid")
    model = TrainedValueModel(tmp_path / "model", device="cpu", calibration="none")
    new = make_problem("new", initial_state="def g(xs):\n")
    good, bad = model.score_boundaries([State(new, FIRST + GOOD, True), State(new, FIRST + BAD, True)])
    assert len(good) == len(bad) == 3 and all(0 <= value <= 1 for value in (*good, *bad))
    # Both programs open with the same line, through which a right one goes.
    assert good[0] == pytest.approx(bad[0], abs=1e-5) and good[0] > 0.7
    assert good[1] > bad[1] + 0.1 and good[2] > 0.5 > bad[2]


def test_unknown_kinds_and_missing_targets_are_named(tiny_plain_model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="allowed: vm, orm, prm"):
        train_value_model(tiny_plain_model_dir, _values(), PROBLEMS, CONFIG, tmp_path, 7, kind="rm")  # type: ignore[arg-type]
    cut_off = [Trajectory(name, FIRST, False, ((0, 0.0, 1.0),)) for name in PROBLEMS]
    with pytest.raises(ConfigError, match="outcome reward model"):
        train_value_model(tiny_plain_model_dir, cut_off, PROBLEMS, CONFIG, tmp_path, 7, kind="orm")


def test_the_command_trains_beside_the_value_model(
    tiny_plain_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [f"policy.model={tiny_plain_model_dir}", "run.iterations=0", "run.threads=1", "problems.train_count=4"]
    overrides += ["problems.value_count=0", "problems.test_count=2", "value.device=cpu", "value.epochs=1"]
    recipe = load_recipe("smoke", overrides)
    out = tmp_path / "run"
    with (
        open_run(out, recipe.to_dict(), recipe.to_toml(), recipe.name) as run,
        Pipeline(run, recipe, Silent()) as stages,
    ):
        names = list(stages.context.problems.training)
        values = [record for name in names for record in targets_from_paths(name, [GradedPath(GOOD, True, 1.0)])]
        write_atomic(out / "values-base/trajectories.jsonl", dump_jsonl([item.to_json() for item in values]))
        write_atomic(out / "values-trained/report.json", json.dumps({"search": {"verdict": "It may."}}))
        write_atomic(out / "values-base/report.json", json.dumps({"search": None}))
        notes = [note for note in reporting._notes(stages.context) if "Value model" in note]
        assert notes == ["Value model of the trained policy, on validation problems: It may."]
    for kind in ("orm", "prm"):
        assert main(["train-value", "--out", str(out), "--kind", kind, "--quiet"]) == 0
        assert TrainedValueModel(out / f"values-base-{kind}/model", device="cpu").kind == kind
        assert not (out / f"values-base-{kind}/checkpoints").exists()
    assert not (out / "values-base/model").exists()
    stages_done = json.loads((out / "manifest.json").read_text())["stages"]
    assert {"values-base-orm/train", "values-base-prm/train"} <= stages_done.keys()
    assert "values-base/train" not in stages_done
