"""Runs one test method of a `unittest.TestCase` in the process of the program that it tests.

The order matters: what the tests import is imported and noted, then the program is loaded, then the parent sends the
test code, sealed with a key that came first, and a token; only a verdict that carries both counts. So the program's own
body runs before test code and token are there, and who reads the channel meanwhile learns neither.

Frames to the parent: ``B`` the program is loaded (the key); ``E`` it could not be (an exception's name); ``M`` out of
memory; ``T`` a detector fired (its name); ``Q`` the verdict: key and token, then an encoded (verdict, detail).
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import types
from collections.abc import Callable
from typing import Any

from restrl.grading.jail import codec, guard, noted, runner, seal

_SOLUTION, _TEST = "solution.py", "test.py"
_exit, _compile, _exec = os._exit, compile, exec
_unseal, _getpid, _getframe = seal.unseal, os.getpid, sys._getframe
_PROCESS = [0]  # the run's own


def start_guard(channel: runner.Channel, names: list[str], given: dict[str, str] | None = None) -> guard.Guard:
    """Notes what the tests will use, and switches the detectors on."""
    own = (__file__, runner.__file__, guard.__file__, noted.__file__, seal.__file__, _TEST)

    def alarm(name: str, size: Callable[[Any], int] = len, write: Callable[[int, bytes], int] = os.write) -> None:
        write(channel.descriptor, runner.FRAME.pack(size(name), b"T", 0, 0.0) + name.encode())

    _PROCESS[0] = _getpid()
    watcher = guard.Guard(alarm, own, given)
    watcher.note(names)
    watcher.watch()
    return watcher


def receive_token(channel: runner.Channel, key: bytes) -> tuple[bytes, dict[str, Any]]:
    """Says that the program is loaded and waits for the token and the rest of the request.

    Returns:
        What shows a verdict to be one, and the rest.
    """
    channel.send(b"B", 0, key)
    (length,) = struct.unpack("<I", runner._read_exactly(channel.descriptor, 4))
    token, rest = codec.decode(_unseal(key, runner._read_exactly(channel.descriptor, length)))
    return key + token, rest


def send_verdict(channel: runner.Channel, proof: bytes, verdict: str, detail: str) -> None:
    """Reports the verdict and ends the process: nothing of the program runs any more.

    A process that the program has forked has no say: it would be a way to try answers until one passes.
    """
    if _getpid() != _PROCESS[0]:
        _exit(1)
    channel.send(b"Q", 0, proof + codec.encode((verdict, detail[:200])))
    _exit(0)


def describe(error: BaseException) -> tuple[str, str]:
    """Returns the verdict and the detail of an exception."""
    name = runner._name_of(error).decode()
    if issubclass(type(error), MemoryError):
        return "memory", name
    return ("wrong" if issubclass(type(error), AssertionError) else "error"), name


def run_unittest(channel: runner.Channel, request: dict[str, Any]) -> None:
    """Loads the program, then the test code after it into the same module, and runs one method."""
    import unittest

    result_of, test_case = _make_runner(unittest), unittest.TestCase
    watcher = start_guard(channel, request["imports"], request["given"])
    module = types.ModuleType("__test__")
    sys.modules["__test__"] = module
    sys.argv = ["test.py"]
    runner._reseed()
    try:
        _exec(_compile(request["program"], _SOLUTION, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        runner._report(channel, error, 0)
        _exit(0)
    watcher.check()
    proof, rest = receive_token(channel, request["key"])
    code = None
    try:
        code = _compile(rest["code"], _TEST, "exec", dont_inherit=True)
        outcome = _run(watcher, module, code, rest, result_of, test_case)
    except BaseException as error:
        outcome = describe(error)
    watcher.rest()
    watcher.check(code)
    send_verdict(channel, proof, *outcome)


def _run(
    watcher: guard.Guard,
    module: types.ModuleType,
    code: types.CodeType,
    rest: dict[str, Any],
    result_of: Callable[[Any, str], tuple[str, str]],
    test_case: type,
) -> tuple[str, str]:
    watcher.check_names(module.__dict__, code)
    module.__dict__["__builtins__"] = __builtins__
    runner._reseed()
    _exec(code, module.__dict__)
    owner, method = rest["owner"], rest["method"]
    case_class = module.__dict__.get(owner)
    entry = module.__dict__.get(rest["entry"])
    if type(entry) is types.FunctionType:
        module.__dict__[rest["entry"]] = _observed(watcher, entry)
    if not _is_of(getattr(case_class, method, None), noted.codes_in(code)):
        watcher.fire("replaces the tests")
    watcher.note_tests(case_class, test_case)
    return result_of(case_class, method)


def _observed(watcher: guard.Guard, function: types.FunctionType) -> Callable[..., Any]:
    """The same function; its results are looked at, and whether it has itself called the tests that call it."""
    check, depth = watcher.check_value, [0]

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if depth[0] and _getframe(1).f_code.co_filename == _TEST:
            watcher.fire("runs the tests")
        depth[0] += 1
        try:
            result = function(*arguments, **keywords)
        finally:
            depth[0] -= 1
        check(result)
        return result

    return call


def _is_of(function: Any, codes: set[int]) -> bool:
    """Is this, under its decorators, a function of the test code?"""
    for _ in range(20):
        inner = getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return id(getattr(function, "__code__", None)) in codes


def _make_runner(unittest: Any) -> Callable[[Any, str], tuple[str, str]]:
    """Binds everything that decides a verdict before the program can touch it."""
    unittest.case._ShouldStop = ()  # as an exception of the program it would end a test early and count as success
    base, suite_class, case_base = unittest.TestResult, unittest.TestSuite, unittest.TestCase

    class Result(base):  # type: ignore[misc, valid-type]
        """Notes what happened; nothing but `addSuccess` for the whole test makes a pass."""

        def __init__(self) -> None:
            super().__init__()
            self.succeeded = 0
            self.trouble: list[tuple[str, str]] = []

        def _exc_info_to_string(self, err: Any, test: Any) -> str:
            return ""

        def addSuccess(self, test: Any) -> None:
            self.succeeded += 1

        def addError(self, test: Any, err: Any) -> None:
            self.trouble.append(describe(err[1]))

        def addFailure(self, test: Any, err: Any) -> None:
            self.trouble.append(("wrong", describe(err[1])[1]))

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            if err is not None:
                self.trouble.append(describe(err[1]))

        def addSkip(self, test: Any, reason: str) -> None:
            self.trouble.append(("error", "skipped"))

        def addExpectedFailure(self, test: Any, err: Any) -> None:
            self.trouble.append(("error", "expected failure"))

        def addUnexpectedSuccess(self, test: Any) -> None:
            self.trouble.append(("error", "unexpected success"))

    def run(case_class: Any, method: str) -> tuple[str, str]:
        if not isinstance(case_class, type) or not issubclass(case_class, case_base):
            return "error", "the test class is no TestCase"
        kind: Any = case_class
        case = kind(method)
        completed: list[bool] = []
        original = kind._callTestMethod

        def call(function: Any) -> None:
            original(case, function)
            completed.append(True)

        case._callTestMethod = call
        result = Result()
        suite_class([case]).run(result)
        if result.trouble:
            return result.trouble[0]
        if result.succeeded == 1 and result.testsRun == 1 and completed:
            return "pass", ""
        return "error", "the test did not run to its end"

    return run


MODES: dict[str, Callable[[runner.Channel, dict[str, Any]], None]] = {"unittest": run_unittest}
