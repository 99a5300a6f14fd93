"""A policy that is named in a word: by the commands, with its cost in the ledger."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from openai_server import MODEL, StandInServer

from restrl.cli import main
from restrl.decoding import DecodeConfig, decode
from restrl.decoding.results import Ledger
from restrl.policy.scripted import ScriptedPolicy
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.types import Completion, Problem, State, Tests

PROGRAMS = [("a\nb\n", 3.0), ("a\nc\n", 2.0), ("a\nc\nd\n", 2.0), ("e\n", 1.0)]


class Priced(ScriptedPolicy):
    """Every completion costs a quarter."""

    def sample(self, *args: Any) -> list[list[Completion]]:
        rows = super().sample(*args)
        return [[dataclasses.replace(completion, cost=0.25) for completion in row] for row in rows]


class Constant:
    """Every state is worth the same."""

    def score_states(self, states: list[State]) -> list[float]:
        return [0.5] * len(states)


@pytest.mark.parametrize("method", ["sample", "best_of_n", "vm_mcts", "beam_search"])
def test_the_ledger_says_what_was_charged(method: str) -> None:
    problems = [Problem(f"p{i}", "", "def f():\n", "f", Tests("call", ())) for i in range(3)]
    policy = Priced.from_programs({problem.id: PROGRAMS for problem in problems})
    decoded = decode(method, problems, policy, Constant(), DecodeConfig(budget=7), 0)
    for result in decoded:
        assert result.ledger.cost == 0.25 * result.ledger.completions > 0
    assert Ledger.total(result.ledger for result in decoded).cost == 0.25 * policy.num_completions


def test_evaluate_and_solve_ask_a_server(
    tiny_plain_model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {
        "id": "p/1",
        "statement": "Return x.",
        "initial_state": "def f(x):\n",
        "entry_point": "f",
        "tests": {"kind": "call", "cases": [{"args": [1], "expected": 1}]},
    }
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(problem) + "\n")
    engine = TransformersPolicy(tiny_plain_model_dir, device="cpu")
    with StandInServer(engine.model, engine.tokenizer) as server:
        flags = ["--max-new-tokens", "6", "--set", "policy.price_per_million_output=1000000", "--quiet"]
        name = f"openai:{MODEL}@{server.url}"
        out = tmp_path / "out"
        assert main(["evaluate", "--policy", name, "--problems", str(path), "--out", str(out), *flags]) == 0
        assert json.loads((out / "manifest.json").read_text())["recipe"]["policy"]["base_url"] == server.url
        assert json.loads((out / "manifest.json").read_text())["recipe"]["suite"]["policy"] == name
        capsys.readouterr()
        assert main(["solve", "--problem", str(path), "--policy", name, "--json", *flags]) == 0
        record = json.loads(capsys.readouterr().out)
        assert record["cost"]["cost"] == record["cost"]["generated_tokens"] > 0
        assert all("/completions" in path for path, _, _ in server.bodies)
    assert main(["solve", "--problem", str(path), "--policy", "openai:m", "--quiet"]) == 2
    assert "policy.base_url is ''" in capsys.readouterr().err
    assert main(["run", "--set", "policy.engine=openai", "--out", str(tmp_path / "run")]) == 2
    assert "use it with restrl evaluate" in capsys.readouterr().err
