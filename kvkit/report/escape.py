"""Text from outside made safe to show: a model's name or a server's words must become neither markup nor commands."""

from __future__ import annotations

import re

from markupsafe import Markup

_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
"""Ends of lines, control characters and marks that change a text's direction."""

_INLINE = re.compile(r"[\\`*\[\]|~$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
"""What begins markup within a line; an underscore inside a word does not."""

_BULLET = re.compile(r"^([-+=]+(?:\s|$))")
_NUMBERING = re.compile(r"^(\d+)([.)](?:\s|$))")


def escape(value: object) -> Markup:
    """One line that Markdown shows as plain text. What is Markdown already (`Markup`) stays as it is."""
    if isinstance(value, Markup):
        return value
    text = one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _INLINE.sub(r"\\\g<0>", text)
    text = _BULLET.sub(r"\\\1", text)
    text = _NUMBERING.sub(r"\1\\\2", text)
    # GitHub turns bare addresses into links.
    text = text.replace("://", "&#58;//").replace("www.", "www&#46;")
    return Markup(text)  # noqa: S704 - escaped above


def code(value: object) -> Markup:
    """A code span, fenced so that backticks in the text cannot end it, and safe in a table's cell."""
    text = one_line(value).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if "`" in text else ""
    return Markup(f"{fence}{padding}{text}{padding}{fence}")  # noqa: S704 - nothing in a code span is markup


def one_line(value: object) -> str:
    """On one line, without control characters: also what a terminal may be given."""
    return _INVISIBLE.sub(" ", str(value)).strip()
