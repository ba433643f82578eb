"""Reads an HTML report as a browser's parser does: elements, their attributes, and the text that a person sees."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

_NO_END = {"meta", "link", "img", "br", "rect", "circle"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page:
    elements: list[Element] = field(default_factory=list)
    text: str = ""
    """Of everything but scripts and styles, on one line."""

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    @property
    def plots(self) -> dict[str, Any]:
        (data,) = (script for script in self.all("script") if script.attributes.get("id") == "plots")
        plots: dict[str, Any] = json.loads(data.text)["plots"]
        return plots


def read_page(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.page.text = " ".join(reader.page.text.split())
    return reader.page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.page.text += " "
        self.page.elements.append(element)
        if tag not in _NO_END:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data
        if not any(element.tag in ("script", "style") for element in self._open):
            self.page.text += data
