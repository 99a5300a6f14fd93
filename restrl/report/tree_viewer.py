"""Searches as one self-contained HTML page: states, values, visits, priors, the chosen path, verdicts.

The page holds its data as JSON, one small script and one style sheet; it asks for nothing from anywhere. Programs are
untrusted text: inside the page every ``<``, ``>`` and ``&`` of the data is a JSON escape, the script shows text only as
text, and the page's policy allows no script but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from restrl.evaluation.trees import ProgramGrade, TreeEntry
from restrl.report.palette import css_variables, printable

# What could end the element, start another, or end a line of a script; all ASCII besides.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def write_tree_page(
    records: Iterable[Mapping[str, Any] | TreeEntry], path: Path, *, title: str = "Search trees"
) -> None:
    """Writes the page of one or more searches.

    Args:
        records: Entries of `restrl.evaluation.trees`, their records, or records of trees alone.
        path: The file to write.
        title: Of the page.

    Raises:
        ArtifactError: A record is no saved tree.
        ValueError: There is no record.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tree_page(records, title=title), encoding="ascii")


def tree_page(records: Iterable[Mapping[str, Any] | TreeEntry], *, title: str = "Search trees") -> str:
    """Returns the page; see `write_tree_page`. The same records give the same text, in ASCII."""
    entries = [item if isinstance(item, TreeEntry) else TreeEntry.from_record(item) for item in records]
    if not entries:
        raise ValueError("a page of search trees got no tree: at least one is needed")
    data = json.dumps({"trees": [_columns(entry) for entry in entries]}, separators=(",", ":")).translate(_ESCAPES)
    assets = resources.files("restrl.report") / "assets"
    script = (assets / "tree.js").read_text(encoding="utf-8").encode("ascii", "backslashreplace").decode()
    style = css_variables() + (assets / "tree.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    heading = html.escape(printable(title), quote=True).encode("ascii", "xmlcharrefreplace").decode()
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{heading}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + _BODY.replace("TITLE", heading)
        + f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n</body>\n</html>\n'
    )


_BODY = """<header><h1>TITLE</h1>
<fieldset><label>problem <select id="problem" aria-label="problem"></select></label></fieldset>
<output id="summary"></output>
<fieldset>
<label><span class="unseen">text of the line</span><input type="search" id="text" placeholder="filter by text"></label>
<label>visits &ge; <input type="number" id="visits" min="0" step="1" placeholder="0"></label>
<label>value &ge; <input type="number" id="value" step="any" placeholder="any"></label>
<label><input type="checkbox" id="terminal">finished</label>
<label><input type="checkbox" id="passing">passing</label>
<label><input type="checkbox" id="pruned">hide pruned</label>
</fieldset>
<fieldset>
<button id="in" aria-label="zoom in">+</button><button id="out" aria-label="zoom out">&minus;</button>
<button id="fit">fit</button>
<button id="chosen">answer</button><button id="all">unfold all</button><button id="keys" aria-label="keys">?</button>
</fieldset>
</header>
<section id="stage"><canvas id="tree" tabindex="0" role="application"
 aria-label="the tree of the search; arrow keys move between states"></canvas>
<p id="empty" hidden>No state matches the filter.</p>
<canvas id="map" aria-hidden="true"></canvas>
<div id="legend"><span id="scale">value <span id="low"></span><i id="ramp"></i><span id="high"></span></span>
<span><i class="key"></i>chosen path</span><span><i class="key pruned"></i>pruned</span>
<span class="pass">&#10003; passes every test</span><span class="fail">&#10007; fails some</span>
<span>&times;5 visits</span></div></section>
<aside id="details"></aside>
<p id="said" class="unseen" aria-live="polite"></p>
<dialog id="help"><form method="dialog"><h2>Keys</h2><dl>
<dt><kbd>&larr;</kbd> <kbd>&rarr;</kbd> <kbd>&uarr;</kbd> <kbd>&darr;</kbd></dt><dd>parent, child, neighbours</dd>
<dt><kbd>+</kbd> <kbd>&minus;</kbd></dt><dd>zoom; also Ctrl and the wheel, or two fingers</dd>
<dt><kbd>f</kbd> <kbd>h</kbd></dt><dd>the whole tree; back to the start</dd>
<dt><kbd>c</kbd></dt><dd>the end of the chosen path</dd>
<dt><kbd>space</kbd></dt><dd>fold or unfold a state; also a double click</dd>
<dt><kbd>e</kbd> <kbd>r</kbd></dt><dd>unfold everything; fold what is rarely visited</dd>
<dt><kbd>/</kbd></dt><dd>filter by text</dd>
<dt><kbd>[</kbd> <kbd>]</kbd></dt><dd>previous, next problem</dd></dl>
<p><button>close</button></p></form></dialog>
"""


def _columns(entry: TreeEntry) -> dict[str, Any]:
    """Returns what the script reads: the nodes by column, the completions with the numbers of their grades."""
    tree = entry.tree
    grades: dict[ProgramGrade, int] = {}
    for grade in entry.grades.values():
        grades.setdefault(grade, len(grades))
    return {
        "problem_id": tree.problem_id,
        "method": entry.method,
        "statement": entry.statement,
        "initial_state": entry.initial_state,
        "config": {str(key): value for key, value in tree.config.items()},
        "answer": entry.answer,
        "path": list(entry.chosen_path),
        "tests": list(entry.tests),
        "nodes": {
            "parent": [node.parent for node in tree.nodes],
            "action": [node.action for node in tree.nodes],
            "trim": [node.trim for node in tree.nodes],
            "terminal": [int(node.terminal) for node in tree.nodes],
            "visits": [node.visits for node in tree.nodes],
            "value": [_short(node.value) or 0.0 for node in tree.nodes],
            "scored": [_short(node.scored_value) for node in tree.nodes],
            "prior": [_short(node.line_prior) for node in tree.nodes],
            "draws": [node.draws for node in tree.nodes],
            "pruned": [int(node.pruned) for node in tree.nodes],
        },
        "draws": [
            [
                draw.index,
                draw.start,
                draw.node,
                int(draw.finished),
                _short(draw.score),
                draw.tokens,
                draw.text,
                grades[entry.grades[draw.index]] if draw.index in entry.grades else None,
            ]
            for draw in tree.draws
        ],
        "grades": [[_short(grade.reward), grade.passed, list(grade.verdicts)] for grade in grades],
    }


def _short(value: float | None) -> float | None:
    """A number with as many digits as anyone reads; None for what JSON has no number for."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
