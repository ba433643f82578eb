"""Opens a report in Debian's Chromium, from a file and without a network, and says what was seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, sync_playwright

from tests.playbooks import PROJECT

Scheme = Literal["light", "dark"]

WIDTHS = {"desktop": 1280, "phone": 390}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

AXE = PROJECT / ".venv/browser/node_modules/axe-core/axe.min.js"
SCREENSHOTS = PROJECT / "build/browser"
"""Kept for eyes."""

_DRAWN_WITHIN_MS = 60_000
_GRAVE = {"serious", "critical"}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser, gone afterwards. Skips where it or axe-core is missing; in CI that is a failure."""
    program = shutil.which("chromium")
    if program is None or not AXE.exists():
        missing = "chromium" if program is None else f"axe-core ({AXE})"
        why = f"{missing} is missing: run `make .venv/browser.stamp`, as root where Chromium is to be installed"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with sync_playwright() as playwright:
        # Root may not start Chromium with its sandbox.
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=os.getuid() != 0)
        try:
            yield browser
        finally:
            browser.close()


@dataclass(frozen=True, slots=True)
class Opened:
    """A report that was opened and has drawn its charts."""

    page: Page
    said: list[str]
    """Warnings and errors of the console and of scripts, requests that were tried, dialogs."""

    @property
    def charts(self) -> int:
        return self.page.locator(".plot").count()

    def not_drawn(self) -> list[str]:
        """Charts without a drawing of marks."""
        places: list[str] = self.page.evaluate(
            """() => [...document.querySelectorAll(".plot")]
                .filter(plot => plot.dataset.drawn !== "yes" || !plot.querySelector("svg .role-mark > *"))
                .map(plot => plot.id)"""
        )
        return places

    def sideways_px(self) -> int:
        """How far the page can be scrolled sideways."""
        px: int = self.page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        return px

    def grave_faults(self) -> list[str]:
        """What axe-core finds serious or critical, with the first place of each."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: dict[str, Any] = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{fault['id']}: {fault['nodes'][0]['html'][:200]} ({len(fault['nodes'])} places)"
            for fault in found["violations"]
            if fault["impact"] in _GRAVE
        ]


@contextmanager
def opened(
    browser: Browser, report: Path, *, width: int = WIDTHS["desktop"], scheme: Scheme = "light"
) -> Iterator[Opened]:
    """Open a report and wait until its charts are drawn."""
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 900})
    page = context.new_page()
    said: list[str] = []

    def note_request(request: Request) -> None:
        if request.url != report.as_uri():
            said.append(f"asked: {request.url}")

    def refuse(dialog: Dialog) -> None:
        said.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("request", note_request)
    page.on("dialog", refuse)
    try:
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=_DRAWN_WITHIN_MS)
        yield Opened(page, said)
    finally:
        context.close()
