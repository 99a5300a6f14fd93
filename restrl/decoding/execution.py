"""What candidates do when they run, where no hidden test is asked: outputs on inputs, and public examples.

Programs run in the grader's sandbox. The inputs are those of the problem's public examples and, beyond them, invented
ones (`restrl.problems.invented`); nothing is known of the right outputs but what the examples say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from restrl.decoding.config import DecodeConfig
from restrl.decoding.results import Decoded
from restrl.errors import EngineError
from restrl.grading.config import GradingConfig
from restrl.grading.grader import SandboxGrader
from restrl.grading.outputs import SandboxRunner
from restrl.problems.invented import probe_problem
from restrl.types import Grader, Problem


class OutputRunner(Protocol):
    """Anything that runs programs on inputs."""

    def outputs(self, pairs: Sequence[tuple[Problem, str]]) -> list[tuple[str, ...]]:
        """Returns one outcome per case for each (problem that holds the inputs, whole program), in order.

        An outcome begins with ``=`` (a value, in canonical form) or ``!`` (how the run failed); see
        `restrl.grading.outputs`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Execution:
    """What a decoder that runs programs needs.

    Attributes:
        runner: For outputs.
        grader: For public examples. It is given problems whose only tests are those.
    """

    runner: OutputRunner
    grader: Grader


@contextmanager
def open_execution(config: GradingConfig | None = None) -> Iterator[Execution]:
    """Opens the sandbox for outputs and for public examples; both start at the first use."""
    with ExitStack() as stack:
        runner, grader = SandboxRunner(config), SandboxGrader(config)
        stack.callback(runner.close)
        stack.callback(grader.close)
        yield Execution(runner, grader)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a program was seen to do.

    Attributes:
        key: Equal for programs that did the same.
        alive: It gave a value for some input; or nothing was run, so that nothing is known against it.
    """

    key: tuple[str, ...]
    alive: bool = True


def behaviours_of(
    problems: Sequence[Problem], decoded: Sequence[Decoded], runner: OutputRunner, config: DecodeConfig, seed: int
) -> list[dict[str, Behaviour]]:
    """Runs every distinct finished candidate of every problem on its problem's inputs, in one batch.

    Args:
        problems: The decoded problems.
        decoded: Their candidates, in the same order.
        runner: Runs the programs.
        config: ``num_inputs``.
        seed: Seed of the invented inputs.

    Returns:
        For each problem, from a finished candidate's code to its behaviour. A program that fails on every input is
        like no other; where there are no inputs, programs are the same if their texts are.

    Raises:
        EngineError: The runner answered wrongly.
        GraderError: The sandbox failed.
    """
    probes = [probe_problem(problem, seed, config.num_inputs) for problem in problems]
    found: list[dict[str, Behaviour]] = []
    pairs: list[tuple[Problem, str]] = []
    places: list[tuple[int, str]] = []
    for place, (problem, probe, item) in enumerate(zip(problems, probes, decoded, strict=True)):
        codes = dict.fromkeys(candidate.code for candidate in item.candidates if candidate.finished)
        found.append({code: Behaviour(("text", code)) for code in codes})
        if probe is not None:
            pairs += [(probe, problem.initial_state + code) for code in codes]
            places += [(place, code) for code in codes]
    rows = runner.outputs(pairs) if pairs else []
    if list(map(len, rows)) != [len(probe.tests.cases) for probe, _ in pairs]:
        raise EngineError(f"the output runner gave {len(rows)} rows for {len(pairs)} programs, or not one per input")
    for (place, code), row in zip(places, rows, strict=True):
        alive = any(outcome.startswith("=") for outcome in row)
        found[place][code] = Behaviour(row if alive else ("fails", code), alive)
    return found
