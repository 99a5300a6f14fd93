"""The report as one self-contained HTML page: inline SVG, inline CSS, no script, no request to anywhere.

Everything that comes from a model or a file is escaped; the page works in light and dark, on a phone and on paper.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence

from restrl.evaluation.statistics import Interval
from restrl.report.captions import FIGURES
from restrl.report.cost_tables import costs, difference_table
from restrl.report.data import Example, ReportData, Row
from restrl.report.iteration_tables import html_tables
from restrl.report.palette import COLOURS, css_variables, printable
from restrl.report.style import CSS
from restrl.report.tables import HEADER, NUMERIC, columns, duration, headline, intervals_note, row_cells
from restrl.report.theme import method_colours

# The default policy of the page forbids every request, so that a hole in the escaping would still load nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MISSING = {
    "results": "the evaluation",
    "budget": "budget curves",
    "differences": "differences between methods",
    "spread": "the reward spread of sampled and assembled groups",
    "training": "the training log",
    "calibration": "the value model's calibration",
    "selection": "what picking by value gives",
    "depth": "the value model's error by depth",
}


def render_page(data: ReportData, svgs: Mapping[str, str]) -> str:
    """Returns the page.

    Args:
        data: The report.
        svgs: SVG documents of the figures that could be drawn, by the names of `restrl.report.captions.FIGURES`.
    """
    sections = [
        _results(data, svgs),
        html_tables(data),
        _figures(data, svgs),
        costs(data),
        _bands(data),
        _examples(data),
        _timings(data),
        _details(data),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_text(data.title)}</title>\n<style>\n{css_variables()}{CSS}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<p class="kicker">ReST-RL report</p>\n<h1>{_text(data.title)}</h1>\n'
        f'<p class="lead">{_text(headline(data))}</p>\n{_notes(data)}</header>\n'
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def inline_svg(name: str, svg: str, label: str) -> str:
    """Returns an SVG document as an element of the page: unique ids, scaling to its column, the page's colours.

    Args:
        name: Prefix of the ids, so that several drawings share a page.
        svg: The document that matplotlib wrote.
        label: What a screen reader says.
    """
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'href="#', f'href="#{name}-', element)
    element = element.replace("url(#", f"url(#{name}-")
    opening, rest = element.split(">", 1)
    opening = re.sub(r'\s(width|height|xmlns(:xlink)?|version)="[^"]*"', "", opening)
    # An xlink prefix needs its declaration, a URL; plain href means the same inside a page.
    rest = rest.replace("xlink:href", "href")
    for variable, (light, _) in COLOURS.items():
        rest = re.sub(rf"{light}\b", f"var(--{variable})", rest)
    return f'{opening} role="img" aria-label="{_text(label)}">{rest}'


def _results(data: ReportData, svgs: Mapping[str, str]) -> str:
    if not data.rows:
        return ""
    shades = method_colours([row.name for row in data.rows])
    shown = columns(data)
    head = "".join(f"<th{_class(column)}>{_text(HEADER[column])}</th>" for column in shown)
    body = "\n".join(_table_row(row, shades[row.name], shown) for row in data.rows)
    figure = _figure("results", data, svgs)
    return (
        '<section id="results">\n<h2>Results</h2>\n<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n"
        f'<p class="note">{_text(intervals_note(data))} ▲ better, ▼ worse, ≈ no clear difference.</p>\n'
        f'<div class="grid">{figure}{_figure("budget", data, svgs)}'
        f"{_figure('differences', data, svgs)}</div>\n{difference_table(data)}</section>"
    )


def _table_row(row: Row, shade: str, shown: Sequence[int]) -> str:
    cells = []
    texts = row_cells(row)
    for column in shown:
        cell = texts[column]
        if column == 0:
            cells.append(
                f'<th scope="row"><span class="dot" style="background:var(--{shade})"></span>{_text(cell)}</th>'
            )
        elif column in (2, 3):
            cells.append(f"<td>{_interval_cell(row.pass_at_1 if column == 2 else row.test_case_average)}</td>")
        elif column == 4:
            cells.append(f"<td>{_difference_cell(row.diff)}</td>")
        else:
            cells.append(f"<td{_class(column)}>{_text(cell)}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _interval_cell(value: Interval) -> str:
    return f'<b>{value.mean:.3f}</b> <span class="ci">[{value.low:.3f}, {value.high:.3f}]</span>'


def _difference_cell(value: Interval | None) -> str:
    if value is None:
        return '<span class="ci">–</span>'
    name, sign = ("flat", "≈") if not value.excludes_zero() else ("up", "▲") if value.mean > 0 else ("down", "▼")
    low, high = f"{value.low:+.3f}", f"{value.high:+.3f}"
    return f'<b class="{name}">{sign} {value.mean:+.3f}</b> <span class="ci">[{low}, {high}]</span>'


def _figures(data: ReportData, svgs: Mapping[str, str]) -> str:
    parts = []
    groups = (("Training", ("spread", "training")), ("Value model", ("calibration", "selection", "depth")))
    for title, names in groups:
        drawn = "".join(_figure(name, data, svgs) for name in names)
        if drawn:
            parts.append(f'<section>\n<h2>{title}</h2>\n<div class="grid">{drawn}</div>\n</section>')
    missing = [_MISSING[name] for name in FIGURES if name not in svgs]
    if missing:
        parts.append(f'<p class="note">Not in this run: {_text(", ".join(missing))}.</p>')
    return "\n".join(parts)


def _figure(name: str, data: ReportData, svgs: Mapping[str, str]) -> str:
    if name not in svgs:
        return ""
    spec = FIGURES[name]
    caption = _text(spec.caption(data))
    return (
        f'<figure id="figure-{name}"><h3>{_text(spec.title)}</h3>\n{inline_svg(name, svgs[name], spec.title)}\n'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _bands(data: ReportData) -> str:
    bands = sorted({band for row in data.rows for band in row.bands})
    if len(bands) < 2:
        return ""
    head = "".join(f"<th>{_text(band)}</th>" for band in bands)
    body = "\n".join(
        f'<tr><th scope="row">{_text(row.name)}</th>'
        + "".join(f"<td>{_interval_cell(row.bands[band]) if band in row.bands else '–'}</td>" for band in bands)
        + "</tr>"
        for row in data.rows
    )
    return (
        '<section>\n<h2>pass@1 by difficulty</h2>\n<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr><th>method</th>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n</section>"
    )


def _examples(data: ReportData) -> str:
    if not data.examples:
        return ""
    cards = "\n".join(_example(example) for example in data.examples)
    return f'<section>\n<h2>Sample programs</h2>\n<div class="grid">\n{cards}\n</div>\n</section>'


def _example(example: Example) -> str:
    verdict, name = ("passes every test", "up") if example.passed else (f"{example.reward:.0%} of the tests", "down")
    sign = "✓" if example.passed else "✗"
    method = f" · {_text(example.method)}" if example.method else ""
    return (
        f'<article class="example"><p class="meta"><code>{_text(example.problem_id)}</code>{method} · '
        f'<b class="{name}">{sign} {verdict}</b></p>\n<p>{_text(example.statement)}</p>\n'
        f'<pre tabindex="0"><code>{_text(example.program)}</code></pre></article>'
    )


def _timings(data: ReportData) -> str:
    if not data.timings:
        return ""
    total = sum(data.timings.values())
    longest = max(data.timings.values()) or 1.0
    rows = "\n".join(
        f"<li><span>{_text(stage)}</span>"
        f'<i><b style="width:{100 * seconds / longest:.1f}%"></b></i><span>{_text(duration(seconds))}</span></li>'
        for stage, seconds in data.timings.items()
    )
    return (
        f'<section>\n<h2>Where the time went</h2>\n<ol class="bars">\n{rows}\n</ol>\n'
        f'<p class="note">{_text(duration(total))} of wall-clock time in all.</p>\n</section>'
    )


def _details(data: ReportData) -> str:
    pairs = "\n".join(f"<dt>{_text(key)}</dt><dd>{_text(value)}</dd>" for key, value in data.environment.items())
    environment = f"<h2>Environment</h2>\n<dl>\n{pairs}\n</dl>\n" if pairs else ""
    recipe = (
        f'<details>\n<summary>Recipe</summary>\n<pre tabindex="0"><code>{_text(data.recipe)}</code></pre>\n</details>'
    )
    return f"<section>\n{environment}{recipe if data.recipe else ''}\n</section>" if pairs or data.recipe else ""


def _notes(data: ReportData) -> str:
    if not data.notes:
        return ""
    items = "".join(f"<li>{_text(note)}</li>" for note in data.notes)
    return f'<ul class="notes">{items}</ul>\n'


def _class(column: int) -> str:
    return ' class="number"' if column in NUMERIC else ""


def _text(text: str) -> str:
    return html.escape(printable(text), quote=True)
