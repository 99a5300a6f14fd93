"""A search as text: the most visited lines, with values and visits, the chosen path and the verdicts.

An only child stands below its parent without another indentation, so that a path reads like the program that it is::

    value  visits
     0.61      30    start
     0.70      18 *  ├─ total = 0
     0.81      12 *  │  for x in xs:
     0.90       8 *  │  ├─     total += x
     0.90       8 *  │  │  return total   passes every test
     0.20       4    │  └─     if x > k:
     0.30       2    └─ return sum(xs)   1 of 8 tests
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from restrl.evaluation.trees import ProgramGrade, TreeEntry
from restrl.report.palette import printable

GUIDES = {True: ("├─ ", "└─ ", "│  "), False: ("|- ", "`- ", "|  ")}


@dataclass(frozen=True, slots=True)
class TreeLine:
    """One line of the text: a state, or (without a number) the states that are left out there.

    Attributes:
        number: Number of the state; None for states that are left out.
        guide: Lines that lead to it.
        code: What it adds to its parent, on one line.
        value: Mean worth of the completions through it; None where nothing was scored.
        visits: Completions through it.
        chosen: It lies on the way to the answer.
        note: What became of the program that ends here.
    """

    number: int | None
    guide: str
    code: str
    value: float | None = None
    visits: int = 0
    chosen: bool = False
    note: str = ""


def tree_lines(entry: TreeEntry, limit: int = 60, *, unicode: bool = True) -> list[TreeLine]:
    """Returns the ``limit`` most visited states, and all of the chosen path, from the root.

    Args:
        entry: The search.
        limit: States to show, >= 1.
        unicode: Draw with box characters; else with ASCII.
    """
    nodes = entry.tree.nodes
    chosen = set(entry.chosen_path)
    # A state has no more visits than its parent and comes later, so the first of this order are closed under parents.
    ranked = sorted(range(len(nodes)), key=lambda i: (-nodes[i].visits, i))
    shown = set(ranked[:limit]) | chosen
    scored = any(draw.score is not None for draw in entry.tree.draws) or any(node.value for node in nodes)
    branch, corner, bar = GUIDES[unicode]
    lines: list[TreeLine] = []
    # (state or None, guide of its line, guide of what is below it, how many states are left out)
    stack: list[tuple[int | None, str, str, int]] = [(0, "", "", 0)]
    while stack:
        number, guide, inner, left_out = stack.pop()
        if number is None:
            lines.append(TreeLine(None, guide, f"... {left_out} more"))
            continue
        node = nodes[number]
        value = node.value if scored and node.visits else None
        code = "start" if number == 0 and not node.action.strip() else one_line(node.action)
        note = _note(entry, number)
        lines.append(TreeLine(number, guide, code, value, node.visits, number in chosen, note))
        children = [child for child in entry.tree.children[number] if child in shown]
        children.sort(key=lambda i: (i not in chosen, -nodes[i].visits, -nodes[i].value, i))
        missing = len(entry.tree.children[number]) - len(children)
        below: list[int | None] = [*children, *([None] if missing else [])]
        if len(below) == 1 and number != 0:
            stack.append((below[0], inner, inner, missing))
            continue
        for place in range(len(below) - 1, -1, -1):
            last = place == len(below) - 1
            stack.append(
                (below[place], inner + (corner if last else branch), inner + ("   " if last else bar), missing)
            )
    return lines


def tree_text(entry: TreeEntry, limit: int = 60, *, unicode: bool = True) -> str:
    """Returns the text of a search, with a heading and a line at the end that says what is not shown."""
    lines = tree_lines(entry, limit, unicode=unicode)
    rows = ["value  visits"]
    rows += [format_line(line) for line in lines]
    shown = sum(line.number is not None for line in lines)
    total = len(entry.tree.nodes)
    rows.append(f"{shown} of {total} states; {len(entry.tree.draws)} completions; * the chosen path")
    return "\n".join(rows) + "\n"


def format_line(line: TreeLine) -> str:
    """Returns one line: value, visits, a star on the chosen path, guides, code, note."""
    if line.number is None:
        return f"{'':16}{line.guide}{line.code}"
    value = "   -" if line.value is None else f"{line.value:.2f}"
    note = f"   {line.note}" if line.note else ""
    return f"{value:>5}  {line.visits:>6} {'*' if line.chosen else ' '} {line.guide}{line.code}{note}"


def one_line(action: str) -> str:
    """Returns an action on one line: its last line with code, four columns of indentation taken off.

    >>> one_line("    # twice\\n        x += x\\n")
    '    x += x'
    """
    lines = [line for line in action.expandtabs(4).split("\n") if line.strip()]
    text = lines[-1] if lines else "(blank)"
    # Text of a model can hold anything, also what moves a terminal's cursor.
    return printable(text[4:] if text.startswith("    ") else text).rstrip()


def _note(entry: TreeEntry, number: int) -> str:
    if not entry.tree.nodes[number].terminal:
        return ""
    grade = next(
        (entry.grades[d.index] for d in entry.tree.draws if d.node == number and d.index in entry.grades), None
    )
    return "finished" if grade is None else verdict_text(grade)


def verdict_text(grade: ProgramGrade) -> str:
    """Returns how a program did, in words.

    >>> verdict_text(ProgramGrade(0.5, False, ("pass", "wrong")))
    'fails: 1 of 2 tests pass (wrong 1)'
    """
    if grade.passed:
        return "passes every test"
    if not grade.verdicts:
        return f"fails: reward {grade.reward:.2f}"
    good = sum(verdict == "pass" for verdict in grade.verdicts)
    return f"fails: {good} of {len(grade.verdicts)} tests pass ({_counts(grade.verdicts)})"


def _counts(verdicts: Sequence[str]) -> str:
    bad = [verdict for verdict in verdicts if verdict != "pass"]
    return ", ".join(f"{name} {bad.count(name)}" for name in dict.fromkeys(bad))
