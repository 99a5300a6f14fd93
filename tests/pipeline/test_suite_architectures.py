"""`restrl evaluate` end to end: random models of real architectures on every problem format, made-up and real."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import golden_prompts
import pytest
from architectures import ARCHITECTURES, save_architecture

from restrl.cli import main
from restrl.evaluation.layouts import samples_path
from restrl.problems import load_set


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("architectures")
    return {name: save_architecture(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One specification per set, reading our own records from a file."""
    root = tmp_path_factory.mktemp("records")
    found = []
    for name in golden_prompts.SETS:
        path = root / f"{name.replace('/', '-')}.jsonl"
        records = golden_prompts.records_of(name)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        found.append(f"{name}@{path}")
    own = root / "own.jsonl"
    own.write_text(golden_prompts.OWN + "\n")
    return [*found, str(own)]


def evaluate(model: Path, specs: list[str], out: Path, *flags: str) -> dict[str, Any]:
    argv = ["evaluate", "--policy", str(model), "--problems", ",".join(specs), "--out", str(out), "--quiet"]
    assert main([*argv, "--set", "policy.device=cpu", *flags]) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(
    results: dict[str, Any],
    specs: list[str],
    out: Path,
    samples: int,
    count: int | None = None,
    need_packages: tuple[str, ...] = (),
) -> None:
    """Every problem of every set has its answers in every file, and its scores in the results.

    Only problems of the sets ``need_packages`` may be left out, with a reason.
    """
    bad = results["not_gradable"]
    assert all(item["set"] in need_packages and item["reason"] for item in bad)
    generations = lines_of(out / "generations.jsonl")
    for spec in specs:
        problems = {problem.id: problem for problem in load_set(spec, count=count).problems}
        rows = [row for row in results["sets"] if row["set"] == spec]
        left_out = sum(item["set"] == spec for item in bad)
        assert {row["num_graded"] for row in rows} == {len(problems) - left_out}
        graded = [row for row in rows if row["num_graded"]]
        assert all(0.0 <= row["pass@1"]["mean"] <= 1.0 and str(samples) in row["pass@k"] for row in graded)
        answers = [line for line in generations if line["set"] == spec]
        assert len(answers) == samples * len(problems)
        for line in answers:
            assert line["solution"] == problems[line["problem_id"]].initial_state + line["completion"]
            assert "<|" not in line["solution"]
            assert "\n```" not in line["completion"]
        name = results["settings"]["policy"].rpartition("/")[2]
        written = lines_of(out / "samples" / samples_path(spec, name, results["settings"]["temperature"], samples))
        assert [item["solution"] for item in written] == [line["solution"] for line in answers]
        assert all(set(item) == {"task_id", "solution"} for item in written)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_format_is_evaluated(name: str, model_dirs, specs, tmp_path) -> None:
    flags = ("--samples", "2", "--max-new-tokens", "16", "--grade-unfinished")
    results = evaluate(model_dirs[name], specs, tmp_path / "out", *flags)
    check(results, specs, tmp_path / "out", 2)
    assert len(results["average"]["over"]) == len(specs)


def test_the_chunks_do_not_matter(model_dirs, specs, tmp_path) -> None:
    flags = ("--samples", "2", "--max-new-tokens", "12")
    # Of the sets that show the same prompt one each: equal prompts of one chunk are computed once, and cost less.
    names = ("humaneval", "mbpp", "apps/train", "livecodebench", "codecontests", "bigcodebench", "ds1000")
    chosen = [spec for spec in specs if spec.partition("@")[0] in names] + specs[-1:]
    whole = evaluate(model_dirs["llama"], chosen, tmp_path / "whole", *flags)
    parts = evaluate(model_dirs["llama"], chosen, tmp_path / "parts", *flags, "--chunk-size", "2")
    for name in ("generations.jsonl", "problems.jsonl", "results.md"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    assert whole["sets"] == parts["sets"]


@pytest.mark.parametrize("decoder", ["best_of_n", "vm_mcts"])
def test_a_value_model_of_the_same_architecture_decodes(decoder: str, model_dirs, specs, tmp_path) -> None:
    value_dir = save_value_model(model_dirs["qwen"], tmp_path / "value")
    flags = ("--value-model", str(value_dir), "--decoder", decoder, "--budget", "3", "--samples", "2")
    chosen = specs[-2:]
    results = evaluate(model_dirs["qwen"], chosen, tmp_path / "out", *flags, "--max-new-tokens", "12")
    check(results, chosen, tmp_path / "out", 2)
    problems = sum(row["num_problems"] for row in results["sets"])
    # The budget is exact: every answer is chosen from three completions.
    assert results["cost"]["completions"] == 3 * 2 * problems


def save_value_model(policy: Path, path: Path) -> Path:
    """A value model with a random head on a policy's backbone."""
    from restrl.policy.model_dir import load_tokenizer
    from restrl.value.config import ValueConfig
    from restrl.value.head import load_untrained

    tokenizer = load_tokenizer(policy)
    load_untrained(policy, tokenizer, ValueConfig(), "chat").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


BENCHMARK_SETS = (
    *(
        "humaneval",
        "humaneval+",
        "humaneval+mini",
        "mbpp/test",
        "mbpp-3shot",
        "mbpp-challenge",
        "mbpp-sanitized",
        "mbpp+",
        "humaneval+/one-program",
        "mbpp+/one-program",
    ),
    *("apps/sample", "livecodebench/sample", "bigcodebench/hard", "bigcodebench/hard-complete", "bigcodebench/sample"),
    "ds1000",
)


@pytest.mark.benchmarks
@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_benchmark_is_evaluated(name: str, model_dirs, tmp_path) -> None:
    if not os.environ.get("RESTRL_BENCHMARKS"):
        pytest.skip("the benchmarks' data are not there: set RESTRL_BENCHMARKS")
    specs = list(BENCHMARK_SETS)
    flags = ("--samples", "2", "--max-new-tokens", "24", "--grade-unfinished", "--count", "2")
    results = evaluate(model_dirs[name], specs, tmp_path / "out", *flags)
    need_packages = tuple(spec for spec in specs if spec.startswith(("bigcodebench", "ds1000")))
    check(results, specs, tmp_path / "out", 2, 2, need_packages)
