"""The starter's tokenizer: byte-level BPE trained on the corpus.

A newline and every digit are tokens of their own, and the indentation after a newline never merges with it, so that
encoding a prefix that ends at a line boundary and the rest gives the encoding of the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from restrl.starter.corpus import END

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

PAD = "<|pad|>"
VOCAB_SIZE = 1024
CONTEXT = 512


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> PreTrainedTokenizerFast:
    """Trains the tokenizer; no token is added around a text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\n"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return wrap(tokenizer)


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """Loads the ``tokenizer.json`` of an unfinished build."""
    from tokenizers import Tokenizer

    return wrap(Tokenizer.from_file(str(path)))


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Gives a bare tokenizer its end and padding tokens and its context length."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
