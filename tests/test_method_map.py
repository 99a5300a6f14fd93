"""Every place that the method map names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = sorted(set(re.findall(r"`(restrl/[\w/]+\.\w+(?:::[\w.]+)?)`", (ROOT / "docs" / "method_map.md").read_text())))


def defines(path, name):
    """Returns whether a module defines a dotted name: a function, a class, a variable, or an attribute of a class."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = None
        for node in body:
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            if getattr(node, "name", None) == part or any(getattr(target, "id", None) == part for target in targets):
                found = node
        if found is None:
            return False
        body = getattr(found, "body", [])
    return True


def test_the_map_is_not_empty():
    assert len(PLACES) > 30


@pytest.mark.parametrize("place", PLACES)
def test_place_exists(place):
    path, _, name = place.partition("::")
    assert (ROOT / path).is_file(), f"docs/method_map.md names {path}, which does not exist"
    if name:
        assert defines(ROOT / path, name), f"docs/method_map.md names {name}, which {path} does not define"


def test_the_check_notices_a_missing_name():
    path = ROOT / "restrl" / "types.py"
    assert defines(path, "Grade.reward") and defines(path, "TEST_KINDS")
    assert not defines(path, "Grade.rewards") and not defines(path, "Grades")
