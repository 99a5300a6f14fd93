import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "settings.md"])
def test_generated_pages_are_current(name: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    page = load_generator().PAGES[name]()
    assert (DOCS / name).read_text() == page, f"docs/{name} is stale; run: python docs/generate.py"
