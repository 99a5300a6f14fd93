"""The whole command on a handful of problems: every experiment, resumed where it was killed.

Training is stood in for: an arm's policies are the starter's own weights, with the files that training leaves. What is
real is the sampling stage, the spread, the values, every measurement and everything that is written. The real training
of every arm through this command is in the slow test at the end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from restrl.artifacts import dump_json, read_jsonl, read_manifest, write_atomic
from restrl.cli import main
from restrl.pipeline import training
from restrl.pipeline.compute import record_compute
from restrl.pipeline.context import Context
from restrl.reproduce import measure
from restrl.reproduce.experiments import EXPERIMENTS
from restrl.reproduce.published import published

STEPS = {"rest-grpo": 2, "grpo": 3, "dapo": 4, "rest-dpo": 1}
SMALL = [
    "problems.train_count=8",
    "problems.value_count=6",
    "problems.test_count=3",
    "policy.max_new_tokens=96",
    "policy.temperature=1.0",
    "sample.num_samples=4",
    "evaluate.budget=4",
    "evaluate.spread_instances=3",
    "grpo.num_generations=2",
    "grpo.prompts_per_step=2",
    "grpo.micro_batch=0",
    "grpo.save_every=1",
    "rest.r_0=0.3",
    "value.epochs=1",
]


def command(out: Path, *names: str, more: tuple[str, ...] = (), options: list[str] | None = None) -> int:
    """Runs ``restrl reproduce`` on the small setting."""
    flags = [part for setting in [*SMALL, *(options or [])] for part in ("--set", setting)]
    return main(["reproduce", *names, "--quick", "--quiet", "--out", str(out), *flags, *more])


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Puts the starter's weights in the place of every trained policy; returns the list of what was trained."""
    trained: list[str] = []

    def train(context: Context, iteration: int) -> None:
        method, folder = training.method_name(context), context.run.path / f"iteration-{iteration}"
        name = f"iteration-{iteration}/train-policy"
        if context.run.is_done(name):
            return
        trained.append(f"{context.run.path.parent.name}/{method} {iteration}")
        steps = STEPS[method]
        with context.run.stage(name):
            shutil.copytree(context.base_policy, folder / "policy/model")
            if method != "rest-dpo":
                for step in range(1, steps):
                    shutil.copytree(context.base_policy, folder / f"policy/checkpoints/checkpoint-{step}")
            completions = 0 if method == "rest-dpo" else 4 * steps
            write_atomic(
                folder / "policy/report.json", dump_json({"steps": steps, "completions": completions, "tokens": 10})
            )
            lines = [{"step": step, "sampled_completions": 4.0} for step in range(1, steps + 1)]
            write_atomic(folder / "policy/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        record_compute(context, iteration)

    monkeypatch.setattr(training, "train", train)
    return trained


def results(out: Path) -> dict[str, Any]:
    """Every number that was written, without the seconds."""
    found = {}
    for name in EXPERIMENTS:
        record = json.loads((out / f"{name}.json").read_text())
        del record["about"]
        for row in record.get("rows", {}).values():
            row.get("compute", {}).pop("wall_s", None)
        found[name] = record
    return found


def killing(monkeypatch: pytest.MonkeyPatch, after: int) -> Callable[[], None]:
    """Lets the process be killed at the (after + 1)-th chunk of a measurement; returns what undoes it."""
    real, left = measure._decode_chunk, [after]

    def chunk(*args: Any) -> Any:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*args)

    monkeypatch.setattr(measure, "_decode_chunk", chunk)
    return lambda: monkeypatch.setattr(measure, "_decode_chunk", real)


@pytest.mark.slow
def test_everything_is_written_and_a_killed_command_goes_on(
    tmp_path: Path, no_training: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    again = killing(monkeypatch, after=9)
    assert command(out, "all") == 130
    assert "the same command continues" in capsys.readouterr().err
    assert not list(out.glob("*.md"))
    measured = sorted(path.name for path in out.rglob("measure/*.jsonl"))
    assert len(measured) == 9
    again()
    times = {path: path.stat().st_mtime_ns for path in out.rglob("measure/*.jsonl")}
    before = list(no_training)
    assert command(out, "all") == 0
    assert no_training == before and before == [
        "seed-0/rest-grpo 1",
        "seed-0/rest-grpo 2",
        "seed-0/grpo 1",
        "seed-0/grpo 2",
        "seed-0/rest-dpo 1",
        "seed-0/rest-dpo 2",
        "seed-0/dapo 1",
    ]
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    printed = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert f"{name}.md" in printed
        check_page(out, name)
    check_shared(out)
    check_numbers(out)


def check_page(out: Path, name: str) -> None:
    """The page has every published ordering with a mark, the figure, and how it was made."""
    text = (out / f"{name}.md").read_text()
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG") and (out / f"{name}.svg").stat().st_size > 2000
    record = json.loads((out / f"{name}.json").read_text())
    marked = {(item["better"], item["worse"]): item["mark"] for item in record["orderings"]}
    for better, worse in published()[name].orderings:
        if not better.endswith("at 100"):
            assert f"| {better} over {worse}" in text and marked[better, worse] in ("holds", "reversed", "not decided")
    assert f"`restrl reproduce all --scale starter --quick --set {SMALL[0]}" in text
    assert "cores" in text and "torch" in text and published()[name].what.split(":")[0] in text


def check_shared(out: Path) -> None:
    """The arms start from the same problems and samples, and DPO counts the samples that it did not make."""
    first, other = out / "seed-0/rest-grpo", out / "seed-0/rest-dpo"
    for name in ("problems/train.jsonl", "problems/held_out.jsonl", "iteration-1/samples.jsonl"):
        assert (first / name).read_bytes() == (other / name).read_bytes()
    manifest = read_manifest(other) or {}
    assert manifest["stages"]["iteration-1/sample"]["taken_from"] == "rest-grpo"
    assert "taken_from" not in manifest["stages"]["iteration-2/sample"]
    record = json.loads((other / "iteration-1/compute.json").read_text())
    assert record["sampling"]["completions"] == record["total"]["completions"] == 32
    assert record["sampling"]["wall_s"] > 0


def check_numbers(out: Path) -> None:
    """Numbers of the pages, computed again from the tables."""
    found = results(out)
    table = read_jsonl(out / "seed-0/rest-grpo/measure/base.jsonl")
    passed = [candidate["passed"] for record in table for candidate in record["candidates"]]
    assert len(passed) == 3 * 6
    base = found["table1"]["rows"]["base"]
    assert base["score"][0] == pytest.approx(sum(passed) / 18) and base["score_by_seed"] == [
        pytest.approx(sum(passed) / 18)
    ]
    assert found["table1"]["rows"]["ReST-GRPO, iteration 2"]["compute"]["completions"] == 2 * (32 + 8)
    assert found["table1"]["rows"]["GRPO, iteration 2"]["compute"]["completions"] == 2 * 12
    # All stand-ins are the base policy and answer with the same seeds.
    assert all(row["score"] == base["score"] for row in found["table1"]["rows"].values())
    assert {item["mark"] for item in found["table1"]["orderings"]} == {"not decided"}
    curves = found["training-efficiency"]["curves"]
    assert [(point["steps"], point["completions"]) for point in curves["ReST-GRPO"]] == [
        (0, 0),
        (1, 36),
        (2, 40),
        (3, 76),
        (4, 80),
    ]
    assert [point["steps"] for point in curves["DAPO"]] == [0, 1, 2, 3, 4]
    choosing = read_jsonl(out / "seed-0/rest-grpo/measure/base-choosing.jsonl")
    codes = {
        row: [[candidate["code"] for candidate in record["candidates"]] for record in choosing if record["row"] == row]
        for row in ("base", "ORM", "PRM")
    }
    assert codes["base"] == codes["ORM"] == codes["PRM"] and len(codes["base"][0]) == 4
    search = read_jsonl(out / "seed-0/rest-grpo/measure/base-vm-mcts.jsonl")
    last = [record["candidates"][record["answers"][-1]]["reward"] for record in search]
    budget = found["budget"]
    assert budget["budgets"] == [1, 2, 3]
    assert found["table2"]["rows"]["VM-MCTS"]["test_case_average"][0] == pytest.approx(sum(last) / 3)


def test_two_seeds_are_one_pool_of_problems(tmp_path: Path, no_training: list[str]) -> None:
    out = tmp_path / "out"
    assert command(out, "variance", more=("--seeds", "0,1")) == 0
    assert no_training == []
    record = json.loads((out / "variance.json").read_text())
    assert record["seeds"] == [0, 1] and record["num_problems"] == 16
    assert len(record["std"]["naive data"]) == 16
    assert {path.parent.name for path in out.glob("seed-*/rest-grpo")} == {"seed-0", "seed-1"}


@pytest.mark.slow
def test_every_arm_trains_through_the_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = [
        "grpo.max_steps=2",
        "grpo.warmup_steps=0",
        "grpo.overlong_buffer=8",
        "offline.max_steps=2",
        "offline.batch_size=2",
    ]
    assert command(out, "all", more=("--train-only",), options=small) == 0
    for arm, iterations in {"rest-grpo": 2, "grpo": 2, "rest-dpo": 2, "dapo": 1}.items():
        assert (out / f"seed-0/{arm}/iteration-{iterations}/policy/model/model.safetensors").exists()
    assert (out / "seed-0/rest-grpo/iteration-1/policy/checkpoints/checkpoint-1/model.safetensors").exists()
    assert (out / "seed-0/rest-grpo/values-base-prm/model").exists() and not list(out.glob("*.md"))
