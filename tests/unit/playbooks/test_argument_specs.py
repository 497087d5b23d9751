"""What every role says of its variables, held against what it gives them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.running import CHECKOUT

ROLES = CHECKOUT / "playbooks" / "roles"
NAMES = sorted(role.name for role in ROLES.iterdir() if role.is_dir())


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {} if path.exists() else {}


def options(role: str) -> dict[str, dict[str, Any]]:
    """Return a role's options by name, those of all its entry points together."""
    entries = read(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in entry["options"].items()}


@pytest.mark.parametrize("role", NAMES)
def test_a_role_describes_its_variables(role: str) -> None:
    described = options(role)
    assert all(option["type"] and option["description"] for option in described.values())


@pytest.mark.parametrize("role", NAMES)
def test_a_role_defaults_what_it_does_not_require_and_to_what_it_says(role: str) -> None:
    said = {name: option["default"] for name, option in options(role).items() if not option.get("required")}
    assert said == read(ROLES / role / "defaults" / "main.yml")


@pytest.mark.parametrize("role", NAMES)
def test_what_a_role_requires_has_no_default(role: str) -> None:
    assert [n for n, option in options(role).items() if option.get("required") and "default" in option] == []


def test_a_variable_is_the_same_in_every_role() -> None:
    said: dict[str, dict[str, Any]] = {}
    for role in NAMES:
        for name, option in options(role).items():
            here = {key: option.get(key) for key in ("type", "default", "elements", "choices", "required")}
            assert said.setdefault(name, here) == here, f"{name} in {role}"


def settings(value: Any) -> list[str]:
    """Return every template of the settings file, however deep."""
    if isinstance(value, dict):
        return [template for each in value.values() for template in settings(each)]
    return [str(value)]


def test_a_number_given_for_one_command_is_a_number_in_the_settings() -> None:
    """``-e p12_threads=4`` gives Ansible a text; the programs that read the settings want a number."""
    kinds = {name: option["type"] for name, option in options("kit").items()}
    given = settings(read(ROLES / "kit" / "vars" / "main.yml")["__p12_settings"])
    numbers = [
        (template, kinds[name])
        for template in given
        for name in re.findall(r"p12_\w+", template)
        if kinds.get(name) in ("int", "float")
    ]
    assert len(numbers) >= 15
    assert [template for template, kind in numbers if f"| {kind} }}}}" not in template] == []
