"""How to get the packages that a problem's tests need: names of imports are not always names to install."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements"
"""Files for `pip install -r`, one for each benchmark that needs many packages, in the versions of its time: for an
environment of its own, whose interpreter runs the programs (`grading.python`)."""
FEW = 4
"""So many packages are named one by one."""
DISTRIBUTIONS: dict[str, str] = {
    "Crypto": "pycryptodome",
    "Levenshtein": "levenshtein",
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "docx": "python-docx",
    "dateutil": "python-dateutil",
    "flask_login": "flask-login",
    "flask_mail": "flask-mail",
    "flask_wtf": "flask-wtf",
    "mpl_toolkits": "matplotlib",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
"""Import -> what to install, where the names differ."""


def install_command(imports: Iterable[str], python: str = "") -> str:
    """Returns the command that installs what provides some imports.

    Args:
        imports: Names of imports.
        python: The interpreter that runs the programs; empty for this one.

    >>> install_command(["yaml", "faker"])
    'pip install faker pyyaml'
    """
    names = sorted({DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in imports})
    file = next((file for file in sorted(REQUIREMENTS.glob("*.txt")) if set(names) <= set(listed(file))), None)
    if len(names) > FEW and file is not None:
        if python:
            return f"{python} -m pip install -r {file}"
        return f"python3.11 -m venv lab; lab/bin/pip install -r {file}; then --python lab/bin/python (grading.python)"
    return f"{python} -m pip install {' '.join(names)}" if python else f"pip install {' '.join(names)}"


def listed(file: Path) -> list[str]:
    """Returns the packages that a requirements file names, without their versions."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.partition("==")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
