"""What others wrote is shown as it is: no markup in Markdown, no commands to a terminal."""

from __future__ import annotations

import pytest
from markupsafe import Markup

from kvkit.report.escape import code, escape, for_terminal


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Qwen/Qwen2.5-72B-Instruct", "Qwen/Qwen2.5-72B-Instruct"),
        ("long_context_high_reuse", "long_context_high_reuse"),
        ("-3.5 %", "-3.5 %"),
        ("a | b", r"a \| b"),
        (r"a \| b", r"a \\\| b"),
        ("**bold** _it_ ~~no~~", r"\*\*bold\*\* \_it\_ \~\~no\~\~"),
        ("[text](http://evil.example)", r"\[text\](http&#58;//evil.example)"),
        ("www.evil.example", "www&#46;evil.example"),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y&gt;"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("`code`", r"\`code\`"),
        ("$x^2$", r"\$x^2\$"),
        ("# title", r"\# title"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("first\n\n| second |\r\n", r"first \| second \|"),
        ("zero\u200bwidth \u202eturned", "zero width turned"),
    ],
)
def test_text_stays_text(text: str, markdown: str) -> None:
    assert escape(text) == markdown


def test_what_is_markdown_already_stays() -> None:
    assert escape(Markup("**kept**")) == "**kept**"


def test_numbers_are_taken_too() -> None:
    assert escape(7) == "7"


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("v0.32.0", "`v0.32.0`"),
        ("a|b", r"`a\|b`"),
        ("tick ` inside", "`` tick ` inside ``"),
        ("`` two", "``` `` two ```"),
        ("two\nlines", "`two lines`"),
    ],
)
def test_a_code_span_cannot_be_left(text: str, span: str) -> None:
    assert code(text) == span


def test_a_terminal_gets_no_commands() -> None:
    assert for_terminal("red \x1b[31m, title \x1b]0;x\x07, back\rhome, \u202eturned") == (
        "red  [31m, title  ]0;x , back home,  turned"
    )


def test_half_a_character_reaches_no_terminal() -> None:
    assert for_terminal("half \ud800 of one") == "half   of one"


def test_a_message_of_several_lines_keeps_them() -> None:
    assert for_terminal("first\n  second") == "first\n  second"
