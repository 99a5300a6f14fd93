import importlib.util
import os
import re
import subprocess
import sys
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


@pytest.mark.slow
def test_the_commands_of_the_page_on_solving_run(tmp_path) -> None:
    text = (DOCS / "solve.md").read_text()
    blocks = re.findall(r"(?<!-->\n)```bash\n(.*?)```", text, re.DOTALL)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    assert len(blocks) == 1
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", blocks[0]], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("def solve(d):") == 2 and "8 completions" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"search.html", "search.jsonl.gz"}
