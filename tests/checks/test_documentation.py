"""Each check and each symptom has its page, as the registries tell it."""

from __future__ import annotations

import re

import pytest

from docs.make_check_pages import FOLDER, GROUPS, Entry, pages

ENTRIES = [entry for _title, group in GROUPS for entry in group]


def test_the_pages_are_those_of_the_registries() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert committed == pages(), "run: make docs"


def test_no_two_entries_share_an_id() -> None:
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_says_what_why_and_how_to_mend(entry: Entry) -> None:
    assert re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)+", entry.id)
    assert min(len(entry.looks_at), len(entry.why), len(entry.mend)) > 20
