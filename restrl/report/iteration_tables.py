"""Two tables over the iterations, as text, Markdown and HTML: validation scores, and what training took."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from restrl.report.data import ComputeRow, IterationRow, ReportData
from restrl.report.palette import printable
from restrl.report.tables import duration, interval


@dataclass(frozen=True, slots=True)
class Table:
    """A small table of texts.

    Attributes:
        title: Of the section.
        header: One text per column.
        rows: One text per column each.
        note: What the numbers are.
        left: The first so many columns are text, the others numbers.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str
    left: int = 1


def iteration_tables(data: ReportData) -> list[Table]:
    """Returns the tables that the data fills."""
    tables = [_validation(data.iterations, data)] if data.iterations else []
    return [*tables, _compute(data.compute)] if data.compute else tables


def text_tables(data: ReportData) -> str:
    """Returns the tables as plain aligned text; empty where there is none."""
    return "\n".join(_text(table) for table in iteration_tables(data))


def markdown_tables(data: ReportData) -> str:
    """Returns the tables in Markdown; empty where there is none."""
    return "\n".join(_markdown(table) for table in iteration_tables(data))


def html_tables(data: ReportData) -> str:
    """Returns one section of the page per table; empty where there is none."""
    return "\n".join(_html(table) for table in iteration_tables(data))


def _validation(rows: Sequence[IterationRow], data: ReportData) -> Table:
    largest = max(max(row.pass_at_k, default=1) for row in rows)
    header = ["policy", "pass@1", "vs base", "vs previous", "mean reward", f"pass@{largest}", ""]
    cells = [
        [
            row.name,
            interval(row.pass_at_1),
            "" if row.vs_base is None else interval(row.vs_base, signed=True),
            "" if row.vs_previous is None else interval(row.vs_previous, signed=True),
            interval(row.mean_reward),
            interval(row.pass_at_k[largest]) if largest in row.pass_at_k else "",
            "kept" if row.kept else "",
        ]
        for row in rows
    ]
    # After one iteration the previous policy is the base, and of one sample pass@k is pass@1.
    left_out = {3} if len(rows) < 3 else set()
    left_out |= {5} if largest == 1 else set()
    shown = [column for column in range(len(header)) if column not in left_out]
    first = rows[0]
    return Table(
        "Iterations, on validation problems",
        tuple(header[column] for column in shown),
        tuple(tuple(line[column] for column in shown) for line in cells),
        f"{first.num_problems} validation problems, {first.num_samples} samples each. Brackets: {data.confidence:.0%} "
        "bootstrap intervals over problems; differences in pass@1, paired. These numbers choose the policy that is "
        "kept; how good it is, the held-out problems say.",
        left=len(shown),
    )


def _compute(rows: Sequence[ComputeRow]) -> Table:
    header = ("training", "completions", "before training", "tokens", "graded", "steps", "seconds")
    cells = tuple(
        (
            row.name,
            f"{row.completions:,}",
            f"{row.before_training:,}",
            f"{row.generated_tokens:,}",
            f"{row.grader_calls:,}",
            f"{row.optimizer_steps:,}",
            duration(row.wall_s),
        )
        for row in rows
    )
    return Table(
        "What training took",
        header,
        cells,
        "Completions of the sampling stage (before training) count like those of training. Evaluation is not in it.",
    )


def _text(table: Table) -> str:
    lines = [table.header, *table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.header))]
    texts = [
        "  ".join(
            cell.ljust(width) if column < table.left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    texts.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return "\n".join([f"{table.title}:", *texts, table.note]) + "\n"


def _markdown(table: Table) -> str:
    rule = tuple("---" if column < table.left else "---:" for column in range(len(table.header)))
    lines = [table.header, rule, *table.rows]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"{table.title}:\n\n{text}\n\n{table.note}\n"


def _html(table: Table) -> str:
    def number(column: int) -> str:
        return "" if column < table.left else ' class="number"'

    head = "".join(f"<th{number(column)}>{_escaped(text)}</th>" for column, text in enumerate(table.header))
    body = "\n".join(
        f'<tr><th scope="row">{_escaped(line[0])}</th>'
        + "".join(f"<td{number(column)}>{_escaped(cell or '–')}</td>" for column, cell in enumerate(line) if column)
        + "</tr>"
        for line in table.rows
    )
    return (
        f'<section>\n<h2>{_escaped(table.title)}</h2>\n<div class="scroll" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n"
        f'<p class="note">{_escaped(table.note)}</p>\n</section>'
    )


def _escaped(text: str) -> str:
    return html.escape(printable(text), quote=True)
