"""Which files a report is written to, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvkit.report.errors import ReportError
from kvkit.report.files import write_reports
from kvkit.results.comparison import Comparison, compare
from tests.results.making import write_pair_of_runs


def compared(folder: Path) -> Comparison:
    return compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")])


@pytest.mark.parametrize(
    "choose",
    [
        lambda comparison: comparison.scenarios[0].run_pairs[0].with_cache.path,
        lambda comparison: (
            comparison.scenarios[0]
            .run_pairs[0]
            .baseline.path.with_name(comparison.scenarios[0].run_pairs[0].baseline.stats.records)
        ),
        lambda comparison: comparison.not_used[0].path,
    ],
    ids=["stats", "requests", "older"],
)
def test_results_are_not_replaced_by_a_report(tmp_path: Path, choose: Callable[[Comparison], Path]) -> None:
    write_pair_of_runs(tmp_path)
    write_pair_of_runs(tmp_path)
    comparison = compared(tmp_path)
    before = choose(comparison).read_bytes()
    with pytest.raises(ReportError, match="is one of the results and is not replaced: choose another --output"):
        write_reports(comparison, [choose(comparison)], charts=False)
    assert choose(comparison).read_bytes() == before


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(ReportError, match=r"folder\.md: cannot be written: Is a directory"):
        write_reports(compared(tmp_path), [tmp_path / "folder.md"], charts=False)


def test_each_output_has_the_form_of_its_suffix(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    outputs = [tmp_path / "new" / "a.md", tmp_path / "b.HTML"]
    assert write_reports(compared(tmp_path), outputs, charts=False) == outputs
    assert outputs[0].read_text().startswith("# KV cache comparison")
    assert outputs[1].read_text().lstrip().startswith("<!doctype html>")


@pytest.mark.parametrize(("name", "found"), [("a.pdf", "suffix .pdf"), ("a", "no suffix")])
def test_another_form_is_refused_before_anything_is_written(tmp_path: Path, name: str, found: str) -> None:
    write_pair_of_runs(tmp_path)
    with pytest.raises(ReportError, match=rf"--output .*{name}: found {found}, expected .md .* or .html"):
        write_reports(compared(tmp_path), [tmp_path / "a.md", tmp_path / name], charts=False)
    assert not (tmp_path / "a.md").exists()
