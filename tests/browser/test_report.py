"""The HTML report in a real browser: it draws, says nothing wrong, fits the screen, and can be used by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from kvkit.report.files import write_reports
from kvkit.results.comparison import compare
from tests.browser.opening import SCHEMES, SCREENSHOTS, WIDTHS, Scheme, chromium, opened
from tests.report.reports import write_hostile, write_whole

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def report_of(folder: Path) -> Path:
    comparison = compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")])
    (report,) = write_reports(comparison, [folder / "comparison.html"], charts=False)
    return report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_whole(folder)
    return report_of(folder)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("screen", WIDTHS)
def test_it_opens_without_a_network_draws_every_chart_and_fits(
    browser: Browser, report: Path, screen: str, scheme: Scheme
) -> None:
    with opened(browser, report, width=WIDTHS[screen], scheme=scheme) as seen:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        seen.page.screenshot(path=SCREENSHOTS / f"report-{screen}-{scheme}.png", full_page=True)
        assert seen.said == []
        assert seen.charts == 14
        assert seen.not_drawn() == []
        assert seen.sideways_px() == 0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("screen", WIDTHS)
def test_nothing_grave_keeps_anybody_from_using_it(browser: Browser, report: Path, screen: str, scheme: Scheme) -> None:
    with opened(browser, report, width=WIDTHS[screen], scheme=scheme) as seen:
        seen.page.evaluate("() => document.querySelectorAll('details').forEach(each => each.open = true)")
        assert seen.grave_faults() == []


def test_charts_follow_the_page_into_the_dark_and_back_onto_paper(browser: Browser, report: Path) -> None:
    ink = "() => getComputedStyle(document.querySelector('.plot svg text')).fill"
    with opened(browser, report) as seen:
        light = seen.page.evaluate(ink)
        seen.page.emulate_media(color_scheme="dark")
        assert seen.page.evaluate(ink) != light
        seen.page.emulate_media(color_scheme="dark", media="print")
        assert seen.page.evaluate(ink) == light


def test_a_chart_tells_the_figures_of_a_mark_that_is_pointed_at(browser: Browser, report: Path) -> None:
    with opened(browser, report) as seen:
        seen.page.locator("#tokens .plot svg .mark-rect path").first.hover(force=True)
        assert seen.page.locator("#vg-tooltip-element").inner_text().split("\n")[0].startswith("Round, mode")


def test_hostile_text_does_nothing_but_stand_there(browser: Browser, tmp_path: Path) -> None:
    write_hostile(tmp_path)
    with opened(browser, report_of(tmp_path)) as seen:
        seen.page.locator("#timeline .plot svg .mark-rule line").first.hover(force=True)
        assert seen.page.locator("#vg-tooltip-element").inner_text().count("<script>alert(1)</script>") == 1
        assert seen.page.locator("img").count() == 0
        assert seen.said == []


def test_without_scripts_the_figures_are_in_tables(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(report.as_uri())
        assert "The charts need JavaScript" in page.inner_text("main")
        page.locator("#ttft summary").first.click()
        assert page.locator("#ttft details table").first.is_visible()
    finally:
        context.close()
