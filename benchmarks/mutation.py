"""Breaks a program mechanically: one small change to its syntax tree at a time."""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Change = tuple[str, Callable[[Any], Any]]
"""The kind of a change, and what makes it on the same node of a copy of the tree."""

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.FloorDiv),
    ast.Div: (ast.Mult, ast.FloorDiv),
    ast.FloorDiv: (ast.Mult, ast.Div),
    ast.Mod: (ast.Add, ast.FloorDiv),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
    ast.LShift: (ast.RShift,),
    ast.RShift: (ast.LShift,),
}
_ORDERED = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.LShift, ast.RShift)
# What becomes of a returned value. Most tests tell these at once, so they only fill up where subtler changes run out.
_RESULTS: dict[str, str] = {
    "return in a list": "[_]",
    "return negated": "not _",
    "return shifted": "_ + 1",
    "return zero": "0",
    "return empty": "''",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A broken program: the kind of change, its line, the source."""

    kind: str
    line: int
    source: str


def _docstrings(tree: ast.AST) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            found.add(id(node.body[0].value))  # type: ignore[attr-defined]
    return found


def _constants(value: object) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1]
    return [value + "x"] if isinstance(value, str) else []


def _changes(node: ast.AST, names: list[str], docstrings: set[int]) -> Iterator[Change]:
    """Yields the changes of one node."""
    yield from _operator_changes(node)
    if isinstance(node, ast.Constant) and id(node) not in docstrings:
        for value in _constants(node.value):
            yield "constant", lambda n, v=value: setattr(n, "value", v)
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return None", lambda n: setattr(n, "value", ast.Constant(None))
        for name in names:
            if not (isinstance(node.value, ast.Name) and node.value.id == name):
                yield "return variable", lambda n, v=name: setattr(n, "value", ast.Name(v))
        for kind, template in _RESULTS.items():
            yield kind, lambda n, t=template: setattr(n, "value", _filled(t, n.value))
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "negation", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
    yield from _call_changes(node)
    yield from _removals(node, docstrings)


def _operator_changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS.get(type(operator), ()):
                yield "comparison", lambda n, p=place, o=other: n.ops.__setitem__(p, o())
    if isinstance(node, ast.BinOp | ast.AugAssign):
        for other in _ARITHMETIC.get(type(node.op), ()):
            yield "arithmetic", lambda n, o=other: setattr(n, "op", o())
    if isinstance(node, ast.BinOp) and type(node.op) in _ORDERED:
        yield "swapped operands", lambda n: vars(n).update(left=n.right, right=n.left)
    if isinstance(node, ast.BoolOp):
        swapped = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield "and/or", lambda n, o=swapped: setattr(n, "op", o())


def _call_changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Call) and len(node.args) > 1:  # without its only argument hardly a call is valid
        for place in range(len(node.args) - 1):
            yield "swapped arguments", lambda n, p=place: n.args.insert(p, n.args.pop(p + 1))
        for place in range(len(node.args)):
            yield "missing argument", lambda n, p=place: n.args.pop(p)


def _removals(node: ast.AST, docstrings: set[int]) -> Iterator[Change]:
    for field in ("body", "orelse"):
        statements = getattr(node, field, None)
        if not isinstance(statements, list) or isinstance(node, ast.Module | ast.ClassDef):
            continue
        for place, statement in enumerate(statements):
            if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr | ast.If | ast.For | ast.While) and not (
                isinstance(statement, ast.Expr) and id(statement.value) in docstrings
            ):
                simple = isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr)
                kind = "removal" if simple else "removed block"
                yield kind, lambda n, f=field, p=place: getattr(n, f).__setitem__(p, ast.Pass())


def _filled(template: str, value: ast.expr) -> ast.expr:
    """Returns the template's expression with the value in the place of ``_``."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return value if node.id == "_" else node

    filled: ast.expr = Fill().visit(ast.parse(template, mode="eval").body)
    return filled


def _arguments(tree: ast.AST) -> dict[int, list[str]]:
    """For every node inside a function, the names of that function's arguments."""
    found: dict[int, list[str]] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                found[id(node)] = [argument.arg for argument in function.args.args]
    return found


def _mutant(tree: ast.AST, kind: str, place: int, change: Callable[[Any], Any]) -> Mutant:
    """Makes one change at the node of that number of a copy of the tree."""
    broken = copy.deepcopy(tree)
    node = next(n for i, n in enumerate(ast.walk(broken)) if i == place)
    change(node)
    return Mutant(kind, getattr(node, "lineno", 0), ast.unparse(ast.fix_missing_locations(broken)) + "\n")


def mutants(source: str, count: int, seed: str, given_lines: int = 0) -> list[Mutant]:
    """Returns different programs, each with one change; of as many kinds as possible.

    Changes of the whole result (`_RESULTS`) come last, where the others do not suffice.

    Args:
        source: A program; one that is not whole (DS-1000's are indented) has no mutants.
        count: How many at most; fewer only where the program has no more places to change.
        seed: Chooses among them.
        given_lines: The program's first lines that stay as they are: what the task gives.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    docstrings, arguments = _docstrings(tree), _arguments(tree)
    by_kind: dict[str, list[tuple[int, Callable[[Any], Any]]]] = {}
    for place, node in enumerate(ast.walk(tree)):
        if (
            id(node) in arguments and getattr(node, "lineno", 0) > given_lines
        ):  # top-level statements are imports and tables
            for kind, change in _changes(node, arguments[id(node)], docstrings):
                by_kind.setdefault(kind, []).append((place, change))
    generator = random.Random(seed)
    for places in by_kind.values():
        generator.shuffle(places)
    found: list[Mutant] = []
    seen = {ast.unparse(tree) + "\n"}
    for kinds in (sorted(by_kind.keys() - _RESULTS.keys()), sorted(by_kind.keys() & _RESULTS.keys())):
        while len(found) < count and any(by_kind[kind] for kind in kinds):
            for kind in kinds:
                if by_kind[kind] and len(found) < count:
                    mutant = _mutant(tree, kind, *by_kind[kind].pop())
                    if mutant.source not in seen:
                        seen.add(mutant.source)
                        found.append(mutant)
    return found
