"""The text of a search, by hand."""

import dataclasses

import pytest

from restrl.evaluation.trees import ProgramGrade, TreeEntry
from restrl.report.tree_text import tree_text
from restrl.search.saved import SavedDraw, SavedNode, SavedTree


def node(order, parent, action, visits, value, terminal=False):
    return SavedNode(parent, action, terminal, visits, value, None, None, 0, False, order)


NODES = (
    node(0, None, "", 10, 0.5),
    node(1, 0, "    a = 0\n", 7, 0.625),
    node(2, 0, "    b = 0\n", 3, 0.25),
    node(3, 1, "    # why\n    for x in xs:\n", 7, 0.625),
    node(4, 3, "        a += x\n", 2, 0.75),
    node(5, 3, "\treturn a\x1b[2J\n", 5, 0.5, True),
    node(6, 2, "    return b\n", 3, 0.25, True),
    node(7, 4, "    return a\n", 2, 0.75, True),
)
DRAWS = tuple(SavedDraw(i, 0, n, True, 0.5, 1, "") for i, n in enumerate([7, 7, 5, 5, 5, 5, 5, 6, 6, 6]))
GRADES = {0: ProgramGrade(1.0, True, ("pass", "pass")), 2: ProgramGrade(0.5, False, ("wrong", "pass"))}
ENTRY = TreeEntry(SavedTree("p", {}, 0, NODES, DRAWS), answer=0, grades=GRADES)


def test_only_children_read_on_and_branches_are_drawn():
    assert tree_text(ENTRY).splitlines() == [
        "value  visits",
        " 0.50      10 * start",
        " 0.62       7 * ├─ a = 0",
        " 0.62       7 * │  for x in xs:",
        " 0.75       2 * │  ├─     a += x",
        " 0.75       2 * │  │  return a   passes every test",
        " 0.50       5   │  └─ return a\ufffd[2J   fails: 1 of 2 tests pass (wrong 1)",
        " 0.25       3   └─ b = 0",
        " 0.25       3      return b   finished",
        "8 of 8 states; 10 completions; * the chosen path",
    ]


def test_the_most_visited_states_and_the_chosen_path_are_shown():
    text = tree_text(ENTRY, 3, unicode=False)
    assert text.isascii()
    assert text.splitlines()[1:-1] == [
        " 0.50      10 * start",
        " 0.62       7 * |- a = 0",
        " 0.62       7 * |  for x in xs:",
        " 0.75       2 * |  |-     a += x",
        " 0.75       2 * |  |  return a   passes every test",
        "                |  `- ... 1 more",
        "                `- ... 1 more",
    ]


def test_a_method_without_values_shows_none():
    draws = tuple(dataclasses.replace(draw, score=None) for draw in DRAWS)
    nodes = tuple(dataclasses.replace(each, value=0.0) for each in NODES)
    lines = tree_text(TreeEntry(SavedTree("p", {}, 0, nodes, draws))).splitlines()[1:-1]
    assert all(line.startswith("    -") for line in lines)
    assert not any("*" in line for line in lines)


@pytest.mark.parametrize("limit", range(1, 9))
def test_any_limit_gives_a_tree(limit):
    lines = tree_text(dataclasses.replace(ENTRY, answer=None), limit).splitlines()
    assert lines[-1].startswith(f"{limit} of 8 states")
    hidden = sum(int(line.split("... ")[1].split()[0]) for line in lines if "... " in line)
    children = [sum(each.parent == number for each in NODES) for number in range(8)]
    shown = sorted(range(8), key=lambda i: (-NODES[i].visits, i))[:limit]
    assert hidden == sum(children[i] for i in shown) - (limit - 1)
