"""Recipes: a TOML file plus ``--set section.key=value`` flags become one frozen dataclass per stage.

Every setting is declared once, beside its owner (see `restrl.settings`). Precedence: defaults < TOML < flags. An
unknown section or key, a wrong type or a value out of range is a `ConfigError` that says what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from restrl.errors import ConfigError

RECIPES_DIR = Path(__file__).parent / "recipes"

SECTIONS: dict[str, str] = {
    "run": "restrl.stages:RunConfig",
    "problems": "restrl.stages:ProblemsConfig",
    "policy": "restrl.policy:PolicyConfig",
    "sample": "restrl.stages:SampleConfig",
    "rest": "restrl.rest.assembly:RestConfig",
    "train": "restrl.grpo.methods:TrainConfig",
    "grpo": "restrl.grpo.config:GRPOConfig",
    "offline": "restrl.grpo.offline_config:OfflineConfig",
    "collect": "restrl.value.collect:CollectConfig",
    "value": "restrl.value.config:ValueConfig",
    "decode": "restrl.decoding.config:DecodeConfig",
    "evaluate": "restrl.stages:EvaluateConfig",
    "grading": "restrl.grading.config:GradingConfig",
    "hardware": "restrl.grpo.hardware:HardwareConfig",
}
# Sections of manifests that no recipe has.
_OTHER_SECTIONS: dict[str, str] = {"suite": "restrl.evaluation.config:SuiteConfig"}

FREE_SETTINGS = frozenset(
    f"{section}.{key}"
    for section, keys in {
        "run": "threads",
        "policy": "max_batch_tokens",
        "train": "report_to log_completions",
        "grpo": "micro_batch rollout_chunks max_batch_tokens gradient_checkpointing vllm_memory save_every "
        "keep_checkpoints grader_patience_s",
        "offline": "micro_batch gradient_checkpointing save_every keep_checkpoints",
        "value": "gradient_checkpointing",
        "grading": "workers retries",
    }.items()
    for key in keys.split()
)
"""What may change while a run is under way: it changes how the results are computed, and nothing but their rounding."""

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """A resolved recipe: one config object per section.

    Attributes:
        name: For display and for the default run directory.
        sections: Section name -> config dataclass of its owner.
    """

    name: str
    sections: Mapping[str, Any]

    def section(self, name: str, cls: type[T]) -> T:
        """Returns the config of a section, checked to be a ``cls``."""
        value = self.sections[name]
        if not isinstance(value, cls):
            raise TypeError(f"section {name} holds a {type(value).__name__}, not a {cls.__name__}")
        return value

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns plain data, every default filled in: what the manifest records."""
        return {
            name: {field.name: _plain(getattr(config, field.name)) for field in _own_fields(config)}
            for name, config in self.sections.items()
        }

    def to_toml(self) -> str:
        """Returns the recipe as TOML, every default filled in."""
        return tables_to_toml(f"{self.name}, resolved", self.to_dict())


def tables_to_toml(title: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns plain tables as TOML, with a title."""
    lines = [f"# {title}"]
    for name, values in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def section_class(name: str) -> type[Any]:
    """Returns the dataclass that owns a section."""
    module, _, attribute = (SECTIONS | _OTHER_SECTIONS)[name].partition(":")
    cls: type[Any] = getattr(importlib.import_module(module), attribute)
    return cls


def load_recipe(source: str | Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Loads a recipe by file or by the name of a shipped one.

    Args:
        source: A TOML file, the name of a shipped recipe, or None for ``starter``.
        overrides: Flags ``section.key=value``; the value is TOML, or a bare word for text.

    Raises:
        ConfigError: The file is missing or not TOML; a key or a value is not allowed.
    """
    path = _find(source)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {path}: not valid TOML ({error}); fix the file") from None
    for flag in overrides:
        section, key, value = parse_override(flag)
        table = tables.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"recipe {path}: '{section}' must be a table [{section}], not {table!r}")
        table[key] = value
    return recipe_from_dict(tables, name=path.stem, where=f"recipe {path}")


def recipe_from_dict(tables: Mapping[str, Any], *, name: str, where: str) -> Recipe:
    """Builds a recipe from plain tables; missing keys take their defaults."""
    for section in tables:
        if section not in SECTIONS:
            raise ConfigError(f"{where}: unknown section [{section}]; {_allowed(section, SECTIONS)}")
    sections = {section: build_section(section, tables.get(section, {}), where) for section in SECTIONS}
    return Recipe(name, sections)


def build_section(section: str, table: Any, where: str) -> Any:
    """Builds and checks the config of one section."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: '{section}' must be a table [{section}], not {table!r}")
    cls = section_class(section)
    fields = {field.name: field for field in _own_fields(cls)}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in table.items():
        label = f"{where}: {section}.{key}"
        if key not in fields:
            raise ConfigError(f"{where}: unknown key {section}.{key}; {_allowed(key, fields)}")
        values[key] = _check_range(_convert(value, hints[key], label), fields[key].metadata, label)
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{where}: section [{section}]: {error}") from None


def _own_fields(config: Any) -> list[dataclasses.Field[Any]]:
    """The fields that a recipe sets in this section; the others are set by the section that owns them."""
    return [field for field in dataclasses.fields(config) if not field.metadata.get("owner")]


def parse_override(flag: str) -> tuple[str, str, Any]:
    """Parses ``section.key=value``.

    >>> parse_override("grpo.max_steps=10")
    ('grpo', 'max_steps', 10)
    >>> parse_override("policy.device=cpu")
    ('policy', 'device', 'cpu')
    """
    target, equals, raw = flag.partition("=")
    section, dot, key = target.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigError(f"--set {flag!r}: expected section.key=value, for example --set grpo.max_steps=10")
    try:
        value = tomllib.loads(f"value = {raw.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    return section, key, value


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns ``(section.key, old value, new value)`` for every setting that differs.

    A setting that ``old`` does not have, because it was written before the setting existed, had its default then.
    """
    changes = []
    for section in sorted(old.keys() | new.keys()):
        after = new.get(section, {})
        before = {**section_defaults(section), **old.get(section, {})}
        for key in sorted(old.get(section, {}).keys() | after.keys()):
            if before.get(key) != after.get(key):
                changes.append((f"{section}.{key}", before.get(key), after.get(key)))
    return changes


def section_defaults(section: str) -> dict[str, Any]:
    """Returns the default of every setting of a section, as plain data; nothing for a section that is unknown."""
    if section not in SECTIONS and section not in _OTHER_SECTIONS:
        return {}
    return {
        field.name: _plain(field.default)
        for field in _own_fields(section_class(section))
        if field.default is not dataclasses.MISSING
    }


def recipe_names() -> list[str]:
    """Returns the names of the shipped recipes."""
    return sorted(path.stem for path in RECIPES_DIR.glob("*.toml"))


def _find(source: str | Path | None) -> Path:
    if source is None:
        source = "starter"
    path = Path(source)
    if path.is_file():
        return path
    shipped = RECIPES_DIR / f"{source}.toml"
    if shipped.is_file():
        return shipped
    raise ConfigError(f"recipe {str(source)!r} not found; give a TOML file or one of {', '.join(recipe_names())}")


def _allowed(word: str, names: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(word, list(names), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"


def _convert(value: Any, hint: Any, label: str) -> Any:
    """Converts a TOML value to the declared type, or says what the type is."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        options = [arg for arg in args if arg is not type(None)]
        if value is None or (value == "none" and len(options) < len(args)):
            return None
        return _convert(value, options[0], label)
    if origin is tuple:
        if isinstance(value, str) and args[0] is str:
            value = [item.strip() for item in value.split(",") if item.strip()]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{label} = {value!r}: expected a list, for example [{args[0].__name__}, ...]")
        return tuple(_convert(item, args[0], label) for item in value)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{label} = {value!r}: allowed: {', '.join(map(repr, args))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, Path):
        return str(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{label} = {value!r}: expected {hint.__name__}, got {type(value).__name__}")
    return value


def _check_range(value: Any, metadata: Mapping[str, Any], label: str) -> Any:
    choices = metadata.get("choices")
    if choices is not None and value not in choices:
        raise ConfigError(f"{label} = {value!r}: allowed: {', '.join(map(repr, choices))}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high, above = metadata.get("low"), metadata.get("high"), metadata.get("above")
        if value != value or (low is not None and value < low) or (high is not None and value > high):
            raise ConfigError(f"{label} = {value!r}: allowed: {_interval(low, high, above)}")
        if above is not None and value <= above:
            raise ConfigError(f"{label} = {value!r}: allowed: {_interval(low, high, above)}")
    return value


def _interval(low: float | None, high: float | None, above: float | None) -> str:
    parts = []
    if above is not None:
        parts.append(f"greater than {above:g}")
    if low is not None:
        parts.append(f"at least {low:g}")
    if high is not None:
        parts.append(f"at most {high:g}")
    return " and ".join(parts)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return '"none"'
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)
