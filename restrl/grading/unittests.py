"""Tests of kind ``unittest``: methods of a `unittest.TestCase`, such as BigCodeBench's; each is one declared test."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from restrl.errors import ProblemError
from restrl.grading.config import GradingConfig
from restrl.grading.modes import Outcome, check_limits
from restrl.grading.proxiable import can_be_proxied, prelude_of
from restrl.grading.proxied import Method, ProxiedRun
from restrl.grading.shared import Report, SharedRun, imports_of, outcome_of, parse_tests
from restrl.grading.worker import Worker
from restrl.types import Case, Problem

_CLASS = "TestCases"
_MAX_KNOWN = 1 << 16


@dataclass(frozen=True, slots=True)
class Declared:
    """A test method in test code: the class that has it, and its name."""

    owner: str
    method: str


def declared_tests(source: str) -> list[str]:
    """Returns the ids of the test methods in test code, in the order of the source, found without running it.

    An id is the method's name, or ``Class.method`` where two classes have a method of that name.

    Raises:
        SyntaxError: The code is not Python.

    >>> declared_tests("class TestCases(TestCase):\\n def setUp(self): pass\\n def test_a(self): pass")
    ['test_a']
    """
    found = _methods(ast.parse(source))
    names = [test.method for test in found]
    return [t.method if names.count(t.method) == 1 else f"{t.owner}.{t.method}" for t in found]


def _methods(tree: ast.Module) -> list[Declared]:
    """Test methods of the classes that derive from a TestCase, inherited ones of the same source included."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def bases(node: ast.ClassDef) -> list[str]:
        return [ast.unparse(base).split(".")[-1] for base in node.bases]

    def is_case(node: ast.ClassDef) -> bool:
        return any(name.endswith("TestCase") or (name in classes and is_case(classes[name])) for name in bases(node))

    def methods(node: ast.ClassDef) -> list[str]:
        inherited = [name for base in bases(node) if base in classes for name in methods(classes[base])]
        own = [item.name for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
        return list(dict.fromkeys(name for name in inherited + own if name.startswith("test")))

    return [Declared(name, method) for name, node in classes.items() if is_case(node) for method in methods(node)]


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Returns what the imports at the top of code bind: name -> the module, or ``module:attribute``."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update({alias.asname or alias.name: f"{node.module}:{alias.name}" for alias in node.names})
    return found


def _imported_names_of(state: str) -> dict[str, str]:
    """The same of the beginning of a program, which may end in the middle of a function."""
    for source in (state, f"{state}\n    pass\n"):
        try:
            return _imported_names(ast.parse(source))
        except (SyntaxError, ValueError):
            continue
    return {}


class UnittestJudge:
    """Grades by the methods of a TestCase: processes of its own for each.

    Program and test share one (see `shared`), unless the problem is known to work with a proxy between two (`proxied`):
    its test code uses the program only by calling it, and its canonical solution passes every method that way. This
    is a property of the problem: the same for every program.
    """

    def __init__(self, problem: Problem, config: GradingConfig) -> None:
        check_limits(problem)
        self._problem = problem
        self._config = config
        self._tests: list[tuple[Declared, str, list[str], dict[str, str]]] = []
        task = _imported_names_of(problem.initial_state)
        code = ""
        for case in problem.tests.cases:
            if case.code and case.code != code:
                code = case.code
                tree = parse_tests(problem, case, code)
                known, imports, own = _methods(tree), imports_of(tree), _imported_names(tree)
                given = {name: what for name, what in task.items() if name not in own}
            if not code:
                raise ProblemError(f"test {case.id} of problem {problem.id} has no code; give the class TestCases")
            self._tests.append((_find(problem, case, known), code, imports, given))
        tests, canonical, state = problem.tests, problem.canonical_solution, problem.initial_state
        codes = {code for _, code, _, _ in self._tests}
        fits = bool(canonical) and all(can_be_proxied(code, state, problem.entry_point) for code in codes)
        self._canonical = canonical if canonical and fits else ""
        key = ("unittest", problem.entry_point, problem.limits, tests.profile, tests.packages, self._tests)
        way = (state, self._canonical) if fits else ()
        self.digest = hashlib.blake2b(repr((*key, way)).encode("utf-8", "backslashreplace"), digest_size=16).digest()

    def grade(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        """Grades one program; see `Judge`."""
        if self.is_proxied(worker):
            return self._grade_proxied(worker, program, final=final)
        reports: list[Report] = []
        num_costly = 0
        for declared, code, imports, given in self._tests:
            if num_costly >= self._config.max_timeouts:
                break
            run = SharedRun(self._problem, self._config, final=final)
            request = {"mode": "unittest", "program": program, "imports": imports, "given": given}
            rest = {"code": code, "owner": declared.owner, "method": declared.method}
            report = run.run(worker, request, rest | {"entry": self._problem.entry_point})
            num_costly += report.verdict in ("timeout", "memory")
            reports.append(report)
        return outcome_of(self._problem.tests.cases, reports)

    def is_proxied(self, worker: Worker) -> bool:
        """Does the problem work with a proxy? The canonical solution is tried once.

        Raises:
            Fault: A run failed; nothing is concluded from it.
        """
        if not self._canonical:
            return False
        return _WAYS.get(self.digest + repr((self._config, worker.place)).encode(), lambda: self._try_proxy(worker))

    def _try_proxy(self, worker: Worker) -> bool:
        for method in self._methods():
            trial = ProxiedRun(self._problem, self._config, worker, final=False, trial=True)
            if trial.run(self._canonical, method).verdict != "pass":
                return False
        return True

    def _methods(self) -> list[Method]:
        prelude = prelude_of(self._problem.initial_state) or ""
        return [Method(code, test.owner, test.method, prelude) for test, code, _, _ in self._tests]

    def _grade_proxied(self, worker: Worker, program: str, *, final: bool) -> Outcome:
        reports: list[Report] = []
        num_costly = 0
        for method in self._methods():
            if num_costly >= self._config.max_timeouts:
                break
            reports.append(ProxiedRun(self._problem, self._config, worker, final=final).run(program, method))
            num_costly += reports[-1].verdict in ("timeout", "memory")
        return dataclasses.replace(outcome_of(self._problem.tests.cases, reports), assurance="isolated")


class _Ways:
    """What is known of problems, by their content: each is tried once, also where several threads ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._busy: dict[bytes, threading.Lock] = {}

    def get(self, key: bytes, find: Callable[[], bool]) -> bool:
        """Returns what is known, or finds it; what `find` raises is not remembered."""
        with self._lock:
            if key in self._known:
                return self._known[key]
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:
            with self._lock:
                if key in self._known:
                    return self._known[key]
            found = find()
            with self._lock:
                self._known[key] = found
                self._busy.pop(key, None)
                if len(self._known) > _MAX_KNOWN:
                    self._known.popitem(last=False)
            return found


_WAYS = _Ways()


def _find(problem: Problem, case: Case, known: list[Declared]) -> Declared:
    """Returns the method that a case names; `TestCases` wins where several classes have it."""
    matches = [test for test in known if case.id in (test.method, f"{test.owner}.{test.method}")]
    if not matches:
        names = ", ".join(test.method for test in known) or "none"
        raise ProblemError(f"test {case.id} of problem {problem.id} is no test method of its code; it has: {names}")
    return min(matches, key=lambda test: test.owner != _CLASS)
