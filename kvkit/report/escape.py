"""Text from outside made safe to show: a model's name or a server's words must become neither markup nor commands."""

from __future__ import annotations

import re

from markupsafe import Markup

_HIDDEN = r"\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
"""Control characters, separators, marks that change a text's direction, and halves of characters, which JSON can hold
and no file or terminal takes; not the end of a line."""

_NOT_ON_ONE_LINE = re.compile(rf"[\s{_HIDDEN}]+")
_NOT_FOR_A_TERMINAL = re.compile(f"[{_HIDDEN}]+")

_INLINE = re.compile(r"[\\`*\[\]|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What begins markup within a line; an underscore inside a word does not."""

_BULLET = re.compile(r"^([-+=]+(?:\s|$))")
_NUMBERING = re.compile(r"^(\d+)([.)](?:\s|$))")


def escape(value: object) -> Markup:
    """One line that Markdown shows as plain text. What is Markdown already (`Markup`) stays as it is."""
    if isinstance(value, Markup):
        return value
    text = _one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _INLINE.sub(r"\\\g<0>", text)
    text = _BULLET.sub(r"\\\1", text)
    text = _NUMBERING.sub(r"\1\\\2", text)
    # GitHub turns bare addresses into links.
    text = text.replace("://", "&#58;//").replace("www.", "www&#46;")
    return Markup(text)  # noqa: S704 - escaped above


def code(value: object) -> Markup:
    """A code span, fenced so that backticks in the text cannot end it, and safe in a table's cell."""
    text = _one_line(value).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if "`" in text else ""
    return Markup(f"{fence}{padding}{text}{padding}{fence}")  # noqa: S704 - nothing in a code span is markup


def for_terminal(text: str) -> str:
    """The text without what would move a terminal's cursor, colour it or turn its writing round."""
    return _NOT_FOR_A_TERMINAL.sub(" ", text)


def for_page(value: object) -> object:
    """Text for HTML without what would turn its writing round or hide in it; escaping it is the template's part."""
    return value if isinstance(value, Markup) else _NOT_FOR_A_TERMINAL.sub(" ", str(value))


def _one_line(value: object) -> str:
    return _NOT_ON_ONE_LINE.sub(" ", str(value)).strip()
