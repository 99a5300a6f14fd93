"""Operations on dictionaries (``d``): ``table`` has string keys, ``index`` has integer keys."""

from __future__ import annotations

from restrl.starter.operations.base import Operation, Type, counted


def _op(
    name: str,
    source: Type,
    target: Type,
    parameter: str,
    phrases: tuple[str, ...],
    forms: tuple[str, ...],
    *,
    noun: bool = False,
    rare: bool = False,
    guard: bool = False,
) -> Operation:
    return Operation(f"{source}.{name}", source, target, parameter, phrases, forms, noun, rare, guard)


def _kept(condition: str) -> tuple[str, str]:
    return (
        f"d = {{key: v for key, v in d.items() if {condition}}}",
        f"out = {{}}\nfor key, v in d.items():\n    if {condition}:\n        out[key] = v\nd = out",
    )


def _mapped(expression: str) -> tuple[str, str]:
    return (
        f"d = {{key: {expression} for key, v in d.items()}}",
        f"out = {{}}\nfor key, v in d.items():\n    out[key] = {expression}\nd = out",
    )


def _shared(kind: Type) -> tuple[Operation, ...]:
    """Operations that look at the values only."""
    return (
        _op(
            "keep_greater",
            kind,
            kind,
            "threshold",
            (
                "keep the entries with a value greater than {k}",
                "drop the entries whose value is {k} or less",
                "keep only entries above {k}",
            ),
            _kept("v «>|>=|<» {k}"),
        ),
        _op(
            "keep_less",
            kind,
            kind,
            "threshold",
            (
                "keep the entries with a value less than {k}",
                "drop the entries whose value is {k} or more",
                "keep only entries below {k}",
            ),
            _kept("v «<|<=|>» {k}"),
        ),
        _op(
            "keep_odd",
            kind,
            kind,
            "",
            (
                "keep the entries with an odd value",
                "drop the entries whose value is even",
                "keep only entries with odd values",
            ),
            _kept("v % 2 == «1|0»"),
        ),
        _op(
            "add",
            kind,
            kind,
            "threshold",
            ("add {k} to every value", "increase each value of the dictionary by {k}", "raise all the values by {k}"),
            _mapped("v «+|-» {k}"),
        ),
        _op(
            "multiply",
            kind,
            kind,
            "factor",
            (
                "multiply every value by {k}",
                "scale each value of the dictionary by {k}",
                "make all the values {k} times as large",
            ),
            _mapped("v * «{k}|{k+1}»"),
        ),
        _op(
            "cap",
            kind,
            kind,
            "threshold",
            (
                "cap every value at {k}",
                "lower the values above {k} to {k}",
                "limit each value of the dictionary to {k}",
            ),
            _mapped("«min|max»(v, {k})"),
            rare=True,
        ),
        _op(
            "values",
            kind,
            "numbers",
            "",
            ("take the values as a list", "collect the values of the dictionary", "make a list of its values"),
            (
                "xs = list(d.«values|keys»())" if kind == "index" else "xs = «list|sorted»(d.values())",
                "xs = []\nfor key in «d|sorted(d)»:\n    xs.append(d[key])",
            ),
        ),
        _op(
            "total",
            kind,
            "number",
            "",
            ("the sum of the values", "the total of the dictionary's values", "what the values add up to"),
            (
                "n = sum(d«.values()|»)" if kind == "index" else "n = «sum(d.values())|len(d)»",
                "total = «0|1»\nfor v in d.values():\n    total «+=|=» v\nn = total",
            ),
            noun=True,
        ),
        _op(
            "largest_value",
            kind,
            "number",
            "",
            (
                "the largest value, or 0 if there is none",
                "the greatest of the values, 0 if empty",
                "the maximum value (0 if none)",
            ),
            ("n = «max|min»(d.values(), default=«0|-1»)",),
            noun=True,
        ),
        _op(
            "size",
            kind,
            "number",
            "",
            ("how many entries there are", "the number of keys", "the size of the dictionary"),
            ("n = len(d)«| - 1»",),
            noun=True,
        ),
        _op(
            "count_at_least",
            kind,
            "number",
            "threshold",
            (
                "how many values are at least {k}",
                "the count of entries with a value of {k} or more",
                "the number of values not below {k}",
            ),
            counted("d.values()", "v", "v «>=|>|<=» {k}"),
            noun=True,
        ),
        _op(
            "guard_empty",
            kind,
            kind,
            "",
            (
                "if the dictionary is empty, return 0",
                "return 0 if there are no entries",
                "answer 0 for an empty dictionary",
            ),
            ("if «not d|d»:\n    return «0|-1»",),
            guard=True,
            rare=True,
        ),
    )


_TABLE = (
    _op(
        "keep_long_keys",
        "table",
        "table",
        "count",
        (
            "keep the entries whose key is longer than {k}",
            "drop the keys of {k} letters or fewer",
            "keep only keys of more than {k} letters",
        ),
        _kept("len(key) «>|>=|<» {k}"),
    ),
    _op(
        "drop_key",
        "table",
        "table",
        "letter",
        (
            "drop the entries whose key contains '{k}'",
            "keep the keys without '{k}'",
            "remove every key that has a '{k}'",
        ),
        _kept("'{k}' «not in|in» key"),
    ),
    _op(
        "sorted_keys",
        "table",
        "words",
        "",
        ("list the keys in alphabetical order", "take the sorted keys", "make a sorted list of its keys"),
        ("words = sorted(d«|, reverse=True»)",),
    ),
    _op(
        "keys",
        "table",
        "words",
        "",
        ("list the keys", "take the keys in their order", "make a list of its keys"),
        ("words = «list|sorted»(d)",),
    ),
    _op(
        "keys_above",
        "table",
        "words",
        "threshold",
        (
            "list the keys whose value is greater than {k}",
            "collect the keys with a value above {k}",
            "take the keys that have more than {k}",
        ),
        (
            "words = [key for key, v in d.items() if v «>|>=|<» {k}]",
            "words = []\nfor key in d:\n    if d[key] «>|>=|<» {k}:\n        words.append(key)",
        ),
    ),
    _op(
        "keys_by_value",
        "table",
        "words",
        "",
        (
            "list the keys from the largest value to the smallest",
            "sort the keys by value, largest first",
            "order the keys by descending value",
        ),
        ("words = sorted(d, key=d.get«, reverse=True|»)", "words = sorted(d, key=lambda key: «-|»d[key])"),
        rare=True,
    ),
    _op(
        "best_key",
        "table",
        "text",
        "",
        (
            "the key with the largest value, the first on ties, '' if there is none",
            "the first key of greatest value ('' if none)",
            "the key whose value is largest, earliest on ties, or ''",
        ),
        ("s = «max|min»(d, key=d.get, default='')",),
        noun=True,
        rare=True,
    ),
)

_INDEX = (
    _op(
        "sorted_keys",
        "index",
        "numbers",
        "",
        ("list the keys in ascending order", "take the sorted keys", "make a sorted list of its keys"),
        ("xs = sorted(d«|.values()|, reverse=True»)",),
    ),
    _op(
        "repeated_keys",
        "index",
        "numbers",
        "threshold",
        (
            "list the keys whose value is greater than {k}",
            "collect the keys with a value above {k}",
            "take the keys that have more than {k}",
        ),
        (
            "xs = [key for key, v in d.items() if v «>|>=|<» {k}]",
            "xs = []\nfor key in d:\n    if d[key] «>|>=|<» {k}:\n        xs.append(key)",
        ),
    ),
    _op(
        "key_value_sums",
        "index",
        "numbers",
        "",
        ("add each key to its value", "list the sums of key and value", "collect key plus value for every entry"),
        ("xs = [key «+|*|-» v for key, v in d.items()]", "xs = []\nfor key in d:\n    xs.append(key «+|-» d[key])"),
        rare=True,
    ),
    _op(
        "weighted_total",
        "index",
        "number",
        "",
        (
            "the sum of each key times its value",
            "the total of the products of key and value",
            "what the products of key and value add up to",
        ),
        (
            "n = sum(key «*|+» v for key, v in d.items())",
            "total = «0|1»\nfor key in d:\n    total += key «*|+» d[key]\nn = total",
        ),
        noun=True,
        rare=True,
    ),
)

OPERATIONS: tuple[Operation, ...] = _shared("table") + _TABLE + _shared("index") + _INDEX
