"""The published numbers, against the tables typed again from the paper, and their orderings against the numbers."""

from statistics import fmean

import pytest

from restrl.reproduce.experiments import EXPERIMENTS
from restrl.reproduce.published import models, published, source

MODELS = (
    "Qwen3-8B | Qwen2.5-Coder-7B-Instruct | CodeQwen1.5-7B-Chat | DS-Coder-6.7b-Instruct | OpenCI-DS-6.7B | "
    "Llama-3.1-8B-Instruct"
)
TABLE1 = """\
base | 0.503 | 0.563 | 0.502 | 0.493 | 0.486 | 0.435
ReST-DPO | 0.526 | 0.578 | | 0.492 | 0.488 |
GRPO | 0.590 | 0.586 | | 0.497 | 0.512 |
ReST-GRPO | 0.655 | 0.630 | 0.579 | 0.529 | 0.531 |
"""
TABLE2 = """\
base | 0.503 | 0.563 | 0.502 | 0.493 | 0.486 | 0.435
ORM | 0.531 | 0.592 | 0.542 | 0.542 | 0.537 | 0.480
PRM | 0.516 | 0.591 | 0.526 | 0.539 | 0.532 | 0.466
ORM-MCTS | 0.538 | 0.588 | 0.545 | 0.547 | 0.535 | 0.481
VM-MCTS | 0.615 | 0.652 | 0.599 | 0.576 | 0.569 | 0.519
ReST-RL | 0.689 | 0.673 | 0.616 | 0.584 | 0.583 | 0.556
"""


def typed(table: str) -> dict[str, dict[str, float]]:
    """Returns row -> model -> score."""
    names = [name.strip() for name in MODELS.split("|")]
    rows = {}
    for line in table.splitlines():
        row, *cells = (cell.strip() for cell in line.split("|"))
        rows[row] = {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell}
    return rows


@pytest.mark.parametrize(("name", "table"), [("table1", TABLE1), ("table2", TABLE2)])
def test_the_published_tables_are_those_of_the_paper(name: str, table: str) -> None:
    assert published()[name].rows == typed(table)
    assert models() == tuple(part.strip() for part in MODELS.split("|"))
    assert "2508.19576" in source()


def test_the_published_curves_are_those_of_the_paper() -> None:
    efficiency, budget = published()["training-efficiency"], published()["budget"]
    assert efficiency.curves == {"ReST-GRPO": (0.28, 0.40), "DAPO": (0.28, 0.36), "GRPO": (0.28, 0.36)}
    assert efficiency.axis == (0, 10_000)
    assert budget.curves == {"VM-MCTS": (0.15, 0.30)} and budget.axis == (1, 100) and budget.others_at_most == 0.20


def test_every_experiment_stands_beside_something_published() -> None:
    assert set(EXPERIMENTS) == set(published()) == {"table1", "table2", "variance", "training-efficiency", "budget"}


@pytest.mark.parametrize("name", ["table1", "table2", "training-efficiency"])
def test_orderings_are_what_the_published_numbers_say(name: str) -> None:
    facts = published()[name]
    for better, worse in facts.orderings:
        mean, positive, number = facts.difference(better, worse) or (0.0, 0, 0)
        assert mean > 0 and positive > number / 2, (better, worse)


def test_a_published_difference_counts_models_that_have_both() -> None:
    mean, positive, number = published()["table1"].difference("ReST-DPO", "base") or (0.0, 0, 0)
    rows = typed(TABLE1)
    found = [rows["ReST-DPO"][name] - rows["base"][name] for name in rows["ReST-DPO"]]
    assert (positive, number) == (3, 4) and mean == pytest.approx(fmean(found))
    assert published()["variance"].difference("assembled data", "naive data") is None
