"""Relative links and anchors lead somewhere, and no page stands alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import DOCS, PAGES, anchors, links, name

CHECKS = DOCS / "checks"


def targets(page: Path) -> list[tuple[str, Path, str]]:
    """Each relative link of a page: where it stands, the file and the anchor that it names."""
    found = []
    for link in links(page):
        if "://" not in link.target:
            file, _, anchor = unquote(link.target).partition("#")
            found.append(
                (f"{name(page)}:{link.line}: {link.target}", (page.parent / file).resolve() if file else page, anchor)
            )
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    assert [at for at, file, _ in targets(page) if not file.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_anchors_are_headings(page: Path) -> None:
    broken = [
        at for at, file, anchor in targets(page) if anchor and file.suffix == ".md" and anchor not in anchors(file)
    ]
    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [page for page in PAGES if page.name == "README.md" and page.parent == DOCS.parent]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.exists():
            reached.add(page)
            waiting += [file for _, file, _ in targets(page)]
    assert [name(page) for page in PAGES if page not in reached] == []
