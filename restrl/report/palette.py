"""The colours of every page and drawing, and what makes text safe to show; without matplotlib.

Every colour is listed once, with the name of its CSS variable.
"""

from __future__ import annotations

from collections.abc import Mapping

# name: (light, dark). Light values must be unique: they are what the page's CSS variables replace.
COLOURS: Mapping[str, tuple[str, str]] = {
    "page": ("#f3f6fa", "#0d0f13"),
    "surface": ("#ffffff", "#181b21"),
    "ink": ("#1b1d22", "#eceef2"),
    "muted": ("#626873", "#a2a8b4"),
    "line": ("#dcdfe5", "#333842"),
    "grey": ("#757b87", "#9aa1ae"),
    "blue": ("#0b6bb0", "#58b0ee"),
    "orange": ("#c4560a", "#f39a4f"),
    "green": ("#0a7d5f", "#3ec79b"),
    "purple": ("#9d3480", "#e58acb"),
    "brown": ("#7a5a18", "#cfae66"),
}


def css_variables() -> str:
    """Returns the CSS variables of both colour schemes."""
    light = "".join(f"--{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in COLOURS.items())
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def printable(text: str) -> str:
    """Returns text without the control characters that neither HTML nor SVG can hold; line breaks and tabs stay."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\ufffd" for c in text)
