"""How long does a search take? VM-MCTS against plain sampling, and against the same search one tree at a time.

    python benchmarks/search_speed.py VALUE_MODEL --problems 100 --budget 100 --leaves 4 --serial 5 --threads 2

Timings of one run, same policy (the starter's):

(a) as many completions sampled from the problems alone, in the best of several batch sizes;
(b) VM-MCTS, all trees together, in batches of that size;
(c) VM-MCTS of the first problems, one tree, one leaf and one value at a time, by the same engine;
(d) the same by `model.generate`, as a program without an engine of its own would.

With one leaf the trees of (c) must be those of a batch.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from restrl.decoding import DecodeConfig, Ledger, decode
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.problems import load_problems
from restrl.starter import POLICY_DIR
from restrl.types import SampleRequest, SamplingParams, State
from restrl.value.model import TrainedValueModel

PARAMS = SamplingParams(0.7, 1.0, 160)


class OneByOne:
    """A value model that takes one state per forward."""

    def __init__(self, model: TrainedValueModel) -> None:
        self._model = model

    def score_states(self, states: Sequence[State]) -> list[float]:
        """Returns the values, from one call each."""
        return [self._model.score_states([state])[0] for state in states]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("value_model", type=Path)
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--serial", type=int, default=5, help="problems for the search one by one")
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 512], help="batch sizes of plain sampling")
    parser.add_argument("--leaves", type=int, default=1, help="leaves of one tree in flight")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: seconds of processor, if busy")
    args = parser.parse_args()
    clock = time.process_time if args.clock == "cpu" else time.perf_counter
    torch.set_num_threads(args.threads)
    problems = load_problems("starter/validation", count=args.problems)
    model = TrainedValueModel(args.value_model)
    policy = TransformersPolicy(POLICY_DIR)
    policy.sample([SampleRequest(State(problems[0]), 4, 0)], PARAMS)  # warm up
    plain = {}
    for size in args.batches:
        engine = TransformersPolicy(POLICY_DIR, max_batch_size=size)
        requests = [SampleRequest(State(problem), args.budget, i) for i, problem in enumerate(problems)]
        began = clock()
        engine.sample(requests, PARAMS)
        plain[size] = clock() - began
        print(
            f"plain sampling, batches of {size}: {plain[size]:.1f} s, {engine.stats.generated_tokens} tokens",
            flush=True,
        )
    best = min(plain, key=lambda size: plain[size])
    engine = TransformersPolicy(POLICY_DIR, max_batch_size=best)
    config = DecodeConfig(method="vm_mcts", budget=args.budget, window=args.problems, leaves_in_flight=args.leaves)
    began = clock()
    together = decode("vm_mcts", problems, engine, model, config, 0, params=PARAMS)
    search_s = clock() - began
    total = Ledger.total(item.ledger for item in together)
    print(
        f"VM-MCTS, all trees together: {search_s:.1f} s, {total.generated_tokens} tokens, "
        f"{total.prompt_tokens} prompt tokens ({total.prompt_reuse:.0%} reused), {total.value_states} values, "
        f"{total.value_tokens:.0f} value tokens, {total.score_reuse:.0%} of the scores from memory",
        flush=True,
    )
    print(f"VM-MCTS / plain sampling: {search_s / plain[best]:.2f}", flush=True)
    few = problems[: args.serial]
    config = DecodeConfig(method="vm_mcts", budget=args.budget, window=args.problems, leaves_in_flight=1)
    batched = decode("vm_mcts", few, engine, model, config, 0, params=PARAMS)
    config = dataclasses.replace(config, window=1)
    for name, loop in (("the same engine", "auto"), ("model.generate", "generate")):
        engine = TransformersPolicy(POLICY_DIR, decode_loop=loop)
        began = clock()
        alone = decode("vm_mcts", few, engine, OneByOne(model), config, 0, params=PARAMS)
        serial_s = (clock() - began) / max(1, len(few))
        same = sum(
            [c.code for c in a.candidates] == [c.code for c in b.candidates]
            for a, b in zip(alone, batched, strict=True)
        )
        print(
            f"one tree, leaf and value at a time, by {name}: {serial_s:.2f} s per problem, "
            f"{search_s / len(problems):.3f} s together: {serial_s * len(problems) / search_s:.1f} times; "
            f"{same} of {len(few)} trees sampled what they sample in a batch",
            flush=True,
        )


if __name__ == "__main__":
    main()
