"""Charts as files beside the report; how they look is for eyes."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kvkit.report.errors import ReportError
from kvkit.report.markdown import write_report
from kvkit.results.comparison import Comparison, compare
from kvkit.results.stats import TokensBySource
from tests.results.making import failure, run_stats, success, summary, write_pair_of_runs, write_run

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def compared(folder: Path) -> Comparison:
    return compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")])


def drawn_text(svg: Path) -> set[str]:
    return {element.text or "" for element in ElementTree.parse(svg).iter() if element.tag.endswith("text")}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of one small comparison; a cache hit takes 250 ms, all else 1,000 ms."""
    folder = tmp_path_factory.mktemp("results")
    write_pair_of_runs(folder, hit_ttft_s=0.25)
    return write_report(compared(folder), folder / "comparison.md", charts=True)


def test_each_scenario_gets_two_charts_as_png_and_svg(drawn: list[Path]) -> None:
    assert [path.name for path in drawn] == [
        "comparison.md",
        "comparison_cold_start_ttft.png",
        "comparison_cold_start_ttft.svg",
        "comparison_cold_start_tokens.png",
        "comparison_cold_start_tokens.svg",
    ]
    assert all(path.read_bytes().startswith(PNG_SIGNATURE) for path in drawn if path.suffix == ".png")


def test_the_report_shows_the_png_and_links_the_svg(drawn: list[Path]) -> None:
    link = "[![Time to first token](comparison_cold_start_ttft.png)](comparison_cold_start_ttft.svg)"
    assert link in drawn[0].read_text()


def test_the_ttft_chart_tells_rounds_modes_and_medians(drawn: list[Path]) -> None:
    expected = {"Round 1 - Cold Start", "Round 2 - Cache Hit", "with-cache", "baseline", "250", "1,000"}
    assert expected <= drawn_text(drawn[2])


def test_sources_that_were_not_told_are_drawn_as_unknown(tmp_path: Path) -> None:
    silent = {"by_source": TokensBySource(), "valid": None, "invalid_reasons": ["silent"]}
    write_pair_of_runs(tmp_path, hit=silent)
    write_report(compared(tmp_path), tmp_path / "c.md", charts=True)
    assert "unknown" in drawn_text(tmp_path / "c_cold_start_tokens.svg")


def test_an_invalid_comparison_says_so_in_its_charts(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": False, "invalid_reasons": ["no external tokens"]})
    write_report(compared(tmp_path), tmp_path / "c.md", charts=True)
    assert "cold_start: time to first token (INVALID)" in drawn_text(tmp_path / "c_cold_start_ttft.svg")


def test_a_comparison_without_pairs_can_be_drawn(tmp_path: Path) -> None:
    for mode in ("with-cache", "baseline"):
        write_run(tmp_path, run_stats(mode, [summary([failure()])]), [failure()])
    assert len(write_report(compared(tmp_path), tmp_path / "c.md", charts=True)) == 5


def test_the_names_of_the_files_need_no_escaping_in_a_link(tmp_path: Path) -> None:
    for mode in ("with-cache", "baseline"):
        write_run(tmp_path, run_stats(mode, [summary([success()])], scenario="a (b) c"), [success()])
    written = write_report(compared(tmp_path), tmp_path / "my report.md", charts=True)
    assert written[1].name == "my-report_a-b-c_ttft.png"


def test_without_the_extra_nothing_is_written_and_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair_of_runs(tmp_path)
    monkeypatch.setitem(sys.modules, "altair", None)
    monkeypatch.delitem(sys.modules, "kvkit.report.charts", raising=False)
    with pytest.raises(ReportError, match=r"\(altair is missing\): pip install 'kvkit\[charts\]', or leave out"):
        write_report(compared(tmp_path), tmp_path / "c.md", charts=True)
    assert not (tmp_path / "c.md").exists()
