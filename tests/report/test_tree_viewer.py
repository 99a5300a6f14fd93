"""The tree page: safe and self-contained as text, and alive in a browser."""

import base64
import hashlib
import importlib.util
import json
import random
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from restrl.decoding.driver import ValueScorer, run_searches
from restrl.evaluation.trees import ProgramGrade, TreeEntry
from restrl.policy.scripted import ScriptedPolicy
from restrl.report.tree_viewer import tree_page, write_tree_page
from restrl.search import SearchConfig, SearchTree
from restrl.search.saved import SavedDraw, SavedNode, SavedTree, tree_to_record
from restrl.types import Problem, SamplingParams, State, Tests

HOSTILE = (
    '</script><script>window.pwned = 1</script><img src=x onerror="window.pwned = 2"><!--<script>\u2028window.pwned = 3'
    "\u2029]]>&lt;b&gt;\\u003c\ud800\u202e\x00'\"`${window.pwned = 4}"
)
LINES = ("total = 0", "for x in xs:", "if x > k:", "total += x", "return total", "xs = sorted(xs)", "return xs[:k]")


def large_tree(num_nodes=2000, seed=0, name="p0"):
    """A made-up search with as many states; values, verdicts and pruned states at random."""
    rng = random.Random(seed)
    nodes, depths = [SavedNode(None, "", False, 400, 0.6, 0.5, None, 5, False, 0)], [0]
    while len(nodes) < num_nodes:
        parent = rng.randrange(max(0, len(nodes) - 300), len(nodes))
        if nodes[parent].terminal or depths[parent] > 14:
            continue
        terminal, value = rng.random() < 0.3, min(1.0, max(0.0, rng.gauss(nodes[parent].value, 0.15)))
        visits = max(1, nodes[parent].visits // rng.choice([2, 3, 5]))
        pruned = not terminal and rng.random() < 0.1
        code = f"    {rng.choice(LINES)}\n"
        nodes.append(SavedNode(parent, code, terminal, visits, value, value, 0.25, 0, pruned, len(nodes)))
        depths.append(depths[parent] + 1)
    ends = [node.order for node in nodes if node.terminal]
    draws = tuple(SavedDraw(i, 0, rng.choice(ends), True, rng.random(), 30, "") for i in range(400))
    # Programs are told apart by where they end, so completions of one state share their grade.
    passing = {end: rng.random() < 0.3 for end in ends}
    verdicts = {True: ("pass",) * 3, False: ("wrong", "pass", "timeout")}
    grades = {d.index: ProgramGrade(float(passing[d.node]), passing[d.node], verdicts[passing[d.node]]) for d in draws}
    tree = SavedTree(name, {"budget": 400}, 0, tuple(nodes), draws)
    return TreeEntry(tree, "VM-MCTS", "Sum xs.", "def f(xs, k):\n", tree.answer(), ("t0", "t1", "t2"), grades)


def hostile_entry():
    """A search whose every text wants out."""
    nodes = (
        SavedNode(None, "", False, 2, 0.5, None, None, 2, False, 0),
        SavedNode(0, f"    x = '{HOSTILE}'\n", False, 2, 0.5, 0.5, None, 0, False, 1),
        SavedNode(1, f"    return '{HOSTILE}'\n", True, 1, 0.5, 0.5, None, 0, False, 2),
    )
    draws = (SavedDraw(0, 0, 2, True, 0.5, 3, ""), SavedDraw(1, 0, 1, True, 0.25, 3, f"    # {HOSTILE}\n"))
    tree = SavedTree(HOSTILE, {HOSTILE: HOSTILE}, 0, nodes, draws)
    grade = ProgramGrade(0.0, False, ("wrong",))
    return TreeEntry(tree, HOSTILE, HOSTILE, f'"""{HOSTILE}"""\n', 0, (HOSTILE,), {0: grade})


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_page_holds_nothing_but_its_own_elements_whatever_the_programs_say():
    page = tree_page([hostile_entry()], title=HOSTILE)
    harmless = tree_page([large_tree(20)])
    assert Elements(page).tags == Elements(harmless).tags
    assert page.count("</script>") == 2 and page.isascii()
    found = data_of(page)["trees"][0]
    assert found["nodes"]["action"][1] == f"    x = '{HOSTILE}'\n"
    assert found["problem_id"] == found["statement"] == HOSTILE


def test_page_asks_for_nothing_and_allows_its_own_script_only():
    page = tree_page([large_tree(20)])
    for tag, name, value in Elements(page).attributes:
        assert name not in ("src", "href", "srcset", "action", "data") and not name.startswith("on"), (tag, name, value)
    assert "url(" not in page and "@import" not in page and "default-src 'none'" in page
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_page_is_the_same_for_the_same_records_and_takes_a_bare_record(tmp_path):
    problem = Problem("p", "", "def f():\n", "f", Tests("call", ()))
    policy = ScriptedPolicy.from_programs({"p": [("a\nb\n", 2.0), ("a\nc\n", 1.0), ("d\n", 1.0)]})

    class Values:
        def score_states(self, states):
            return [len(state.code) / 10 for state in states]

    search = SearchTree(State(problem), SearchConfig(budget=20), 0)
    run_searches([search], policy, ValueScorer(Values()), SamplingParams())
    record = tree_to_record(search)
    write_tree_page([record], tmp_path / "a.html")
    write_tree_page([json.loads(json.dumps(record))], tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    found = data_of((tmp_path / "a.html").read_text())["trees"][0]
    assert found["nodes"]["visits"][0] == 20 == len(found["draws"])
    assert [found["nodes"]["action"][i] for i in found["path"]][1:] in (["a\n", "b\n"], ["a\n", "c\n"])
    with pytest.raises(ValueError, match="no tree"):
        tree_page([])


def devtools():
    spec = importlib.util.spec_from_file_location("devtools", Path(__file__).with_name("devtools.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LARGE, SMALL = large_tree(), large_tree(60, 1, "p1")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A browser, and the folder with the page of two ordinary problems and a hostile one."""
    tools = devtools()
    binary = tools.browser_path()
    if binary is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium) or name one with RESTRL_CHROMIUM")
    folder = tmp_path_factory.mktemp("viewer")
    write_tree_page([LARGE, SMALL, hostile_entry()], folder / "trees.html")
    with tools.Browser(binary, tmp_path_factory.mktemp("profile")) as opened:
        opened.folder = folder
        yield opened


@pytest.fixture
def page(browser):
    """The page, freshly loaded."""
    browser.open("about:blank")
    browser.log.clear()
    browser.open(f"file://{browser.folder}/trees.html")
    return browser


def put(page, control, value):
    """Sets a control as a user would."""
    name = "checked" if isinstance(value, bool) else "value"
    page.run(
        f"{{const e = document.getElementById('{control}'); e.{name} = {json.dumps(value)}; "
        "e.dispatchEvent(new Event('input'))}"
    )


def click_state(page, number):
    x, y = page.run(f"window.__tree().at({number})")
    left, top = page.run("[tree.getBoundingClientRect().left, tree.getBoundingClientRect().top]")
    for kind in ("mousePressed", "mouseReleased"):
        page.mouse(kind, left + x, top + y, button="left", clickCount=1)


def test_two_thousand_states_load_without_a_word_on_the_console(page):
    state = page.run("window.__tree()")
    assert state["problem"] == "p0" and state["states"] == 2000 and 0 < state["shown"] < 400
    assert state["chosen"] == list(LARGE.chosen_path)
    page.run("document.getElementById('all').click()")
    assert page.run("window.__tree()")["shown"] == 2000
    passing = sum(grade.passed for grade in LARGE.grades.values())
    assert page.run("summary.textContent") == f"2,000 states · 400 completions · 400 programs · {passing} pass"
    inked = "new Set(tree.getContext('2d').getImageData(0, 0, 700, 300).data).size"
    assert page.run(inked) > 50, "the canvas is blank"
    assert page.log == [] and page.requests() == [f"file://{page.folder}/trees.html"]


# The times between 90 frames in which nothing is drawn: what the browser can show at all.
IDLE_FRAMES = """new Promise((resolve) => {
  const times = [];
  const tick = (now) => {
    times.push(now);
    if (times.length <= 90) requestAnimationFrame(tick);
    else resolve(times.slice(1).map((time, i) => time - times[i]));
  };
  requestAnimationFrame(tick);
})"""


def test_frames_stay_short_while_two_thousand_states_move(page):
    page.run("document.getElementById('all').click()")
    runs, idle = [], []
    for _ in range(2):
        idle.append(sorted(page.run(IDLE_FRAMES))[80])
        runs.append(page.run("window.__bench(90)"))
    if max(idle) > 34.0:
        pytest.skip(f"the machine is too busy to show frames in time even where nothing is drawn: {max(idle):.0f} ms")
    # The better of two: another process of the machine may have the processor for a while.
    best = min(runs, key=lambda run: sorted(run["intervals"])[80])
    intervals, times = sorted(best["intervals"]), sorted(best["times"])
    assert len(intervals) == 90
    assert intervals[45] < 50.0 and intervals[80] < 150.0, intervals
    assert times[45] < 16.0, times


def test_filters_show_what_they_say(page):
    nodes = LARGE.tree.nodes
    cut = [False] * len(nodes)
    for node in nodes[1:]:
        cut[node.order] = node.pruned or cut[node.parent]
    put(page, "terminal", True)
    assert page.run("window.__tree().matching") == sum(node.terminal for node in nodes)
    put(page, "terminal", False)
    put(page, "pruned", True)
    assert page.run("window.__tree().matching") == cut.count(False)
    put(page, "text", "RETURN TOTAL")
    put(page, "visits", "2")
    put(page, "value", "0.4")
    wanted = [
        node
        for node in nodes
        if not cut[node.order] and "return total" in node.action and node.visits >= 2 and round(node.value, 5) >= 0.4
    ]
    state = page.run("window.__tree()")
    assert state["matching"] == len(wanted) > 0
    shown = {i for node in wanted for i in LARGE.tree.path(node.order)}
    assert state["shown"] == len(shown)
    put(page, "text", "no such line")
    assert page.run("window.__tree().shown") == 0 and not page.run("empty.hidden")
    assert page.log == []


def test_states_are_chosen_by_mouse_and_keys_and_say_everything(page):
    page.run("chosen.click()")
    last = LARGE.chosen_path[-1]
    assert page.run("window.__tree().selected") == last
    node, text = LARGE.tree.nodes[last], page.run("details.textContent")
    assert f"State {last}" in text and f"value{node.value:.4f}" in text and f"visits{node.visits} of 400" in text
    assert "prior of the line0.2500" in text and "chosen path" in text and "the answer" in text
    for line in LARGE.tree.codes[last].splitlines():
        assert line in page.run("details.querySelector('pre').textContent")
    verdicts = LARGE.grades[LARGE.answer].verdicts
    assert sorted(page.run("[...details.querySelectorAll('.tests span')].map(e => e.textContent)")) == [
        f"t{i}: {verdict}" for i, verdict in enumerate(verdicts)
    ]
    page.run("document.activeElement.blur()")
    page.key("ArrowLeft")
    assert page.run("window.__tree().selected") == LARGE.chosen_path[-2]
    page.key("ArrowRight")
    assert page.run("window.__tree().selected") == last
    page.key("h")
    page.run("new Promise(requestAnimationFrame)")
    click_state(page, 0)
    assert page.run("details.querySelector('h2').textContent").startswith("Start")
    assert page.log == []


def test_wheel_buttons_and_dragging_move_the_view(page):
    before = page.run("window.__tree().view")
    page.mouse("mouseWheel", 300, 400, deltaX=0, deltaY=200)
    moved = page.run("window.__tree().view")
    assert moved["y"] > before["y"] and moved["k"] == before["k"]
    page.mouse("mouseWheel", 300, 400, deltaX=0, deltaY=-200, modifiers=2)
    assert page.run("window.__tree().view.k") > before["k"]
    # A point under the cursor stays there while zooming.
    page.run("fit.click()")
    whole = page.run("window.__tree().view.k")
    assert whole <= before["k"]
    page.run("document.getElementById('in').click()")
    assert page.run("window.__tree().view.k") == pytest.approx(1.25 * whole)
    page.mouse("mousePressed", 300, 400, button="left", clickCount=1)
    for x in (310, 330, 360):
        page.mouse("mouseMoved", x, 400, button="left", buttons=1)
    page.mouse("mouseReleased", 360, 400, button="left", clickCount=1)
    time.sleep(0.05)
    assert page.log == []


def test_problems_change_and_an_address_leads_to_a_state(page):
    page.run("document.activeElement.blur()")
    page.key("]")
    assert page.run("window.__tree().problem") == "p1" and page.run("problem.selectedIndex") == 1
    page.run("location.hash = '#0/1500'")
    page.run("new Promise(done => setTimeout(done, 50))")
    assert page.run("[window.__tree().problem, window.__tree().selected]") == ["p0", 1500]
    assert page.log == []


def test_hostile_programs_are_shown_and_not_obeyed(page):
    page.run("{problem.selectedIndex = 2; problem.dispatchEvent(new Event('change'))}")
    page.run("chosen.click()")
    shown = page.run("details.textContent")
    assert "</script><script>window.pwned = 1</script><img src=x" in shown
    for mark in ("\u2028", "\u202e", "\x00"):
        assert mark not in shown
    assert page.run("[typeof window.pwned, document.scripts.length, document.images.length]") == ["undefined", 2, 0]
    assert page.run("[...problem.options].length") == 3
    assert page.log == [] and len(page.requests()) == 1


def test_the_colours_follow_the_scheme(page):
    corner = "Array.from(tree.getContext('2d').getImageData(690, 600, 1, 1).data).slice(0, 3)"
    for scheme, bright in (("light", True), ("dark", False)):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        page.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert (sum(page.run(corner)) > 600) is bright
