"""Hostile programs for tasks of other kinds than the plain call: tables by the task's name, and the tasks themselves."""

# ruff: noqa: E501
from __future__ import annotations

from hostile_call import FIRST, FRAME, Attack

from restrl.types import Case, Limits, Problem, Tests

CHECK = """
def check(candidate):
    assert candidate(2) == 11, "two"
    assert abs(candidate(3) - 16) < 1e-9
    assert helper(candidate(0)) == 8
    assert f(x=1) == 8
check(f)
"""
PRELUDE = 'def helper(n):\n    return n + 1\n\ndef f(x):\n    """Square plus seven."""\n'


def tasks(cpu_s: float, memory_bytes: int) -> dict[str, Problem]:
    """The tasks by name. ``call``: f(x) = x * x + 7; ``stdio``: the same of a number on standard input."""
    limits = Limits(cpu_s=cpu_s, memory_bytes=memory_bytes)

    def task(name: str, kind: str, *cases: Case, entry: str = "f", state: str = "", **kwargs) -> Problem:
        return Problem(name, "", state, entry, Tests(kind, cases, **kwargs), limits=limits)

    texts = ("assert f(2) == 11", "assert abs(f(3) - 16) < 1e-6", "assert set(f([1, 2])) == {1, 2}")
    loops = ("total = 0\nfor i in range(f(3)):\n    total += i\nassert total == 3", "assert [0] * f(2) == [0, 0]")
    return {
        "call": task("call", "call", *(Case(str(x), args=(x,), expected=x * x + 7) for x in range(6))),
        "stdio": task("stdio", "stdio", *(Case(str(n), stdin=f"{n}\n", expected=f"{n * n + 7}\n") for n in (2, 3)), entry=""),
        "words": task("words", "stdio", Case("a", stdin="3 1 2\n", expected="1 2 3\n"), Case("b", stdin="2 2\n", expected="2 2\n"), entry=""),
        "sort": task("sort", "call", *(Case(str(n), args=([3, 1, 2] * n,), expected=sorted([3, 1, 2] * n)) for n in (1, 2, 3))),
        "near": task("near", "call", *(Case(str(n), args=(n,), expected=n / 3) for n in (1, 2)), atol=1e-6),
        "table": task("table", "call", Case("a", args=(3,), expected={1: "a", 2: "b", 3: "c"}), Case("b", args=(2,), expected={1: "a", 2: "b"})),
        "check": task("check", "asserts", Case("check", code=CHECK), state=PRELUDE),
        "asserts": task("asserts", "asserts", *(Case(str(i), code=code) for i, code in enumerate(texts))),
        "loops": task("loops", "asserts", *(Case(str(i), code=code) for i, code in enumerate(loops))),
        "maps": task("maps", "asserts", Case("0", code="assert all(map(lambda n: f(n) == n * n + 7, range(6)))"), Case("1", code="assert f(1) == 8")),
    }  # fmt: skip


LIAR = "class E:\n def __eq__(s, o): return True\n __ne__ = __lt__ = __le__ = __gt__ = __eq__\n def __sub__(s, o): return s\n def __abs__(s): return s\n def __add__(s, o): return 8\n def __iter__(s): return iter((1, 2))\n def __bool__(s): return True\n"

# fmt: off
STDIO: list[Attack] = [
    Attack("always-equal object", "prints nothing", "", "wrong"),
    Attack("always-equal object", "prints every number", "for i in range(100): print(i)", "wrong"),
    Attack("always-equal object", "nearly the number", "n = int(input())\nprint(n * n + 7.0000001)", "wrong"),
    Attack("always-equal object", "a leading zero", "n = int(input())\nprint('0' + str(n * n + 7))", "wrong"),
    Attack("always-equal object", "wildcards", "print('.*')\n", "wrong"),
    Attack("NaN", "nan and inf", "print('nan' if input() == '2' else 'inf')", "wrong"),
    Attack("True for 1", "other digits", "n = int(input())\nprint(str(n * n + 7).translate({48 + d: 0x660 + d for d in range(10)}))", "wrong"),
    Attack("True for 1", "underscores", "n = int(input())\nprint('_'.join(str(n * n + 7)))", "wrong"),
    Attack('printing "ALL TESTS PASSED"', "stdout", "print('ALL TESTS PASSED')", "wrong"),
    Attack('printing "ALL TESTS PASSED"', "beside the answer", "n = int(input())\nprint(n * n + 7)\nprint('OK')", "wrong"),
    Attack("set order or duplicated tokens", "repeats the answer", "n = int(input())\nprint(n * n + 7)\nprint(n * n + 7)", "wrong"),
    Attack("set order or duplicated tokens", "repeats it in the line", "n = int(input())\nprint(n * n + 7, n * n + 7)", "wrong"),
    Attack("sys.exit at top", "failing exit after the answer", "import sys\nn = int(input())\nprint(n * n + 7)\nsys.exit(3)", "error"),
    Attack("sys.exit at top", "exit with a message", "import sys\nn = int(input())\nprint(n * n + 7)\nsys.exit('done')", "error"),
    Attack("sys.exit at top", "without an answer", "raise SystemExit", "wrong"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "error after the answer", "n = int(input())\nprint(n * n + 7, flush=True)\nraise ValueError", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "KeyboardInterrupt after the answer", "n = int(input())\nprint(n * n + 7, flush=True)\nraise KeyboardInterrupt", "error"),
    Attack("os._exit(0)", "before the flush", "import os\nn = int(input())\nprint(n * n + 7)\nos._exit(0)", "wrong"),
    Attack("os._exit(0)", "with a status", "import os\nn = int(input())\nprint(n * n + 7, flush=True)\nos._exit(1)", "error"),
    Attack("killing 0, -1, 1, the parent", "itself after the answer", "import os\nn = int(input())\nprint(n * n + 7, flush=True)\nos.kill(os.getpid(), 9)", "error"),
    Attack("killing 0, -1, 1, the parent", "an alarm after the answer", "import signal\nn = int(input())\nprint(n * n + 7, flush=True)\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\nsignal.pause()", ("error", "timeout"), why=FIRST),
    Attack("truncated output", "half of it", "import os\nn = int(input())\nos.write(1, str(n * n + 7).encode()[:1])", "wrong"),
    Attack("truncated output", "the file cut after the answer", "import os\nn = int(input())\nprint(n * n + 7, flush=True)\nos.ftruncate(1, 0)", "wrong"),
    Attack("truncated output", "closed standard output", "import os\nn = int(input())\nos.close(1)\nprint(n * n + 7)", "error"),
    Attack("truncated output", "a long line cut at the limit", "n = int(input())\nprint(n * n + 7)\nprint('\\n' * (2 << 20))", "output"),
    Attack("truncated output", "written behind a hole", "import os\nn = int(input())\nos.lseek(1, 1000, 0)\nprint(n * n + 7)", "wrong"),
    Attack("invalid UTF-8 and NUL", "invalid UTF-8", "import sys\nn = int(input())\nsys.stdout.buffer.write(b'%d\\xff\\n' % (n * n + 7))", "wrong"),
    Attack("invalid UTF-8 and NUL", "NUL", "n = int(input())\nprint(f'{n * n + 7}\\0')", "wrong"),
    Attack("invalid UTF-8 and NUL", "surrogates", "n = int(input())\nprint(n * n + 7, '\\ud800')", "error"),
    Attack("invalid UTF-8 and NUL", "a byte order mark", "n = int(input())\nprint(f'\\ufeff{n * n + 7}')", "wrong"),
    Attack("invalid UTF-8 and NUL", "UTF-16", "import sys\nn = int(input())\nsys.stdout.buffer.write(str(n * n + 7).encode('utf-16'))", "wrong"),
    Attack("invalid UTF-8 and NUL", "zero-width characters", "n = int(input())\nprint('\\u200b'.join(str(n * n + 7)))", "wrong"),
    Attack("sleep", "a hang after the answer", "n = int(input())\nprint(n * n + 7, flush=True)\nwhile True: pass", "timeout"),
    Attack("sleep", "a sleeping thread after the answer", "import threading, time\nprint(int(input()) ** 2 + 7, flush=True)\nthreading.Thread(target=time.sleep, args=(999,)).start()", "timeout"),
    Attack("sleep", "waits for more input than there is", "import os\nr, w = os.pipe()\nos.read(r, 1)", "timeout"),
    Attack("stdout flood", "print", "while True: print('x' * 100000)", ("output", "timeout"), why="the file size limit or the CPU limit is met first"),
    Attack("stdout flood", "grows its output file", "import os\nos.ftruncate(1, 1 << 34)", ("output", "error"), why=FIRST),
    Attack("stdout flood", "ignores the size signal", "import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nwhile True:\n try: os.write(1, b'x' * 100000)\n except OSError: pass", ("output", "timeout"), why="the CPU limit ends it, the file is too long as well"),
    Attack("stderr flood", "write", "import sys\nwhile True: sys.stderr.write('x' * 100000)", "timeout"),
    Attack("stderr flood", "stderr into stdout", "import os, sys\nn = int(input())\nos.dup2(1, 2)\nsys.stderr.write('noise\\n')\nprint(n * n + 7)", "wrong"),
    Attack("daemon that holds the stdout pipe", "daemon", "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(1000)\nprint(1)", "error"),
    Attack("daemon that holds the stdout pipe", "a daemon thread that writes late", "import threading, time\ndef late():\n time.sleep(0.05)\n print(11, flush=True)\nthreading.Thread(target=late, daemon=True).start()", "wrong"),
    Attack("forging on every descriptor", "text", "import os\nfor fd in range(3, 64):\n try: os.write(fd, b'x' * 1000)\n except OSError: pass", "output"),
    Attack("forging on every descriptor", "frames", FRAME + "for k in (b'P', b'V', b'B', b'R', b'S'): forge(k)\nprint(7)", "error"),
    Attack("forging on every descriptor", "to win time", FRAME + "import time\nwhile True: forge(b'E', payload=b'x')", "error"),
    Attack("dup2 over protocol descriptors", "dup2", "import os\nfor fd in range(3, 64):\n try: os.dup2(1, fd)\n except OSError: pass\nraise ValueError", "error"),
    Attack("dup2 over protocol descriptors", "stdin and stdout swapped", "import os\nn = int(input())\nos.dup2(0, 1)\nprint(n * n + 7)", "wrong"),
    Attack("atexit writers", "exits by a handler", "import atexit, os\natexit.register(os._exit, 0)", "wrong"),
    Attack("atexit writers", "an error in a handler, hidden", "import atexit\nn = int(input())\nprint(n * n + 8)\natexit.register(lambda: print(n * n + 7))", "wrong"),
    Attack("atexit writers", "loops at the end", "import atexit\nprint(int(input()) ** 2 + 7, flush=True)\natexit.register(lambda: [0 for _ in iter(int, 1)])", "timeout"),
    Attack("patching json or the harness", "own main module", "import sys\nsys.modules['__main__'] = None\nsys.stdout = None", "wrong"),
    Attack("patching json or the harness", "os._exit patched", "import os\nos._exit = lambda *a: None\nprint(int(input()))", "wrong"),
    Attack("patching json or the harness", "an error, with sys.exit and excepthook patched", "import os, sys\nsys.excepthook = lambda *a: os._exit(0)\nprint(int(input()) ** 2 + 7, flush=True)\n1 / 0", "error"),
    Attack("own check and TestCases", "unittest.main", "import unittest\nclass TestCases(unittest.TestCase):\n def test(self): pass\nunittest.main()", "wrong"),
    Attack("frames and gc", "reads standard output", "import os\nos.lseek(1, 0, 0)\ntry: print(os.read(1, 100))\nexcept OSError: print('no')", "wrong"),
    Attack("frames and gc", "the request", "import sys\nfr = sys._getframe()\nwhile fr:\n r = fr.f_locals.get('request')\n if r: print(r.get('expected', ''))\n fr = fr.f_back", "wrong"),
    Attack("reading files and processes", "/dev/stdin of the parent", "import os\nprint(open(f'/proc/{os.getppid()}/fd/0').read())", ("error", "wrong"), why="without the uid layer the zygote's may be opened: it is /dev/null"),
    Attack("memory creep", "hold", "hold = []\nwhile True: hold.append(bytearray(1 << 26))", "memory"),
    Attack("8 GB allocation", "at once", "x = bytearray(8 << 30)", "memory"),
    Attack("deep recursion", "at the top", "def f(): return f()\nf()", "error"),
    Attack("a sleep just under the limit", "and no answer", "import time\ntime.sleep(0.1)", "wrong"),
    Attack("fork bomb", "fork", "import os\nprint(int(input()) ** 2 + 7, flush=True)\nwhile True: os.fork()", "error"),
    Attack("GIL-held pow", "in a finalizer", "class A:\n def __del__(s): pow(3, 10 ** 9)\na = A()\nprint(int(input()) ** 2 + 7, flush=True)\ndel a", "timeout"),
]

WORDS: list[Attack] = [
    Attack("set order or duplicated tokens", "another order", "print(*sorted(input().split(), reverse=True))", "wrong", 0.5),
    Attack("set order or duplicated tokens", "without duplicates", "print(*sorted(set(input().split())))", "wrong", 0.5),
    Attack("set order or duplicated tokens", "with duplicates", "print(*sorted(input().split() * 2))", "wrong"),
    Attack("set order or duplicated tokens", "one a line", "print(*sorted(input().split()), sep='\\n')", "wrong"),
    Attack("set order or duplicated tokens", "joined", "print(*sorted(input().split()), sep='')", "wrong"),
    Attack("truncated output", "the last word missing", "print(*sorted(input().split())[:-1])", "wrong"),
    Attack("truncated output", "an empty line between", "a = sorted(input().split())\nprint(a[0] + '\\n\\n' + ' '.join(a[1:]))", "wrong"),
]

SORT: list[Attack] = [
    Attack("mutated arguments", "in place, no result", "def f(v): v.sort()", "wrong"),
    Attack("mutated arguments", "changes the next case's", "import sys\ndef f(v):\n fr = sys._getframe()\n while fr:\n  r = fr.f_locals.get('arguments')\n  if r is not None: r[:] = [r[0]] * len(r)\n  fr = fr.f_back\n return sorted(v)", "wrong", 1 / 3),
    Attack("mutated arguments", "empties it", "def f(v):\n v.clear()\n return v", "wrong"),
    Attack("mutated arguments", "a list that sorts itself when compared", "class L(list):\n def __eq__(s, o):\n  s[:] = o\n  return True\ndef f(v): return L(v)", "wrong"),
    Attack("set order or duplicated tokens", "a set", "def f(v): return set(v)", "wrong"),
    Attack("set order or duplicated tokens", "without duplicates", "def f(v): return sorted(set(v))", "wrong", 1 / 3),
    Attack("set order or duplicated tokens", "a tuple", "def f(v): return tuple(sorted(v))", "wrong"),
    Attack("set order or duplicated tokens", "an iterator", "def f(v): return iter(sorted(v))", "wrong"),
    Attack("set order or duplicated tokens", "the keys of a dict", "def f(v): return dict.fromkeys(sorted(v)).keys()", "wrong"),
    Attack("True for 1", "bools for ones", "def f(v): return [x == 1 or x for x in sorted(v)]", "wrong"),
    Attack("truncated output", "cut", "def f(v): return sorted(v)[:-1]", "wrong"),
    Attack("hostile serialisation", "fractions to reduce", "from fractions import Fraction\nclass F(Fraction):\n numerator = property(lambda s: 3 ** 60_000)\n denominator = property(lambda s: 3 ** 59_999)\ndef f(v): return [F(0) for _ in v]", "wrong"),
]

NEAR: list[Attack] = [
    Attack("NaN", "nan", "def f(n): return float('nan')", "wrong"),
    Attack("NaN", "infinity", "def f(n): return float('inf')", "wrong"),
    Attack("always-equal object", "off by more than the tolerance", "def f(n): return n / 3 + 2e-6", "wrong"),
    Attack("always-equal object", "a float that subtracts to zero", "class F(float):\n def __sub__(s, o): return 0.0\n __rsub__ = __sub__\n def __abs__(s): return 0.0\ndef f(n): return F(99)", "wrong"),
    Attack("hostile serialisation", "a decimal that is a signalling NaN", "from decimal import Decimal\ndef f(n): return Decimal('sNaN')", "wrong"),
    Attack("hostile serialisation", "an integer beyond floats", "def f(n): return 10 ** 400", "wrong"),
    Attack("True for 1", "text", "def f(n): return str(n / 3)", "wrong"),
]

TABLE: list[Attack] = [
    Attack("always-equal object", "a defaultdict that knows every key", "class D(dict):\n def __contains__(s, k): return True\n def __getitem__(s, k): return 'abc'[k - 1]\n def __len__(s): return 3\n def __eq__(s, o): return True\ndef f(n): return D()", "wrong"),
    Attack("always-equal object", "keys of one hash", "class K(int):\n def __hash__(s): return 0\n def __eq__(s, o): return True\ndef f(n): return {K(1): 'a'}", "wrong"),
    Attack("True for 1", "True for the key 1", "def f(n): return {(True if k == 1 else k): 'abc'[k - 1] for k in range(1, n + 1)}", "wrong"),
    Attack("set order or duplicated tokens", "pairs", "def f(n): return [(k, 'abc'[k - 1]) for k in range(1, n + 1)]", "wrong"),
    Attack("truncated output", "a key missing", "def f(n): return {k: 'abc'[k - 1] for k in range(1, n)}", "wrong"),
    Attack("truncated output", "a key too many", "def f(n): return {k: 'abcd'[k - 1] for k in range(1, n + 2)}", "wrong"),
]

CHECKED: list[Attack] = [
    Attack("always-equal object", "object", LIAR + "def f(x): return E()", "wrong"),
    Attack("always-equal object", "int", "class E(int):\n def __eq__(s, o): return True\n __hash__ = int.__hash__\ndef f(x): return E(-1)", "wrong"),
    Attack("NaN", "nan", "def f(x): return float('nan')", "wrong"),
    Attack("True for 1", "True", "def f(x): return True", "wrong"),
    Attack("os._exit(0)", "in the call", "import os\ndef f(x): os._exit(0)", "error"),
    Attack("os._exit(0)", "at the top", "import os\nos._exit(0)", "error"),
    Attack("sys.exit at top", "sys.exit", "import sys\nsys.exit(0)", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "SystemExit", "def f(x): raise SystemExit(0)", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "StopIteration", "def f(x): raise StopIteration", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "AssertionError", "def f(x): raise AssertionError", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "a class named like one", "class SystemExit(Exception): pass\ndef f(x): raise SystemExit", "error"),
    Attack("own check and TestCases", "check", "def check(c): pass\ndef f(x): return None", "wrong"),
    Attack("own check and TestCases", "check and candidate in builtins", "import builtins\nbuiltins.check = builtins.helper = builtins.candidate = lambda *a: 8\ndef f(x): return None", "wrong"),
    Attack("own check and TestCases", "helper", "def helper(n): return 8\ndef f(x): return {2: 11, 3: 16, 1: 8}.get(x, 0)", "wrong"),
    Attack("own check and TestCases", "f made anew by the tests' names", "import sys\nsys.modules['test'] = sys.modules['__main__']\ndef f(x): return None", "wrong"),
    Attack("patching json or the harness", "builtins", "import builtins\nbuiltins.abs = lambda v: 0\ndef f(x): return 0", "wrong"),
    Attack("patching json or the harness", "AssertionError", "import builtins\nbuiltins.AssertionError = type('A', (), {})\ndef f(x): return 0", "wrong"),
    Attack("forging on every descriptor", "passed", FRAME + "forge(b'P')\ndef f(x): return None", "error"),
    Attack("forging on every descriptor", "text", "import os\ndef f(x):\n for n in range(3, 64):\n  try: os.write(n, b'P' * 99)\n  except OSError: pass", "output"),
    Attack("forging on every descriptor", "answers ahead of the questions", FRAME + "def f(x):\n for _ in range(4): forge(b'V', payload=b'i\\x01\\0\\0\\0\\x0b')\n return 11", "wrong"),
    Attack("frames and gc", "looks for the examiner", "import sys, gc\ndef f(x):\n fr = sys._getframe()\n while fr:\n  if 'test' in fr.f_globals or 'check' in fr.f_globals: return 11\n  fr = fr.f_back\n return [o for o in gc.get_objects() if type(o) is str and 'candidate' in o][:1]", "wrong"),
    Attack("co_consts and getsource", "source of the test", "import sys\ndef f(x): return sys.modules['test'].check.__code__.co_consts", "error"),
    Attack("settrace", "trace", "import sys\nsys.settrace(lambda *a: None)\ndef f(x): return None", "wrong"),
    Attack("atexit writers", "forges", FRAME + "import atexit\natexit.register(forge, b'P')\ndef f(x): return None", "wrong"),
    Attack("sleep", "loop in the call", "def f(x):\n while True: pass", "timeout"),
    Attack("sleep", "loop at the top", "while True: pass", "timeout"),
    Attack("returning 256 MB", "64 MB", "def f(x): return 'x' * (64 << 20)", "output"),
    Attack("8 GB allocation", "in the call", "def f(x): return bytearray(8 << 30)", "memory"),
    Attack("100,000-deep list", "deep", "def f(x):\n v = []\n for _ in range(100000): v = [v]\n return v", "output"),
    Attack("hostile serialisation", "a decimal that is no number", "from decimal import Decimal\nclass D(Decimal):\n def __str__(s): return 'x'\ndef f(x): return D(7)", "error"),
    Attack("hostile serialisation", "a signalling NaN", "from decimal import Decimal\ndef f(x): return Decimal('sNaN')", ("wrong", "error"), why="the test code may compare it, which is False, or compute with it, which raises"),
    Attack("deep recursion", "in the call", "def f(x): return f(x)", "error"),
    Attack("compile bomb", "no such function", "def g(x): return 1", "error"),
    Attack("mutated arguments", "honest for one", "def f(x): return 11 if x == 2 else 0", "wrong"),
]

ASSERTS: list[Attack] = [
    Attack("always-equal object", "object", LIAR + "def f(x): return E()", ["wrong", "error", "error"]),
    Attack("own check and TestCases", "patched set and abs", "import builtins\nbuiltins.set = builtins.abs = lambda *a: 0\ndef f(x): return 0", ["wrong", "wrong", "error"]),
    Attack("mutated arguments", "honest for one", "def f(x): return 11", ["pass", "wrong", "error"], 1 / 3),
    Attack("hostile serialisation", "a large dictionary", "def f(x): return {i: i for i in range(30_000)}", ["wrong", "error", "wrong"]),
    Attack("sleep", "loop", "def f(x):\n while x == 3: pass\n return 11 if x == 2 else x", ["pass", "timeout", "timeout"], 1 / 3),
]

LOOPS: list[Attack] = [
    Attack("hostile serialisation", "a count that keeps the test busy", "def f(x): return 10 ** 18 if x == 3 else 0", ["timeout", "timeout"]),
    Attack("hostile serialisation", "a size that the test cannot hold", "def f(x): return 3 if x == 3 else 10 ** 12", ["pass", "error"], 0.5),
    Attack("8 GB allocation", "in the test", "def f(x): return 3 if x == 3 else 10 ** 9", ["pass", "error"], 0.5),
    Attack("returning 256 MB", "a count beyond integers", "def f(x): return 10 ** 4000", "timeout"),
]

MAPS: list[Attack] = [
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "StopIteration ends map", "def f(x): raise StopIteration", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "GeneratorExit", "def f(x): raise GeneratorExit", "error"),
    Attack("SystemExit, KeyboardInterrupt, GeneratorExit", "StopIteration after one", "def f(x):\n if x: raise StopIteration\n return 7", "error"),
]
# fmt: on

TABLES: dict[str, list[Attack]] = {
    "stdio": STDIO,
    "words": WORDS,
    "sort": SORT,
    "near": NEAR,
    "table": TABLE,
    "check": CHECKED,
    "asserts": ASSERTS,
    "loops": LOOPS,
    "maps": MAPS,
}
