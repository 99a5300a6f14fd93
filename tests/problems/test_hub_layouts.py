"""Every set that the hub has, from a local copy in the hub's layout: the same call of its library, without the network.

The repositories' layouts: parquet by split (and by configuration, named in the card), or JSON lines beside a loading
script that is not run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import golden_prompts
import pyarrow
import pyarrow.parquet
import pytest

from restrl.errors import ProblemError
from restrl.problems import PROBLEM_SETS
from restrl.problems.problem_set import HubSource
from restrl.problems.registry import load_set

HUB = {name: entry.hub for name, entry in PROBLEM_SETS.items() if entry.hub is not None}
# The hub has EvalPlus's sets in the layout of one program a problem.
FORMATS = {"humaneval+": "humaneval+/one-program", "mbpp+": "mbpp+/one-program"}


def records(name: str) -> list[dict[str, Any]]:
    return golden_prompts.records_of(FORMATS.get(name, name))


def copy_of(root: Path, hub: HubSource, rows: list[dict[str, Any]]) -> None:
    """Writes the repository: all records in every split that the set reads."""
    card = []
    for split in dict.fromkeys(hub.splits.values()):
        if split in hub.data_files:
            path = root / hub.data_files[split].replace("*", "5")
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            continue
        folder = root / (hub.config or "data")
        folder.mkdir(exist_ok=True)
        file = folder / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        card.append({"split": split, "path": str(file.relative_to(root))})
    if card:
        config = {"config_name": hub.config or "default", "data_files": card}
        (root / "README.md").write_text(f"---\nconfigs: {json.dumps([config])}\n---\n")


@pytest.fixture(autouse=True)
def no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets.config

    monkeypatch.delenv("RESTRL_BENCHMARKS", raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("name", HUB)
def test_a_local_copy_of_the_hub_loads_as_a_file_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, rows = tmp_path / "copy", records(name)
    root.mkdir()
    first = next(iter(HUB[name].splits))
    local = dataclasses.replace(HUB[name], id=str(root), splits={first: HUB[name].splits[first]})
    copy_of(root, local, rows)
    entry = dataclasses.replace(PROBLEM_SETS[name], hub=local, finish=None, default_split="")
    monkeypatch.setitem(PROBLEM_SETS, name, entry)
    loaded = load_set(name, references=True)
    assert loaded.sources[0].startswith(f"hub:{root}")
    file = tmp_path / "same.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    from_file = load_set(f"{name}@{file}", references=True)
    without_split = [dataclasses.replace(item, split="") for item in loaded.problems]
    assert without_split == [dataclasses.replace(item, split="") for item in from_file.problems]
    assert loaded.solutions == from_file.solutions
    # The same folder, named by its path.
    if not local.data_files and not local.config:
        assert len(load_set(f"{name}@{root}").problems) == len(loaded.problems)


@pytest.mark.parametrize("name", HUB)
def test_without_the_network_it_says_what_to_download_and_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTRL_BENCHMARKS", str(tmp_path))
    with pytest.raises(ProblemError) as caught:
        load_set(name)
    message, entry = str(caught.value), PROBLEM_SETS[name]
    usual = entry.files.get(entry.default_split) or next(iter(entry.files.values()))
    assert f"the hub data set {HUB[name].id} cannot be loaded" in message and "\n" not in message
    assert f"download it from {entry.url} and name it with {name}@FILE or put it at $RESTRL_BENCHMARKS/" in message
    assert message.endswith("$RESTRL_BENCHMARKS/" + usual[0].replace(".jsonl*", ".jsonl"))
