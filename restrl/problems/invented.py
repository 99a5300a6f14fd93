"""Inputs for a problem's programs, invented from what its text says: to see whether two programs do the same.

The type of each argument comes from, in this order: its annotation in the signature, the examples in the text, its
name. Edge cases (nothing, zero, one item) first, then random values; for standard input, the examples with other
numbers in them. No test is looked at, and nothing is known of the right answers.
"""

from __future__ import annotations

import ast
import dataclasses
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from restrl.problems.public import public_examples, visible_text, with_cases
from restrl.seeds import derive_seed
from restrl.types import Case, Problem

Shape = tuple[Any, ...]
"""A type as plain data: ``("int",)``, ``("list", shape)``, ``("dict", shape, shape)``, ``("tuple", shape, ...)``."""

INT, FLOAT, STR, BOOL, NONE = ("int",), ("float",), ("str",), ("bool",), ("none",)
NUMBERS, WORDS = ("list", INT), ("list", STR)
_ANY: tuple[Shape, ...] = (INT, STR, NUMBERS, WORDS)
_NAMES: tuple[tuple[str, Shape], ...] = (
    (
        r"xs|ys|nums?_?list|numbers|nums|arr|array|lst|l|a|b|values|items|seq|sequence|data|elements|stack|queue",
        NUMBERS,
    ),
    (r"prices|scores|weights|heights|lengths|costs|ages|indices|digits|points|costs|times|sizes|coins", NUMBERS),
    (r"words|strings|strs|names|tokens|lines|keys|sentences|texts|wordlist|word_list", WORDS),
    (
        r"s|t|s\d|str\d?|text|string\d?|word\d?|sentence|name|line|message|msg|char|ch|c|letter|pattern|prefix|suffix",
        STR,
    ),
    (r"sep|sub|substring|paragraph|expression|expr|phrase|title|key|password|letters|vowels", STR),
    (r"n|m|k|i|j|x|y|z|p|q|r|num\d?|number|count|size|index|idx|start|end|low|high|lo|hi|limit|target|val|value", INT),
    (r"step|steps|length|width|height|age|year|month|day|base|exp|exponent|digit|amount|total|radius|rows?|cols?", INT),
    (r"d|dic|dict\d?|dictionary|table|mapping|counts|freq|frequencies|inventory|graph_of", ("dict", STR, INT)),
    (r"matrix|grid|board|mat|rows_list|table_of|lists|lst_of_lists|image", ("list", NUMBERS)),
    (r"pairs|tuples|tuple_list|edges|intervals|ranges", ("list", ("tuple", INT, INT))),
    (r"tup\d?|tuple\d?|pair|point|interval", ("tuple", INT, INT)),
    (r"flag|reverse|strict|is_\w+", BOOL),
)
_HINTS: dict[str, Shape] = {
    "int": INT, "float": FLOAT, "str": STR, "bool": BOOL, "complex": FLOAT, "list": NUMBERS, "set": ("set", INT),
    "dict": ("dict", STR, INT), "tuple": ("tuple", INT, INT), "None": NONE, "Any": INT, "object": INT, "Number": INT,
}  # fmt: skip
_CONTAINERS = {
    "list": "list", "sequence": "list", "iterable": "list", "collection": "list", "deque": "list", "iterator": "list",
    "set": "set", "frozenset": "set", "tuple": "tuple", "dict": "dict", "mapping": "dict", "defaultdict": "dict",
}  # fmt: skip
_VOCABULARY = (
    "apple", "bee", "a", "tree", "rose", "level", "noon", "it", "Otter", "sky", "test", "error", "x1", "Rose", "area",
    "stop", "moss", "aa", "bird", "to",
)  # fmt: skip
_RANGES = ((-9, 9), (0, 9), (1, 12), (-20, 40), (0, 100), (-3, 3))
_EDGE_INTS = (0, 1, 2, -1, 7, 10)
_INTEGER = re.compile(r"(?<![\w.])-?\d+(?![\w.])")
_MAX_TRIES = 20
PROBE_CPU_S = 1.0
"""CPU seconds per invented input, at most."""


def generate_inputs(problem: Problem, seed: int, count: int = 12) -> tuple[Case, ...]:
    """Returns up to ``count`` distinct inputs, the same for the same problem and seed; none where nothing is known.

    Args:
        problem: Of kind ``call``, ``asserts`` or ``stdio``.
        seed: Seed of the random ones.
        count: How many, >= 0.
    """
    rng = random.Random(derive_seed(seed, "inputs", problem.id))
    examples = public_examples(problem)
    if problem.tests.kind == "stdio":
        return _stdin_inputs(rng, [case.stdin for case in examples], count)
    if problem.tests.kind not in ("call", "asserts") or not problem.entry_point:
        return ()
    shapes = argument_shapes(problem, [case.args for case in examples])
    if shapes is None:
        return ()
    found: dict[str, tuple[Any, ...]] = {}
    for number in range(count * _MAX_TRIES):
        if len(found) == count:
            break
        args = tuple(_draw(rng, shape[number % len(shape)], number) for shape in shapes)
        found.setdefault(repr(args), args)
    return tuple(Case(f"input_{i}", args=args) for i, args in enumerate(found.values()))


def probe_problem(problem: Problem, seed: int, count: int = 12) -> Problem | None:
    """Returns the problem with inputs in the place of its tests, to run programs on; None where there is no input.

    The public examples' inputs come first, then invented ones, ``count`` in all (or as many as there are examples).
    """
    shown = [Case(case.id, case.args, case.stdin, expected=_nothing(problem)) for case in public_examples(problem)]
    invented = generate_inputs(problem, seed, max(0, count - len(shown)))
    cases = (*shown, *(Case(c.id, c.args, c.stdin, expected=_nothing(problem)) for c in invented))
    # An invented input may be one that no program is quick with; nobody has to wait for that.
    limits = dataclasses.replace(problem.limits, cpu_s=min(problem.limits.cpu_s, PROBE_CPU_S))
    return dataclasses.replace(with_cases(problem, cases), limits=limits) if cases else None


def _nothing(problem: Problem) -> str | None:
    return "" if problem.tests.kind == "stdio" else None


def argument_shapes(problem: Problem, examples: Sequence[tuple[Any, ...]]) -> list[tuple[Shape, ...]] | None:
    """Returns the possible shapes of every argument of the entry point; None if the text tells no signature."""
    signature = _signature(problem)
    arity = len(examples[0]) if examples else 0
    examples = [args for args in examples if len(args) == arity]
    if signature is None:
        return [_shapes_of([args[i] for args in examples]) for i in range(arity)] if examples else None
    shapes: list[tuple[Shape, ...]] = []
    for i, argument in enumerate(signature):
        hinted = _from_hint(argument.annotation) if argument.annotation is not None else None
        if hinted is not None:
            shapes.append((hinted,))
        elif i < arity:
            shapes.append(_shapes_of([args[i] for args in examples]))
        else:
            shapes.append(_from_name(argument.arg))
    return shapes


def _signature(problem: Problem) -> list[ast.arg] | None:
    """Returns the required arguments of the entry point as the text defines it, without ``self``."""
    names = {name.rpartition(".")[2] for name in problem.entry_point.split("|")}
    for source in (problem.initial_state, visible_text(problem)):
        for name in sorted(names):
            match = re.search(rf"^[ \t]*(def {re.escape(name)}\(.*?\)[^\n:]*:)", source, re.MULTILINE | re.DOTALL)
            if match is None:
                continue
            try:
                node = ast.parse(f"{match.group(1)} pass").body[0]
            except (SyntaxError, ValueError):
                continue
            assert isinstance(node, ast.FunctionDef)
            arguments = [*node.args.posonlyargs, *node.args.args]
            required = arguments[: len(arguments) - len(node.args.defaults)]
            return [argument for argument in required if argument.arg not in ("self", "cls")]
    return None


def _from_hint(node: ast.expr) -> Shape | None:
    """Returns the shape of an annotation; None for one that says nothing."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            try:
                return _from_hint(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                return None
        return NONE if node.value is None else None
    if isinstance(node, ast.BinOp):
        return _from_hint(node.left) or _from_hint(node.right)
    if isinstance(node, ast.Subscript):
        name = _last_name(node.value).lower()
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name in ("optional", "union", "annotated", "final"):
            return next((shape for part in parts if (shape := _from_hint(part)) is not None), None)
        inner = [_from_hint(part) or INT for part in parts if not _is_ellipsis(part)]
        container = _CONTAINERS.get(name)
        if container == "dict":
            return ("dict", inner[0], inner[-1])
        if container == "tuple":
            return ("list", inner[0]) if len(inner) < len(parts) else ("tuple", *inner)
        return (container, inner[0]) if container and inner else None
    name = _last_name(node)
    return _HINTS.get(name) or _HINTS.get(_CONTAINERS.get(name.lower(), ""))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _from_name(name: str) -> tuple[Shape, ...]:
    """Returns what an argument of this name usually is; several shapes where the name tells nothing."""
    lower = name.lower()
    return next(((shape,) for pattern, shape in _NAMES if re.fullmatch(pattern, lower)), _ANY)


def _shapes_of(values: Sequence[Any]) -> tuple[Shape, ...]:
    found = dict.fromkeys(shape_of(value) for value in values)
    full = [shape for shape in found if shape not in (("list", INT), ("dict", STR, INT))] or list(found)
    return tuple(full)


def shape_of(value: Any) -> Shape:
    """Returns the shape of a value; an empty container counts as one of integers.

    >>> shape_of([[1, 2.5]]), shape_of({"a": (1, "b")})
    (('list', ('list', ('float',))), ('dict', ('str',), ('tuple', ('int',), ('str',))))
    """
    if isinstance(value, bool):
        return BOOL
    for kind, shape in ((int, INT), (float, FLOAT), (str, STR)):
        if isinstance(value, kind):
            return shape
    if isinstance(value, list | set | frozenset):
        inner = [shape_of(item) for item in value] or [INT]
        return ("list" if isinstance(value, list) else "set", FLOAT if FLOAT in inner else inner[0])
    if isinstance(value, tuple):
        return ("tuple", *map(shape_of, value))
    if isinstance(value, dict):
        key, item = next(iter(value.items()), ("a", 0))
        return ("dict", shape_of(key), shape_of(item))
    return NONE


def _draw(rng: random.Random, shape: Shape, number: int) -> Any:
    """Draws a value; the first few numbers are edge cases."""
    kind = shape[0]
    if kind == "int":
        return _EDGE_INTS[number] if number < 3 else rng.randint(*rng.choice(_RANGES))
    if kind == "float":
        return (0.0, 1.0, -1.5)[number] if number < 3 else round(rng.uniform(-10, 30), rng.randint(0, 2))
    if kind == "str":
        return ("", "a", "noon")[number] if number < 3 else _text(rng)
    if kind == "bool":
        return bool(rng.randrange(2))
    if kind == "tuple":
        return tuple(_draw(rng, part, number + 3) for part in shape[1:])
    if kind in ("list", "set"):
        size = number if number < 2 else rng.randint(2, 8)
        inner = shape[1] if kind == "list" else _hashable(shape[1])
        items = [_item(rng, inner) for _ in range(size)]
        if size > 2 and rng.random() < 0.5:
            items[rng.randrange(size)] = rng.choice(items)
        return items if kind == "list" else set(items)
    if kind == "dict":
        return {
            _item(rng, _hashable(shape[1])): _item(rng, shape[2])
            for _ in range(number if number < 2 else rng.randint(2, 6))
        }
    return None


def _hashable(shape: Shape) -> Shape:
    return INT if shape[0] in ("list", "set", "dict", "tuple") else shape


def _item(rng: random.Random, shape: Shape) -> Any:
    """Draws a part of a container: a word where a text of its own might be a sentence."""
    return rng.choice(_VOCABULARY) if shape == STR else _draw(rng, shape, rng.randint(2, 9))


def _text(rng: random.Random) -> str:
    style = rng.random()
    if style < 0.5:
        return " ".join(rng.choice(_VOCABULARY) for _ in range(rng.randint(1, 5)))
    if style < 0.8:
        return "".join(rng.choice("aeioustrnbcAB") for _ in range(rng.randint(2, 10)))
    return "".join(rng.choice("abc123 ,.()-") for _ in range(rng.randint(3, 10)))


def _stdin_inputs(rng: random.Random, examples: Sequence[str], count: int) -> tuple[Case, ...]:
    """Returns the examples with some of their numbers replaced by others of about their size."""
    found: dict[str, None] = {}
    for number in range(count * _MAX_TRIES if examples else 0):
        if len(found) == count:
            break
        text = examples[number % len(examples)]
        spans = list(_INTEGER.finditer(text))
        # The first line mostly says how much follows: it is kept, unless it is all there is.
        free = [span for span in spans if "\n" in text[: span.start()]] or spans
        chosen = {span.start() for span in free if rng.random() < 0.5}
        changed = "".join(_changed(rng, part, chosen) for part in _parts(text))
        if changed not in examples:
            found.setdefault(changed)
    return tuple(Case(f"input_{i}", stdin=text, expected="") for i, text in enumerate(found))


def _parts(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yields a text in pieces: where it begins, the piece, whether it is an integer."""
    position = 0
    for match in _INTEGER.finditer(text):
        yield position, text[position : match.start()], False
        yield match.start(), match.group(), True
        position = match.end()
    yield position, text[position:], False


def _changed(rng: random.Random, part: tuple[int, str, bool], chosen: set[int]) -> str:
    start, text, is_integer = part
    if not is_integer or start not in chosen:
        return text
    value = int(text[:18])
    return str(rng.randint(min(value, 1), max(9, 2 * abs(value)))) if value else str(rng.randint(0, 3))
