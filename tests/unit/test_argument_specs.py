"""What every role says of its variables, held against what it gives them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "playbooks" / "roles"
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
