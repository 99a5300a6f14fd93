"""What the settings of a stand-alone evaluation must agree on, before anything is loaded or made."""

from __future__ import annotations

from restrl.decoding import DECODERS, WITHOUT_VALUES
from restrl.errors import ConfigError
from restrl.evaluation.config import SuiteConfig
from restrl.evaluation.layouts import slug

ONE_EACH = ("greedy", "sample")
"""Decoders whose answers are a completion each."""


def check_settings(suite: SuiteConfig) -> None:
    """Checks what can be checked before anything is loaded or made.

    Raises:
        ConfigError: A setting does not fit the others.
    """
    if suite.decoder not in DECODERS:
        raise ConfigError(f"--decoder {suite.decoder!r}: allowed: {', '.join(DECODERS)}")
    if suite.decoder in ONE_EACH and suite.budget != 1:
        raise ConfigError(
            f"--budget {suite.budget} with --decoder {suite.decoder}: an answer is one completion there; for several "
            "answers per problem give --decoder sample and --samples"
        )
    if suite.decoder == "greedy" and suite.samples != 1:
        raise ConfigError(
            f"--samples {suite.samples} with --decoder greedy: all answers would be the same; give --decoder sample"
        )
    if suite.decoder not in WITHOUT_VALUES and not suite.value_model:
        raise ConfigError(f"--decoder {suite.decoder} needs a value model; give its directory with --value-model")
    if not suite.problems:
        raise ConfigError("--problems is empty; name sets or files, for example --problems humaneval,mbpp")
    seen: dict[str, str] = {}
    for spec in suite.problems:
        if slug(spec) in seen:
            raise ConfigError(
                f"--problems names {seen[slug(spec)]!r} and {spec!r}, which would write the same files; evaluate them "
                "one at a time"
            )
        seen[slug(spec)] = spec
