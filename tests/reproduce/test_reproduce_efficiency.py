"""Comparing curves: at every number of steps that all have, and at equal completions."""

from restrl.reproduce.experiments.efficiency import Point, at_equal_completions, at_equal_steps
from restrl.reproduce.published import published

FACTS = published()["training-efficiency"]


def curve(*points: tuple[int, float, float]) -> list[Point]:
    """Points of (steps, completions, score), the same score on each of 30 problems."""
    return [
        Point(steps, completions, {"set": {str(index): score for index in range(30)}})
        for steps, completions, score in points
    ]


CURVES = {
    "ReST-GRPO": curve((0, 0, 0.5), (8, 200, 0.5), (16, 300, 0.7)),
    "GRPO": curve((0, 0, 0.5), (8, 100, 0.6), (16, 200, 0.6), (24, 300, 0.8), (32, 400, 0.9)),
    "DAPO": curve((0, 0, 0.5), (8, 120, 0.5), (12, 200, 0.6), (16, 320, 0.6)),
}


def test_curves_are_compared_wherever_all_have_a_checkpoint() -> None:
    found = at_equal_steps(FACTS, CURVES)
    assert [(item.better, item.worse, item.where, item.mark) for item in found] == [
        ("ReST-GRPO", "DAPO", "both after 8 steps", "not decided"),
        ("ReST-GRPO", "GRPO", "both after 8 steps", "reversed"),
        ("ReST-GRPO", "DAPO", "both after 16 steps", "holds"),
        ("ReST-GRPO", "GRPO", "both after 16 steps", "holds"),
    ]
    # The published numbers are of the end.
    assert [item.published is None for item in found] == [True, True, False, False]


def test_no_curve_is_given_more_completions_than_the_shorter_one_took() -> None:
    found = at_equal_completions(FACTS, CURVES)
    assert [(item.worse, item.where, item.mark) for item in found] == [
        ("DAPO", "300 and 200 completions", "holds"),
        ("GRPO", "300 and 300 completions", "reversed"),
    ]
