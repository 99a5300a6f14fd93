import json
import os
import subprocess
import sys

import pytest

from restrl.artifacts import open_run, read_jsonl, write_atomic
from restrl.config import FREE_SETTINGS, load_recipe, section_defaults
from restrl.errors import ArtifactError
from restrl.grpo.checkpoints import FREE

RECIPE = {"run": {"seed": 0}}


def opened(path, recipe=RECIPE):
    return open_run(path, recipe, "", "test")


def test_settings_that_change_no_result_may_change_on_the_way(tmp_path) -> None:
    recipe = {"grpo": {"micro_batch": 16, "learning_rate": 0.1}, "train": {"report_to": ["tensorboard"]}}
    changed = {"grpo": {"micro_batch": 4, "learning_rate": 0.1}, "train": {"report_to": ["none"]}}
    with opened(tmp_path / "run", recipe):
        pass
    with opened(tmp_path / "run", changed) as run:
        assert run.manifest["recipe"] == changed
    other = {"grpo": {"micro_batch": 4, "learning_rate": 0.2}, "train": {"report_to": ["none"]}}
    with pytest.raises(ArtifactError, match=r"learning_rate: 0\.1 there, 0\.2 here"), opened(tmp_path / "run", other):
        pass


def test_free_settings_exist_and_training_lets_them_change() -> None:
    for name in FREE_SETTINGS:
        section, key = name.split(".")
        assert key in section_defaults(section), name
        if section in ("grpo", "offline"):
            assert key in FREE, name


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_another_recipe_on_an_old_directory_names_the_key(tmp_path) -> None:
    with opened(tmp_path / "run"):
        pass
    before = (tmp_path / "run" / "manifest.json").read_bytes()
    with (
        pytest.raises(ArtifactError, match=r"run\.seed: 0 there, 5 here"),
        opened(tmp_path / "run", {"run": {"seed": 5}}),
    ):
        pass
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before


def test_a_run_from_before_a_setting_existed_goes_on_and_writes_it_down(tmp_path) -> None:
    recipe = load_recipe("smoke").to_dict()
    with opened(tmp_path / "run", recipe):
        pass
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["recipe"]["evaluate"]["save_trees"], manifest["recipe"]["offline"]
    path.write_text(json.dumps(manifest))
    changed = {**recipe, "evaluate": {**recipe["evaluate"], "save_trees": False}}
    with (
        pytest.raises(ArtifactError, match=r"evaluate\.save_trees: True there, False here"),
        opened(tmp_path / "run", changed),
    ):
        pass
    with opened(tmp_path / "run", recipe):
        pass
    assert json.loads(path.read_text())["recipe"] == recipe


def test_a_foreign_directory_is_not_touched(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="not empty"), opened(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_broken_manifest_is_said_and_kept(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="not a manifest"), opened(tmp_path):
        pass
    assert (tmp_path / "manifest.json").read_text() == "{"


def test_two_processes_cannot_share_a_run_directory(tmp_path) -> None:
    with opened(tmp_path / "run"):
        code = (
            "from pathlib import Path\nfrom restrl.artifacts import open_run\n"
            f"with open_run(Path({str(tmp_path / 'run')!r}), {RECIPE!r}, '', 'test'): pass"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode != 0
    assert "in use by another restrl process" in other.stderr


def test_a_table_redoes_only_the_unfinished_chunk(tmp_path) -> None:
    calls: list[tuple[int, list[int]]] = []
    crash_at = {2}

    def make(chunk, index):
        if index in crash_at:
            raise KeyboardInterrupt
        calls.append((index, list(chunk)))
        return [{"x": item} for item in chunk]

    items = list(range(10))
    with opened(tmp_path / "run") as run, pytest.raises(KeyboardInterrupt):
        run.table("t.jsonl", items, 3, make)
    crash_at.clear()
    with opened(tmp_path / "run") as run:
        records = run.table("t.jsonl", items, 3, make)
        again = run.table("t.jsonl", items, 3, make)
    assert [record["x"] for record in records] == items == [record["x"] for record in again]
    assert [index for index, _ in calls] == [0, 1, 2, 3]
    assert not (tmp_path / "run" / "t.jsonl.part").exists()


def test_a_stage_that_fails_is_not_done_and_its_seconds_add_up(tmp_path) -> None:
    with opened(tmp_path / "run") as run:
        with pytest.raises(ValueError, match="no"), run.stage("sample"):
            raise ValueError("no")
        assert not run.is_done("sample")
        run.manifest["stages"]["sample"]["seconds"] = 100.0
        with run.stage("sample"):
            pass
        assert run.is_done("sample")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"]["sample"]["seconds"] >= 100.0


def test_a_missing_artifact_names_its_command(tmp_path) -> None:
    with opened(tmp_path / "run") as run, pytest.raises(ArtifactError, match="restrl sample --out"):
        run.need("iteration-1/samples.jsonl", "sample")


def test_a_damaged_table_is_said_with_its_line(tmp_path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(ArtifactError, match=r"t\.jsonl:2: not JSON"):
        read_jsonl(path)
