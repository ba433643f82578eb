"""Charts as files beside the report; how they look is for eyes."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kvkit.report.chart_files import ChartFile
from kvkit.report.charts import figures_of
from kvkit.report.charts.figure import Figure
from kvkit.report.errors import ReportError
from kvkit.report.files import write_reports
from kvkit.results.comparison import Comparison, compare
from kvkit.results.stats import Mode, TokensBySource, Traffic
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
    return write_reports(compared(folder), [folder / "comparison.md"], charts=True)


def test_each_figure_is_a_png_and_an_svg(drawn: list[Path]) -> None:
    subjects = ["all_speedup", *(f"cold_start_{subject}" for subject in ("tokens", "ttft", "rates", "timeline"))]
    subjects.insert(3, "cold_start_limit")
    assert [path.name for path in drawn] == [
        "comparison.md",
        *(f"comparison_{subject}.{kind}" for subject in subjects for kind in ("png", "svg")),
    ]
    assert all(path.read_bytes().startswith(PNG_SIGNATURE) for path in drawn if path.suffix == ".png")


def test_the_report_shows_the_png_and_links_the_svg(drawn: list[Path]) -> None:
    link = "[![Time to first token](comparison_cold_start_ttft.png)](comparison_cold_start_ttft.svg)"
    assert link in drawn[0].read_text()


def test_the_speed_up_is_drawn_with_its_interval(drawn: list[Path]) -> None:
    assert any(text.startswith("4.00× (3.") for text in drawn_text(drawn[2]))


def test_a_chart_tells_its_rounds_and_modes(drawn: list[Path]) -> None:
    assert {"1 with-cache", "1 baseline", "2 with-cache", "2 baseline"} <= drawn_text(drawn[4])


def test_files_have_colours_of_their_own(drawn: list[Path]) -> None:
    assert all("var(--" not in path.read_text() for path in drawn if path.suffix == ".svg")


def figures(folder: Path) -> dict[str, Figure]:
    (scenario,) = compared(folder).scenarios
    return {figure.subject: figure for figure in figures_of(scenario)}


def test_each_figure_says_what_it_shows_and_has_it_as_a_table(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=0.25)
    for figure in figures(tmp_path).values():
        assert figure.told.startswith("Round ")
        assert figure.table.rows
        assert {len(row) for row in figure.table.rows} == {len(figure.table.columns)}


def test_the_ttft_figure_tells_the_medians(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=0.25)
    told = "Round 2 - Cache Hit: median 250.0 ms with cache and 1,000.0 ms in the baseline"
    assert told in figures(tmp_path)["ttft"].told


def test_a_figure_of_many_requests_is_thinned_by_a_rule_that_it_states(tmp_path: Path) -> None:
    medians: dict[Mode, float] = {"with-cache": 0.2, "baseline": 1.0}
    for mode, ttft_s in medians.items():
        records = [success(f"r{place:04d}", 1, start_s=place, ttft_s=ttft_s + place / 1e4) for place in range(1000)]
        write_run(tmp_path, run_stats(mode, [summary(records)]), records)
    ttft = figures(tmp_path)["ttft"]
    assert "Of 1,000 requests a curve shows 100 evenly by rank, and 200 pairs are drawn" in ttft.notes[0]
    drawn = [row[1] for row in ttft.table.rows if row[1].startswith("r")]
    assert (len(drawn), drawn[0], drawn[-1]) == (200, "r0000", "r0999")


def test_sources_that_were_not_told_are_drawn_as_unknown(tmp_path: Path) -> None:
    silent = {"by_source": TokensBySource(), "valid": None, "invalid_reasons": ["silent"]}
    write_pair_of_runs(tmp_path, hit=silent)
    assert "Round 2 - Cache Hit, with-cache: 8,008 unknown" in figures(tmp_path)["tokens"].told


def test_a_limit_that_is_not_known_is_said_to_be_so(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    assert figures(tmp_path)["limit"].told == "Round 2 - Cache Hit: the physical limit is unknown: the run kept none."


def test_the_store_is_drawn_below_the_requests_of_a_round_that_looked_at_it(tmp_path: Path) -> None:
    seen = Traffic(times_s=(0.0, 1.0, 2.0), read_bytes=(0, 10_000_000, 30_000_000), stored_bytes=None)
    write_pair_of_runs(tmp_path, hit={"traffic": seen})
    timeline = figures(tmp_path)["timeline"]
    assert [len(panel.charts) for panel in timeline.panels] == [1, 1, 2, 1]
    store = [row for row in timeline.table.rows if row[2] == "store"]
    assert [row[3:] for row in store] == [
        ("0.000", "", "1.000", "10.0", "unknown"),
        ("1.000", "", "2.000", "20.0", "unknown"),
    ]


def test_an_invalid_comparison_says_so_in_its_charts(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": False, "invalid_reasons": ["no external tokens"]})
    write_reports(compared(tmp_path), [tmp_path / "c.md"], charts=True)
    assert "cold_start: Time to first token (INVALID)" in drawn_text(tmp_path / "c_cold_start_ttft.svg")


def test_a_comparison_without_pairs_can_be_drawn(tmp_path: Path) -> None:
    for mode in ("with-cache", "baseline"):
        write_run(tmp_path, run_stats(mode, [summary([failure()])]), [failure()])
    written = write_reports(compared(tmp_path), [tmp_path / "c.md"], charts=True)
    assert [path.stem for path in written if path.suffix == ".svg"] == [
        f"c_cold_start_{subject}" for subject in ("tokens", "ttft", "rates", "timeline")
    ]


def test_the_names_of_the_files_need_no_escaping_in_a_link(tmp_path: Path) -> None:
    report = tmp_path / "my report.md"
    assert ChartFile.beside(report, "a (b) c", "ttft", "").png == "my-report_a-b-c_ttft.png"


def test_without_the_extra_nothing_is_written_and_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair_of_runs(tmp_path)
    monkeypatch.setitem(sys.modules, "altair", None)
    for name in [name for name in sys.modules if name.startswith(("kvkit.report.charts", "kvkit.report.html"))]:
        monkeypatch.delitem(sys.modules, name)
    why = r"\(altair is missing\): pip install 'kvkit\[charts\]', or write Markdown"
    for output, charts in ((tmp_path / "c.md", True), (tmp_path / "c.html", False)):
        with pytest.raises(ReportError, match=why):
            write_reports(compared(tmp_path), [output], charts=charts)
        assert not output.exists()
