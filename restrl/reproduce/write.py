"""Writes an experiment: ``NAME.md`` (orderings, tables, the published ones), ``NAME.json``, ``.svg`` and ``.png``."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restrl.artifacts import dump_json, package_versions, read_manifest, write_atomic
from restrl.reproduce.outcome import Outcome, Table, text
from restrl.reproduce.published import Published, models, published, source
from restrl.reproduce.workspace import Workspace


def write_outcome(workspace: Workspace, outcome: Outcome, arms: Sequence[str], command: str) -> Path:
    """Writes the files of an experiment and returns the path of its page.

    Args:
        workspace: Where, and what was run.
        outcome: What it gave.
        arms: The arms that it rests on, for their durations.
        command: What was typed.
    """
    from restrl.reproduce.figures import images

    facts = about(workspace, arms, command)
    for suffix, content in images(outcome.plot).items():
        write_atomic(workspace.out / f"{outcome.name}.{suffix}", content)
    record = {
        "experiment": outcome.name,
        "seeds": list(workspace.seeds),
        "num_problems": outcome.num_problems,
        "orderings": [dataclasses.asdict(item) for item in outcome.orderings],
        **outcome.data,
        "about": facts,
    }
    write_atomic(workspace.out / f"{outcome.name}.json", dump_json(record))
    page = workspace.out / f"{outcome.name}.md"
    write_atomic(page, markdown(outcome, facts))
    return page


def about(workspace: Workspace, arms: Sequence[str], command: str) -> dict[str, Any]:
    """Returns the command, the hardware, the versions, the day, and how long every arm took."""
    seconds: dict[str, dict[str, float]] = {}
    for arm in arms:
        for seed in workspace.seeds:
            manifest = read_manifest(workspace.path(seed, arm)) or {"stages": {}}
            for stage, entry in manifest["stages"].items():
                if "taken_from" not in entry:
                    part = _part(stage)
                    by_part = seconds.setdefault(arm, {})
                    by_part[part] = round(by_part.get(part, 0.0) + entry["seconds"], 1)
    versions = package_versions()
    return {
        "command": command,
        "scale": workspace.label,
        "seeds": list(workspace.seeds),
        "overrides": list(workspace.overrides),
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": {name: versions[name] for name in ("python", "torch", "transformers", "trl")},
        "date": datetime.date.today().isoformat(),
        "seconds": seconds,
    }


def _part(stage: str) -> str:
    head = stage.partition("/")[0]
    return {"measure": "measuring", "values-base": "values", "values-trained": "values"}.get(
        head, "values" if head.startswith("values") else "training"
    )


def processor() -> str:
    """Returns the name of the processor; unknown where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def markdown(outcome: Outcome, facts: Mapping[str, Any]) -> str:
    """Returns the page."""
    beside = published()[outcome.name]
    parts = [f"# {outcome.title}", f"![{outcome.title}]({outcome.name}.png)"]
    parts += [_orderings(outcome, beside)]
    parts += [_table(table) for table in outcome.tables]
    parts += [_published(beside)]
    if outcome.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in outcome.notes))
    parts.append(_about(outcome, facts))
    return "\n\n".join(parts) + "\n"


def _orderings(outcome: Outcome, beside: Published) -> str:
    lines = ["## The published orderings", "", "| ordering | published | ours | mark |", "|---|---|---|---|"]
    for item in outcome.orderings:
        theirs = "" if item.published is None else _theirs(*item.published)
        where = f" ({item.where})" if item.where else ""
        lines.append(
            f"| {item.better} over {item.worse}{where} | {theirs} | {text(item.difference, True)} | {item.mark} |"
        )
    lines += [
        "",
        f"Brackets: 95% bootstrap intervals over {outcome.num_problems} problems. "
        "*Holds* and *reversed*: the interval excludes 0.",
    ]
    return "\n".join(lines)


def _theirs(mean: float, positive: int, number: int) -> str:
    return f"{mean:+.3f}, mean of {number} models, above 0 in {positive}" if number > 1 else f"{mean:+.2f}"


def _table(table: Table) -> str:
    lines = [f"## {table.title}", "", "| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines)


def _published(beside: Published) -> str:
    lines = ["## Published", "", f"{beside.what} ({source()}.) Scores: {beside.metric}."]
    if beside.rows:
        names = models()
        lines += ["", "| | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
        for row, values in beside.rows.items():
            cells = [f"{values[name]:.3f}" if name in values else "" for name in names]
            lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _about(outcome: Outcome, facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        "## How this was made",
        "",
        f"`{facts['command']}`, seeds {', '.join(map(str, facts['seeds']))}, {facts['date']}. {facts['processor']}, "
        f"{facts['cores']} cores; {versions}. All numbers: `{outcome.name}.json`.",
    ]
    if facts["seconds"]:
        lines += ["", "| arm | training, s | values, s | measuring, s |", "|---|---|---|---|"]
        for arm, parts in facts["seconds"].items():
            cells = [f"{parts.get(part, 0.0):.0f}" for part in ("training", "values", "measuring")]
            lines.append(f"| {arm} | " + " | ".join(cells) + " |")
        lines += [
            "",
            "Seconds of all seeds together, of everything that the arm's runs hold, for other experiments too.",
        ]
    return "\n".join(lines)
