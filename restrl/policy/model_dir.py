"""Checks on a model directory, and the choice of device, precision and memory, before anything heavy is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from restrl.errors import ConfigError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

DEVICES: tuple[str, ...] = ("auto", "cpu", "cuda")
DTYPES: tuple[str, ...] = ("auto", "float32", "bfloat16", "float16")

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


def check_model_dir(path: Path, *, tokenizer: bool = True, weights: bool = True) -> Path:
    """Checks that a directory holds a model in the standard layout.

    Args:
        path: The directory.
        tokenizer: Tokenizer files are needed.
        weights: Weight files are needed.

    Returns:
        The path.

    Raises:
        ModelError: In one line, what is missing and what to do.
    """
    advice = "give a directory written by save_pretrained (config.json, *.safetensors, tokenizer.json)"
    if not path.is_dir():
        state = "is a file" if path.is_file() else "does not exist"
        raise ModelError(f"model directory {str(path)!r} {state}; {advice}")
    config = path / "config.json"
    if not config.is_file():
        raise ModelError(f"model directory {str(path)!r} has no config.json; {advice}")
    try:
        parsed = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{str(config)!r} is not readable JSON ({error}); copy the model again") from error
    if not isinstance(parsed, dict) or "model_type" not in parsed:
        raise ModelError(f"{str(config)!r} has no model_type; {advice}")
    if weights and not any(any(path.glob(pattern)) for pattern in _WEIGHT_PATTERNS):
        raise ModelError(
            f"model directory {str(path)!r} has no weights (*.safetensors or pytorch_model*.bin); {advice}"
        )
    if tokenizer and not any((path / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"model directory {str(path)!r} has no tokenizer (one of {', '.join(_TOKENIZER_FILES)}); "
            "save it there with tokenizer.save_pretrained(...)"
        )
    return path


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model directory, never from the network.

    Raises:
        ModelError: The directory is incomplete or its tokenizer cannot be read.
    """
    from transformers import AutoTokenizer

    check_model_dir(path, weights=False)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        _restore_bos(tokenizer, path)
    except Exception as error:
        # The loader raises whatever its tokenizer library raises; the user needs the path and one line.
        raise ModelError(f"cannot load the tokenizer of {str(path)!r}: {_first_line(error)}; save it again") from error
    return cast("PreTrainedTokenizerBase", tokenizer)


def _restore_bos(tokenizer: Any, path: Path) -> None:
    """Turns the beginning-of-sequence token on again where the model's own settings ask for it and the loader forgot.

    `transformers` 5 loads a byte-level vocabulary that names the class `LlamaTokenizerFast` (DeepSeek-Coder) by its
    generic class, and drops ``add_bos_token``.
    """
    settings = path / "tokenizer_config.json"
    if not settings.is_file() or json.loads(settings.read_text(encoding="utf-8")).get("add_bos_token") is not True:
        return
    bos = tokenizer.bos_token_id
    if bos is not None and tokenizer("a")["input_ids"][:1] != [bos]:
        tokenizer.add_bos_token = True


def choose_device(device: str) -> str:
    """Returns ``cpu`` or ``cuda``.

    Raises:
        ConfigError: The name is unknown, or CUDA was asked for where there is none.
    """
    import torch

    if device not in DEVICES and not device.startswith("cuda:"):
        raise ConfigError(f"device is {device!r}; allowed: {', '.join(DEVICES)}, cuda:N")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device is {device!r} but PyTorch sees no CUDA device; use 'cpu' or 'auto'")
    return device


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """Returns the precision: ``auto`` is float32 on the CPU and bfloat16 on CUDA.

    Raises:
        ConfigError: The name is unknown.
    """
    import torch

    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}; allowed: {', '.join(DTYPES)}")
    if dtype == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return cast(torch.dtype, getattr(torch, dtype))


def recompute_option(arguments: type, enabled: bool) -> dict[str, bool]:
    """Returns the training argument that turns recomputing activations on or off, under the name the library gives it.

    It is always said: a trainer may have it on by default.

    Args:
        arguments: The class of the training arguments: `transformers.TrainingArguments` or one derived from it.
        enabled: Whether activations are recomputed in the backward pass.
    """
    known = {field.name for field in dataclasses.fields(arguments)}
    # The second is the older name, which newer releases of the library warn about.
    return {"activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing": enabled}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps `transformers` silent while a model loads: what is missing from it is reported by an error of ours."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if was_on:
            logging.enable_progress_bar()


def load_weights(architecture: Any, path: Path, device: str, dtype: str) -> tuple[Any, list[str]]:
    """Loads a model from a directory, never from the network, ready to be evaluated on a device.

    Args:
        architecture: The class that loads, for example `transformers.AutoModelForCausalLM`.
        path: A directory that `check_model_dir` has passed.
        device: What `choose_device` returned.
        dtype: A name for `choose_dtype`.

    Returns:
        The model, and the names of the weights that the directory lacks, sorted; they are random numbers now.

    Raises:
        ModelError: The model cannot be loaded.
    """
    precision = choose_dtype(dtype, device)
    try:
        with quiet():
            model, info = architecture.from_pretrained(
                str(path), dtype=precision, local_files_only=True, output_loading_info=True
            )
    except Exception as error:
        # Whatever its libraries raise: the user needs the path and one line.
        raise load_error(path, error) from error
    return model.to(device).eval(), sorted(info["missing_keys"])


def load_error(path: Path, error: Exception) -> ModelError:
    """Returns the `ModelError` for a model whose weights could not be loaded."""
    return ModelError(
        f"cannot load the model in {str(path)!r}: {_first_line(error)}; check config.json and the weights"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"
