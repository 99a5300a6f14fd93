"""`restrl solve` and `restrl tree`: the same search as text, page, file and data; stopping keeps what there is."""

import io
import json
import signal

import pytest
from rich.console import Console

from restrl.cli import main
from restrl.decoding import DECODERS, WITHOUT_VALUES
from restrl.evaluation.trees import read_trees
from restrl.report.tree_text import tree_text
from restrl.solve_live import picture
from restrl.solve_watch import Watch
from restrl.types import Completion, Problem, SampleRequest, State, Tests

PROBLEM = "starter/test/00004"
RIGHT = "    return len(str(sum(d.values())).split())\n"
PROGRAMS = [
    ("    n = sum(d.values())\n    s = str(n)\n    return s\n", 3.0),
    ("    n = sum(d.values())\n    s = str(n)\n    return len(s)\n", 2.0),
    ("    n = 0\n    return n\n", 1.0),
    ("    n = 0\n    for v in d.values():\n        n += v\n    return n\n", 2.0),
]


class FakeValues:
    """Longer code is better; can stop like a user who presses Ctrl-C."""

    stop_after = 10**9

    def __init__(self, path, **options):
        self.calls = 0

    def score_states(self, states):
        self.calls += 1
        if self.calls > self.stop_after:
            signal.raise_signal(signal.SIGINT)
        return [len(state.code) / 100 + 0.001 * state.terminal for state in states]

    def score_boundaries(self, states):
        return [[0.5] * (state.code.count("\n") + state.terminal) for state in states]


@pytest.fixture
def solve(tmp_path, monkeypatch, capsys):
    """Runs the command with a scripted policy; returns the exit code, standard output and standard error."""
    # A process that a shell started in the background ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr("restrl.value.load.open_value_model", FakeValues)
    monkeypatch.setattr("restrl.policy.model_dir.check_model_dir", lambda path: None)
    script = tmp_path / "script.json"
    script.write_text(json.dumps({PROBLEM: PROGRAMS}))

    def run(*flags, decoder="vm-mcts", budget=20):
        values = [] if decoder.replace("-", "_") in WITHOUT_VALUES else ["--value-model", str(tmp_path)]
        argv = ["solve", "--problem", PROBLEM, "--policy", str(script), "--set", "policy.engine=scripted", *values]
        code = main([*argv, "--decoder", decoder, "--budget", str(budget), *flags])
        return code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGINT, before)


def test_a_search_is_the_same_as_text_page_file_and_data(solve, tmp_path, capsys):
    html, saved, packed = tmp_path / "t.html", tmp_path / "new" / "t.jsonl", tmp_path / "t.jsonl.gz"
    flags = ("--show-tree", "--html", str(html), "--save-tree", str(saved), "--quiet")
    code, out, err = solve(*flags)
    assert (code, err) == (0, "")
    best = PROGRAMS[3][0]
    assert out.endswith("\n\n" + "def solve" + out.rpartition("def solve")[2]) and out.endswith(best)
    entry = read_trees(saved)[0]
    assert len(entry.tree.draws) == 20 and entry.tree.programs[entry.answer] == best
    assert out.startswith(tree_text(entry))
    assert html.read_text().count("</script>") == 2
    assert main(["tree", str(saved)]) == 0
    assert tree_text(entry) in capsys.readouterr().out
    code, out, _ = solve("--json", "--show-tree", "--save-tree", str(packed), "--quiet")
    record = json.loads(out)
    assert record["tree"] == entry.to_record() and record["program"].endswith(best) and not record["stopped"]
    assert record["cost"]["completions"] == 20 and packed.read_bytes()[:2] == b"\x1f\x8b"
    assert read_trees(packed) == [entry]
    assert main(["tree", str(saved), str(packed), "--html", str(html), "--title", "<both>"]) == 0
    assert "2 searches" in capsys.readouterr().out and "<both>" not in html.read_text()


@pytest.mark.parametrize("decoder", sorted(DECODERS))
def test_every_decoder_has_a_tree_to_show(solve, tmp_path, decoder):
    code, out, err = solve("--show-tree", "100", "--save-tree", str(tmp_path / "t"), "--quiet", decoder=decoder)
    assert (code, err) == (0, "")
    entry = read_trees(tmp_path / "t")[0]
    assert entry.tree.nodes[0].visits == len(entry.tree.draws) == 20
    assert out.endswith(entry.tree.programs[entry.answer])
    assert all(node.visits <= entry.tree.nodes[node.parent].visits for node in entry.tree.nodes[1:])


def test_stopping_gives_the_best_so_far_and_its_tree(solve, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeValues, "stop_after", 3)
    saved = tmp_path / "t.jsonl"
    code, out, err = solve("--show-tree", "--save-tree", str(saved), "--html", str(tmp_path / "t.html"), budget=500)
    assert code == 130
    entry = read_trees(saved)[0]
    assert 0 < len(entry.tree.draws) < 500
    assert err.splitlines()[-1].endswith("of 500 completions; this is the best so far")
    assert out.rpartition('"""\n')[2] in {program for program, _ in PROGRAMS} and out.startswith("value  visits\n")
    assert (tmp_path / "t.html").exists()
    monkeypatch.setattr(FakeValues, "stop_after", 1)
    record = json.loads(solve("--json", decoder="best-of-n")[1])
    assert not record["stopped"]
    monkeypatch.setattr(FakeValues, "stop_after", 0)
    code, out, _ = solve("--json", decoder="best-of-n")
    assert code == 130 and json.loads(out)["stopped"] and json.loads(out)["value"] is None


def test_stopping_before_the_first_completion_prints_no_program(solve, monkeypatch):
    def stop(self, requests, params):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("restrl.policy.scripted.ScriptedPolicy.sample", stop)
    code, out, err = solve()
    assert (code, out) == (130, "") and "before the first completion" in err


def test_grading_says_what_the_tests_say_and_chooses_nothing(solve, tmp_path):
    saved = tmp_path / "t"
    plain = solve("--quiet")[1]
    code, out, err = solve("--grade", "--save-tree", str(saved), "--quiet")
    assert code == 0 and out == plain and err.startswith("tests: fails: ")
    entry = read_trees(saved)[0]
    finished = {draw.index for draw in entry.tree.draws if draw.finished}
    assert set(entry.grades) == finished and entry.tests
    assert all(len(grade.verdicts) == len(entry.tests) for grade in entry.grades.values())
    record = json.loads(solve("--grade", "--json", "--quiet")[1])
    assert record["passed"] is False and record["reward"] == entry.grades[entry.answer].reward


def test_progress_is_lines_where_there_is_no_terminal(solve):
    _, out, err = solve()
    assert err.splitlines()[0] == f"{PROBLEM}: vm_mcts: 20 to do" and "20/20" in err.splitlines()[-1]
    assert "to do" not in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--show-tree", "0"], ["--show-tree 0", "at least 1"]),
        (["--html", "."], ["--html", "directory"]),
        (["--set", "rest.alpha=1"], ["rest.alpha", "policy.KEY"]),
        (["--set", "decode.magic=1"], ["decode.magic", "allowed"]),
        (["--save-tree", "/proc/none/t"], ["/proc/none/t", "cannot be written"]),
    ],
)
def test_wrong_flags_are_one_line(solve, flags, words):
    code, out, err = solve(*flags, "--quiet")
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert all(word in err for word in words)


def test_tree_command_names_what_it_cannot_find(solve, tmp_path, capsys):
    solve("--save-tree", str(tmp_path / "t"), "--quiet")
    assert main(["tree", str(tmp_path / "t"), "--problem", "other"]) == 2
    assert f"first '{PROBLEM}'" in capsys.readouterr().err
    assert main(["tree", str(tmp_path / "t"), "--problem", PROBLEM, "--states", "2"]) == 0
    assert "states; 20 completions" in capsys.readouterr().out


def test_the_live_view_lets_no_control_character_of_a_program_through():
    problem = Problem("p\x1b[2J", "", "def f():\n", "f", Tests("call", ()))
    watch = Watch(problem)
    code = "    x = '\x1b[31m\x07\x9b2J\r'\n    return x\n"
    request = SampleRequest(State(problem), 1, 0)
    watch.saw_samples([request], [[Completion(code, "stop", 7)]])
    watch.saw_scores([State(problem, code, terminal=True)], [0.75])
    page = io.StringIO()
    Console(file=page, width=90, color_system=None).print(picture(watch, problem.id, "vm_mcts", 10, 30))
    text = page.getvalue()
    assert "1/10" in text and "value 0.750" in text and "return x" in text
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(text)


def test_public_examples_take_part_only_if_asked_and_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("restrl.value.load.open_value_model", FakeValues)
    monkeypatch.setattr("restrl.policy.model_dir.check_model_dir", lambda path: None)
    start = 'def f(x):\n    """Return twice x.\n\n    >>> f(2)\n    4\n    """\n'
    case = {"args": [7], "expected": 14}
    problem = {"id": "twice", "statement": "Return twice x.", "initial_state": start, "entry_point": "f"}
    problem |= {"tests": {"kind": "call", "cases": [case]}}
    (tmp_path / "p.jsonl").write_text(json.dumps(problem) + "\n")
    right, longer = "    return 2 * x\n", "    y = x + 1\n    y = y + 1\n    return y + 1\n"
    (tmp_path / "s.json").write_text(json.dumps({"twice": [[right, 1.0], [longer, 1.0]]}))
    argv = ["solve", "--problem", str(tmp_path / "p.jsonl"), "--policy", str(tmp_path / "s.json"), "--quiet", "--json"]
    argv += ["--set", "policy.engine=scripted", "--value-model", str(tmp_path), "--budget", "10", "--show-tree"]
    argv += ["--seed", "1"]
    for decoder in ("vm-mcts", "best-of-n"):
        assert main([*argv, "--decoder", decoder]) == 0
        plain = json.loads(capsys.readouterr().out)
        assert main([*argv, "--decoder", decoder, "--public-tests"]) == 0
        labelled = json.loads(capsys.readouterr().out)
        assert plain["program"] == start + longer and plain["public_tests"] == 0
        assert labelled["program"] == start + right and labelled["public_tests"] == 1
        assert "public" not in plain["tree"]["method"] and labelled["tree"]["method"].endswith("public tests used")
