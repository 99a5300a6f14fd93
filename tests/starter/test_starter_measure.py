from collections.abc import Sequence

import pytest

from restrl.starter.generator import generate
from restrl.starter.measure import measure_policy
from restrl.types import Completion, Grade, Problem, SampleRequest, SamplingParams


class HalfRight:
    """Even samples are the canonical solution, odd ones are wrong, the last one is right but cut off."""

    def sample(self, requests: Sequence[SampleRequest], params: SamplingParams) -> list[list[Completion]]:
        assert params.temperature == 0.7
        return [[self._one(request, i) for i in range(request.n)] for request in requests]

    def _one(self, request: SampleRequest, i: int) -> Completion:
        problem = request.state.problem
        assert problem.canonical_solution is not None
        right = problem.canonical_solution.removeprefix(problem.initial_state)
        if i == request.n - 1:
            return Completion(right, "length", num_tokens=30)
        return Completion(right if i % 2 == 0 else "    return None", "stop", num_tokens=10)


class ByText:
    """Grades by comparing texts; a wrong program earns a quarter."""

    def grade(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return [
            Grade(problem.id, 1.0 if program == problem.canonical_solution else 0.25, False, ())
            for problem, program in pairs
        ]

    async def grade_async(self, pairs: Sequence[tuple[Problem, str]]) -> list[Grade]:
        return self.grade(pairs)


def test_measurements_add_up_over_bands() -> None:
    problems = generate("validation", 24)
    whole, *bands = measure_policy(HalfRight(), ByText(), problems, num_samples=5, ks=(1, 2, 4, 100))
    assert (whole.split, whole.band, whole.num_problems, whole.num_samples) == ("validation", "all", 24, 5)
    assert sum(band.num_problems for band in bands) == 24
    for measurement in (whole, *bands):  # of five samples, two pass, two earn a quarter, one is cut off
        assert measurement.mean_reward == pytest.approx((1 + 0.25 + 1 + 0.25 + 0) / 5)
        assert measurement.pass_at == pytest.approx({1: 2 / 5, 2: 1 - 3 / 10, 4: 1.0})
        assert measurement.spread_share == 1.0
        assert measurement.mean_tokens == pytest.approx(14.0)
