"""Completions per second of the policy engine, and values per second of the value model, beside the plain ways.

    python benchmarks/engine_throughput.py [--model DIR] [--batch 256] [--threads 2]

Both sides of a ratio run in one process, on the same prompts, with the same budget of tokens. Without a model directory
a random model of the starter's size is made on the spot; its completions all run to the budget, so that the dropping
of finished rows shows only with a trained model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, GenerationConfig, LlamaConfig, LlamaForCausalLM

from restrl.actions import boundaries, split_actions
from restrl.policy.decode_loop import left_pad
from restrl.policy.model_dir import load_tokenizer
from restrl.policy.prompting import encode_prompt
from restrl.policy.transformers_engine import TransformersPolicy
from restrl.starter import POLICY_DIR
from restrl.starter.generator import problem_at
from restrl.types import Problem, SampleRequest, SamplingParams, State, Tests
from restrl.value.model import TrainedValueModel

_WORDS = (
    "sum",
    "of",
    "squares",
    "product",
    "largest",
    "sorted",
    "reversed",
    "even",
    "odd",
    "negative",
    "first",
    "last",
)


_CLOCK: Callable[[], float] = time.perf_counter


def _problems(count: int) -> list[Problem]:
    problems = []
    for index in range(count):
        words = " ".join(_WORDS[(index * 7 + k * (index % 5 + 1)) % len(_WORDS)] for k in range(18 + index % 9))
        head = f'def f(xs, k):\n    """Return the {words} of the list."""\n'
        problems.append(Problem(f"bench/{index}", words, head, "f", Tests("call", ()), stop_strings=("\n#", "\ndef ")))
    return problems


def _random_model(directory: Path) -> Path:
    """A random Llama of the starter's size, with a byte-level tokenizer of 1,000 tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\n| +|\w+|[^\w\s]+"), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<pad>", "<eos>"], initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([problem.initial_state for problem in _problems(50)], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # Only tokens that the tokenizer knows.
        model.lm_head.weight[len(fast) :] = 0.0
        model.lm_head.weight.mul_(20.0)
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def _timed(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs, on the chosen clock."""
    best = float("inf")
    for _ in range(repeats):
        began = _CLOCK()
        run()
        best = min(best, _CLOCK() - began)
    return best


def _plain_generate(policy: TransformersPolicy, prompts: list[list[int]], n: int, max_new_tokens: int) -> int:
    """What a user would write first: one padded batch, sampling, until the last row ends."""
    ids, mask = left_pad(prompts, policy.tokenizer.pad_token_id or 0, policy.model.device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=True,
        temperature=0.7,
        top_k=0,
        num_return_sequences=n,
        pad_token_id=policy.tokenizer.pad_token_id or 0,
        eos_token_id=policy.tokenizer.eos_token_id,
    )
    with torch.inference_mode():
        out = policy.model.generate(inputs=ids, attention_mask=mask, generation_config=config)
    return int(out.shape[0])


def bench_policy(model_dir: Path, num_states: int, n: int, max_new_tokens: int, repeats: int) -> dict[str, float]:
    """Completions per second of the own loop, of the `generate` fallback and of plain `generate`."""
    states = [State(problem) for problem in _problems(num_states)]
    requests = [SampleRequest(state, n, index) for index, state in enumerate(states)]
    params = SamplingParams(0.7, 1.0, max_new_tokens)
    result: dict[str, float] = {"completions": num_states * n}
    for loop in ("loop", "generate"):
        policy = TransformersPolicy(model_dir, decode_loop=loop)
        seconds = _timed(lambda policy=policy: policy.sample(requests, params), repeats)  # type: ignore[misc]
        result[f"{loop}_per_s"] = num_states * n / seconds
        result["mean_tokens"] = policy.stats.generated_tokens / policy.stats.completions
    prompts = [encode_prompt(state, policy.tokenizer) for state in states]
    result["mean_prompt_tokens"] = sum(map(len, prompts)) / len(prompts)
    seconds = _timed(lambda: _plain_generate(policy, prompts, n, max_new_tokens), repeats)
    result["plain_generate_per_s"] = num_states * n / seconds
    result["loop_over_plain"] = result["loop_per_s"] / result["plain_generate_per_s"]
    return result


def path_workload(
    policy: TransformersPolicy, problems: list[Problem], n: int, rounds: int
) -> list[list[SampleRequest]]:
    """What a tree search asks for: in every round n completions from a state of each problem, the next one a line on.

    A path that is finished starts anew at its problem.
    """
    params = SamplingParams(0.7, 1.0, 60)
    states = [State(problem) for problem in problems]
    batches: list[list[SampleRequest]] = []
    for depth in range(rounds):
        batch = [SampleRequest(state, n, 1000 * depth + index) for index, state in enumerate(states)]
        batches.append(batch)
        for index, completions in enumerate(policy.sample(batch, params)):
            actions = split_actions(completions[0].text)
            state = states[index]
            states[index] = State(state.problem, state.code + actions[0]) if len(actions) > 1 else State(state.problem)
    return batches


def bench_paths(
    model_dir: Path, problems: list[Problem], n: int, rounds: int, max_new_tokens: int, repeats: int
) -> dict[str, float]:
    """Seconds of a tree search's sampling without and with the keys and values of earlier prompts."""
    batches = path_workload(TransformersPolicy(model_dir), problems, n, rounds)
    params = SamplingParams(0.7, 1.0, max_new_tokens)
    result: dict[str, float] = {"path_prompts": len(problems) * rounds}
    texts: list[list[str]] = []
    for name, tokens in (("without", 0), ("with", 1_000_000)):
        policy = TransformersPolicy(model_dir, path_cache_tokens=tokens)

        def run(policy: TransformersPolicy = policy) -> list[str]:
            policy.forget()
            return [c.text for batch in batches for cs in policy.sample(batch, params) for c in cs]

        result[f"path_{name}_cache_s"] = _timed(run, repeats)
        policy.stats.reset()
        texts.append(run())
        seen = policy.stats.prompt_tokens_prefilled + policy.stats.prompt_tokens_reused
        result[f"path_{name}_cache_reuse"] = policy.stats.prompt_tokens_reused / seen
    result["path_cache_speedup"] = result["path_without_cache_s"] / result["path_with_cache_s"]
    result["path_differing_texts"] = sum(a != b for a, b in zip(*texts, strict=True))
    return result


def bench_value(model_dir: Path, num_programs: int, repeats: int) -> dict[str, float]:
    """Boundary values per second: one forward per program against one per state, in batches of the same tokens."""
    tokenizer = load_tokenizer(model_dir)
    classifier = AutoModelForSequenceClassification.from_pretrained(model_dir, num_labels=1, dtype=torch.float32)
    with torch.no_grad():
        classifier.score.weight.normal_(0.0, 0.02, generator=torch.Generator().manual_seed(0))
    model = TrainedValueModel.from_model(classifier, tokenizer)
    body = (
        "    out = 0\n    for x in xs:\n        if x > k:\n            out += x\n    out = out - k\n    y = abs(out)\n"
    )
    programs = [
        State(problem, body + f"    return y + {index}\n", True)
        for index, problem in enumerate(_problems(num_programs))
    ]
    states = [
        [*(State(state.problem, state.code[:end]) for end in boundaries(state.code)), state] for state in programs
    ]
    together = model.score_boundaries(programs)
    alone = [[value for state in row for value in model.score_states([state])] for row in states[:8]]
    differences = (
        abs(a - b) for left, right in zip(alone, together, strict=False) for a, b in zip(left, right, strict=True)
    )
    count = sum(len(row) for row in together)
    # One state of every program at a time, so that no state of a call begins another.
    columns = [[row[column] for row in states] for column in range(len(states[0]))]
    one = _timed(lambda: model.score_boundaries(programs), repeats)
    many = _timed(lambda: [model.score_states(column) for column in columns], repeats)
    return {
        "value_states": count,
        "one_forward_per_s": count / one,
        "per_state_per_s": count / many,
        "one_forward_over_per_state": many / one,
        "max_difference": max(differences),
    }


def main() -> None:
    """Prints one JSON object."""
    global _CLOCK
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--model", type=Path, help="model directory, or starter; without it a random model of the starter's size"
    )
    parser.add_argument("--batch", type=int, default=256, help="completions in the batch")
    parser.add_argument("--n", type=int, default=8, help="completions per state")
    parser.add_argument("--max-new-tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=6, help="lines of a path in the tree search's workload")
    parser.add_argument("--only-paths", action="store_true", help="the tree search's workload alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use too"
    )
    arguments = parser.parse_args()
    if arguments.clock == "cpu":
        _CLOCK = time.process_time
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.model == Path("starter"):
            problems = [problem_at("test", index) for index in range(arguments.batch // arguments.n)]
            arguments.model = POLICY_DIR
        else:
            problems = _problems(arguments.batch // arguments.n)
        model_dir = arguments.model or _random_model(Path(temporary))
        figures = bench_paths(
            model_dir, problems, arguments.n, arguments.rounds, arguments.max_new_tokens, arguments.repeats
        )
        if not arguments.only_paths:
            figures |= bench_policy(
                model_dir, arguments.batch // arguments.n, arguments.n, arguments.max_new_tokens, arguments.repeats
            )
            figures |= bench_value(model_dir, 32, arguments.repeats)
    print(
        json.dumps(
            {
                "threads": arguments.threads,
                "clock": arguments.clock,
                **{key: float(f"{value:.4g}") for key, value in figures.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
