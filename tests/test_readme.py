"""Runs the README's code blocks, in order, in one empty folder (not those after a `not run by the tests` comment)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"(?P<note><!-- not run by the tests: [^\n]+ -->\n)?```(?P<language>bash|python)\n(?P<code>.*?)```", re.DOTALL
)


def blocks() -> list[tuple[str, str]]:
    found = BLOCK.finditer(README.read_text())
    return [(match["language"], match["code"]) for match in found if not match["note"]]


def test_the_readme_names_the_two_commands_and_they_exist() -> None:
    text = README.read_text()
    makefile = (README.parent / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"```bash\nmake {target}\n```" in text
        assert f"\n{target}: install\n" in makefile


@pytest.mark.slow
def test_the_readmes_code_blocks_run(tmp_path) -> None:
    bin_dir = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    assert len(blocks()) >= 5
    for language, code in blocks():
        command = (
            ["bash", "-euo", "pipefail", "-c", code]
            if language == "bash"
            else [sys.executable, "-W", "error", "-c", code]
        )
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)", README.read_text()):
        assert (README.parent / target).exists(), target
