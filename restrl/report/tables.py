"""The results table as aligned text and as Markdown, and the numbers' formats that the page shares."""

from __future__ import annotations

from restrl.evaluation.statistics import Interval
from restrl.report.data import ReportData, Row

HEADER = ("method", "budget", "pass@1", "test-case average", "vs base", "completions", "tokens", "wall")
NUMERIC = frozenset({1, 5, 6, 7})


def console_table(data: ReportData) -> str:
    """Returns the table as plain aligned ASCII text, with one line that says what the brackets are.

    The rows are the data's, in its order: base, ReST-GRPO, best-of-n, VM-MCTS, ReST-RL in a whole run.
    """
    cells = [HEADER, *(row_cells(row) for row in data.rows)]
    widths = {column: max(len(line[column]) for line in cells) for column in columns(data)}
    lines = []
    for line in cells:
        padded = [
            line[column].rjust(width) if column in NUMERIC else line[column].ljust(width)
            for column, width in widths.items()
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths.values()))
    lines.append(intervals_note(data))
    return "\n".join(lines) + "\n"


def markdown_table(data: ReportData) -> str:
    """Returns the table in Markdown."""
    lines = [HEADER, tuple("---:" if column in NUMERIC else "---" for column in range(len(HEADER)))]
    lines += [row_cells(row) for row in data.rows]
    shown = columns(data)
    text = "\n".join("| " + " | ".join(_markdown(line[column]) for column in shown) + " |" for line in lines)
    return f"{text}\n\n{intervals_note(data)}\n"


def columns(data: ReportData) -> list[int]:
    """Returns the columns of `HEADER` that at least one row fills (the first always)."""
    texts = [row_cells(row) for row in data.rows]
    return [column for column in range(len(HEADER)) if column == 0 or any(line[column] for line in texts)]


def row_cells(row: Row) -> tuple[str, ...]:
    """Returns the texts of one row, in the order of `HEADER`."""
    return (
        " ".join(row.name.split()),
        str(row.budget),
        interval(row.pass_at_1),
        interval(row.test_case_average),
        "" if row.diff is None else interval(row.diff, signed=True),
        f"{row.completions:,}",
        f"{row.tokens:,}",
        "" if row.wall_s is None else duration(row.wall_s),
    )


def intervals_note(data: ReportData) -> str:
    """Returns the sentence that explains the brackets."""
    problems = f"{data.num_problems} held-out problems" if data.num_problems else "held-out problems"
    return (
        f"Brackets: {data.confidence:.0%} bootstrap intervals over {problems}; "
        "'vs base' is the paired difference in pass@1."
    )


def headline(data: ReportData) -> str:
    """Returns one sentence: the last row against the first, and whether the difference is clear."""
    if not data.rows:
        return "This run has no evaluation yet."
    base, best = data.rows[0], data.rows[-1]
    if best is base:
        return f"{base.name} solves {base.pass_at_1.mean:.1%} of the held-out problems."
    text = (
        f"{best.name} solves {best.pass_at_1.mean:.1%} of the held-out problems, {base.name} {base.pass_at_1.mean:.1%}"
    )
    if best.diff is None:
        return text + "."
    points = [100 * value for value in (best.diff.mean, best.diff.low, best.diff.high)]
    change = f": {points[0]:+.1f} points [{points[1]:+.1f}, {points[2]:+.1f}]"
    return text + change + ("." if best.diff.excludes_zero() else ", no clear difference.")


def interval(value: Interval, signed: bool = False) -> str:
    """Returns ``mean [low, high]`` to three decimals.

    >>> interval(Interval(0.5, 0.25, 0.75))
    '0.500 [0.250, 0.750]'
    """
    sign = "+" if signed else ""
    return f"{value.mean:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def duration(seconds: float) -> str:
    """Returns a duration for people.

    >>> duration(0.25), duration(75), duration(7260)
    ('0.2 s', '1 min 15 s', '2 h 01 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
