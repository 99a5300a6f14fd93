"""Where a program runs: the profile and the third-party packages that its problem asks for."""

from __future__ import annotations

import functools
import importlib.machinery
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from restrl.errors import ConfigError, NotGradable
from restrl.grading.config import GradingConfig
from restrl.grading.packages import install_command
from restrl.types import Problem, Profile


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of zygote.

    Attributes:
        profile: What programs may do there.
        packages: Third-party packages, imported warm.
        shares_process: The program shares its process with test code.
    """

    profile: Profile = "strict"
    packages: tuple[str, ...] = ()
    shares_process: bool = False


def place_of(problem: Problem, config: GradingConfig) -> Place | None:
    """Returns the place of a problem's programs, or None where the grader's usual zygote will do.

    Raises:
        NotGradable: A package that the tests name is not installed.
    """
    tests = problem.tests
    missing = missing_packages(problem, config)
    if missing:
        raise NotGradable(
            f"problem {problem.id} is not gradable: needs {', '.join(missing)}; "
            f"{install_command(missing, config.python)}",
            missing,
        )
    names = third_party(tests.packages)
    shares = tests.kind in ("unittest", "script")
    if tests.profile == "strict" and not shares and set(names) <= set(config.packages):
        return None
    return Place(tests.profile, tuple(sorted({*names, *config.packages})), shares)


def third_party(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the top-level packages among the names that the standard library does not have, sorted.

    >>> third_party(["os", "numpy.linalg", "numpy"])
    ('numpy',)
    """
    return tuple(sorted({name.split(".")[0] for name in names} - set(sys.stdlib_module_names)))


def missing_packages(problem: Problem, config: GradingConfig) -> tuple[str, ...]:
    """Returns the packages that a problem needs and the interpreter of the programs does not have."""
    return tuple(name for name in third_party(problem.tests.packages) if find_package(name, config.python) is None)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What the grader must know of a Python: its installation's folder, and its folders of third-party packages."""

    base_prefix: str
    site: tuple[str, ...]


@functools.cache
def interpreter(python: str) -> Interpreter:
    """Returns what is known of an interpreter; empty means this one.

    Raises:
        ConfigError: It does not run.
    """
    prefix, paths = sys.base_prefix, sys.path
    if python:
        command = [python, "-I", "-c", "import json, sys; print(json.dumps([sys.base_prefix, sys.path]))"]
        try:
            prefix, paths = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise ConfigError(f"cannot run the grader's interpreter {python}: {error}; check grading.python") from None
    site = dict.fromkeys(path for path in paths if Path(path).name.endswith("-packages") and Path(path).is_dir())
    return Interpreter(prefix, tuple(site))


@functools.lru_cache(maxsize=4096)
def find_package(name: str, python: str) -> str | None:
    """Returns the folder that an installed package or module lies in, or None."""
    spec = importlib.machinery.PathFinder.find_spec(name, list(interpreter(python).site))
    if spec is None:
        return None
    origin = spec.origin if spec.origin else next(iter(spec.submodule_search_locations or [""]))
    parent = Path(origin).parent
    return str(parent.parent if spec.origin and spec.submodule_search_locations else parent)


def resolve_packages(names: Iterable[str], python: str) -> list[tuple[str, str]]:
    """Returns (folder, name) of each package.

    Raises:
        ConfigError: One is not installed.
    """
    found = []
    for name in names:
        folder = find_package(name, python)
        if folder is None:
            raise ConfigError(
                f"grading.packages names {name!r}, which is not an installed package; install it or drop it"
            )
        found.append((folder, name))
    return found
