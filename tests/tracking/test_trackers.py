"""Trackers: every step once, whatever was killed; none of them ends a training; a missing library is said at once."""

import contextlib
import importlib.machinery
import json
import logging
import sys
import types
from pathlib import Path

import pytest

from restrl import cli, tracking
from restrl.errors import ConfigError
from restrl.grpo.methods import TrainConfig
from restrl.tracking import TrackedRun, Trackers, check_installed
from restrl.tracking.tensorboard import read_events

SERVICES = ("wandb", "trackio", "mlflow")


def record(step: int) -> dict[str, float]:
    return {"step": step, "reward": step / 10, "pass_rate/easy": 0.5}


def events(folder: Path) -> list[tuple[int, str, float]]:
    files = sorted(folder.glob("events.out.tfevents.*"))
    assert len(files) == 1
    found = [(e.step, v.tag, round(v.simple_value, 4)) for e in read_events(files[0]) for v in e.summary.value]
    return [item for item in found if item[1] == "train/reward"]


def track(names: tuple[str, ...], folder: Path, last_step: int, steps: range) -> None:
    """Goes on after ``last_step``; the log has all steps up to there."""
    run = TrackedRun(folder, "starter/iteration-1/policy", "train", {"learning_rate": 0.1}, last_step)
    with Trackers(names, run, [record(step) for step in range(1, last_step + 1)]) as trackers:
        for step in steps:
            trackers.log(record(step))


def test_event_files_hold_every_step_once_after_a_kill(tmp_path: Path) -> None:
    track(("tensorboard",), tmp_path, 0, range(1, 6))
    file = next(tmp_path.glob("events*"))
    times = {event.step: event.wall_time for event in read_events(file) if event.step}
    file.write_bytes(file.read_bytes()[:-7])  # killed in the middle of an event
    track(("tensorboard",), tmp_path, 3, range(4, 8))
    assert events(tmp_path) == [(step, "train/reward", step / 10) for step in range(1, 8)]
    file = next(tmp_path.glob("events*"))
    assert {e.step: e.wall_time for e in read_events(file) if 0 < e.step <= 3} == {s: times[s] for s in (1, 2, 3)}


def test_a_tracker_that_comes_later_gets_what_it_missed(tmp_path: Path) -> None:
    track(("tensorboard",), tmp_path, 4, range(5, 6))
    assert [step for step, _, _ in events(tmp_path)] == [1, 2, 3, 4, 5]


class FakeServices:
    """Modules with the calls that the trackers make, and what these said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: dict[str, list[tuple[str, int, dict[str, float]]]] = {name: [] for name in SERVICES}
        self.ended: list[str] = []
        for name in SERVICES:
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            monkeypatch.setitem(sys.modules, name, module)
            setattr(self, name, module)
        self.wandb.init = lambda **options: self.run("wandb", options["id"])
        self.wandb.Settings = lambda **options: options
        self.trackio.init = lambda **options: self.run("trackio", options["name"])
        self.mlflow.MlflowClient = lambda: self
        entities = types.ModuleType("mlflow.entities")
        entities.Metric = lambda name, value, time, step: (name, value, step)
        monkeypatch.setitem(sys.modules, "mlflow.entities", entities)

    def run(self, name: str, identity: str) -> types.SimpleNamespace:
        print("a library that prints")
        return types.SimpleNamespace(
            log=lambda metrics, step: self.sent[name].append((identity, step, metrics)),
            finish=lambda: self.ended.append(name),
        )

    # What the client of MLflow offers.
    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, experiment: str, run_name: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"{experiment}-{run_name}"))

    def update_run(self, identity: str, status: str) -> None:
        assert status == "RUNNING"

    def log_param(self, identity: str, key: str, value: object) -> None:
        assert (key, value) == ("learning_rate", 0.1)

    def log_batch(self, identity: str, metrics: list[tuple[str, float, int]]) -> None:
        steps = {step for _, _, step in metrics}
        assert len(steps) == 1
        self.sent["mlflow"].append((identity, steps.pop(), {name: value for name, value, _ in metrics}))

    def set_terminated(self, identity: str) -> None:
        self.ended.append("mlflow")


def test_services_get_every_step_once_in_one_run_of_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServices(monkeypatch)
    track(SERVICES, tmp_path, 0, range(1, 6))
    # Killed after step 5, the checkpoint was at 3: steps 4 and 5 come again.
    track(SERVICES, tmp_path, 3, range(4, 8))
    for name in SERVICES:
        assert [step for _, step, _ in fake.sent[name]] == list(range(1, 8)), name
        assert len({identity for identity, _, _ in fake.sent[name]}) == 1, name
        assert fake.sent[name][1][2] == {"train/reward": 0.2, "train/pass_rate/easy": 0.5}
    assert sorted(fake.ended) == sorted(SERVICES * 2)
    state = json.loads((tmp_path / "trackers.json").read_text())
    assert {name: entry["step"] for name, entry in state.items()} == dict.fromkeys(SERVICES, 7)


def test_a_library_that_prints_does_not_touch_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeServices(monkeypatch)
    track(("trackio",), tmp_path, 0, range(1, 3))
    captured = capsys.readouterr()
    assert captured.out == "" and "a library that prints" in captured.err


def test_a_failing_tracker_is_dropped_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeServices(monkeypatch)

    def fail(*args: object, **options: object) -> None:
        raise OSError("the service is down\nand more")

    monkeypatch.setattr(fake, "log_batch", fail)
    with caplog.at_level(logging.WARNING):
        track(("mlflow", "wandb"), tmp_path, 0, range(1, 4))
    assert [record.message for record in caplog.records] == [
        "mlflow gets no more metrics (OSError: the service is down); metrics.jsonl has them all"
    ]
    assert [step for _, step, _ in fake.sent["wandb"]] == [1, 2, 3]


@pytest.mark.parametrize("name", SERVICES)
def test_a_missing_library_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"not installed; install it with: pip install 'restrl\[{name}\]'"):
        check_installed((name,))


def test_a_missing_library_ends_a_run_before_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda package: None)
    code = cli.main(["run", "smoke", "--out", str(tmp_path / "run"), "--set", "train.report_to=wandb,tensorboard"])
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and "pip install 'restrl[wandb]'" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("tensorflow",), "'tensorflow'; allowed: tensorboard, wandb, trackio, mlflow, none"),
        (("none", "wandb"), "stands alone"),
    ],
)
def test_names_are_checked(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(report_to=names)


def test_none_leaves_nothing(tmp_path: Path) -> None:
    track(("none",), tmp_path / "logs", 0, range(1, 3))
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("name", SERVICES)
def test_the_real_library_where_it_is_installed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(name, reason=f"the extra [{name}] is not installed")
    for variable, value in {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():
        monkeypatch.setenv(variable, value)
    with contextlib.chdir(tmp_path):
        track((name,), tmp_path / "logs", 0, range(1, 4))
        track((name,), tmp_path / "logs", 2, range(3, 5))
    state = json.loads((tmp_path / "logs/trackers.json").read_text())
    assert state[name]["step"] == 4
    if name == "mlflow":
        import mlflow

        history = mlflow.MlflowClient().get_metric_history(state[name]["id"], "train/reward")
        assert [(point.step, point.value) for point in history] == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
