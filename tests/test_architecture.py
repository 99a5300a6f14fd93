"""The layers: who may import whom, what stays light, and how large a file may be.

The rules are checked on the source, by its syntax tree, so that an import inside a function counts too.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "restrl"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# From the bottom up; a module belongs to the longest prefix that fits. It may import from its own layer and lower ones.
LAYERS = (
    ("base", ("types", "errors", "actions", "seeds", "settings", "progress")),
    ("pure", ("rest", "search", "value/targets", "evaluation/statistics", "grpo/advantages")),
    (
        "adapters",
        (
            "artifacts",
            "config",
            "decoding",
            "evaluation",
            "grading",
            "grpo",
            "launch",
            "policy",
            "problems",
            "report",
            "stages",
            "starter",
            "stopping",
            "tracking",
            "value",
        ),
    ),
    ("pipeline", ("pipeline",)),
    ("reproduce", ("reproduce",)),
    (
        "cli",
        (
            "cli",
            "console",
            "tools",
            "problem_commands",
            "validate_command",
            "reproduce_command",
            "solve_command",
            "solve_live",
            "solve_watch",
            "suite_command",
            "serving",
            "__main__",
            "__init__",
        ),
    ),
)
PURE_ALLOWED = {"numpy", "restrl"}
# Modules of the standard library that reach out of the process, or read the clock.
PURE_FORBIDDEN = {
    "asyncio",
    "http",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "shutil",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
# Heavy library -> the only places that may import it.
HEAVY = {
    "torch": ("policy", "grpo", "value", "starter", "tools"),
    "transformers": ("policy", "grpo", "value", "starter"),
    "trl": ("grpo",),
    "peft": ("grpo", "policy", "value"),
    "datasets": ("grpo", "value", "problems"),
    "vllm": ("policy",),
    "matplotlib": ("report", "reproduce/figures"),
    "tensorboardX": ("tracking",),
    "wandb": ("tracking",),
    "trackio": ("tracking",),
    "mlflow": ("tracking",),
    "fastapi": ("serving",),
    "uvicorn": ("serving",),
}
MAX_LINES = 400
# Literal tables, looked up and not read through.
LONG_TABLES = ("starter/operations",)
# Runs in the candidate's own process, which ends with the program.
OWN_PROCESS = ("grading/jail",)
SEEDING = (
    "random.seed",
    "np.random.seed",
    "numpy.random.seed",
    "torch.manual_seed",
    "transformers.set_seed",
    "set_seed",
)
ARGUMENTS = pytest.mark.parametrize("name", MODULES)


def is_under(name, prefixes):
    """Returns whether a module is one of the prefixes or lies in one of them."""
    return any(name == prefix or name.startswith(prefix + "/") for prefix in prefixes)


def layer_of(name):
    """Returns the index of a module's layer: that of the longest prefix in the table; None for a module in none."""
    fits = [
        (len(prefix), index)
        for index, (_, prefixes) in enumerate(LAYERS)
        for prefix in prefixes
        if is_under(name, (prefix,))
    ]
    return max(fits)[1] if fits else None


def type_checking_lines(tree):
    """Returns the lines inside `if TYPE_CHECKING:` blocks: they are not imports at run time."""
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                lines |= set(range(child.lineno, child.end_lineno + 1))
    return lines


def imports(name):
    """Returns (line, dotted name) of every import of a module, wherever it stands; relative ones made absolute."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    skipped = type_checking_lines(tree)
    parents = ["restrl", *name.split("/")]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parents[: -node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return [(line, target) for line, target in found if line not in skipped]


def resolve(target):
    """Returns the module of the package that a dotted name lies in, or None for another package's or the root's."""
    parts = target.split(".")
    if parts[0] != "restrl":
        return None
    for end in range(len(parts), 1, -1):
        path = "/".join(parts[1:end])
        for candidate in (path, f"{path}/__init__"):
            if candidate in MODULES:
                return candidate
    return None


@ARGUMENTS
def test_module_belongs_to_a_layer_and_imports_only_downwards(name):
    own = layer_of(name)
    assert own is not None, f"restrl/{name}.py is in no layer: add it to LAYERS in {Path(__file__).name}"
    wrong = []
    for line, target in imports(name):
        module = resolve(target)
        other = None if module is None else layer_of(module)
        if other is not None and other > own:
            wrong.append(f"restrl/{name}.py:{line} ({LAYERS[own][0]}) imports {target} ({LAYERS[other][0]})")
    assert not wrong


def pure_modules():
    """Returns the modules of the two lowest layers."""
    return [name for name in MODULES if layer_of(name) in (0, 1)]


@pytest.mark.parametrize("name", pure_modules())
def test_pure_modules_import_the_standard_library_and_numpy_and_do_no_io(name):
    for line, target in imports(name):
        top = target.split(".")[0]
        assert top in PURE_ALLOWED or top in sys.stdlib_module_names, f"restrl/{name}.py:{line} imports {target}"
        assert top not in PURE_FORBIDDEN, f"restrl/{name}.py:{line} imports {target}, which does I/O"
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("open", "print", "input")
    ]
    assert not calls, f"restrl/{name}.py does I/O in lines {calls}"


@ARGUMENTS
def test_heavy_libraries_stay_with_their_owners(name):
    for line, target in imports(name):
        top = target.split(".")[0]
        if top in HEAVY:
            assert is_under(name, HEAVY[top]), f"restrl/{name}.py:{line} imports {target}; only {HEAVY[top]} may"


@ARGUMENTS
def test_module_has_a_docstring_and_is_short_enough_to_read(name):
    text = MODULES[name].read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"restrl/{name}.py has no module docstring"
    lines = text.count("\n")
    assert lines <= MAX_LINES or is_under(name, LONG_TABLES), (
        f"restrl/{name}.py has {lines} lines, at most {MAX_LINES}: split it by idea"
    )


@ARGUMENTS
def test_nothing_seeds_a_global_generator(name):
    if is_under(name, OWN_PROCESS):
        return
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    forked = [
        node for node in ast.walk(tree) if isinstance(node, ast.With) and "fork_rng(" in ast.unparse(node.items[0])
    ]
    inside = {id(child) for block in forked for child in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and id(node) not in inside:
            called = ast.unparse(node.func)
            assert called not in SEEDING, (
                f"restrl/{name}.py:{node.lineno} calls {called}: pass a generator, or fork the global one around it"
            )


LIGHT = (
    "restrl",
    "restrl.types",
    "restrl.rest",
    "restrl.search",
    "restrl.evaluation",
    "restrl.evaluation.evaluate",
    "restrl.report",
    "restrl.report.tables",
)


def test_light_modules_load_nothing_heavy():
    code = (
        "import importlib, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [top for top in {sorted(HEAVY)!r} if top in sys.modules]\n"
        "    assert not heavy, f'import {name} loads {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_checks_see_what_they_forbid(tmp_path, monkeypatch):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import trl\n"
        "def late():\n    from restrl.report.write import write_report\n    from ..report import data\n"
        "    import torch.nn\n    torch.manual_seed(0)\n"
    )
    monkeypatch.setitem(MODULES, "search/probe", probe)
    found = [target for _, target in imports("search/probe")]
    assert found == [
        "typing.TYPE_CHECKING",
        "restrl.report.write.write_report",
        "restrl.report.data",
        "torch.nn",
    ]
    assert resolve("restrl.report.write.write_report") == "report/write"
    assert resolve("restrl.report") == "report/__init__"
    assert layer_of("value/targets") < layer_of("value/model")
    for check in (
        test_module_belongs_to_a_layer_and_imports_only_downwards,
        test_pure_modules_import_the_standard_library_and_numpy_and_do_no_io,
        test_heavy_libraries_stay_with_their_owners,
        test_module_has_a_docstring_and_is_short_enough_to_read,
        test_nothing_seeds_a_global_generator,
    ):
        with pytest.raises(AssertionError):
            check("search/probe")
