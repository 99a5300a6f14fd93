"""The search while it runs: on a terminal a view that renews itself, elsewhere a line now and then.

Nothing of it is on standard output, and what models wrote is shown without the characters that move a terminal's
cursor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from restrl.console import Lines
from restrl.report.palette import printable

if TYPE_CHECKING:
    from restrl.decoding.results import Candidate
    from restrl.solve_watch import Watch

RENEW_EVERY_S = 0.2


@contextmanager
def open_view(watch: Watch, problem_id: str, decoder: str, budget: int, quiet: bool) -> Iterator[None]:
    """Shows a watched search for the length of a block, if anyone is there to see it."""
    if quiet:
        yield
        return
    if not sys.stderr.isatty():
        lines, shown = Lines(), [0]
        lines.start(f"{problem_id}: {decoder}", budget)

        def advance() -> None:
            best = best_of(watch)
            figures = {} if best is None or best.score is None else {"best": best.score}
            lines.advance(watch.num_completions - shown[0], **figures)
            shown[0] = watch.num_completions

        watch.on_change = advance
        try:
            yield
        finally:
            watch.on_change = lambda: None
            lines.finish()
        return
    console = Console(stderr=True)
    next_time = 0.0
    with Live(Text("loading the models"), console=console, auto_refresh=False) as live:

        def renew() -> None:
            nonlocal next_time
            began = time.monotonic()
            if began < next_time:
                return
            live.update(picture(watch, problem_id, decoder, budget, console.height), refresh=True)
            # A large tree takes longer to draw; drawing never takes more than a tenth of the time.
            next_time = began + max(RENEW_EVERY_S, 10 * (time.monotonic() - began))

        watch.on_change = renew
        live.refresh()
        try:
            yield
        finally:
            watch.on_change = lambda: None
            live.update(status(watch, problem_id, decoder, budget), refresh=True)


def best_of(watch: Watch) -> Candidate | None:
    """Returns the best candidate so far."""
    from restrl.decoding.results import best_answers

    candidates = watch.candidates
    return candidates[best_answers(candidates)[-1]] if candidates else None


def picture(watch: Watch, problem_id: str, decoder: str, budget: int, height: int) -> RenderableType:
    """Returns the whole view: the budget, the tree of the best lines, the best program so far."""
    best = best_of(watch)
    parts: list[RenderableType] = [status(watch, problem_id, decoder, budget)]
    program = (watch.problem.initial_state + best.code).splitlines() if best else []
    # The frame of a panel takes two rows; the tree gets what the program leaves, at least a few rows.
    room = max(4, height - 6 - min(len(program), height // 2))
    if watch.search is not None:
        parts.append(Panel(_tree(watch, problem_id, decoder, room), title="search", border_style="dim"))
    if best is not None:
        shown = "\n".join(printable(line) for line in program[-max(4, height // 2) :])
        score = "" if best.score is None else f", value {best.score:.3f}"
        title = f"best so far{score}" if best.finished else "cut off so far"
        parts.append(Panel(Syntax(shown, "python", background_color="default"), title=title, border_style="green"))
    return Group(*parts)


def status(watch: Watch, problem_id: str, decoder: str, budget: int) -> RenderableType:
    """Returns the first line: a bar of the budget, and the counts."""
    seconds = max(1e-9, time.monotonic() - watch.began)
    counts = f"{watch.num_completions}/{budget}  {watch.tokens / seconds:,.0f} tokens/s  {seconds:.1f} s"
    if watch.num_scored:
        counts = f"{counts}  {watch.num_scored} states scored"
    table = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=budget, completed=watch.num_completions, width=28)
    table.add_row(Text(f"{printable(problem_id)}  {decoder}", style="bold"), bar, Text(counts))
    return table


def _tree(watch: Watch, problem_id: str, decoder: str, room: int) -> RenderableType:
    from restrl.evaluation.trees import TreeEntry, tree_of_search
    from restrl.report.tree_text import format_line, tree_lines

    tree = tree_of_search(watch.search, problem_id, decoder)
    lines = tree_lines(TreeEntry(tree, answer=tree.answer()), limit=room)[:room]
    text = Text(no_wrap=True, overflow="ellipsis")
    for place, line in enumerate(lines):
        style = "bold magenta" if line.chosen else "dim" if line.number is None else ""
        text.append(("\n" if place else "") + format_line(line), style=style)
    return text
