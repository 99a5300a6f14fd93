"""Reference solutions of the public benchmarks that are known to fail, and why: faults of the data, not of the grader.

A problem is named as its loader names it; ``ID#N`` is one of several solutions, from 0; ``SET:ID`` counts in that set
alone, and ``SET<OTHER:ID`` where the solutions of OTHER are run on the tests of SET.
"""

from __future__ import annotations

CROSS_CHECKS: dict[str, str] = {"humaneval+/one-program": "humaneval"}
"""Set -> another set of the same problems, whose solutions `restrl problems validate --all` runs on its tests too: how
many fail is known, and shows that the tests are all there and can fail."""

_RETURN = "a return at the top level: a program cannot, only the harness's function around it can"
_REMOVED = "with later versions than those of restrl/requirements/ds1000.txt, which have removed"
_DOWNLOADS = "its test downloads a data set, and programs have no network:"
_FILES = "its tests download files or pages, and programs have no network"
_NLTK = "it downloads nltk's stopwords, and programs have no network"
# What seaborn's load_dataset fetches, and for which problems of DS-1000.
_SEABORN = {
    "tips": (519, 565, 566, 567),
    "planets": (539,),
    "penguins": (577, 598, 624, 629, 650, 661),
    "exercise": (654, 655, 656),
}
_FIRST = "HumanEval's first solution, which HumanEval+ found wrong or too slow and replaced"
_FIRST_SOLUTIONS = (
    *(22, 44, 49, 55, 63, 64, 76, 91, 95, 97, 111, 122, 123, 124, 125, 127, 132, 140, 150),
    32,  # the test is wrong, as above
)

KNOWN_FAILURES: dict[str, str] = {
    "humaneval+/one-program:HumanEval/32": "its upstream test is wrong: it compares roots, of which there are several",
    **{f"humaneval+/one-program<humaneval:HumanEval/{number}": _FIRST for number in _FIRST_SOLUTIONS},
    "apps/train/2287#2": _RETURN,
    "apps/train/2287#4": _RETURN,
    "apps/train/2287#9": _RETURN,
    "BigCodeBench/93": "test_values wants the seed that a method before it sets, and each method runs alone",
    "BigCodeBench/101": f"{_DOWNLOADS} Boston housing",
    "BigCodeBench/177": _NLTK,
    "BigCodeBench/590": _FILES,
    "BigCodeBench/655": _NLTK,
    "BigCodeBench/1005": _FILES,
    "BigCodeBench/1006": _FILES,
    "BigCodeBench/1012": _FILES,
    "ds1000/353": f"{_REMOVED} numpy.in1d",
    "ds1000/475": f"{_REMOVED} scipy.interpolate.interp2d",
    "ds1000/726": f"{_REMOVED} scipy.misc.face",
    "ds1000/727": f"{_REMOVED} the attribute A of sparse matrices",
    "ds1000/775": f"{_REMOVED} the attribute A of sparse matrices",
    "ds1000/794": f"{_REMOVED} scipy.integrate.quadrature",
    "ds1000/795": f"{_REMOVED} scipy.integrate.quadrature",
    "ds1000/796": f"{_REMOVED} the method _update of scipy's dok_matrix",
    "ds1000/819": f"{_DOWNLOADS} scikit-learn's California housing",
    **{f"ds1000/{n}": f"{_DOWNLOADS} seaborn's {name}" for name, numbers in _SEABORN.items() for n in numbers},
}


def known_failure(problem_id: str, solution: int = 0, set_name: str = "") -> str:
    """Returns why a reference solution fails, or an empty string if that is not known.

    Args:
        problem_id: The problem.
        solution: Which of its solutions, from 0.
        set_name: The set, ``SET<OTHER`` for another set's solutions. Those of another set have entries of their own.
    """
    keys = [f"{set_name}:{problem_id}"]
    if "<" not in set_name:
        keys += [f"{problem_id}#{solution}", problem_id]
    return next((KNOWN_FAILURES[key] for key in keys if key in KNOWN_FAILURES), "")
