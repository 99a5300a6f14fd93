"""Reference solutions of the public benchmarks that are known to fail, and why: faults of the data, not of the grader.

A problem is named as its loader names it; ``ID#N`` is one of several solutions, from 0.
"""

from __future__ import annotations

_RETURN = "a return at the top level: a program cannot, only the harness's function around it can"
_REMOVED = "with later versions than those of restrl/requirements/ds1000.txt, which have removed"
_DOWNLOADS = "its test downloads a data set, and programs have no network:"
# What seaborn's load_dataset fetches, and for which problems of DS-1000.
_SEABORN = {
    "tips": (519, 565, 566, 567),
    "planets": (539,),
    "penguins": (577, 598, 624, 629, 650, 661),
    "exercise": (654, 655, 656),
}

KNOWN_FAILURES: dict[str, str] = {
    "apps/train/2287#2": _RETURN,
    "apps/train/2287#4": _RETURN,
    "apps/train/2287#9": _RETURN,
    "BigCodeBench/1005": "its tests download files, and programs have no network",
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


def known_failure(problem_id: str, solution: int = 0) -> str:
    """Returns why a reference solution fails, or an empty string if that is not known."""
    return KNOWN_FAILURES.get(f"{problem_id}#{solution}", KNOWN_FAILURES.get(problem_id, ""))
