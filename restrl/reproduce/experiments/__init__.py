"""The experiments by name: what each needs of the workspace, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from restrl.errors import ConfigError
from restrl.reproduce.experiments import efficiency, spread, table1, table2
from restrl.reproduce.outcome import Outcome
from restrl.reproduce.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Experiment:
    """A published table or figure.

    Attributes:
        title: What it shows.
        arms: What must be trained, in the order of training.
        scorers: Whether it needs value models.
        measure: Measures one seed; what is done is skipped.
        summarise: Puts the seeds together.
    """

    title: str
    arms: tuple[str, ...]
    scorers: bool
    measure: Callable[[Workspace, int], None]
    summarise: Callable[[Workspace], Outcome]


EXPERIMENTS: Mapping[str, Experiment] = {
    "variance": Experiment(spread.TITLE, (), False, spread.measure, spread.summarise),
    "table1": Experiment(table1.TITLE, ("rest-grpo", "grpo", "rest-dpo"), False, table1.measure, table1.summarise),
    "training-efficiency": Experiment(
        efficiency.TITLE, ("rest-grpo", "grpo", "dapo"), False, efficiency.measure, efficiency.summarise
    ),
    "table2": Experiment(table2.TITLE, ("rest-grpo",), True, table2.measure, table2.summarise),
    "budget": Experiment(table2.BUDGET_TITLE, ("rest-grpo",), True, table2.measure, table2.summarise_budget),
}


def named(name: str) -> tuple[str, ...]:
    """Returns the experiments that a name stands for; ``all`` is every one.

    Raises:
        ConfigError: There is no such experiment.
    """
    if name == "all":
        return tuple(EXPERIMENTS)
    if name not in EXPERIMENTS:
        raise ConfigError(f"experiment {name!r} is unknown; allowed: {', '.join(EXPERIMENTS)}, all")
    return (name,)
