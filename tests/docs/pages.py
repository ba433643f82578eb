"""The documentation, as its readers see it: headings, links and blocks of commands."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.playbooks import PROJECT

DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])

_MARKDOWN = MarkdownIt().enable("table")


@dataclass(frozen=True, slots=True)
class Link:
    line: int
    target: str


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    line: int
    language: str
    text: str


def name(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def links(page: Path) -> Iterator[Link]:
    for line, token in _inline(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target is not None:
            yield Link(line, str(target))


def code_spans(page: Path) -> Iterator[tuple[int, str]]:
    for line, token in _inline(page):
        if token.type == "code_inline":
            yield line, token.content


def blocks(page: Path) -> Iterator[Block]:
    for token in _tokens(page):
        if token.type == "fence":
            yield Block(_line(token), token.info.strip(), token.content)


def anchors(page: Path) -> set[str]:
    """What `#...` can name on a page, by GitHub's rules."""
    seen: dict[str, int] = {}
    found = set()
    tokens = _tokens(page)
    for opening, heading in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            told = "".join(child.content for child in heading.children or ())
            slug = _slug(told)
            found.add(f"{slug}-{seen[slug]}" if slug in seen else slug)
            seen[slug] = seen.get(slug, 0) + 1
    return found


def _slug(heading: str) -> str:
    kept = (char for char in heading.lower() if char in "-_ " or unicodedata.category(char)[0] in "LNM")
    return re.sub(" ", "-", "".join(kept).strip())


def _inline(page: Path) -> Iterator[tuple[int, Token]]:
    for token in _tokens(page):
        for child in token.children or ():
            yield _line(token), child


def _tokens(page: Path) -> list[Token]:
    return _MARKDOWN.parse(page.read_text(encoding="utf-8"))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0
