"""Two real processes over gloo, started by `accelerate launch`, against one process with the same step."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_models import save_tiny_model

from restrl import launch
from restrl.cli import main
from restrl.grpo.metrics import read_metrics

sys.path.insert(0, str(Path(__file__).parent))
import two_processes

RECIPE = """
[run]
threads = 1
[problems]
train_count = 6
value_count = 2
validation_count = 2
test_count = 2
[policy]
model = "starter"
max_new_tokens = 32
[sample]
num_samples = 2
[train]
method = "dapo"
[grpo]
max_steps = 2
num_generations = 4
prompts_per_step = 2
refill_rounds = 1
learning_rate = 1e-4
[collect]
budget = 2
[value]
epochs = 1
[evaluate]
spread_instances = 0
values_for = "base"
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``one`` and ``two``: the same training and the same run, by one process and by two."""
    folder = tmp_path_factory.mktemp("processes")
    model = save_tiny_model(folder / "model", bos=True)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "two").mkdir()
    assert main(["assemble", str(folder / "recipe.toml"), "--out", str(folder / "run-one"), "--quiet"]) == 0
    shutil.copytree(folder / "run-one", folder / "run-two")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    script = Path(two_processes.__file__)
    command += [str(script), str(model), str(folder / "two"), str(folder / "run-two")]
    two = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    sampled = two_processes.train(model, folder / "one")
    (folder / "sampled.json").write_text(json.dumps(sampled))
    assert main(["train-policy", "--out", str(folder / "run-one"), "--quiet"]) == 0
    output, _ = two.communicate(timeout=900)
    assert two.returncode == 0, output
    return folder


def gap(first: Path, second: Path, start: Path) -> float:
    """How far two trained models are apart, as a share of the way that the first has gone: sums over all weights.

    The gradient of two processes is a sum in another order. AdamW moves a weight by about the learning rate whatever
    its gradient's size, so the few weights whose gradient is next to 0 go their own way by rounding; all together they
    are less than a ten-thousandth of the way. A gradient that lacks one process's part moves most weights elsewhere.
    """
    one, two, old = (load_file(path / "model.safetensors") for path in (first, second, start))
    assert one.keys() == two.keys()
    way = sum(float((one[name] - old[name]).abs().sum()) for name in one)
    assert way > 0
    return sum(float((one[name] - two[name]).abs().sum()) for name in one) / way


@pytest.mark.slow
def test_two_processes_sample_what_one_does(runs: Path) -> None:
    one = json.loads((runs / "sampled.json").read_text())
    two = [json.loads((runs / f"two/sampled-{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(part) for part in two] == [3, 3] and len(one) == 6
    assert sorted(one) == sorted([*two[0], *two[1]])


@pytest.mark.slow
def test_two_processes_train_what_one_does(runs: Path) -> None:
    assert gap(runs / "one/model", runs / "two/whole/model", runs / "model") < 1e-4
    one, two = (read_metrics(runs / name / "metrics.jsonl") for name in ("one", "two/whole"))
    assert len(one) == len(two) == 3
    assert max(record["useful_group_share"] for record in one) > 0
    for a, b in zip(one, two, strict=True):
        for name in ("step", "reward", "reward_std", "sampled_completions", "sampled_tokens", "completion_length"):
            assert a[name] == pytest.approx(b[name], rel=1e-12)
        # AdamW hides a wrong scale of the gradient; its norm does not.
        for name in ("grad_norm", "entropy", "reward_shaped"):
            assert a[name] == pytest.approx(b[name], rel=1e-4)


@pytest.mark.slow
def test_two_processes_resume_to_the_same_bytes(runs: Path) -> None:
    for rank in (0, 1):
        assert json.loads((runs / f"two/kept-{rank}.json").read_text()) == ["checkpoint-1"]
    whole, cut = ((runs / f"two/{name}/model/model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    assert not (runs / "two/cut/checkpoints").exists()


@pytest.mark.slow
def test_stages_of_a_launch_are_run_once_and_training_is_shared(runs: Path) -> None:
    from restrl.starter import POLICY_DIR

    one, two = runs / "run-one", runs / "run-two"
    assert gap(*(run / "iteration-1/policy/model" for run in (one, two)), POLICY_DIR) < 1e-4
    manifest = json.loads((two / "manifest.json").read_text())
    states = {name: stage["state"] for name, stage in manifest["stages"].items()}
    assert states["iteration-1/train-policy"] == states["values-base/train"] == "done"
    assert len(read_metrics(two / "iteration-1/policy/metrics.jsonl")) == 2
    names = [sorted(path.name.split(".tf")[0] for path in (run / "iteration-1").rglob("*")) for run in (one, two)]
    assert names[0] == names[1]
    costs = [json.loads((run / "iteration-1/compute.json").read_text())["total"] for run in (one, two)]
    assert (
        costs[0]["completions"] == costs[1]["completions"]
        and costs[0]["generated_tokens"] == costs[1]["generated_tokens"]
    )
    assert (two / "values-base/model/config.json").exists()


def test_a_launch_is_left_and_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "ACCELERATE_USE_FSDP": "true", "MY_RANK": "x"}
    monkeypatch.setattr(launch, "_left", {})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    import os

    launch.leave()
    assert [name in os.environ for name in variables] == [False, False, False, False, True]
    assert (launch.index(), launch.processes_here()) == (3, 4)
    with launch.joined():
        assert {name: os.environ[name] for name in variables} == variables
    assert "WORLD_SIZE" not in os.environ
    launch.leave()
    assert launch.index() == 3
