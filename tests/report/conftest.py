"""A report with every part, of invented numbers."""

import numpy as np
import pytest

from restrl.evaluation.statistics import Interval
from restrl.report.data import (
    BestOf,
    BudgetCurve,
    BudgetDifference,
    CalibrationBin,
    Cost,
    CurvePoint,
    DepthError,
    Example,
    ReportData,
    Row,
    Spread,
    ValueReport,
)

HOSTILE = (
    '</pre><script src="https://evil.example/x.js">alert(1)</script><img src=http://evil.example onerror=x>\x00 $x_1$'
)


def _around(mean, half=0.05):
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def _curve(method, means, oracle=()):
    points = [CurvePoint(b, m, max(0.0, m - 0.05), min(1.0, m + 0.05)) for b, m in means]
    return BudgetCurve(method, tuple(points), tuple(CurvePoint(b, m, m - 0.03, min(1.0, m + 0.03)) for b, m in oracle))


def build_report():
    """Returns the report; a new one at every call, always with the same content."""
    rng = np.random.default_rng(0)
    budgets = range(1, 33)
    oracle = [(b, 0.98 - 0.55 / b**0.8) for b in budgets]
    names = ["base", "ReST-GRPO", "best-of-n", "VM-MCTS", "ReST-RL"]
    means = [0.412, 0.583, 0.547, 0.601, 0.742]
    rows = tuple(
        Row(
            name,
            _around(mean),
            _around(mean + 0.12, 0.04),
            budget=1 if name in ("base", "ReST-GRPO") else 32,
            diff=None if name == "base" else Interval(mean - 0.412, mean - 0.412 - 0.04, mean - 0.412 + 0.04),
            completions=200 if name in ("base", "ReST-GRPO") else 6400,
            tokens=8000 * (1 if name in ("base", "ReST-GRPO") else 32),
            wall_s=4.2 if name == "base" else 96.0,
            bands={"easy": _around(mean + 0.15), "hard": _around(mean - 0.2)},
        )
        for name, mean in zip(names, means, strict=True)
    )
    steps = np.arange(1, 61)
    training = tuple(
        {
            "step": float(step % 61 if step < 61 else step - 60),
            "reward": float(0.5 + 0.25 * (1 - np.exp(-step / 20)) + 0.04 * rng.standard_normal()),
            "reward_std": float(0.25 - 0.001 * step + 0.02 * rng.standard_normal()),
            "frac_zero_std": float(np.clip(0.1 + 0.003 * step + 0.03 * rng.standard_normal(), 0, 1)),
            "entropy": float(0.4 * np.exp(-step / 50) + 0.01 * rng.standard_normal()),
            "kl": float(0.0004 * step),
            "completion_length": float(41 + 2 * rng.standard_normal()),
        }
        for step in steps
    )
    return ReportData(
        title="Starter: 200 held-out problems",
        recipe='[rest]\nsigma_0 = 0.05\nalpha = 0.95\n\n[grpo]\nlearning_rate = 1e-4\nnote = "<b>"\n',
        rows=rows,
        num_problems=200,
        spread=Spread(
            tuple(float(x) for x in np.where(rng.uniform(size=300) < 0.35, 0.0, rng.uniform(0, 0.5, 300))),
            tuple(float(x) for x in np.clip(rng.normal(0.32, 0.1, 500), 0, 0.5)),
            0.05,
        ),
        training=training,
        value=ValueReport(
            0.081,
            0.142,
            tuple(CalibrationBin(p, p**1.25, int(40 + 400 * p)) for p in np.linspace(0.05, 0.95, 10).tolist()),
            tuple(DepthError(d, 0.14 - 0.012 * d, 0.145 + 0.001 * d, 100) for d in range(1, 8)),
            0.783,
            tuple(
                BestOf(n, 0.45 + 0.06 * i - 0.012 * i * i, 0.98 - 0.53 / n, 0.45)
                for i, n in enumerate((1, 2, 4, 8, 16))
            ),
        ),
        curves=(
            _curve("base", [(1, 0.412)]),
            _curve("best-of-n", [(b, 0.41 + 0.063 * np.log2(b) - 0.015 * np.log2(b) ** 2) for b in budgets], oracle),
            _curve("VM-MCTS", [(b, 0.41 + 0.2 * (1 - 1 / b)) for b in budgets], oracle),
            _curve("ReST-RL", [(b, 0.58 + 0.17 * (1 - 1 / b)) for b in budgets], oracle),
        ),
        differences=(
            BudgetDifference(
                "VM-MCTS",
                "best-of-n",
                tuple(
                    CurvePoint(b, 0.02 * np.log2(b), 0.02 * np.log2(b) - 0.03, 0.02 * np.log2(b) + 0.03)
                    for b in budgets
                ),
            ),
            BudgetDifference("ReST-RL", "VM-MCTS", tuple(CurvePoint(b, 0.17, 0.12, 0.22) for b in budgets)),
        ),
        costs=(
            Cost("best-of-n", 200, {"completions": 6400.0, "generated_tokens": 256_000.0, "prompt_tokens": 11_000.0}),
            Cost(
                "VM-MCTS",
                200,
                {
                    "completions": 6400.0,
                    "unique_completions": 3200.0,
                    "generated_tokens": 200_000.0,
                    "prompt_tokens": 30_000.0,
                    "reused_prompt_tokens": 90_000.0,
                    "value_states": 9000.0,
                    "repeated_scores": 3000.0,
                    "value_tokens": 500_000.0,
                },
                96.0,
            ),
        ),
        environment={"python": "3.11.2", "torch": "2.13.0", "hardware": "2 CPU cores", "seed": "0"},
        timings={"sample": 84.0, "assemble": 0.4, "train-policy": 310.0, "collect-values": 120.0, "evaluate": 95.0},
        examples=(
            Example(
                "starter/test/00017",
                "Return the sum of the even numbers of xs.",
                "def f(xs):\n    total = 0\n    for x in xs:\n        if x % 2 == 0:\n            total += x\n"
                "    return total\n",
                1.0,
                True,
                "ReST-RL",
            ),
            Example(
                "starter/test/00044", f"Odd {HOSTILE}", f"def f(xs):\n    return '{HOSTILE}'\n", 0.25, False, "base"
            ),
        ),
        notes=("One seed: the intervals speak of other problems, not of other runs.",),
    )


@pytest.fixture
def report():
    """The report with every part."""
    return build_report()


@pytest.fixture
def hostile():
    """Text that tries to leave its element, to load something and to be typeset as mathematics."""
    return HOSTILE
