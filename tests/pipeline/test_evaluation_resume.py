"""The evaluation stage, killed by SIGKILL again and again while it writes: nothing finished is done twice, and the
artifacts are the same to the byte, with models whose numbers depend on what else is in their batch."""

import contextlib
import dataclasses
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from restrl.artifacts import RunDirectory
from restrl.decoding import DecodeConfig
from restrl.evaluation.trees import read_trees
from restrl.grading.config import GradingConfig
from restrl.pipeline import evaluating, journal
from restrl.pipeline.context import Context
from restrl.policy.scripted import ScriptedPolicy
from restrl.progress import Silent
from restrl.seeds import derive_seed
from restrl.stages import EvaluateConfig, RunConfig
from restrl.types import CaseVerdict, Grade, Problem, SamplingParams, Tests

PROGRAMS = [("a\nb\n", 3.0), ("a\nc\n", 2.0), ("a\nc\nd\n", 2.0), ("e\n", 1.0), ("e\nf", 1.0), ("a\nb\ng\nh\n", 1.0)]
PROBLEMS = tuple(Problem(f"p{i}", "Do.", "def f():\n", "f", Tests("call", ())) for i in range(7))
BUDGET = 12


class Models:
    """Policy, value model and grader in one; every call is a line of a file, which a kill does not take back."""

    def __init__(self, log):
        self._log, self.tokens = log, 0
        self._policy = ScriptedPolicy.from_programs({problem.id: PROGRAMS for problem in PROBLEMS})

    def _note(self, *what):
        with open(self._log, "a") as file:
            file.write(json.dumps(what) + "\n")

    def sample(self, requests, params):
        self._note("sample", [(r.state.problem.id, r.state.code, r.n, r.seed) for r in requests])
        answers = self._policy.sample(requests, params)
        return [[dataclasses.replace(c, logprob=-0.1 * len(requests)) for c in completions] for completions in answers]

    def score_states(self, states):
        self._note("value", [(state.problem.id, state.code, state.terminal) for state in states])
        self.tokens += sum(len(state.code) + 1 for state in states)
        # The last bits depend on the batch, as those of a real model do.
        return [
            derive_seed(s.problem.id, s.code) / 2**63 + 1e-9 * len(states) + 1e-12 * i for i, s in enumerate(states)
        ]

    def grade(self, pairs):
        self._note("grade", [(problem.id, program) for problem, program in pairs])
        return [self._grade(problem, program) for problem, program in pairs]

    @staticmethod
    def _grade(problem, program):
        good = derive_seed(problem.id, program) % 3
        verdicts = tuple(CaseVerdict(str(i), "pass" if i < good else "wrong") for i in range(2))
        return Grade(problem.id, good / 2, good == 2, verdicts, layers=("none",))


SECTIONS = {
    "evaluate": EvaluateConfig(budget=BUDGET),
    "decode": DecodeConfig(window=4, overlap=False),
    "grading": GradingConfig(),
    "run": RunConfig(iterations=0, chunk_size=5),
}
RECIPE = SimpleNamespace(section=lambda name, cls: SECTIONS[name])


def evaluate(folder, **run):
    """Runs the stage in a folder; both methods."""
    folder.mkdir(exist_ok=True)
    manifest = folder / "manifest.json"
    stored = json.loads(manifest.read_text()) if manifest.exists() else {"stages": {}}
    models = Models(folder / "calls.log")
    context = object.__new__(Context)
    context.run, context.recipe, context.progress = RunDirectory(folder, stored), RECIPE, Silent()
    context.settings = dataclasses.replace(SECTIONS["run"], **run)
    context.params, context._grader = SamplingParams(max_new_tokens=100), models
    context.__dict__["problems"] = SimpleNamespace(held_out=PROBLEMS)
    context.__dict__["base_policy"] = Path(__file__).parent / "resume_driver.py"
    context.policy = lambda directory: contextlib.nullcontext(models)
    evaluating.evaluate(context)


@pytest.fixture
def without_models(monkeypatch):
    """The value model of the stage is the fake one, which is the policy too."""

    @contextlib.contextmanager
    def same(context, tag, method):
        with context.policy(None) as models:
            yield models

    monkeypatch.setattr(evaluating, "_value_model", same)


def artifacts(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "evaluate").rglob("*")) if path.is_file()}


def calls(folder):
    return (folder / "calls.log").read_text().splitlines()


def killed_run(folder, at_entry, half):
    """Runs the stage in a fork that is killed in its n-th journal entry; returns whether it was killed."""
    pid = os.fork()
    if pid == 0:
        original, count = journal.append_line, 0

        def append(file, line):
            nonlocal count
            count += 1
            if count == at_entry:
                original(file, line[: int(len(line) * half)])
                os.kill(os.getpid(), signal.SIGKILL)
            original(file, line)

        journal.append_line = append
        code = 1
        try:
            evaluate(folder)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(("at_entry", "half"), [(1, 0.0), (2, 0.5), (3, 0.99), (7, 0.3)])
def test_killed_again_and_again_it_redoes_only_the_batch_that_was_lost(tmp_path, without_models, at_entry, half):
    evaluate(tmp_path / "whole")
    whole = artifacts(tmp_path / "whole")
    assert set(whole) == {"base-best_of_n.jsonl", "base-vm_mcts.jsonl", "base-vm_mcts.trees.jsonl.gz"}
    kills = 0
    # An entry that is lost every time would never be written, so the first is lost a few times only.
    while killed_run(tmp_path / "killed", at_entry, half):
        kills += 1
        if at_entry == 1 and kills == 3:
            evaluate(tmp_path / "killed")
            break
    assert kills >= 3
    assert artifacts(tmp_path / "killed") == whole
    once, often = calls(tmp_path / "whole"), calls(tmp_path / "killed")
    assert len(often) == len(once) + kills
    assert list(dict.fromkeys(often)) == list(dict.fromkeys(once)), "a batch was made up of other problems"


def test_a_whole_entry_is_never_asked_for_again(tmp_path, without_models):
    evaluate(tmp_path / "whole")
    assert killed_run(tmp_path / "killed", 6, 1.0)
    before = calls(tmp_path / "killed")
    evaluate(tmp_path / "killed")
    assert calls(tmp_path / "killed") == calls(tmp_path / "whole") and len(before) == 6
    assert artifacts(tmp_path / "killed") == artifacts(tmp_path / "whole")


def test_other_batches_would_give_other_bytes(tmp_path, without_models):
    evaluate(tmp_path / "a")
    evaluate(tmp_path / "b", chunk_size=3)
    assert artifacts(tmp_path / "a")["base-vm_mcts.jsonl"] != artifacts(tmp_path / "b")["base-vm_mcts.jsonl"]


def test_saved_trees_agree_with_the_records(tmp_path, without_models):
    evaluate(tmp_path / "run")
    folder = tmp_path / "run" / "evaluate"
    entries = read_trees(folder / "base-vm_mcts.trees.jsonl.gz")
    records = [json.loads(line) for line in (folder / "base-vm_mcts.jsonl").read_text().splitlines()]
    assert [entry.tree.problem_id for entry in entries] == [problem.id for problem in PROBLEMS]
    for entry, record in zip(entries, records, strict=True):
        assert len(entry.tree.draws) == BUDGET and entry.method == "VM-MCTS, base policy"
        assert [candidate["code"] for candidate in record["candidates"]] == list(entry.tree.programs)
        assert entry.answer == record["answers"][-1]
        for index, candidate in enumerate(record["candidates"]):
            assert candidate["finished"] == (index in entry.grades)
            if candidate["finished"]:
                grade = entry.grades[index]
                assert (grade.reward, grade.passed) == (candidate["reward"], candidate["passed"])
                assert grade.verdicts.count("pass") / 2 == candidate["reward"]


def test_a_journal_gives_repeated_questions_their_own_answers_in_order(tmp_path):
    def once(path, start):
        with journal.Journal(path) as kept:
            answers = iter(range(start, start + 10))
            return [kept.answer(["x", "y"], lambda places: [next(answers) for _ in places])[0] for _ in range(2)]

    assert once(tmp_path / "j", 0) == [[0, 1], [2, 3]]
    assert once(tmp_path / "j", 100) == [[0, 1], [2, 3]]
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    (tmp_path / "j").write_bytes(lines[0] + lines[1][:-1])
    assert once(tmp_path / "j", 200) == [[0, 1], [200, 201]]
    assert once(tmp_path / "j", 300) == [[0, 1], [200, 201]]
