"""One made-up record of each of HumanEval, MBPP and their plus sets, in the layout of the published files."""

from __future__ import annotations

from typing import Any

HUMANEVAL: dict[str, Any] = {
    "task_id": "HumanEval/900",
    "prompt": '\n\ndef halve(n: int):\n    """ Half of n.\n    >>> halve(3)\n    1.5\n    """\n',
    "entry_point": "halve",
    "canonical_solution": "\n    return n / 2\n",
    "test": "\nMETADATA = {}\n\ndef check(candidate):\n    assert candidate(3) == 1.5\n    assert candidate(0) == 0\n",
}
PLUS: dict[str, Any] = {
    **{key: HUMANEVAL[key] for key in ("task_id", "prompt", "entry_point", "canonical_solution")},
    "contract": "\n    assert isinstance(n, int)\n",
    "base_input": [[3], [0]],
    "plus_input": [[7], [-1], [10**20]],
    "atol": 0,
}
MBPP: dict[str, Any] = {
    "task_id": 12,
    "text": "Write a function to sort a list. ",
    "code": "import sys\r\ndef helper(x):\r\n  return x\r\ndef order(xs):\r\n  return sorted(helper(xs))",
    "test_setup_code": "",
    "test_list": ["assert order([2, 1]) == [1, 2]", "assert order([]) == []", "assert sys.getsizeof(order([1])) > 0"],
    "challenge_test_list": ["assert order('ba') == ['a', 'b']"],
}
MBPP_PLUS: dict[str, Any] = {
    "task_id": "Mbpp/106",
    "prompt": '"""\nWrite a function to add a list to a tuple.\nassert add([5], (9, 10)) == (9, 10, 5)\n"""\n',
    "entry_point": "add",
    "canonical_solution": "\ndef add(xs, t):\n  return t + tuple(xs)\n",
    "base_input": [[[5], [9, 10]]],
    "plus_input": [[[], []], [[1], [2.5]]],
    "atol": 0,
    "contract": "",
    "assertion": "",
}
