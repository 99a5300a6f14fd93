"""Writes the model card of the starter's policy from what was built and measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from restrl.starter.build import BuildConfig
from restrl.starter.measure import Measurement
from restrl.starter.tokenizer import CONTEXT

_TEMPLATE = """\
# The starter's policy

A {parameters:,}-parameter Llama-style model (hidden {hidden}, {layers} layers, {heads} heads, context {context},
tied embeddings, float32) with a byte-level BPE tokenizer of {vocab} tokens. It writes Python functions of the
starter's problem family and nothing else. It exists so that the whole loop can run without a network or a GPU.

## How it was made

`restrl starter build` made it from nothing: seed {seed}, {steps:,} steps of {batch} documents ({documents:,}
documents, each seen once), AdamW, peak learning rate {learning_rate}, linear decay in the last {decay} steps,
{threads} CPU threads.

The corpus holds programs **with mistakes in them, on purpose**, so that the policy knows the task and errs by
habit, and training and search have something to win:

- {sloppy_share:.0%} of the documents are sloppy ({sloppy:.0%} of the lines that can be confused are), the others
  careful ({careful:.0%}); in rarer operations {rare_factor} times as many; in the first {rough_steps:,} steps the
  rates were {rough_sloppy:.0%} and {rough_careful:.0%};
- a confused line holds one confusable variant (`>` for `>=`, `n - 1` for `n`, a missing `reverse=True`, first for
  last, a wrong initial value), {habit:.0%} of the time the most habitual one; now and then a step is left out or
  two are swapped;
- {review_share:.0%} of the documents end in one line, `# review: ok` or `# review: bug in line N`, true to what
  the program does on sample inputs. A program sampled from the policy stops before that line (the stop string
  `"\\n#"`).

Only compositions of operations of the **train** split are in the corpus. Compositions of the validation and test
splits never are; each single operation is in all splits.

## Held-out ability

Temperature 0.7, {num_samples} samples per problem, graded by the project's sandbox. Settings were chosen on the
validation split; the test split was measured once.

{table}

*spread* is the share of the problems whose samples differ in reward (standard deviation at least 0.05); *tokens*
is the mean length of a completion.
{notes}
## Files

`config.json`, `generation_config.json`, `model.safetensors`, `tokenizer.json`, `tokenizer_config.json`: the
layout of `from_pretrained` in `transformers`. No token is added before a text; `<|end|>` ends a program,
`<|pad|>` pads.
"""


def write_card(
    policy: Path,
    measurements: Sequence[Measurement],
    config: BuildConfig,
    seed: int,
    parameters: int,
    vocab: int,
    notes: Sequence[str] = (),
) -> None:
    """Writes ``README.md`` into the policy's directory.

    Args:
        policy: The directory of the model.
        measurements: What `restrl.starter.measure` found; empty says so in the card.
        config: How it was built.
        seed: Of the build.
        parameters: Number of parameters.
        vocab: Size of the vocabulary.
        notes: Further findings, a paragraph each.
    """
    text = _TEMPLATE.format(
        parameters=parameters,
        hidden=config.hidden,
        layers=config.layers,
        heads=config.heads,
        context=CONTEXT,
        vocab=vocab,
        seed=seed,
        steps=config.steps,
        batch=config.batch,
        documents=config.steps * config.batch,
        learning_rate=config.learning_rate,
        decay=config.decay,
        threads=config.threads,
        careful=config.corpus.careful,
        sloppy=config.corpus.sloppy,
        sloppy_share=config.corpus.sloppy_share,
        rare_factor=config.corpus.rare_factor,
        rough_steps=config.rough_steps,
        rough_careful=config.rough.careful,
        rough_sloppy=config.rough.sloppy,
        habit=config.corpus.habit,
        review_share=config.corpus.review_share,
        num_samples=measurements[0].num_samples if measurements else 0,
        table=_table(measurements),
        notes="".join(f"\n{note}\n" for note in notes),
    )
    (policy / "README.md").write_text(text, encoding="utf-8")


def _table(measurements: Sequence[Measurement]) -> str:
    if not measurements:
        return "Not measured."
    ks = list(measurements[0].pass_at)
    header = ["split", "band", "problems", "mean reward", *(f"pass@{k}" for k in ks), "spread", "tokens"]
    rows = [header, ["---"] * len(header)]
    for m in measurements:
        numbers = [f"{m.mean_reward:.3f}", *(f"{m.pass_at[k]:.3f}" for k in ks)]
        rows.append([m.split, m.band, str(m.num_problems), *numbers, f"{m.spread_share:.2f}", f"{m.mean_tokens:.0f}"])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
