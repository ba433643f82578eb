"""A variable that no role knows is ignored without a word, so the inventories may not hold one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbooks import PROJECT

INVENTORIES = sorted(path.name for path in (PROJECT / "inventory").iterdir())
ROLES = sorted(path.name for path in (PROJECT / "roles").iterdir() if path.is_dir())


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def variables(inventory: str) -> set[str]:
    return {name for path in (PROJECT / "inventory" / inventory / "group_vars").iterdir() for name in read(path)}


def options(role: str) -> set[str]:
    specs = read(PROJECT / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    return {name for entry in specs.values() for name in entry["options"]}


@pytest.mark.parametrize("inventory", INVENTORIES)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_knows_every_variable_that_bears_its_name(inventory: str, role: str) -> None:
    of_role = {name for name in variables(inventory) if name.startswith(f"{role}_")}
    assert of_role - options(role) == set()


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_group_of_the_playbooks_has_a_host(inventory: str) -> None:
    groups = read(PROJECT / "inventory" / inventory / "hosts.yml")["all"]["children"]
    assert {name for name, group in groups.items() if group["hosts"]} == {"mooncake_master", "vllm", "loadgen"}
