"""The importance ratios of a step, where one whole sequence stands behind two prompts."""

import math

import torch

from restrl.grpo.ratios import RatioMeter
from restrl.types import Completion


def completion(ids: tuple[int, ...], logprobs: tuple[float, ...]) -> Completion:
    return Completion("", "stop", len(ids), token_ids=ids, token_logprobs=logprobs)


def test_a_prompt_and_its_prefix_may_end_in_the_same_sequence() -> None:
    # A problem (5, 6) and a prefix of its solution (5, 6, 7): both give the whole sequence 5 6 7 8 9.
    meter = RatioMeter()
    meter.expect([(5, 6), (5, 6, 7)], [completion((7, 8, 9), (-0.1, -0.2, -0.3)), completion((8, 9), (-0.2, -0.3))])
    # The shorter completion's forward is cut to the tokens that it holds.
    meter.measure(torch.tensor([[5, 6, 7, 8, 9]]), torch.ones(1, 5), torch.tensor([[-0.2, -0.3]]))
    meter.measure(torch.tensor([[5, 6, 7, 8, 9]]), torch.ones(1, 5), torch.tensor([[-0.1, -0.2, -0.3]]))
    found = meter.take()
    assert found.count == 5
    assert found.deviation < 1e-6
    assert math.isclose(found.total, 5, rel_tol=1e-6)


def test_padding_on_either_side_is_no_token() -> None:
    meter = RatioMeter()
    meter.expect([(5,), (5, 6)], [completion((7, 8), (-1.0, -1.0)), completion((7,), (-1.0,))])
    ids = torch.tensor([[0, 5, 7, 8], [5, 6, 7, 0]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
    meter.measure(ids, mask, torch.tensor([[-1.0, -1.0 + math.log(2)], [-1.0, 9.0]]))
    found = meter.take()
    assert found.count == 3
    assert math.isclose(found.total, 4, rel_tol=1e-6)
    assert math.isclose(found.deviation, 1, rel_tol=1e-6)
