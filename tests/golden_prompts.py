"""The golden prompts: one made-up problem per benchmark format, shown to a base model and to every chat template.

    python tests/golden_prompts.py

writes them anew to tests/policy/golden/; read the difference before committing it. No record here is a benchmark's.
"""

from __future__ import annotations

import base64
import importlib
import json
import pickle
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restrl.problems.jsonl import problem_from_line
from restrl.problems.livecodebench_example import with_example
from restrl.problems.mbpp import three_shot
from restrl.types import Problem, State

GOLDEN = Path(__file__).parent / "policy" / "golden"

HUMANEVAL: dict[str, Any] = {
    "task_id": "HumanEval/900",
    "prompt": "from typing import List\n\n\ndef odd_ones(numbers: List[int]) -> List[int]:\n"
    '    """ Return the odd numbers, in their order.\n    >>> odd_ones([1, 2, 35])\n    [1, 35]\n    """\n',
    "entry_point": "odd_ones",
    "canonical_solution": "    return [n for n in numbers if n % 2]\n",
    "test": "def check(candidate):\n    assert candidate([1, 2, 35]) == [1, 35]\n    assert candidate([]) == []\n",
}
MBPP: dict[str, Any] = {
    "task_id": 11,
    "text": "Write a function to join words by a dash.",
    "code": "def dashed(words):\r\n    return '-'.join(words)",
    "test_list": [
        "assert dashed(['a', 'b']) == 'a-b'",
        "assert dashed([]) == ''",
        "assert dashed(['x']) == 'x'",
    ],
    "test_setup_code": "",
    "challenge_test_list": [],
}
MBPP_SANITIZED = {
    **{key: MBPP[key] for key in ("task_id", "code", "test_list")},
    "source_file": "own",
    "prompt": "Write a function to join words by a dash.",
    "test_imports": [],
}
MBPP_SHOTS = [
    {
        **MBPP,
        "task_id": number,
        "text": f"Write a function to add {number}.",
        "code": f"def add(x):\r\n    return x + {number}",
        "test_list": [f"assert add({x}) == {x + number}" for x in range(3)],
    }
    for number in (2, 3, 4)
]
"""The three tasks that the paper's prompt solves."""
PLUS_ONE_PROGRAM = {**HUMANEVAL, "task_id": "HumanEval/901", "test": "import numpy as np\n" + str(HUMANEVAL["test"])}
MBPP_PLUS_ONE_PROGRAM = {**MBPP_SANITIZED, "test": "\n".join(MBPP["test_list"])}
MBPP_PLUS = {
    "task_id": "Mbpp/11",
    "prompt": "\"\"\"\nWrite a function to join words by a dash.\nassert dashed(['a', 'b']) == 'a-b'\n\"\"\"\n",
    "entry_point": "dashed",
    "canonical_solution": "\ndef dashed(words):\n    return '-'.join(words)\n",
    "base_input": [[["a", "b"]]],
    "plus_input": [[[]], [["", ""]]],
    "atol": 0,
    "contract": "",
}
APPS_STDIO = {
    "problem_id": 10,
    "question": "You get n numbers.\n\n-----Input-----\nn, then n numbers.\n\n-----Output-----\nTheir sum.\n",
    "starter_code": "",
    "difficulty": "interview",
    "input_output": json.dumps({"inputs": ["2\n1 2\n"], "outputs": ["3\n"]}),
    "solutions": json.dumps(["input()\nprint(sum(map(int, input().split())))\n"]),
}
APPS_CALL = {
    **APPS_STDIO,
    "problem_id": 20,
    "question": "Return the longest word; the first of several.",
    "starter_code": "class Solution:\n    def longest(self, words: List[str]) -> str:\n        ",
    "input_output": json.dumps({"fn_name": "longest", "inputs": [[["a", "bb"]]], "outputs": ["bb"]}),
    "solutions": json.dumps(
        ["class Solution:\n    def longest(self, words: List[str]) -> str:\n        return max(words, key=len)\n"]
    ),
}
CODECONTESTS = {
    "name": "9999_A. Halves",
    "description": "You get an even number.\n\nInput\n\nThe number.\n\nOutput\n\nHalf of it.\n\nExample\n\nInput\n\n4\n"
    "\n\nOutput\n\n2\n",
    "public_tests": {"input": ["4\n"], "output": ["2\n"]},
    "solutions": {"language": [3], "solution": ["print(int(input()) // 2)\n"]},
}
LCB_STDIN: dict[str, Any] = {
    "question_title": "Minimum",
    "question_content": "You get two integers on a line. Print the smaller one.",
    "platform": "atcoder",
    "question_id": "own_a",
    "contest_id": "own",
    "contest_date": "2024-01-01T00:00:00",
    "starter_code": "",
    "difficulty": "easy",
    "public_test_cases": json.dumps([{"input": "3 4\n", "output": "3\n", "testtype": "stdin"}]),
    "private_test_cases": json.dumps([{"input": "9 8\n", "output": "8\n", "testtype": "stdin"}]),
    "metadata": "{}",
}
LCB_FUNCTIONAL: dict[str, Any] = {
    **LCB_STDIN,
    "question_id": "own_b",
    "question_content": "Return the integers without those below k.",
    "starter_code": "class Solution:\n    def atLeast(self, xs: List[int], k: int) -> List[int]:\n        ",
    "public_test_cases": json.dumps([{"input": "[1, 5]\n2", "output": "[5]", "testtype": "functional"}]),
    "private_test_cases": json.dumps([{"input": "[]\n2", "output": "[]", "testtype": "functional"}]),
    "metadata": '{"func_name": "atLeast"}',
}
LCB_SAMPLE = {
    "content": "You write programs.\n### Question:\nReturn the integers without those below k.\n\n### Format: You will "
    f"use the following starter code.\n```python\n{LCB_FUNCTIONAL['starter_code']}\n```\n\n### Answer:\n",
    "labels": json.dumps({"task_id": "own/c", "difficulty": "easy", "category": "own"}),
    "test": base64.b64encode(
        zlib.compress(
            pickle.dumps(json.dumps({"fn_name": "atLeast", "inputs": ["[1, 5]\n2", "[]\n2"], "outputs": ["[5]", "[]"]}))
        )
    ).decode(),
}
"""The layout of SandboxFusion, its tests packed as there."""
BIGCODEBENCH: dict[str, Any] = {
    "task_id": "BigCodeBench/9000",
    "complete_prompt": "import math\nimport random\n\ndef task_func(values):\n"
    '    """\n    Returns the square root of the sum of values.\n\n    Parameters:\n    - values (list): Values.\n\n'
    "    Returns:\n    float: The root.\n\n    Requirements:\n    - math\n    - random\n\n    Example:\n"
    '    >>> task_func([9, 16])\n    5.0\n    """\n',
    "instruct_prompt": "Returns the square root of the sum of some values.\nThe function should output with:\n"
    "    float: The root.\nYou should write self-contained code starting with:\n```\nimport math\nimport random\n"
    "def task_func(values):\n```",
    "code_prompt": "import math\nimport random\ndef task_func(values):\n",
    "canonical_solution": "    return math.sqrt(sum(values))",
    "test": "import unittest\nclass TestCases(unittest.TestCase):\n    def test_one(self):\n"
    "        self.assertEqual(task_func([9, 16]), 5.0)\n    def test_none(self):\n"
    "        self.assertEqual(task_func([]), 0.0)\n",
    "entry_point": "task_func",
    "libs": "['math', 'random']",
    "doc_struct": "{}",
}
BIGCODEBENCH_SAMPLE = {
    "id": "BigCodeBench/9001",
    "content": BIGCODEBENCH["complete_prompt"],
    "canonical_solution": BIGCODEBENCH["canonical_solution"],
    "test": BIGCODEBENCH["test"],
    "labels": json.dumps({"entry_point": "task_func"}),
}
"""The layout of SandboxFusion."""
DS1000_TEST = (
    "def generate_test_case(number):\n    return [3, 1, 2], [1, 2, 3]\n\n\n"
    "def exec_test(result, answer):\n    return int(result == answer)\n\n\n"
    'exec_context = """\nvalues = test_input\n[insert]\n"""\n\n\n'
    "def test_execution(solution):\n    code = exec_context.replace('[insert]', solution)\n"
    "    test_input, expected = generate_test_case(1)\n    names = {'test_input': test_input}\n"
    "    exec(code, names)\n    assert exec_test(names['result'], expected)\n"
)
DS1000 = {
    "prompt": "Problem:\nI have a list of numbers. How do I sort it?\nA:\n<code>\nvalues = load()\n</code>\n"
    "result = ... # put solution in this variable\nBEGIN SOLUTION\n<code>\n",
    "reference_code": "result = sorted(values)",
    "metadata": {"problem_id": 9000, "library": "Own", "perturbation_type": "Origin"},
    "code_context": DS1000_TEST,
}
DS1000_FUNCTION = {
    **DS1000,
    "prompt": "Problem:\nI have a list of numbers. How do I sort it?\nA:\n<code>\ndef f(values):\n"
    "    # return the solution in this function\n    # result = f(values)\n    ### BEGIN SOLUTION",
    "reference_code": "    result = sorted(values)\n\n    return result",
    "metadata": {"problem_id": 9001, "library": "Own", "perturbation_type": "Origin"},
    "code_context": DS1000_TEST.replace("[insert]\n", "def f(values):\n[insert]\nresult = f(values)\n"),
}
OWN = json.dumps(
    {
        "id": "own/double",
        "statement": "Return twice x.",
        "initial_state": 'def solve(x):\n    """Return twice x."""\n',
        "entry_point": "solve",
        "stop_strings": ["\ndef ", "\n#"],
        "canonical_solution": 'def solve(x):\n    """Return twice x."""\n    return 2 * x\n',
        "tests": {"kind": "call", "cases": [{"args": [1], "expected": 2}, {"args": [-3], "expected": -6}]},
    }
)

RECORDS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "humaneval": ("humaneval", "to_problem", HUMANEVAL),
    "humaneval+": ("evalplus", "humaneval_plus", {**HUMANEVAL, "base_input": [[[1]]], "plus_input": [[[]]], "atol": 0}),
    "mbpp": ("mbpp", "to_problem", MBPP),
    "humaneval+one-program": ("evalplus", "humaneval_plus", PLUS_ONE_PROGRAM),
    "mbpp-3shot": ("mbpp", "to_problem", MBPP),
    "mbpp-challenge": (
        "mbpp",
        "with_challenge",
        {**MBPP, "challenge_test_list": ["assert dashed(['a', 'b', 'c']) == 'a-b-c'"]},
    ),
    "mbpp-sanitized": ("mbpp", "to_problem", MBPP_SANITIZED),
    "mbpp+": ("evalplus", "mbpp_plus", MBPP_PLUS),
    "mbpp+one-program": ("evalplus", "mbpp_plus", MBPP_PLUS_ONE_PROGRAM),
    "apps-stdio": ("apps", "to_problem", APPS_STDIO),
    "apps-call": ("apps", "to_problem", APPS_CALL),
    "codecontests": ("codecontests", "to_problem", CODECONTESTS),
    "livecodebench-stdin": ("livecodebench", "to_problem", LCB_STDIN),
    "livecodebench-functional": ("livecodebench", "to_problem", LCB_FUNCTIONAL),
    "livecodebench-sample": ("livecodebench", "to_problem", LCB_SAMPLE),
    "bigcodebench-instruct": ("bigcodebench", "to_problem", BIGCODEBENCH),
    "bigcodebench-complete": ("bigcodebench", "to_complete", BIGCODEBENCH),
    "bigcodebench-sample": ("bigcodebench", "to_complete", BIGCODEBENCH_SAMPLE),
    "ds1000": ("ds1000", "to_problem", DS1000),
    "ds1000-function": ("ds1000", "to_problem", DS1000_FUNCTION),
}
"""Format -> (module of restrl.problems, function, record)."""

SETS: Mapping[str, tuple[str, ...]] = {
    "humaneval": ("humaneval",),
    "humaneval+": ("humaneval+",),
    "humaneval+mini": ("humaneval+",),
    "humaneval+/one-program": ("humaneval+one-program",),
    "mbpp": ("mbpp",),
    "mbpp-3shot": ("mbpp-3shot",),
    "mbpp-challenge": ("mbpp-challenge",),
    "mbpp-sanitized": ("mbpp-sanitized",),
    "mbpp+": ("mbpp+",),
    "mbpp+/one-program": ("mbpp+one-program",),
    "apps/train": ("apps-stdio", "apps-call"),
    "apps/test": ("apps-stdio", "apps-call"),
    "apps/test-500": ("apps-stdio", "apps-call"),
    "apps/sample": ("apps-stdio", "apps-call"),
    "livecodebench": ("livecodebench-stdin", "livecodebench-functional"),
    "livecodebench/sample": ("livecodebench-sample",),
    "codecontests": ("codecontests",),
    "bigcodebench": ("bigcodebench-instruct",),
    "bigcodebench/complete": ("bigcodebench-complete",),
    "bigcodebench/hard": ("bigcodebench-instruct",),
    "bigcodebench/hard-complete": ("bigcodebench-complete",),
    "bigcodebench/sample": ("bigcodebench-sample",),
    "ds1000": ("ds1000", "ds1000-function"),
}
"""Set that is read from data -> the formats of its records; a test holds it to the registry."""


def records_of(name: str) -> list[dict[str, Any]]:
    """Good made-up records of a set; the prompt of ``mbpp-3shot`` needs three more."""
    return [*(MBPP_SHOTS if name == "mbpp-3shot" else ()), *(RECORDS[item][2] for item in SETS[name])]


def problems() -> dict[str, Problem]:
    """The made-up problem of every format, through the loaders' own conversion."""
    made = {"own": problem_from_line(OWN)}
    for name, (module, function, record) in RECORDS.items():
        loader = importlib.import_module(f"restrl.problems.{module}")
        where = f"{name}.jsonl:1"
        if function == "to_complete":
            problem = loader.to_problem(record, where, "complete")
        else:
            problem = getattr(loader, function)(record, where)
        if module == "livecodebench":
            (problem,) = with_example(iter([problem]), folder="")
        if name == "mbpp-3shot":
            *_, problem = three_shot(iter([*(loader.to_problem(shot, where) for shot in MBPP_SHOTS), problem]))
        assert isinstance(problem, Problem), problem
        made[name] = problem
    return made


def page(problem: Problem, tokenizers: Mapping[str, Any]) -> str:
    """What every kind of model is shown, up to where it goes on, and what stops it."""
    from restrl.policy.prompting import build_prompt, stop_strings

    state = State(problem)
    any_tokenizer = next(iter(tokenizers.values()))
    parts = [("plain", build_prompt(state, any_tokenizer, "plain"), stop_strings(state, any_tokenizer, "plain"))]
    parts += [(name, build_prompt(state, t, "chat"), stop_strings(state, t, "chat")) for name, t in tokenizers.items()]
    return "".join(
        f"<<<<<<<< {name}\n{prompt}>>>>>>>>\nstops: {json.dumps(stops, ensure_ascii=False)}\n\n"
        for name, prompt, stops in parts
    )


def main() -> None:
    """Writes the golden files."""
    import tempfile

    from architectures import ARCHITECTURES, save_architecture

    from restrl.policy.model_dir import load_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        tokenizers = {name: load_tokenizer(save_architecture(Path(folder) / name, name)) for name in ARCHITECTURES}
        GOLDEN.mkdir(exist_ok=True)
        for name, problem in problems().items():
            (GOLDEN / f"{name}.txt").write_text(page(problem, tokenizers), encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
