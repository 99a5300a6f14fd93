"""Two tables of the page: paired differences between methods at every budget, and what every method took."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from restrl.report.data import BudgetDifference, Cost, CurvePoint, ReportData
from restrl.report.palette import printable
from restrl.report.tables import duration

# (heading, what a cell says); totals, and the mean per problem where it says more than the sum.
_COLUMNS: tuple[tuple[str, Callable[[Cost], str]], ...] = (
    ("completions", lambda cost: _sum_and_mean(cost, "completions")),
    ("distinct", lambda cost: _share(cost, "unique_completions", "completions")),
    ("generated tokens", lambda cost: _sum_and_mean(cost, "generated_tokens")),
    ("prompt tokens prefilled", lambda cost: _sum_and_mean(cost, "prompt_tokens")),
    ("prompt tokens reused", lambda cost: f"{_sum_and_mean(cost, 'reused_prompt_tokens')}, {cost.prompt_reuse:.0%}"),
    ("states scored", lambda cost: _sum_and_mean(cost, "value_states")),
    ("scores reused", lambda cost: f"{cost.score_reuse:.0%}"),
    ("value-model tokens", lambda cost: _sum_and_mean(cost, "value_tokens")),
    ("suffixes reused", lambda cost: _sum_and_mean(cost, "reused_suffixes")),
    ("price", lambda cost: f"{cost.totals['cost']:.4f}" if cost.totals.get("cost") else ""),
    ("wall, with grading", lambda cost: "" if cost.wall_s is None else duration(cost.wall_s)),
)


def costs(data: ReportData) -> str:
    """Returns the section on costs; empty where nothing is known."""
    if not data.costs:
        return ""
    cells = [[say(cost) for _, say in _COLUMNS] for cost in data.costs]
    filled = [place for place in range(len(_COLUMNS)) if any(row[place] for row in cells)]
    head = "".join(f'<th class="number">{_COLUMNS[place][0]}</th>' for place in filled)
    body = "\n".join(
        f'<tr><th scope="row">{_text(cost.name)}</th>'
        + "".join(f'<td class="number">{_text(row[place] or "–")}</td>' for place in filled)
        + "</tr>"
        for cost, row in zip(data.costs, cells, strict=True)
    )
    problems = data.costs[0].num_problems
    return (
        f"<section>\n<h2>What decoding took</h2>\n{_table('method', head, body)}"
        f'<p class="note">Sums over {problems} problems; in brackets the mean per problem. A prompt token is prefilled '
        "where it goes through the policy, and reused where another sample of the state, or a cache, had its keys and "
        "values. A score is reused where the search wanted a state again that it had scored.</p>\n</section>"
    )


def difference_table(data: ReportData) -> str:
    """Returns the paired differences at powers of two and the largest budget; empty where there are none."""
    pairs = [pair for pair in data.differences if pair.points]
    if not pairs:
        return ""
    last = max(pair.points[-1].budget for pair in pairs)
    budgets = sorted({2**power for power in range(last.bit_length())} | {last})
    head = "".join(f"<th>{budget}</th>" for budget in budgets)
    body = "\n".join(
        f'<tr><th scope="row">{_text(pair.method)} − {_text(pair.other)}</th>{_difference_cells(pair, budgets)}</tr>'
        for pair in pairs
    )
    return (
        f"{_table('pass@1 at budget', head, body)}"
        f'<p class="note">Paired differences in pass@1 with {data.confidence:.0%} bootstrap intervals over problems; '
        "results.json has every budget.</p>\n"
    )


def _difference_cells(pair: BudgetDifference, budgets: Sequence[int]) -> str:
    by_budget = {point.budget: point for point in pair.points}
    return "".join(f"<td>{_difference_cell(by_budget.get(budget))}</td>" for budget in budgets)


def _difference_cell(point: CurvePoint | None) -> str:
    if point is None:
        return "–"
    clear = point.low > 0 or point.high < 0
    name, sign = ("flat", "≈") if not clear else ("up", "▲") if point.mean > 0 else ("down", "▼")
    interval = f"[{point.low:+.3f}, {point.high:+.3f}]"
    return f'<b class="{name}">{sign} {point.mean:+.3f}</b> <span class="ci">{interval}</span>'


def _table(first: str, head: str, body: str) -> str:
    return (
        f'<div class="scroll" tabindex="0"><table>\n<thead><tr><th>{first}</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n"
    )


def _sum_and_mean(cost: Cost, name: str) -> str:
    total = cost.totals.get(name, 0.0)
    return f"{total:,.0f} ({total / max(1, cost.num_problems):,.1f})" if total else ""


def _share(cost: Cost, part: str, whole: str) -> str:
    total = cost.totals.get(whole, 0.0)
    return f"{cost.totals.get(part, 0.0) / total:.0%}" if total else ""


def _text(text: str) -> str:
    return html.escape(printable(text), quote=True)
