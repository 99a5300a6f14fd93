"""Results that test code goes through: iterators, ranges and views of dicts cross by what they yield."""

from __future__ import annotations

import itertools
from typing import Any

_MAX_ITEMS = 100_000
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}


def spread(value: Any) -> tuple[str, Any] | None:
    """Returns what an iterator, a range or a view of a dict yields, for tests that go through it; else None."""
    kind = type(value)
    if kind is range:
        return "range", (value.start, value.stop, value.step)
    name = _VIEWS.get(kind, "iterator" if hasattr(kind, "__next__") else "")
    items = list(itertools.islice(value, _MAX_ITEMS + 1)) if name else []
    return (name, items) if name and len(items) <= _MAX_ITEMS else None


def gathered(name: str, items: Any) -> Any:
    """Makes of a claim of `spread` an object that behaves like the one it was."""
    if name == "range":
        return range(*items)
    if name == "keys":
        return dict.fromkeys(items).keys()
    if name == "values":
        return dict(enumerate(items)).values()
    return dict(items).items() if name == "items" else iter(items)
