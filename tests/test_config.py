import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restrl.config import (
    SECTIONS,
    changed_keys,
    load_recipe,
    parse_override,
    recipe_from_dict,
    recipe_names,
    section_class,
    section_defaults,
)
from restrl.errors import ConfigError


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_parses_and_survives_a_round_trip(name: str) -> None:
    recipe = load_recipe(name)
    again = recipe_from_dict(tomllib.loads(recipe.to_toml()), name=name, where="round trip")
    assert again.to_dict() == recipe.to_dict()


def test_every_setting_has_help_and_a_default_inside_its_range() -> None:
    import dataclasses

    from restrl.config import build_section

    for section in SECTIONS:
        cls = section_class(section)
        for field in dataclasses.fields(cls):
            assert field.metadata.get("help"), f"{section}.{field.name} has no help"
        owned = {field.name for field in dataclasses.fields(cls) if field.metadata.get("owner")}
        values = {k: v for k, v in dataclasses.asdict(cls()).items() if v is not None and k not in owned}
        defaults = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        build_section(section, defaults, "defaults")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[grop]\nx = 1\n", ["[grop]", "did you mean grpo?"]),
        ("[grpo]\nlearning_rat = 1.0\n", ["grpo.learning_rat", "did you mean learning_rate?"]),
        ('[rest]\nalpha = "high"\n', ["rest.alpha", "'high'", "expected float", "got str"]),
        ("[rest]\nalpha = 1.5\n", ["rest.alpha", "1.5", "at most 1"]),
        ("[run]\nseed = true\n", ["run.seed", "True", "expected int"]),
        ('[rest]\nmode = "some"\n', ["rest.mode", "'some'", "sampled"]),
        ("rest = 3\n", ["rest", "table"]),
        ("[rest\n", ["not valid TOML"]),
    ],
)
def test_bad_recipes_are_one_clear_line(tmp_path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_a_missing_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="starter"):
        load_recipe("nowhere.toml")


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[rest]\nalpha = 0.5\nsigma_0 = 0.2\n")
    values = load_recipe(path, ["rest.alpha=0.75", "run.seed=7"]).to_dict()
    assert (values["rest"]["alpha"], values["rest"]["sigma_0"], values["rest"]["r_0"]) == (0.75, 0.2, 0.9)
    assert values["run"]["seed"] == 7


@pytest.mark.parametrize("flag", ["alpha=1", "rest.alpha", "=", "rest.=1", ".alpha=1"])
def test_malformed_flags_are_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        parse_override(flag)


@given(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
def test_flags_carry_toml_values(integer: int, boolean: bool, number: float) -> None:
    assert parse_override(f"a.b={integer}")[2] == integer
    assert parse_override(f"a.b={str(boolean).lower()}")[2] is boolean
    assert parse_override(f"a.b={number!r}")[2] == number


def test_changed_keys_names_every_difference() -> None:
    old = {"run": {"seed": 0, "chunk_size": 64}, "rest": {"alpha": 0.95}}
    new = {"run": {"seed": 1, "chunk_size": 64}, "rest": {"alpha": 0.95}}
    assert changed_keys(old, new) == [("run.seed", 0, 1)]
    assert changed_keys(old, old) == []


def test_a_setting_that_did_not_exist_yet_is_unchanged_at_its_default_only() -> None:
    new = load_recipe("starter", ["decode.window=3"]).to_dict()
    old = {section: dict(values) for section, values in new.items() if section != "offline"}
    del old["evaluate"]["save_trees"], old["decode"]["window"]
    assert changed_keys(old, new) == [("decode.window", section_defaults("decode")["window"], 3)]
    new["offline"]["beta"] = 0.7
    assert [key for key, _, _ in changed_keys(old, new)] == ["decode.window", "offline.beta"]


def test_a_setting_that_no_longer_exists_is_a_change() -> None:
    old = {"run": {"seed": 0, "gone": 1}}
    assert changed_keys(old, {"run": {"seed": 0}}) == [("run.gone", 1, None)]


def test_defaults_are_known_for_every_section_of_any_manifest() -> None:
    assert section_defaults("suite")["problems"] == [] and section_defaults("suite")["samples"] == 1
    assert section_defaults("nothing") == {}
    for section, values in recipe_from_dict({}, name="d", where="d").to_dict().items():
        assert section_defaults(section) == values


def test_what_the_policy_section_owns_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"unknown key grpo\.temperature"):
        load_recipe("starter", ["grpo.temperature=0.1"])
