"""`restrl evaluate --decoder`: decoders that run candidates, and the labelled regime, end to end in the sandbox."""

import json

import pytest

from restrl.cli import main
from restrl.types import Completion

# Seven of ten return 3 in one way or another; only `shown` meets the example in the docstring.
TEXTS = [
    "return x",
    "return 3",
    "y = 3\n    return y",
    "return 1 + 2",
    "return 3 * 1",
    "while True: pass",
    "return x * 2",
]
EXAMPLE = '    """f(4) == 8"""\n'


class Cycling:
    """Completion i is text i; at temperature 0 the first."""

    def sample(self, requests, params):
        indices = [[0] * r.n if params.temperature == 0 else range(r.n) for r in requests]
        return [[Completion(f"    {TEXTS[i % len(TEXTS)]}\n", "stop", 5, 10) for i in row] for row in indices]


def evaluate(tmp_path, monkeypatch, *flags, example=""):
    tests = {"kind": "call", "cases": [{"args": [3], "expected": 6}]}
    record = {"id": "p", "statement": "Do it.", "initial_state": f"def f(x):\n{example}", "entry_point": "f"}
    (tmp_path / "p.jsonl").write_text(json.dumps(record | {"tests": tests}) + "\n")
    (tmp_path / "none.json").write_text("{}")
    monkeypatch.setattr("restrl.pipeline.suite.load_policy", lambda config: Cycling())
    argv = ["evaluate", "--policy", str(tmp_path / "none.json"), "--problems", str(tmp_path / "p.jsonl")]
    code = main([*argv, "--out", str(tmp_path / "out"), "--set", "policy.engine=scripted", "--quiet", *flags])
    if code:
        return code, None, None
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    (generation,) = [json.loads(line) for line in (tmp_path / "out" / "generations.jsonl").read_text().splitlines()]
    return results, generation["completion"], (tmp_path / "out" / "results.md").read_text()


def test_majority_answers_with_what_most_programs_do(tmp_path, monkeypatch):
    results, completion, page = evaluate(tmp_path, monkeypatch, "--decoder", "majority", "--budget", "7")
    assert completion == "    return 3\n" and results["sets"][0]["pass@1"]["mean"] == 0.0
    assert results["settings"]["budget"] == 7 and "public tests used" not in page


def test_public_tests_rank_first_and_the_results_say_so(tmp_path, monkeypatch, capsys):
    flags = ("--decoder", "majority", "--budget", "7", "--public-tests")
    results, completion, page = evaluate(tmp_path, monkeypatch, *flags, example=EXAMPLE)
    assert completion == "    return x * 2\n" and results["sets"][0]["pass@1"]["mean"] == 1.0
    assert results["settings"]["public_tests"] is True and results["cost"]["public_tests"] == 1.0
    for text in (page, capsys.readouterr().out):
        assert "public tests used: 1 examples" in text


def test_greedy_is_one_completion(tmp_path, monkeypatch):
    results, completion, _ = evaluate(tmp_path, monkeypatch, "--decoder", "greedy")
    assert completion == "    return x\n" and results["settings"]["budget"] == 1
    assert results["cost"]["completions"] == 1.0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--decoder", "greedy", "--budget", "5"], ["--budget 5", "greedy"]),
        (["--decoder", "greedy", "--samples", "2"], ["--samples 2", "--decoder sample"]),
        (["--decoder", "beam_search"], ["beam_search needs a value model"]),
        (["--decoder", "majority", "--selection", "clusters"], ["decode.selection", "majority"]),
        (["--decoder", "sample", "--public-tests"], ["public_tests", "sample"]),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path, monkeypatch, capsys, flags, words):
    assert evaluate(tmp_path, monkeypatch, *flags)[0] == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1 and all(word in error for word in words), error
    assert not (tmp_path / "out").exists()
