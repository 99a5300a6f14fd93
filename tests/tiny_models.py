"""Small random-weight models and tokenizers, made on the spot: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from restrl.types import Case, Problem, Tests

CORPUS = [
    'def f(xs, k):\n    """Return the sum of the list."""\n    total = 0\n    for x in xs:\n        total += x\n'
    "    return total\n",
    'def g(s):\n    """Return the string reversed."""\n    out = s[::-1]\n    return out\n\n# done\n',
    "class A:\n    def h(self, n):\n        if n > 0:\n            return n - 1\n        return [i for i in xs]\n",
    "    xs = sorted(xs, reverse=True)\n    ys = []\n    while xs:\n        ys.append(xs.pop())\n    return ys\n",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_problem(problem_id: str = "p/0", **changes: object) -> Problem:
    """A problem in the starter's style."""
    fields: dict[str, object] = {
        "id": problem_id,
        "statement": "Return the sum of the list.",
        "initial_state": 'def f(xs, k):\n    """Return the sum of the list."""\n',
        "entry_point": "f",
        "tests": Tests("call", (Case("t0", args=([1], 1), expected=1),)),
        "stop_strings": ("\n#", "\ndef ", "\nclass "),
    }
    return Problem(**{**fields, **changes})  # type: ignore[arg-type]


def make_tokenizer(
    *, chat: bool = False, bos: bool = False, merge_newlines: bool = False, vocab_size: int = 320
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few lines of Python.

    Args:
        chat: With a ChatML template and the special tokens it needs.
        bos: Put a beginning-of-sequence token before every text.
        merge_newlines: Let a newline merge with the indentation after it (the bad kind).
        vocab_size: Number of tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pattern = Regex(r"\s+|\w+|[^\w\s]+") if merge_newlines else Regex(r"\n| +|\w+|[^\w\s]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(pattern, "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"] if chat else ["<pad>", "<bos>", "<eos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<|im_end|>" if chat else "<eos>",
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def make_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    chat: bool = False,
    hidden_size: int = 32,
    num_layers: int = 2,
    context: int = 512,
    peak: float = 40.0,
    seed: int = 0,
) -> LlamaForCausalLM | Qwen2ForCausalLM:
    """A random model whose next-token distribution is as peaked as a trained one's.

    Args:
        tokenizer: Fixes the vocabulary and the special ids.
        chat: Qwen2-style instead of Llama-style.
        hidden_size: Width.
        num_layers: Depth.
        context: Longest sequence.
        peak: Factor on the output head.
        seed: Seed of the weights.
    """
    config_class, model_class = (Qwen2Config, Qwen2ForCausalLM) if chat else (LlamaConfig, LlamaForCausalLM)
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    generator_state = torch.random.get_rng_state()
    try:
        torch.manual_seed(seed)
        model = model_class(config)
    finally:
        torch.random.set_rng_state(generator_state)
    with torch.no_grad():
        model.lm_head.weight.mul_(peak)
        # Texts of a few dozen tokens, as a trained model's.
        model.lm_head.weight[tokenizer.eos_token_id].mul_(1.5)
    return model.eval()


def save_tiny_model(path: Path, *, chat: bool = False, bos: bool = False, **model_settings: object) -> Path:
    """Writes a tiny model and its tokenizer to a directory, in the standard layout."""
    tokenizer = make_tokenizer(chat=chat, bos=bos)
    model = make_model(tokenizer, chat=chat, **model_settings)  # type: ignore[arg-type]
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
