"""Runs one program in a confined process and reports *claims* about it: encoded return values, or standard output.

Nothing here knows what is expected. A program shares this process and may do what it likes to this code: all it can
reach by that is to claim a value, which it could as well have returned.

Frames to the parent (`FRAME` header, then the payload): ``R`` the jail is closed and the program starts; ``B`` the
program's body has run; ``V`` a return value; ``I`` one that is gone through (its kind, the items); ``U`` one that is
not plain data (its truth value, why); ``O`` one that is too large; ``E`` an exception (its name); ``M`` out of memory;
``X`` the jail could not be built.
"""

from __future__ import annotations

import atexit
import builtins
import os
import random
import struct
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

from restrl.grading.jail import codec, iterators

FRAME = struct.Struct("<IcId")  # payload length, kind, index of the case, CPU seconds of the process so far

_exit = os._exit
_read = os.read
_write = os.write
_cpu = time.process_time
# Names of one's own: a program that replaces the modules' does not change these, and they are found at once.
_pack = FRAME.pack
_decode, _encode, _decode_request = codec.decode, codec.encode, codec.decode_request
_Module, _modules, _recursion_limit = types.ModuleType, sys.modules, sys.getrecursionlimit
_CHUNK = 1 << 14


def _send(descriptor: int, kind: bytes, index: int, payload: bytes = b"") -> None:
    data = _pack(len(payload), kind, index, _cpu()) + payload
    sent = _write(descriptor, data)
    while sent < len(data):
        sent += _write(descriptor, data[sent : sent + _CHUNK])


class Channel:
    """The descriptor over which claims go to the parent."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, kind: bytes, index: int = 0, payload: bytes = b"") -> None:
        _send(self.descriptor, kind, index, payload)


READY = FRAME.pack(0, b"R", 0, 0.0)


def receive(descriptor: int) -> tuple[Any, ...]:
    """Reads the request that the parent wrote (4 bytes of length, then the encoding): see `codec.decode_request`."""
    data = _read(descriptor, _CHUNK)
    length = int.from_bytes(data[:4], "little") + 4
    if len(data) < 4 or len(data) < length:
        data += _read_exactly(descriptor, length - len(data))
    return _decode_request(data[4:])


def read_request(descriptor: int) -> dict[str, Any]:
    """The same with names."""
    mode, cpu_s, memory_bytes, file_bytes, timer_s, stdin, body = receive(descriptor)
    request = {"mode": mode or "call", "cpu_s": cpu_s, "memory_bytes": memory_bytes, "file_bytes": file_bytes}
    request |= {"timer_s": timer_s} | ({} if stdin is None else {"stdin": stdin})
    return request | (body if mode else dict(zip(codec.CALL, body, strict=True)))


def give_stdin(data: bytes) -> None:
    """Puts the data on descriptor 0 as an anonymous file."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stdin")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.dup2(descriptor, 0)
    os.close(descriptor)


def rehearse(null: int) -> None:
    """Does in the zygote what every run does: the interpreter adapts its code, and lays out its memory.

    Args:
        null: Descriptor that swallows what is written.
    """
    program = (
        "def f(x):\n    return x + 1\nclass Solution:\n    def f(self, x):\n        return [x, 'text', 0.5, (), {}]\n"
    )
    kept = dict(sys.modules), sys.argv
    for entry in ("f", "Solution.f") * 40:
        request: dict[str, Any] = {"mode": "call", "program": program, "entry": entry, "start": 0, "max_bytes": 99}
        request["args"] = [codec.encode((number,)) for number in (1, -7)]
        run_cases(null, *codec.decode_request(codec.encode_request(request))[-1])
    sys.modules.clear()
    sys.modules.update(kept[0])
    sys.argv = kept[1]
    _reseed()


def _read_exactly(descriptor: int, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = os.read(descriptor, min(length - len(parts), 1 << 20))
        if not part:
            raise EOFError("the parent closed the channel")
        parts += part
    return bytes(parts)


def _name_of(error: BaseException) -> bytes:
    try:
        return str(type.__dict__["__name__"].__get__(type(error))).encode("utf-8", "replace")[:100]
    except BaseException:
        return b"exception"


def _report(channel: Channel, error: BaseException, index: int) -> None:
    memory = issubclass(type(error), MemoryError)
    channel.send(b"M" if memory else b"E", index, _name_of(error))


def _reseed() -> None:
    """Sets the random generators as every run finds them."""
    random.seed(0)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(0)


def run_call(channel: Channel, request: dict[str, Any]) -> None:
    """Defines the program as a module, then calls its entry point once per case with freshly decoded arguments."""
    run_cases(channel.descriptor, *(request.get(name, "") for name in codec.CALL))
    _exit(0)


def run_cases(
    descriptor: int, program: str, prelude: str, entry: str, start: int, arguments: list[bytes], max_bytes: int
) -> None:
    """The same, and comes back."""
    module = _Module("solution")
    module.__file__ = "solution.py"
    _modules["solution"] = module
    _modules["__main__"] = _Module("__main__")
    sys.argv = ["solution.py"]
    try:
        names = module.__dict__
        if prelude:
            exec(compile(prelude, "prelude.py", "exec", dont_inherit=True), names)
        exec(compile(program, "solution.py", "exec", dont_inherit=True), names)
        find = _finder(module, entry)
        find()
    except BaseException as error:
        _report(Channel(descriptor), error, start)
        return
    _send(descriptor, b"B", start)
    index = start
    for encoded in arguments:
        _run_case(descriptor, find, index, encoded, max_bytes)
        index += 1


def _run_prelude(request: dict[str, Any], module: types.ModuleType) -> None:
    """Runs the source that the benchmark's own harness puts before a program."""
    if request.get("prelude"):
        exec(compile(request["prelude"], "prelude.py", "exec", dont_inherit=True), module.__dict__)


def _finder(module: types.ModuleType, entry: str) -> Callable[[], Any]:
    if "|" in entry:
        *alternatives, entry = entry.split("|")
        entry = next((name for name in alternatives if _defines(module, name)), entry)
    if "." not in entry:
        return lambda: module.__dict__[entry]
    owner, method = entry.split(".", 1)
    return lambda: getattr(module.__dict__[owner](), method)


def _defines(module: types.ModuleType, entry: str) -> bool:
    owner, _, method = entry.partition(".")
    return owner in module.__dict__ and (not method or hasattr(module.__dict__[owner], method))


def _run_case(
    descriptor: int, find: Callable[[], Any], index: int, encoded: bytes, max_bytes: int, spread: bool = False
) -> None:
    try:
        value = find()(*_decode(encoded))
    except BaseException as error:
        _report(Channel(descriptor), error, index)
        return
    try:
        if _recursion_limit() < 1000:
            sys.setrecursionlimit(1000)
        kind = b"V"
        if spread and (found := iterators.spread(value)) is not None:
            kind, value = b"I", found
        claim = _encode(value, max_bytes)
    except codec.TooLarge:
        _send(descriptor, b"O", index)
    except codec.Unsupported as error:
        truth = b"1" if _is_true(value) else b"0"
        _send(descriptor, b"U", index, truth + str(error).encode("utf-8", "replace")[:200])
    except BaseException as error:
        _report(Channel(descriptor), error, index)
    else:
        _send(descriptor, kind, index, claim)


def _is_true(value: Any) -> bool:
    """A match object has a truth value, if no contents: ``assert f(text)`` may ask for it."""
    try:
        return bool(value)
    except BaseException:
        return False


class _Opaque:
    """Stands in the examiner for a result that is not plain data: a truth value, and equal to nothing."""

    __slots__ = ("truth",)

    def __init__(self, truth: bool) -> None:
        self.truth = truth

    def __bool__(self) -> bool:
        return self.truth


def run_stdio(channel: Channel, request: dict[str, Any]) -> None:
    """Runs the program as the main module on the real descriptors 0 and 1, and ends as an interpreter would."""
    module = types.ModuleType("__main__")
    module.__file__ = "solution.py"
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    stdout = sys.stdout
    status = 0
    try:
        _run_prelude(request, module)
        exec(compile(request["program"], "solution.py", "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException as error:
        _report(channel, error, 0)
        status = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for the program's threads, as the interpreter does
        atexit._run_exitfuncs()
        for stream in (sys.stdout, stdout):  # the program may have put its own in the place of the real one
            if stream is not None and not stream.closed:
                stream.flush()
    except BaseException as error:
        _report(channel, error, 0)
        status = 1
    _exit(status & 0xFF)


def run_serve(channel: Channel, request: dict[str, Any]) -> None:
    """Defines the program, then answers calls that another process makes: the program's half of `run_examine`."""
    module = types.ModuleType("solution")
    module.__file__ = "solution.py"
    sys.modules["solution"] = module
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = ["solution.py"]
    try:
        exec(compile(request["program"], "solution.py", "exec", dont_inherit=True), module.__dict__)
        find = _finder(module, request["entry"])
        find()
    except BaseException as error:
        _report(channel, error, 0)
        _exit(0)
    channel.send(b"B")

    def call(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return find()(*arguments, **keywords)

    while True:
        (length,) = struct.unpack("<I", _read_exactly(channel.descriptor, 4))
        question = _read_exactly(channel.descriptor, length)
        _run_case(channel.descriptor, lambda: call, 0, question, int(request["max_bytes"]), spread=True)


def run_examine(channel: Channel, request: dict[str, Any]) -> None:
    """Runs trusted test code without the program: calls of its entry point travel to the program's process and back.

    Frames: ``C`` a call (the encoded arguments); at the end ``P`` passed, ``F`` an assertion failed, ``E`` or ``M``
    else.
    """

    def proxy(*arguments: Any, **keywords: Any) -> Any:
        channel.send(b"C", 0, codec.encode((arguments, keywords)))
        (length,) = struct.unpack("<I", _read_exactly(channel.descriptor, 4))
        kind, value = codec.decode(_read_exactly(channel.descriptor, length))
        if kind == "value":
            return value
        if kind == "spread":
            return iterators.gathered(*value)
        if kind == "opaque":
            return _Opaque(value)
        known: Any = getattr(builtins, value, None)
        if (
            isinstance(known, type)
            and issubclass(known, Exception)
            and known not in (AssertionError, UnicodeDecodeError)
            and (known not in (StopIteration, StopAsyncIteration) or value in request["program"])  # else it ends loops
        ):
            raise known(value)
        raise RuntimeError(value)

    module = types.ModuleType("test")
    sys.modules["test"] = sys.modules["__main__"] = module
    sys.argv = ["test.py"]
    try:
        exec(compile(request["prelude"], "prelude.py", "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        module.__dict__.clear()  # a prelude that is no program by itself, only its names are missing
    module.__dict__.update({"__name__": "test", request["entry"]: proxy, "candidate": proxy})
    try:
        exec(compile(request["program"], "test.py", "exec", dont_inherit=True), module.__dict__)
    except AssertionError:
        channel.send(b"F")
    except BaseException as error:
        _report(channel, error, 0)
    else:
        channel.send(b"P")
    _exit(0)


MODES: dict[str, Callable[[Channel, dict[str, Any]], None]] = {
    "call": run_call,
    "stdio": run_stdio,
    "serve": run_serve,
    "examine": run_examine,
}
