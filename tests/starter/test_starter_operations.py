import random

import pytest

from restrl.starter.composition import Composition, Step
from restrl.starter.execution import Failed, Returned, run_step
from restrl.starter.generator import function_of
from restrl.starter.inputs import draw_inputs
from restrl.starter.operations import OPERATIONS
from restrl.starter.operations.base import PARAMETERS, VARIABLES, Operation, parse_form
from restrl.starter.rendering import all_mistakes


def inputs_for(operation: Operation) -> list[object]:
    rng = random.Random(0)
    if operation.source == "index":
        return [{}, *({rng.randint(-5, 12): rng.randint(-5, 9) for _ in range(rng.randint(1, 6))} for _ in range(60))]
    values = [args[0] for args in draw_inputs(rng, operation.source, "", 60)]
    return values if operation.source != "number" or operation.first_only else [*values, -1, -17, -120]


def run(operation: Operation, form: int, value: str, wrong: tuple = ()) -> list[object]:
    composition = Composition((Step(operation, value),), "easy", "")
    values = inputs_for(operation)
    results = run_step(function_of(composition, 0, form, wrong), values, [None] * len(values))
    return [result.value if isinstance(result, Returned) else result for result in results]


@pytest.mark.parametrize("source", list(dict.fromkeys(o.source for o in OPERATIONS.values())))
def test_the_forms_of_an_operation_agree_and_never_raise(source: str) -> None:
    for operation in OPERATIONS.values():
        if operation.source != source:
            continue
        for value in (PARAMETERS[operation.parameter] or ("",))[:2]:
            first = run(operation, 0, value)
            assert not any(isinstance(result, Failed) for result in first), operation.name
            for form in range(1, len(operation.forms)):
                assert run(operation, form, value) == first, operation.name


@pytest.mark.parametrize("source", list(dict.fromkeys(o.source for o in OPERATIONS.values())))
def test_mistakes_are_mistakes(source: str) -> None:
    """Alone, every confusable variant differs from the right line on some input (a guard's only within a program)."""
    for operation in OPERATIONS.values():
        if operation.source != source or operation.guard:
            continue
        value = (PARAMETERS[operation.parameter] or ("",))[1 if operation.parameter else 0]
        for form in range(len(operation.forms)):
            right = run(operation, form, value)
            for mistake in all_mistakes(operation, form, value, 0):
                assert run(operation, form, value, (mistake,)) != right, (operation.name, form, mistake)


def test_every_operation_is_well_formed() -> None:
    assert len(OPERATIONS) > 200
    for operation in OPERATIONS.values():
        assert len(set(operation.phrases)) >= 3, operation.name
        assert operation.forms and operation.target in VARIABLES, operation.name
        uses = any("{k" in text for text in operation.phrases)
        assert uses == bool(operation.parameter), operation.name
        assert all("{k" in phrase for phrase in operation.phrases) == uses, operation.name


def test_a_slot_gives_one_variant_per_alternative() -> None:
    (line,) = parse_form("xs = [x for x in xs if x «>|>=|<» {k-1}«| + 1»]", "3")
    assert line.text == "xs = [x for x in xs if x > 2]"
    assert line.mistakes == (
        "xs = [x for x in xs if x >= 2]",
        "xs = [x for x in xs if x < 2]",
        "xs = [x for x in xs if x > 2 + 1]",
    )
