"""Tests of kind unittest: honest credit for each method, none for programs that tamper with the tests they share with."""

# ruff: noqa: E501
from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import leftovers
import pytest

from restrl.errors import NotGradable, ProblemError
from restrl.grading import GradingConfig, SandboxGrader
from restrl.grading.places import missing_packages
from restrl.grading.samples import grade_samples
from restrl.grading.unittests import declared_tests
from restrl.types import Case, Limits, Problem, Tests

TEST = """
import unittest
from unittest.mock import patch

class TestCases(unittest.TestCase):
    def setUp(self):
        self.numbers = [0, 1, 2, 3]

    def test_equal(self):
        self.assertEqual([task_func(n) for n in self.numbers], [7, 8, 11, 16])

    def test_truth(self):
        value = task_func(5)
        self.assertIsInstance(value, int)
        self.assertTrue(31 < value < 33)
        self.assertAlmostEqual(value, 32)

    def test_raises(self):
        with self.assertRaises(TypeError):
            task_func(None)
        self.assertEqual(task_func(1), 8)

    @patch("json.dumps", return_value="x")
    def test_subtests(self, dumps):
        for n in self.numbers:
            with self.subTest(n=n):
                self.assertEqual(len(str(task_func(n))), len(str(n * n + 7)))
                self.assertIn(task_func(n), {7, 8, 11, 16})
"""
NAMES = ("test_equal", "test_truth", "test_raises", "test_subtests")
GOOD = "def task_func(x):\n    return x * x + 7\n"


def problem(code=TEST, names=NAMES, profile="lab", packages=(), **limits) -> Problem:
    cases = tuple(Case(name, code=code) for name in names)
    tests = Tests("unittest", cases, profile=profile, packages=packages)
    return Problem("u", "", "def task_func(x):\n", "task_func", tests, limits=Limits(**{"cpu_s": 3.0, **limits}))


def verdicts(grade) -> list[str]:
    return [verdict.verdict for verdict in grade.verdicts]


def test_every_method_is_a_declared_test(grader):
    half = "def task_func(x):\n    return x * x + 7 if x < 4 else 0\n"
    always = "def task_func(x):\n    return 8\n"
    right, partly, constant = grader.grade([(problem(), source) for source in (GOOD, half, always)])
    assert right.reward == 1.0 and right.passed and right.assurance == "in_process" and right.tampering == ()
    assert verdicts(partly) == ["pass", "wrong", "pass", "pass"] and partly.reward == 0.75
    assert verdicts(constant) == ["wrong", "wrong", "wrong", "wrong"]
    assert [verdict.id for verdict in right.verdicts] == list(NAMES) and right.cpu_s > 0


@pytest.mark.parametrize("body", [
    "logging.getLogger('a').warning('x %s', x)",
    "try: 1 / 0\n except ZeroDivisionError: traceback.print_exc(), traceback.format_exc()",
    "warnings.warn('x')",
    "collections.namedtuple('P', 'a b'), enum.Enum('E', 'A B')",
])  # fmt: skip
def test_libraries_may_look_at_frames(grader, body):
    source = f"import collections, enum, logging, traceback, warnings\ndef task_func(x):\n {body}\n return x * x + 7\n"
    grade = grader.grade([(problem(), source)])[0]
    assert grade.reward == 1.0 and grade.tampering == ()


def test_a_function_may_call_itself(grader):
    source = "def task_func(x):\n    return 7 if x == 0 else task_func(x - 1) + 2 * x - 1\n"
    grade = grader.grade([(problem(), source)])[0]
    assert grade.reward == 1.0 and grade.tampering == ()


def test_the_strict_profile_runs_tests_that_only_compute(grader):
    assert grader.grade([(problem(profile="strict"), GOOD)])[0].reward == 1.0


SELF_EQUAL = "class E(int):\n def __eq__(s, o): return True\n def __lt__(s, o): return True\n __gt__ = __lt__\n __hash__ = int.__hash__\n def __sub__(s, o): return 0\n def __str__(s): return '7'\n"

# A verdict in the form that the harness sends: with a key and a token, it would be one.
FORGE = (
    "import os, struct\n"
    "def find_token(data): return data[data.find(b'b') + 5:][:16]\n"
    "def token_of(frame):\n while frame and 'proof' not in frame.f_locals: frame = frame.f_back\n return frame.f_locals['proof'] if frame else b''\n"
    "def forge(fd, token):\n body = token + b't\\x02\\x00\\x00\\x00s\\x04\\x00\\x00\\x00passs\\x00\\x00\\x00\\x00'\n os.write(fd, struct.pack('<IcId', len(body), b'Q', 0, 0.0) + body)\n"
    "def forge_all(token):\n for fd in range(3, 64):\n  try: forge(fd, token)\n  except OSError: pass\n os._exit(0)\n"
)
LENIENT = (
    "import contextlib, unittest\n"
    "def lenient(s, n):\n if n.startswith('assert'): return lambda *a, **k: contextlib.nullcontext()\n return object.__getattribute__(s, n)\n"
)

# (name, program, detectors of which one must fire, or none)
HOSTILE: list[tuple[str, str, tuple[str, ...]]] = [
    ("returns None", "def task_func(x): return None", ()),
    ("SkipTest in the call", "import unittest\ndef task_func(x): raise unittest.SkipTest('no')", ()),
    ("SkipTest at the top", "import unittest\nraise unittest.SkipTest('no')", ()),
    ("stops a test early", "import unittest.case\ndef task_func(x): raise unittest.case._ShouldStop", ()),
    ("own TestCases", "import unittest\nclass TestCases(unittest.TestCase):\n def test_equal(self): pass\n test_truth = test_raises = test_subtests = test_equal\ndef task_func(x): return None", ()),
    ("own check", "def check(candidate): return True\ndef task_func(x): return None", ()),
    ("expectedFailure around the methods", "import unittest\nclass Meta(type):\n pass\nunittest.TestCase.run = unittest.expectedFailure(unittest.TestCase.run)\ndef task_func(x): return None", ()),
    ("marks itself as expecting failure", "import sys, unittest\ndef task_func(x):\n f = sys._getframe(1)\n while f and 'self' not in f.f_locals: f = f.f_back\n f.f_locals['self'].__unittest_expecting_failure__ = True\n raise ValueError", ("reads frames",)),
    ("replaces TestCase", "import unittest\nclass Fake:\n def __init__(s, name='run'): pass\n def run(s, result=None): result.addSuccess(s)\nunittest.TestCase = unittest.case.TestCase = Fake\ndef task_func(x): return None", ("patches what the tests use", "replaces the tests")),
    ("replaces the runner and the suite", "import unittest\nunittest.TestSuite.run = unittest.TestSuite.__call__ = lambda *a, **k: None\nunittest.TextTestRunner = None\ndef task_func(x): return None", ("patches what the tests use",)),
    ("patches assertEqual", "import unittest\nfor n in dir(unittest.TestCase):\n if n.startswith('assert'): setattr(unittest.TestCase, n, lambda *a, **k: None)\ndef task_func(x): return None", ("patches what the tests use",)),
    ("patches assertEqual in the call", "import unittest\ndef task_func(x):\n unittest.TestCase.assertEqual = unittest.TestCase.assertTrue = lambda *a, **k: None\n unittest.TestCase.assertIsInstance = unittest.TestCase.assertAlmostEqual = lambda *a, **k: None\n unittest.TestCase.assertIn = lambda *a, **k: None\n return 0", ("patches what the tests use",)),
    ("patches the result", "import unittest.result\nfor n in ('addFailure', 'addError', 'addSubTest'): setattr(unittest.result.TestResult, n, unittest.result.TestResult.addSuccess)\ndef task_func(x): return None", ("patches what the tests use",)),
    ("patches the outcome", "import unittest.case\nunittest.case._Outcome.testPartExecutor = lambda *a, **k: __import__('contextlib').nullcontext()\ndef task_func(x): return None", ("patches what the tests use",)),
    ("monkeypatches unittest.mock", "import unittest.mock\nunittest.mock.patch = lambda *a, **k: (lambda f: (lambda *b: None))\ndef task_func(x): return None", ("patches what the tests use",)),
    ("replaces the module unittest", "import sys, types\nfake = types.ModuleType('unittest')\nclass TestCase: pass\nfake.TestCase = TestCase\nsys.modules['unittest'] = fake\ndef task_func(x): return None", ("replaces modules",)),
    ("replaces builtins", "import builtins\nbuiltins.len = builtins.isinstance = lambda *a: True\nbuiltins.str = str\ndef task_func(x): return None", ("patches what the tests use",)),
    ("shadows builtins", "def len(*a): return 1\ndef str(*a): return ''\ndef task_func(x): return None", ("shadows builtins",)),
    ("replaces __build_class__", "import builtins\nold = builtins.__build_class__\ndef build(f, name, *b, **k):\n c = old(f, name, *b, **k)\n for n in list(vars(c)):\n  if n.startswith('test'): setattr(c, n, lambda s: None)\n return c\nbuiltins.__build_class__ = build\ndef task_func(x): return None", ("patches what the tests use",)),
    ("always equal", SELF_EQUAL + "def task_func(x):\n if x is None: raise TypeError\n return E(7)", ("agrees with anything",)),
    ("always equal parts", "class E:\n def __eq__(s, o): return True\n __hash__ = None\ndef task_func(x): return [E()]", ("agrees with anything",)),
    ("lies about its class", "class E:\n __class__ = property(lambda s: int)\n def __eq__(s, o): return True\n __lt__ = __gt__ = __eq__\n def __sub__(s, o): return 0\n __hash__ = None\ndef task_func(x): return E()", ("agrees with anything",)),
    ("os._exit at the top", "import os\nos._exit(0)", ("ends the process early",)),
    ("os._exit in the call", "import os\ndef task_func(x): os._exit(0)", ("ends the process early",)),
    ("sys.exit at the top", "import sys\nsys.exit(0)", ()),
    ("sys.exit in the call", "import sys\ndef task_func(x): sys.exit(0)", ()),
    ("KeyboardInterrupt", "def task_func(x): raise KeyboardInterrupt", ()),
    ("GeneratorExit", "def task_func(x): raise GeneratorExit", ()),
    ("atexit forging", "import atexit, os\n@atexit.register\ndef f():\n for fd in range(64):\n  try: os.write(fd, b'Q' * 100)\n  except OSError: pass\ndef task_func(x): return None", ()),
    ("prints success", "print('Ran 4 tests in 0.001s\\n\\nOK', flush=True)\ndef task_func(x):\n print('OK')\n return None", ()),
    ("forges verdicts on every descriptor", "import os, struct\ndef task_func(x):\n body = b't' * 16 + b't\\x02\\x00\\x00\\x00s\\x04\\x00\\x00\\x00passs\\x00\\x00\\x00\\x00'\n for fd in range(64):\n  try: os.write(fd, struct.pack('<IcId', len(body), b'Q', 0, 0.0) + body)\n  except OSError: pass\n os._exit(0)", ("forges claims",)),
    ("forges a load", "import os, struct\nfor fd in range(3, 64):\n try: os.write(fd, struct.pack('<IcId', 0, b'B', 0, 0.0) * 3)\n except OSError: pass\ndef task_func(x): return None", ()),
    ("speaks the protocol at the top", FORGE + "for fd in range(3, 64):\n try:\n  os.write(fd, struct.pack('<IcId', 0, b'B', 0, 0.0))\n  forge(fd, find_token(os.read(fd, 1 << 20)))\n except OSError: pass\nos._exit(0)", ("forges claims",)),
    ("a thread steals the tests from the channel", FORGE + "import threading, time\ndef go(fd):\n try: forge(fd, find_token(os.read(fd, 1 << 20)))\n except OSError: pass\n else: os._exit(0)\nfor fd in range(3, 16): threading.Thread(target=go, args=(fd,), daemon=True).start()\ntime.sleep(0.05)\ndef task_func(x): return None", ()),
    ("a thread puts other tests in the channel's place", FORGE + "import socket, threading, time\ndef go(fd):\n try: data = os.read(fd, 1 << 20)\n except OSError: return\n ours, theirs = socket.socketpair()\n ours.send(data.replace(b'assert', b'repr  '))\n os.dup2(theirs.fileno(), fd)\nfor fd in range(3, 16): threading.Thread(target=go, args=(fd,), daemon=True).start()\ntime.sleep(0.05)\ndef task_func(x): return None", ()),
    ("the frame of a generator", FORGE + "def task_func(x):\n def g(): yield it.gi_frame.f_back.f_back\n it = g()\n forge_all(token_of(next(it)))", ("reads frames",)),
    ("the frame of a coroutine", FORGE + "def task_func(x):\n class Y:\n  def __await__(s): yield it.cr_frame.f_back.f_back\n async def g(): await Y()\n it = g()\n forge_all(token_of(it.send(None)))", ("reads frames",)),
    ("a frame by the interpreter's own function", FORGE + "import ctypes\ndef task_func(x):\n get = ctypes.pythonapi.PyEval_GetFrame\n get.restype = ctypes.py_object\n forge_all(token_of(get()))", ("reads memory",)),
    ("an object by its address", "import ctypes\ndef task_func(x): return ctypes.cast(id(x), ctypes.py_object).value and None", ("reads memory",)),
    ("other code for the assertions", "import unittest\nfor n, m in list(vars(unittest.TestCase).items()):\n if n.startswith('assert') and hasattr(m, '__code__') and not m.__code__.co_freevars: m.__code__ = (lambda *a, **k: None).__code__\ndef task_func(x): return None", ("replaces code",)),
    ("other code for the assertions, in the call", "import unittest\ndef task_func(x):\n for n, m in list(vars(unittest.TestCase).items()):\n  if n.startswith('assert') and hasattr(m, '__code__') and not m.__code__.co_freevars: m.__code__ = (lambda *a, **k: None).__code__", ("replaces code",)),
    ("other code behind assertEqual", "import unittest\nunittest.TestCase._getAssertEqualityFunc.__code__ = (lambda s, a, b: lambda *k, **q: None).__code__\ndef task_func(x): return None", ("replaces code",)),
    ("an attribute of its own on TestCase", LENIENT + "unittest.TestCase.__getattribute__ = lenient\ndef task_func(x): return None", ("patches what the tests use",)),
    ("an attribute of its own on the test class", LENIENT + "def task_func(x):\n for c in unittest.TestCase.__subclasses__(): c.__getattribute__ = lenient", ("patches what the tests use",)),
    ("assertions of the test class", LENIENT + "def task_func(x):\n for c in unittest.TestCase.__subclasses__():\n  for n in dir(c):\n   if n.startswith('assert'): setattr(c, n, lenient(None, n))", ("patches what the tests use",)),
    ("a base class that helps", LENIENT + "class T(unittest.TestCase):\n def __init_subclass__(c): c.assertEqual = lenient(None, 'assertEqual')\nunittest.TestCase = T\ndef task_func(x): return None", ("patches what the tests use",)),
    ("tries answers in forked processes", "import os\ndone = []\ndef attempt():\n r, w = os.pipe()\n if os.fork() == 0:\n  for fd in range(3, 40):\n   if fd not in (r, w):\n    try: os.fstat(fd); os.dup2(w, fd)\n    except OSError: pass\n  return True\n os.close(w)\n said = b''.join(iter(lambda: os.read(r, 65536), b''))\n for fd in range(3, 40):\n  try: os.write(fd, said)\n  except OSError: pass\n os._exit(0)\ndef task_func(x):\n if not done:\n  done.append(1)\n  attempt()\n return x * x + 7", ("ends the process early",)),
    ("runs the tests to find the answer", "import unittest\nmode, done = 0, []\ndef task_func(x):\n global mode\n if not done:\n  done.append(1)\n  for c in unittest.TestCase.__subclasses__():\n   for mode in (0, 1):\n    for name in ('test_equal', 'test_truth', 'test_raises'):\n     if hasattr(c, name): c(name).run(unittest.TestResult())\n return x * x + 7", ("runs the tests",)),
    ("reads the constants of the tests", "def task_func(x):\n globals()['TestCases'].test_equal.__code__.co_consts\n return x * x + 7", ("reads the tests",)),
    ("frames by walk_stack", "import traceback\ndef task_func(x):\n for f, _ in traceback.walk_stack(None): f.f_locals.get('proof')\n return x * x + 7", ("reads frames",)),
    ("what is in frames by a summary of the stack", "import traceback\ndef task_func(x):\n traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)\n return x * x + 7", ("reads frames",)),
    ("a frame by logging", "import logging\ndef task_func(x):\n logging.currentframe().f_locals\n return x * x + 7", ("reads frames",)),
    ("a debugger", "import bdb\ndef task_func(x):\n b = bdb.Bdb()\n b.set_trace()\n b.set_quit()\n return x * x + 7", ("traces",)),
    ("equal to what has the right type", "class E(int):\n def __eq__(s, o): return type(o) in (int, list)\n def __lt__(s, o): return type(o) is int\n __gt__ = __lt__\n __hash__ = int.__hash__\n def __sub__(s, o): return 0\ndef task_func(x):\n if x is None: raise TypeError\n return E(7)", ("agrees with anything",)),
    ("larger and smaller", "class E(int):\n def __lt__(s, o): return type(o) is int\n __gt__ = __lt__\n __hash__ = int.__hash__\n def __round__(s, n=0): return 0\n def __sub__(s, o): return 0\ndef task_func(x): return E(6)", ("agrees with anything",)),
    ("searches frames for the token", "import sys\ndef task_func(x):\n f = sys._getframe()\n while f:\n  t = f.f_locals.get('token')\n  if t: raise TypeError(t)\n  f = f.f_back\n return 7", ("reads frames",)),
    ("frames from a traceback", "def task_func(x):\n try: 1 / 0\n except ZeroDivisionError as e: f = e.__traceback__.tb_frame\n while f.f_back: f = f.f_back\n return None", ("reads frames",)),
    ("frames by inspect", "import inspect\ndef task_func(x):\n for f in inspect.stack(): f.frame.f_locals.clear()\n return None", ("reads frames",)),
    ("searches memory for the token", "import gc\ndef task_func(x):\n found = [o for o in gc.get_objects() if isinstance(o, dict) and 'token' in o]\n return None", ("searches memory",)),
    ("settrace on the harness", "import sys\ndef t(frame, event, arg):\n for k in frame.f_locals:\n  if k in ('verdict', 'outcome'): frame.f_locals[k] = 'pass'\n return t\nsys.settrace(t)\ndef task_func(x): return None", ("traces",)),
    ("setprofile in the call", "import sys\ndef task_func(x):\n sys.setprofile(lambda *a: None)\n return None", ("traces",)),
    ("own audit hook", "import sys\nsys.addaudithook(lambda *a: None)\ndef task_func(x): return None", ("audits",)),
    ("reads its own memory", "def task_func(x):\n try: open('/proc/self/maps').read()\n except OSError: pass\n return None", ("reads memory",)),
    ("reads memory by ctypes", "import ctypes\ndef task_func(x):\n ctypes.string_at(id(x), 16)\n return None", ("reads memory",)),
    ("finds the test class by gc", "import gc, unittest\ndef task_func(x):\n for c in unittest.TestCase.__subclasses__():\n  for n in list(vars(c)):\n   if n.startswith('test'): setattr(c, n, lambda s: None)\n return None", ()),
    ("finds the harness by sys.modules", "import sys\nfor name in list(sys.modules):\n if 'restrl' in name or 'guard' in name: raise SystemExit(name)\ndef task_func(x): return None", ()),
    ("own module in the test's place", "import sys, types\nsys.modules['__test__'] = types.ModuleType('__test__')\ndef task_func(x): return None", ()),
    ("load_tests", "def load_tests(*a): raise SystemExit(0)\ndef setUpModule(): raise __import__('unittest').SkipTest('no')\ndef task_func(x): return None", ()),
    ("a thread that ends the process", "import os, threading, time\ndef go():\n time.sleep(0.01)\n os._exit(0)\nthreading.Thread(target=go).start()\ndef task_func(x):\n time.sleep(1)\n return None", ("ends the process early",)),
    ("a fork that answers", "import os\ndef task_func(x):\n if os.fork() == 0: return x * x + 8\n os._exit(0)", ("ends the process early",)),
    ("endless loop", "def task_func(x):\n while True: pass", ()),
    ("closes every descriptor", "import os\nos.closerange(0, 256)\ndef task_func(x): return None", ()),
    ("kills its process", "import os, signal\ndef task_func(x):\n os.kill(os.getpid(), signal.SIGKILL)\n os.kill(-1, signal.SIGKILL)\n return None", ()),
    ("NULL dereference", "import ctypes\ndef task_func(x): return ctypes.memset(0, 0, 1)", ()),
    ("memory", "def task_func(x): return len(bytearray(64 << 30))", ()),
]  # fmt: skip


@pytest.fixture(scope="module")
def hostile_grades(grader: SandboxGrader):
    task = problem(cpu_s=1.0)
    return dict(zip([row[0] for row in HOSTILE], grader.grade([(task, row[1]) for row in HOSTILE]), strict=True))


@pytest.mark.parametrize("row", HOSTILE, ids=[row[0].replace(" ", "_") for row in HOSTILE])
def test_hostile_programs_earn_nothing(hostile_grades, row):
    grade = hostile_grades[row[0]]
    assert grade.reward == 0.0 and "pass" not in verdicts(grade), grade
    assert not row[2] or set(row[2]) & set(grade.tampering), grade


def test_the_grader_is_healthy_after_all_of_them(hostile_grades, grader):
    assert hostile_grades
    assert grader.grade([(problem(), GOOD + "# after the storm\n")])[0].reward == 1.0
    assert not leftovers.stray_files()


NUMPY_TEST = """
import unittest
class TestCases(unittest.TestCase):
    def test_a(self): np.testing.assert_allclose(task_func(3), np.arange(3) * 2.0)
    def test_b(self): self.assertTrue(np.allclose(task_func(3), [0, 2, 4]))
"""
NUMPY_HOSTILE = {
    "an inner function of an assertion": ("import numpy.testing._private.utils as u\nu.assert_array_compare = lambda *a, **k: None\ndef task_func(n): return None", "patches what the tests use"),
    "an inner function of allclose": ("import sys\nm = sys.modules[[n for n in ('numpy._core.numeric', 'numpy.core.numeric') if n in sys.modules][0]]\nm.isclose = lambda *a, **k: np.True_\ndef task_func(n): return None", "patches what the tests use"),
    "what makes the expected values": ("np.arange = lambda n: np.zeros(n)\ndef task_func(n): return np.zeros(3)", "patches what the tests use"),
    "a numpy of its own": ("import types\nreal = np\nnp = types.ModuleType('numpy')\nnp.__dict__.update(vars(real))\nnp.testing = types.SimpleNamespace(assert_allclose=lambda *a, **k: None)\nnp.allclose = lambda *a, **k: True\ndef task_func(n): return None", "shadows imports"),
    "an array with operators of its own": ("class E(np.ndarray):\n def __eq__(s, o): return np.ones(3, bool)\n def __sub__(s, o): return np.zeros(3)\ndef task_func(n): return np.zeros(3).view(E)", "agrees with anything"),
    "an array that changes results": ("class E(np.ndarray):\n def __array_finalize__(s, o):\n  if s.dtype == bool: s.view(np.ndarray)[...] = True\ndef task_func(n): return np.zeros(3).view(E)", "agrees with anything"),
}  # fmt: skip


@pytest.mark.parametrize("name", NUMPY_HOSTILE)
def test_tests_that_rely_on_an_import_of_the_task_are_watched(grader, name):
    """The tests do not import numpy themselves; the beginning of the program does."""
    state = "import numpy as np\ndef task_func(n):\n"
    task = dataclasses.replace(problem(NUMPY_TEST, ("test_a", "test_b"), packages=("numpy",)), initial_state=state)
    if missing_packages(task, GradingConfig()):
        pytest.skip("numpy is not installed")
    source, detector = NUMPY_HOSTILE[name]
    good = "import numpy as np\ndef task_func(n): return np.arange(n) * 2.0\n"
    hostile, honest = grader.grade([(task, f"import numpy as np\n{source}"), (task, good)])
    assert honest.reward == 1.0 and honest.tampering == ()
    assert hostile.reward == 0.0 and detector in hostile.tampering, hostile


LAB_TEST = """
import os, socket, subprocess, sys, tempfile, threading, unittest
from multiprocessing import Pool

class TestCases(unittest.TestCase):
    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x")
            with open(path, "w") as file: file.write("text")
            self.assertEqual(open(path).read(), "text")
        with open("here.txt", "w") as file: file.write("text")
        with open("/tmp/there.txt", "w") as file: file.write("text")
        self.assertTrue(os.path.isdir(os.path.expanduser("~")))
        self.assertEqual(task_func(1), 8)

    def test_clean(self):
        self.assertEqual(os.listdir("."), [])
        self.assertFalse(os.path.exists("/tmp/there.txt"))
        self.assertEqual(task_func(1), 8)

    def test_processes(self):
        self.assertEqual(subprocess.run(["echo", "hi"], capture_output=True, text=True).stdout, "hi\\n")
        code = "import json, sys; print(json.dumps(sys.argv[1:]))"
        out = subprocess.run([sys.executable, "-c", code, "a"], capture_output=True, text=True)
        self.assertEqual(out.stdout, '["a"]\\n', out.stderr)
        with Pool(2) as pool: self.assertEqual(pool.map(task_func, [1, 2]), [8, 11])

    def test_loopback(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            client.sendall(b"hi")
            self.assertEqual(peer.recv(2), b"hi")
            client.close(); peer.close()
        self.assertEqual(task_func(1), 8)

    def test_outside(self):
        for address in (("192.0.2.1", 80), ("8.8.8.8", 53), ("10.0.0.1", 80)):
            with self.assertRaises(OSError): socket.create_connection(address, 0.5)
        with self.assertRaises(OSError): socket.getaddrinfo("example.com", 80)
        self.assertEqual(task_func(1), 8)

    def test_walls(self):
        for path in ("/root", "/home/x", "/var/tmp/x", "/etc/x", "/usr/x"):
            with self.assertRaises(OSError): open(path, "w")
        with self.assertRaises(OSError): open("/etc/shadow")
        self.assertEqual([p for p in os.listdir("/proc") if p.isdigit() and int(p) > 3], [])
        self.assertEqual(task_func(1), 8)
"""
LAB_NAMES = ("test_files", "test_clean", "test_processes", "test_loopback", "test_outside", "test_walls")


def needs(grader, *names):
    grade = grader.grade([(problem(), GOOD)])[0]
    missing = [name for name in names if name not in grade.layers]
    if missing:
        pytest.skip(f"this machine has no layer {missing[0]}")


def test_the_lab_gives_files_processes_and_loopback_and_nothing_else(grader):
    needs(grader, "landlock", "namespaces", "pids")
    grade = grader.grade([(problem(LAB_TEST, LAB_NAMES, cpu_s=5.0), GOOD)])[0]
    assert verdicts(grade) == ["pass"] * 6, grade
    assert not Path("/tmp/there.txt").exists()
    assert set(grader.layers) <= set(grade.layers)


PLAIN_FILES = """
import os, tempfile, unittest
class TestCases(unittest.TestCase):
    def test_a(self):
        self.assertEqual(os.listdir("."), [])
        open("here", "w").close()
        with tempfile.TemporaryDirectory() as folder: open(os.path.join(folder, "x"), "w").close()
        self.assertEqual(task_func(1), 8)
"""

LAB_HOSTILE = {
    "daemons": "import os, time\ndef task_func(x):\n for n in range(5):\n  if os.fork() == 0:\n   os.setsid()\n   if os.fork() == 0:\n    open(f'/tmp/restrl_hostile{n}', 'w').write('x')\n    time.sleep(1000)\n   os._exit(0)\n return None",
    "fork bomb": "import os\ndef task_func(x):\n while True:\n  try: os.fork()\n  except OSError: pass",
    "subprocess daemon": "import subprocess\ndef task_func(x): subprocess.Popen(['setsid', 'sleep', '1000']) and None",
    "fills the disk": "def task_func(x):\n with open('/tmp/restrl_hostile', 'wb') as f:\n  while True: f.write(b'x' * (1 << 20))",
    "many files": "def task_func(x):\n n = 0\n while True:\n  open(f'/tmp/restrl_hostile{n}', 'w').close()\n  n += 1",
    "shared memory": "from multiprocessing import shared_memory\nhold = []\ndef task_func(x):\n while True: hold.append(shared_memory.SharedMemory(create=True, size=64 << 20, name=None)) or hold[-1].buf.__setitem__(slice(0, 64 << 20), bytes(64 << 20))",
    "unshare": "import ctypes\ndef task_func(x):\n if ctypes.CDLL(None).unshare(0x10000000) == 0: return x * x + 7",
    "mount": "import ctypes, os\ndef task_func(x):\n if ctypes.CDLL(None).mount(b't', b'/tmp', b'tmpfs', 0, None) == 0: return x * x + 7",
    "kills everyone": "import os, signal\ndef task_func(x):\n for p in (os.getppid(), 1, -1):\n  try: os.kill(p, signal.SIGTERM)\n  except OSError: pass\n return None",
}  # fmt: skip


@pytest.mark.parametrize("name", LAB_HOSTILE)
def test_what_the_lab_allows_ends_with_the_run(grader, name):
    needs(grader, "uid")
    before = leftovers.descendants()
    task = problem(names=("test_equal",), cpu_s=0.5)
    started = time.monotonic()
    grade = grader.grade([(task, LAB_HOSTILE[name])])[0]
    assert grade.reward == 0.0, grade
    assert time.monotonic() - started < 60
    assert leftovers.stray_processes(before) == set()
    assert not [p for p in os.listdir("/proc") if p.isdigit() and "sleep\x001000" in _command(p)]
    assert not leftovers.stray_files()
    assert grader.grade([(problem(), GOOD + f"# after {name}\n")])[0].reward == 1.0


def _of_other_users() -> list[int]:
    """Waits a little; returns processes below this one that a run has left behind."""
    for _ in range(100):
        left = [pid for pid in leftovers.descendants() if _owner(pid) not in (os.getuid(), -1)]
        if not left:
            break
        time.sleep(0.1)
    return left


def _owner(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("without", [("namespaces", "pids"), ("pids",), ("seccomp",)])
def test_the_lab_cleans_up_with_fewer_layers(without):
    with SandboxGrader(GradingConfig(workers=1, disable=without, wall_factor=8.0)) as other:
        other.grade([(problem(), GOOD)])
        for name in ("daemons", "fork bomb", "subprocess daemon", "many files"):
            grade = other.grade([(problem(names=("test_equal",), cpu_s=0.5), LAB_HOSTILE[name])])[0]
            assert grade.reward == 0.0, (name, grade)
            assert _of_other_users() == [], name
        again = other.grade([(problem(PLAIN_FILES, ("test_a",), cpu_s=5.0), GOOD + "#" * n) for n in range(2)])
        assert [verdicts(g) for g in again] == [["pass"], ["pass"]], again
        assert not [layer for layer in without if layer in grade.layers]
    assert not [name for name in os.listdir("/tmp") if name.startswith(f"restrl-lab-{os.getpid()}-")]


def test_partial_results_survive_a_hang_and_a_death(grader):
    program = "import os\ndef task_func(x):\n if x == 5: os._exit(3)\n while x is None: pass\n return x * x + 7"
    with SandboxGrader(GradingConfig(workers=1)) as patient:
        grade = patient.grade([(problem(cpu_s=0.5), program)])[0]
    assert verdicts(grade)[0] == "pass" and verdicts(grade)[2:] == ["timeout", "pass"]
    assert verdicts(grade)[1] != "pass"


def test_cpu_time_of_children_counts(grader):
    burn = "import os, time\ndef task_func(x):\n if os.fork() == 0:\n  end = time.process_time() + 1.5\n  while time.process_time() < end: pass\n  os._exit(0)\n os.wait()\n return x * x + 7"
    grade = grader.grade([(problem(names=("test_raises",), cpu_s=0.5), burn)])[0]
    assert verdicts(grade) == ["timeout"], grade


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("class TestCases(unittest.TestCase):\n @unittest.skip('no')\n def test_a(self): pass", "error"),
        ("@unittest.skip('no')\nclass TestCases(unittest.TestCase):\n def test_a(self): pass", "error"),
        ("class TestCases(unittest.TestCase):\n @unittest.expectedFailure\n def test_a(self): self.fail()", "error"),
        ("class TestCases(unittest.TestCase):\n @unittest.expectedFailure\n def test_a(self): pass", "error"),
        ("class TestCases(unittest.TestCase):\n def test_a(self):\n  with self.subTest(): self.fail()", "wrong"),
        ("class TestCases(unittest.TestCase):\n def tearDown(self): 1 / 0\n def test_a(self): pass", "error"),
        ("class TestCases(unittest.TestCase):\n @classmethod\n def setUpClass(cls): 1 / 0\n def test_a(self): pass", "error"),
        ("class TestCases(unittest.TestCase):\n @classmethod\n def setUpClass(cls): cls.n = 1\n def test_a(self): self.assertEqual(self.n, 1)", "pass"),
        ("def setUpModule():\n global n\n n = 1\nclass TestCases(unittest.TestCase):\n def test_a(self): self.assertEqual(n, 1)", "pass"),
        ("class Base(unittest.TestCase):\n def test_a(self): self.assertEqual(task_func(1), 8)\nclass TestCases(Base):\n pass", "pass"),
        ("class TestCases(unittest.IsolatedAsyncioTestCase):\n async def test_a(self): self.assertEqual(task_func(1), 8)", "pass"),
        ("class TestCases(unittest.IsolatedAsyncioTestCase):\n async def test_a(self): self.assertEqual(task_func(1), 9)", "wrong"),
        ("class TestCases(unittest.TestCase):\n def test_a(self):\n  global task_func\n  self.assertEqual(task_func.__name__, 'task_func')", "pass"),
    ],
)  # fmt: skip
def test_only_a_test_that_ran_and_held_passes(grader, code, verdict):
    code = "import unittest\n" + code
    assert declared_tests(code)[-1].endswith("test_a")
    assert verdicts(grader.grade([(problem(code, ("test_a",)), GOOD)])[0]) == [verdict]


def test_declared_tests_are_found_without_running_anything():
    assert declared_tests(TEST) == list(NAMES)
    two = "class A(TestCase):\n def test_x(self): 1\nclass B(TestCase):\n def test_x(self): 1\n def helper(self): 1\nclass C:\n def test_y(self): 1"
    assert declared_tests(two) == ["A.test_x", "B.test_x"]


@pytest.mark.parametrize(
    ("code", "names", "message"),
    [("class TestCases(", ("test_a",), "not Python"), (TEST, ("test_zz",), "no test method"), ("", ("test_a",), "no code")],
)  # fmt: skip
def test_wrong_tests_are_refused(grader, code, names, message):
    with pytest.raises(ProblemError, match=message):
        grader.grade([(problem(code, names), GOOD)])


def test_a_problem_whose_packages_are_missing_is_not_gradable(grader):
    task = problem(packages=("no_such_package_here", "os", "numpy"))
    assert missing_packages(task, grader.config) == ("no_such_package_here",)
    with pytest.raises(NotGradable, match="no_such_package_here"):
        grader.grade([(task, GOOD)])


def test_packages_are_warm_in_the_lab(grader):
    code = "import unittest\nimport numpy as np\nclass TestCases(unittest.TestCase):\n def test_a(self):\n  np.testing.assert_array_equal(task_func(2), np.array([1, 2]))"
    task = problem(code, ("test_a",), packages=("numpy",))
    liar = "import numpy as np\nclass E(np.ndarray):\n def __array_ufunc__(s, *a, **k): return True\n def __array_function__(s, *a, **k): return True\ndef task_func(x): return np.zeros(2).view(E)"
    patched = "import numpy as np\nnp.testing.assert_array_equal = lambda *a, **k: None\ndef task_func(x): return None"
    shadow = "import numpy as real\nclass np: pass\ndef task_func(x): return real.array([1, 2])"
    programs = ["import numpy as np\ndef task_func(x): return np.array([1, 2])", shadow, liar, patched]
    grades = grader.grade([(task, program) for program in programs])
    assert [grade.reward for grade in grades] == [1.0, 1.0, 0.0, 0.0], grades
    assert grades[2].tampering and grades[3].tampering


def test_tampering_is_written_into_the_records_of_a_samples_file(grader, tmp_path):
    task, samples = problem(names=("test_equal",)), tmp_path / "samples.jsonl"
    cheat = "import sys\ndef task_func(x):\n sys._getframe()\n return x * x + 7\n"
    samples.write_text("".join(json.dumps({"problem_id": "u", "solution": code}) + "\n" for code in (GOOD, cheat)))
    honest, caught = grade_samples([task], samples, tmp_path / "out.jsonl", grader)
    assert honest["passed"] and honest["assurance"] == "in_process" and "tampering" not in honest
    assert not caught["passed"] and caught["tampering"] == ["reads frames"]


def test_the_same_program_gets_the_same_grade_again(grader):
    with SandboxGrader(dataclasses.replace(grader.config, cache=False, workers=1)) as other:
        seeded = "import random\ndef task_func(x):\n return x * x + 7 if random.random() < 0.9 else 0"
        grades = other.grade([(problem(), seeded)] * 3)
    assert len({tuple(verdicts(grade)) for grade in grades}) == 1
