"""The commands of the documentation, taken out of its ```console blocks."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import Block, blocks, name


@dataclass(frozen=True, slots=True)
class Command:
    at: str
    """Page and line."""
    text: str
    """As it stands there, with its continuation lines."""

    @property
    def steps(self) -> list[list[str]]:
        """The words of what is done one after the other, as a shell would split it, without its comment."""
        words = shlex.split(self.text.replace("\\\n", " "), comments=True)
        return [list(step) for is_and, step in itertools.groupby(words, "&&".__eq__) if not is_and]


def commands(page: Path) -> Iterator[Command]:
    for block in blocks(page):
        if block.language == "console":
            yield from _commands(block, name(page))


def _commands(block: Block, page: str) -> Iterator[Command]:
    text, first = "", 0
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        text, first = (f"{text}\n{line}", first) if text else (line, number)
        if not _goes_on(text):
            command = Command(f"{page}:{first}", text)
            if command.steps:
                yield command
            text = ""
    if text:
        raise AssertionError(f"{page}:{first}: this command goes on after its block: {text}")


def _goes_on(text: str) -> bool:
    """Whether a shell would ask for another line: after a backslash, or within quotes."""
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return text.endswith("\\")
