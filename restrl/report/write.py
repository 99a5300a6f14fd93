"""Writes a report: ``table.txt``, ``table.md``, ``results.json``, the figures as SVG and PNG, and ``report.html``.

The same data gives the same bytes: no clock, no random ids, no user names; every file is replaced atomically.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from restrl.report.captions import FIGURES
from restrl.report.data import ReportData, to_plain
from restrl.report.iteration_tables import markdown_tables, text_tables
from restrl.report.page import render_page
from restrl.report.tables import console_table, markdown_table
from restrl.report.theme import RC

PNG_DPI = 200


def write_report(data: ReportData, out_dir: Path) -> dict[str, Path]:
    """Writes all files of the report and returns their paths by file name.

    A figure whose data is missing is left out, and an older file of its name is removed, so that the folder never shows
    a figure of another run.

    Args:
        data: What the report shows.
        out_dir: Made if missing. Figures go to its folder ``figures``.
    """
    figures_dir = out_dir / "figures"
    figures_dir.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    svgs: dict[str, str] = {}
    for name in FIGURES:
        images = render_figure(name, data)
        if images is None:
            for suffix in ("svg", "png"):
                (figures_dir / f"{name}.{suffix}").unlink(missing_ok=True)
            continue
        svgs[name] = images["svg"].decode()
        files |= {f"figures/{name}.{suffix}": content for suffix, content in images.items()}
    files["table.txt"] = _joined(console_table(data), text_tables(data))
    files["table.md"] = _joined(markdown_table(data), markdown_tables(data))
    files["results.json"] = (json.dumps(to_plain(data), indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    files["report.html"] = render_page(data, svgs).encode()
    for name, content in files.items():
        _replace(out_dir / name, content)
    return {name: out_dir / name for name in files}


def _joined(*parts: str) -> bytes:
    return "\n".join(part for part in parts if part).encode()


def render_figure(name: str, data: ReportData) -> dict[str, bytes] | None:
    """Returns one figure as ``{"svg": ..., "png": ...}``, or None where its data is missing.

    Args:
        name: One of `restrl.report.captions.FIGURES`.
        data: What the report shows.
    """
    return render(lambda: FIGURES[name].draw(data))


def render(draw: Callable[[], Figure | None]) -> dict[str, bytes] | None:
    """Returns what a function draws in the style of the report, as ``{"svg": ..., "png": ...}``; None for nothing."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A method may be named in a script that matplotlib's own font lacks; browsers have fonts for it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        figure = draw()
        if figure is None:
            return None
        # Once for both formats: a figure that owns its layout engine would be laid out and drawn twice for each.
        ConstrainedLayoutEngine().execute(figure)
        return {"svg": _bytes(figure, "svg"), "png": _bytes(figure, "png")}


def _bytes(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    # The date is the only part of matplotlib's output that differs between two runs with a fixed salt.
    metadata = {"Date": None} if suffix == "svg" else {"Software": None}
    figure.savefig(buffer, format=suffix, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
