"""`restrl evaluate --policy ... --problems ...`: flags -> settings -> evaluation -> table."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restrl.errors import ConfigError

if TYPE_CHECKING:
    from restrl.pipeline.suite import SuiteSettings

SECTIONS = ("policy", "decode", "grading")
"""Sections of a recipe that ``--set`` reaches here."""
FLAGS = ("value_model", "decoder", "budget", "samples", "count", "seed", "chunk_size", "grade_unfinished", "save_trees")
POLICY_FLAGS = ("temperature", "max_new_tokens")
DECODE_FLAGS = ("selection", "public_tests")
SEARCH_BUDGET = 30
_WHERE = "restrl evaluate"


def is_stand_alone(args: argparse.Namespace) -> bool:
    """Whether the flags, or the folder, ask for a stand-alone evaluation and not for the stage of a run.

    Raises:
        ConfigError: The flags mix the two.
    """
    if args.policy is None and args.problems is None:
        given = [name for name in (*FLAGS, *POLICY_FLAGS, *DECODE_FLAGS) if getattr(args, name) is not None]
        stored = _stored(args.out)
        if given and stored is None:
            flag = f"--{given[0].replace('_', '-')}"
            raise ConfigError(f"{flag} belongs to --policy and --problems; give those, or leave it out")
        return stored is not None
    if args.recipe is not None:
        raise ConfigError(f"recipe {args.recipe!r} and --policy/--problems: give the one or the other")
    missing = [flag for flag in ("policy", "problems", "out") if getattr(args, flag) is None]
    if missing:
        names = {"policy": "DIR", "problems": "SET,...", "out": "DIR"}
        raise ConfigError(
            f"--{missing[0]} {names[missing[0]]} is missing; evaluating needs --policy, --problems, --out"
        )
    return True


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints the table."""
    from restrl.artifacts import open_run
    from restrl.config import tables_to_toml
    from restrl.console import console_progress, print_table
    from restrl.evaluation import tables as shown
    from restrl.pipeline.suite import KIND, SuiteEvaluation, load_sets

    tables = _tables(args)
    settings = _settings(tables)
    if args.dry_run:
        print(tables_to_toml(KIND, tables), end="")
        return 0
    if _stored(args.out) is None:
        _check(settings)
    loaded = load_sets(settings.suite)
    with open_run(args.out, tables, tables_to_toml(KIND, tables), KIND) as directory:
        results = SuiteEvaluation(directory, settings, loaded, console_progress(args.quiet)).run()
    if args.json:
        print(json.dumps(results))
    else:
        print_table(shown.COLUMNS, shown.rows(results), shown.notes(results))
        print(f"results: {args.out / 'results.json'}")
    return 0


def _stored(out: Path | None) -> dict[str, Any] | None:
    """The settings that a folder was begun with, if it holds a stand-alone evaluation."""
    from restrl.artifacts import read_manifest

    manifest = read_manifest(out) if out is not None else None
    if manifest is None or "suite" not in manifest["recipe"]:
        return None
    recipe: dict[str, Any] = manifest["recipe"]
    return recipe


def _tables(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The settings as plain tables: those of the flags, or, where no policy is named, those of the folder."""
    from restrl.config import build_section, parse_override
    from restrl.policy import policy_settings

    stored = _stored(args.out) if args.policy is None and args.problems is None else None
    tables: dict[str, dict[str, Any]] = {name: dict((stored or {}).get(name, {})) for name in SECTIONS}
    for flag in args.overrides:
        section, key, value = parse_override(flag)
        if section not in SECTIONS:
            raise ConfigError(f"--set {flag}: allowed here: {', '.join(f'{name}.KEY' for name in SECTIONS)}")
        tables[section][key] = value
    for section, names in (("policy", POLICY_FLAGS), ("decode", DECODE_FLAGS)):
        tables[section] |= {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    suite = dict((stored or {}).get("suite", {})) | {
        name: getattr(args, name) for name in FLAGS if getattr(args, name) is not None
    }
    if stored is None:
        suite["policy"] = args.policy
        suite["problems"] = [part.strip() for part in args.problems.split(",") if part.strip()]
        _fill_in(suite)
    tables["policy"] |= policy_settings(suite["policy"])
    tables["decode"] |= {"method": suite["decoder"], "budget": suite["budget"]}
    result = {"suite": _plain(_suite_config(suite))}
    for name in SECTIONS:
        result[name] = _plain(build_section(name, tables[name], _WHERE))
    return result


def _fill_in(suite: dict[str, Any]) -> None:
    """Chooses the decoder and the budget where no flag did."""
    decoder = suite.get("decoder") or ("vm_mcts" if suite.get("value_model") else "sample")
    suite["decoder"] = decoder.replace("-", "_")
    suite.setdefault("budget", 1 if suite["decoder"] in ("greedy", "sample") else SEARCH_BUDGET)


def _suite_config(table: Mapping[str, Any]) -> Any:
    from restrl.evaluation.config import SuiteConfig

    for field in dataclasses.fields(SuiteConfig):
        value, low = table.get(field.name), field.metadata.get("low")
        if value is not None and low is not None and value < low:
            raise ConfigError(f"--{field.name.replace('_', '-')} {value}: at least {low:g}")
    return SuiteConfig(**{**table, "problems": tuple(table["problems"])})


def _settings(tables: Mapping[str, Mapping[str, Any]]) -> SuiteSettings:
    from restrl.config import build_section
    from restrl.decoding import check_choice
    from restrl.pipeline.context import policy_path
    from restrl.pipeline.suite import SuiteSettings
    from restrl.pipeline.suite_settings import check_settings
    from restrl.policy.config import LOCAL_ENGINES

    suite = _suite_config(tables["suite"])
    check_settings(suite)
    policy, decode, grading = (build_section(name, tables[name], _WHERE) for name in SECTIONS)
    if policy.engine in LOCAL_ENGINES:
        policy = dataclasses.replace(policy, model=str(policy_path(policy)))
    check_choice(decode)
    return SuiteSettings(suite, policy, decode, grading)


def _check(settings: SuiteSettings) -> None:
    """Checks the model directories before a folder is made."""
    from restrl.policy import check_policy
    from restrl.policy.model_dir import check_model_dir

    check_policy(settings.policy)
    if settings.suite.value_model:
        check_model_dir(Path(settings.suite.value_model))


def _plain(config: Any) -> dict[str, Any]:
    """The settings of a section as JSON keeps them."""
    table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return table
