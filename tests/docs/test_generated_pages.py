"""The pages of the reference say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from docs.make_configuration_page import meanings
from docs.make_pages import PAGES
from kvkit import config
from tests.docs.pages import name

SECTIONS = [one for one in vars(config).values() if isinstance(one, type) and issubclass(one, config.Section)]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "run: make docs"


@pytest.mark.parametrize("section", [one for one in SECTIONS if one not in (config.Section, config.Config)])
def test_every_key_of_the_configuration_has_a_meaning(section: type[BaseModel]) -> None:
    assert section.model_fields.keys() - meanings(section).keys() == set()
