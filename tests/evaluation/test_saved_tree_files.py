"""Files of searches: nothing lost, the same bytes, and a clear word about what is broken."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.actions import finish, split_actions
from restrl.decoding.results import Candidate
from restrl.errors import ArtifactError
from restrl.evaluation.trees import ProgramGrade, TreeEntry, entry_of, read_trees, tree_of_candidates, trees_bytes
from restrl.types import CaseVerdict, Grade, Problem, Tests

LINES = st.sampled_from(["a\n", "b\n", "\n", "# note\n", "  c\n"])
CODES = st.lists(LINES, max_size=5).map("".join)
CANDIDATES = st.lists(st.tuples(CODES, st.booleans(), st.floats(0, 1)), min_size=1, max_size=12)


def candidates_of(rows):
    return [
        Candidate(finish(code) if done else code, done, score if done else None, i)
        for i, (code, done, score) in enumerate(rows)
    ]


@settings(deadline=None, max_examples=150)
@given(CANDIDATES)
def test_the_tree_of_candidates_counts_each_once_and_gives_all_of_them_back(rows):
    candidates = candidates_of(rows)
    tree = tree_of_candidates("p", candidates, "sample")
    assert list(tree.programs) == [finish(c.code) if c.finished else c.code for c in candidates]
    assert tree.nodes[0].visits == len(candidates)
    for number, node in enumerate(tree.nodes):
        ends = [draw.index for draw in tree.draws if draw.node == number]
        assert node.visits == len(ends) + sum(tree.nodes[child].visits for child in tree.children[number])
        # By text alone: a finished line is the whole program, another one the beginning of all that pass through it.
        through = [i for i, draw in enumerate(tree.draws) if number in tree.path(draw.node)]
        code = tree.codes[number]
        assert all(candidates[i].code == code if node.terminal else rows[i][0].startswith(code) for i in through)
        if node.terminal:
            assert len(through) == sum(c.finished and c.code == code for c in candidates)
        scores = [candidates[i].score for i in through if candidates[i].score is not None]
        assert node.value == pytest.approx(sum(scores) / len(scores) if scores else 0.0)
    firsts = {tree.nodes[child].action for child in tree.children[0] if not tree.nodes[child].terminal}
    assert firsts == {split_actions(c.code)[0] for c in candidates if c.finished and len(split_actions(c.code)) > 1} | {
        first for c in candidates if not c.finished and (first := first_whole_action(c.code))
    }


def first_whole_action(code):
    """The first line with code that a cut-off completion has whole, with the blank and comment lines before it."""
    action = ""
    for line in code.splitlines(keepends=True):
        action += line
        if line.strip() and not line.startswith("#"):
            return action
    return ""


def test_entries_come_back_and_equal_ones_are_equal_bytes(tmp_path):
    problem = Problem("p", "Do.", "def f():\n", "f", Tests("call", ()))
    candidates = candidates_of([("a\nb\n", True, 0.5), ("a\nb\n", True, 0.5), ("a\nc\n", True, 0.7), ("a", False, 0)])
    tree = tree_of_candidates("p", candidates, "sample")
    grades = {
        "a\nb\n": Grade("p", 0.5, False, (CaseVerdict("t0", "pass"), CaseVerdict("t1", "timeout"))),
        "a\nc\n": Grade("p", 1.0, True, (CaseVerdict("t0", "pass"), CaseVerdict("t1", "pass"))),
    }
    entry = entry_of(problem, tree, "sample, base policy", 2, grades)
    assert entry.tests == ("t0", "t1")
    assert entry.grades == {
        0: ProgramGrade(0.5, False, ("pass", "timeout")),
        1: ProgramGrade(0.5, False, ("pass", "timeout")),
        2: ProgramGrade(1.0, True, ("pass", "pass")),
    }
    assert len(entry.to_record()["grades"]) == 2
    for name, compressed in (("t.jsonl.gz", True), ("t.jsonl", False)):
        path = tmp_path / name
        path.write_bytes(trees_bytes([entry], compressed=compressed) * 2)
        assert read_trees(path) == [entry, entry]
        assert trees_bytes(read_trees(path)[:1], compressed=compressed) * 2 == path.read_bytes()
    assert [tree.nodes[i].action for i in entry.chosen_path] == ["", "a\n", "c\n"]
    bare = TreeEntry.from_record(tree.to_record())
    assert bare.tree == tree and bare.answer == 2 and bare.grades == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no saved tree"),
        (b"[]\n", ":1: expected a JSON object"),
        (b"{\n", ":1: "),
        (b'{"version": 7}\n', "version 7"),
        (b'{"tree": {"version": 1}}\n', "KeyError"),
        (b"\x1f\x8b broken", "cannot be read"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
    ids=["empty", "a-list", "half-an-object", "another-version", "no-nodes", "no-gzip", "cut-off", "no-text"],
)
def test_broken_files_are_named(tmp_path, text, said):
    path = tmp_path / "trees.jsonl"
    path.write_bytes(text)
    with pytest.raises(ArtifactError, match=said) as caught:
        read_trees(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_trees(tmp_path / "missing")


def test_a_grade_of_a_completion_that_is_not_there_is_refused():
    tree = tree_of_candidates("p", candidates_of([("a\n", True, 0.5)]), "sample")
    record = TreeEntry(tree, answer=0).to_record()
    for change in ({"answer": 1}, {"grades": [{"draws": [1], "reward": 1, "passed": True, "verdicts": []}]}):
        with pytest.raises(ArtifactError, match="not there"):
            TreeEntry.from_record(json.loads(json.dumps(record)) | change)
