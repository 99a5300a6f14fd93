"""The table of a stand-alone evaluation: as rows of text, and as a Markdown page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from restrl.evaluation.suite import PASS_AT_1, TEST_CASE_AVERAGE

COLUMNS = ("set", "problems", "score", "pass@1", "pass@k", "test-case average", "strict accuracy", "unfinished")
_SHOWN_REASONS = 8


def rows(results: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns the cells of the table, `COLUMNS` wide: one row per set or part, then the average over them."""
    cells = [_row(entry) for entry in results["sets"]]
    average = results["average"]
    if average["over"]:
        cells.append(
            (
                f"average of {len(average['over'])}",
                "",
                _interval(average["score"]),
                _interval(average[PASS_AT_1]),
                "",
                _interval(average[TEST_CASE_AVERAGE]),
                "",
                "",
            )
        )
    return cells


def notes(results: Mapping[str, Any]) -> list[str]:
    """Returns what has to be said beside the table: problems left out, refused records, how to read it."""
    said = []
    if results.get("settings", {}).get("public_tests"):
        shown = results["cost"].get("public_tests", 0)
        said.append(
            f"public tests used: {shown:.0f} examples that the problems show ranked the candidates; not comparable "
            "with results without them"
        )
    bad = results["not_gradable"]
    if bad:
        said.append(f"{len(bad)} problems are not gradable on this machine and count in no score:")
        reasons = Counter((item["set"], _without_id(item)) for item in bad)
        said += [f"  {name}: {number} x {reason}" for (name, reason), number in reasons.most_common(_SHOWN_REASONS)]
        if len(reasons) > _SHOWN_REASONS:
            said.append(f"  and {len(reasons) - _SHOWN_REASONS} more reasons; results.json has them all")
    for name, refused in results["refused"].items():
        if refused:
            reasons_text = ", ".join(f"{number} {reason}" for reason, number in refused.items())
            said.append(f"{name}: records that are no problems: {reasons_text}")
    if results["cost"].get("too_long"):
        said.append(f"{results['cost']['too_long']:.0f} prompts leave no room in the model's context and score 0")
    if results["average"]["over"]:
        said.append(
            "score: test-case average for APPS, pass@1 for the others; the average weighs every set the same, over "
            + ", ".join(results["average"]["over"])
        )
    return said


def markdown(results: Mapping[str, Any]) -> str:
    """Returns the page ``results.md``."""
    settings = results["settings"]
    shown = ", ".join(f"{key} {value}" for key, value in settings.items() if value not in ("", None))
    lines = ["# Evaluation", "", f"{shown}.", ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows(results)]
    lines += ["", f"Intervals: {settings['confidence']:.0%}, bootstrap over problems."]
    said = notes(results)
    if said:
        lines += ["", *(f"    {line}" if line.startswith(" ") else f"- {line}" for line in said)]
    return "\n".join(lines) + "\n"


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    label = f"{entry['set']} ({entry['part']})" if entry["part"] else entry["set"]
    count = str(entry["num_graded"])
    if entry["num_not_gradable"]:
        count += f" of {entry['num_problems']}"
    if not entry["num_graded"]:
        return (label, count, *("none graded",) * 4, "", "")
    return (
        label,
        count,
        _interval(entry[entry["headline"]]),
        _interval(entry[PASS_AT_1]),
        _pass_at_k(entry["pass@k"]),
        _interval(entry[TEST_CASE_AVERAGE]),
        _interval(entry["strict_accuracy"]),
        f"{entry['unfinished_share']:.3f}",
    )


def _pass_at_k(by_k: Mapping[str, Mapping[str, float]]) -> str:
    """The largest k, and 10 where it is there; pass@1 has its own column."""
    ks = sorted(int(k) for k in by_k if k != "1")
    chosen = sorted({*ks[-1:], *(k for k in ks if k == 10)})
    return ", ".join(f"@{k} {_interval(by_k[str(k)])}" for k in chosen) or "-"


def _interval(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def _without_id(item: Mapping[str, str]) -> str:
    """The reason without the problem's name, so that equal reasons are counted together."""
    return item["reason"].replace(item["problem_id"], "...")
