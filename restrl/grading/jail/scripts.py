"""Runs a benchmark's own program, DS-1000's ``test_execution(solution)`` and ``test_string(solution)``, in one process.

The program to be graded is text that the test program executes, so the parent sends it first and the test program with
the token after; frames are those of `unittests`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

from restrl.grading.jail import guard, runner, unittests

_FUNCTIONS = ("test_execution", "test_string")
_compile, _exec = compile, exec


def run_script(channel: runner.Channel, request: dict[str, Any]) -> None:
    """Runs the test program, then its functions on the text of the solution; an exception is a failure."""
    watcher = unittests.start_guard(channel, request["imports"])
    proof, rest = unittests.receive_token(channel, request["key"])
    module = types.ModuleType("__main__")
    module.__file__ = "test.py"
    # Not the module itself: its functions know the expected results, and the solution could call them.
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = ["test.py"]
    runner._reseed()
    verdict, detail = "error", "the test program defines no test_execution"
    code, defined = None, []
    try:
        code = _compile(rest["code"], "test.py", "exec", dont_inherit=True)
        _exec(code, module.__dict__)
        functions = [module.__dict__[name] for name in _FUNCTIONS if name in module.__dict__]
        _guard_results(watcher, module.__dict__)
        defined = [(name, value) for name, value in module.__dict__.items() if not name.startswith("__")]
        for function in functions:
            function(request["program"])
        if functions:
            verdict, detail = "pass", ""
    except BaseException as error:
        verdict, detail = unittests.describe(error)
    watcher.rest()
    watcher.check(code)
    if any(module.__dict__.get(name) is not value for name, value in defined):
        watcher.fire("replaces the tests")
    unittests.send_verdict(channel, proof, verdict, detail)


def _guard_results(watcher: guard.Guard, namespace: dict[str, Any]) -> None:
    """Looks at every result before the test program compares it: does it claim to be equal to everything?"""
    original = namespace.get("exec_test")
    if original is None:
        return

    def exec_test(result: Any, *arguments: Any) -> Any:
        watcher.check_value(result)
        return original(result, *arguments)

    namespace["exec_test"] = exec_test


MODES: dict[str, Callable[[runner.Channel, dict[str, Any]], None]] = {"script": run_script}
