"""Every role's argument specification is its documentation: it must say what the defaults say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import PROJECT

ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir() if path.is_dir())


def read(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text()) if path.exists() else None
    return loaded or {}


def specified(role: str) -> dict[str, Any]:
    """The options of all entry points of a role."""
    specs = read(PROJECT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name: option for entry in specs.values() for name, option in entry.get("options", {}).items()}


def defaults(role: str) -> dict[str, Any]:
    return read(PROJECT / "roles" / role / "defaults" / "main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_described(role: str) -> None:
    assert defaults(role).keys() - specified(role).keys() == set()


@pytest.mark.parametrize("role", ROLES)
def test_every_option_has_a_description(role: str) -> None:
    assert [name for name, option in specified(role).items() if not option.get("description")] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_stated_default_is_the_real_one(role: str) -> None:
    """A default that is a template is described in words."""
    literal = {name: value for name, value in defaults(role).items() if "{{" not in str(value)}
    stated = {name: option["default"] for name, option in specified(role).items() if "default" in option}
    assert {name: value for name, value in literal.items() if name in stated} == {
        name: value for name, value in stated.items() if name in literal
    }


@pytest.mark.parametrize("role", ROLES)
def test_a_required_option_has_no_default(role: str) -> None:
    required = {name for name, option in specified(role).items() if option.get("required")}
    assert required & defaults(role).keys() == set()
