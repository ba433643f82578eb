"""Everything that is installed is pinned by name and version, wherever it comes from."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution, distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.playbooks import PROJECT

PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[0-9][A-Za-z0-9.!+]*)( ; .+)?$")
FILES = ("constraints.txt", "roles/stack/files/constraints-stack.txt")


def lines(file: str) -> list[str]:
    return [line for line in (PROJECT / file).read_text().splitlines() if line and not line.startswith("#")]


def pins() -> dict[str, str]:
    matches = (PIN.match(line) for line in lines("constraints.txt"))
    return {canonicalize_name(match["name"]): match["version"] for match in matches if match}


@pytest.mark.parametrize("file", FILES)
def test_a_constraint_is_a_name_and_a_version_and_no_address(file: str) -> None:
    assert [line for line in lines(file) if not PIN.match(line)] == []


def test_every_dependency_of_the_project_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {canonicalize_name(Requirement(one).name) for one in asked} - {"kvkit"}
    assert names - pins().keys() == set()


def test_what_is_installed_here_is_what_is_pinned() -> None:
    pinned = pins()
    installed = {canonicalize_name(one.name): one.version for one in distributions()}
    others = {name: version for name, version in installed.items() if pinned.get(name) != version}
    assert others.keys() <= {"kvkit", "setuptools"}, others
    assert distribution("kvkit").version
