"""What a person is told of a sweep over settings."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from kvkit.report.errors import ReportError
from kvkit.report.ranking import label, print_ranking, render, write_ranking
from kvkit.results.ranking import rank
from tests.results.making import write_attempt
from tests.test_cli import call

STORE = {"kv_connector": "mooncake-store", "lmcache_overrides": {"chunk_size": 128}}


def write_sweep(folder: Path, best: dict[str, Any]) -> None:
    write_attempt(folder, {}, mode="baseline", hit_ttft_s=1.0, minute=0)
    write_attempt(folder, {}, hit_ttft_s=0.5, minute=1)
    write_attempt(folder, best, hit_ttft_s=0.25, minute=2)
    write_attempt(folder, {}, mode="baseline", hit_ttft_s=1.0, minute=4)


def snippet(report: str) -> Any:
    (found,) = re.findall(r"^(`{3,})yaml\n(.*?)^\1$", report, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(found[1])


def test_the_report_says_first_what_to_set_as_it_can_be_pasted(tmp_path: Path) -> None:
    write_sweep(tmp_path, STORE)
    report = render(rank(tmp_path))
    assert report.splitlines()[:3] == ["# Settings, ranked", "", "**Set this: better than every other candidate.**"]
    assert snippet(report) == STORE


def test_nothing_is_pasted_where_the_inventory_can_stay(tmp_path: Path) -> None:
    write_attempt(tmp_path, {}, mode="baseline", hit_ttft_s=1.0, minute=0)
    write_attempt(tmp_path, {}, minute=1)
    report = render(rank(tmp_path))
    assert "**Keep the inventory as it is:" in report
    assert "```" not in report


def test_each_candidate_has_a_row(tmp_path: Path) -> None:
    write_sweep(tmp_path, STORE)
    rows = [line for line in render(rank(tmp_path)).splitlines() if line.startswith("| `")]
    assert rows == [
        "| `kv_connector=mooncake-store, lmcache_overrides.chunk_size=128` | 250.0 | 4.00 (4.00 to 4.00) | 1 | best "
        "| 1,000.0 | 20.00 |",
        "| `as the inventory has it` | 500.0 | 2.00 (2.00 to 2.00) | 2.00 (2.00 to 2.00) | slower than the best "
        "| 1,000.0 | 20.00 |",
    ]


def test_without_a_second_baseline_the_drift_is_unknown(tmp_path: Path) -> None:
    write_attempt(tmp_path, {}, mode="baseline", hit_ttft_s=1.0, minute=0)
    write_attempt(tmp_path, {}, minute=1)
    assert "Drift is unknown" in render(rank(tmp_path))


def test_settings_and_reasons_cannot_mark_the_report_up(tmp_path: Path) -> None:
    hostile = {"vllm_extra_args": ["```\n# Heading | `<b>`"]}
    write_sweep(tmp_path, hostile)
    write_attempt(tmp_path, {"x": "|"}, minute=3, outcome="failed", reason="<script>\x1b[2J | **bold**")
    report = render(rank(tmp_path))
    assert snippet(report) == hostile
    assert "&lt;script&gt; \\[2J \\| \\*\\*bold\\*\\*" in report
    assert not re.search("^# Heading", report, re.MULTILINE)


def test_the_terminal_tells_the_same(tmp_path: Path) -> None:
    write_sweep(tmp_path, STORE)
    write_attempt(tmp_path, {"kv_connector": "x"}, minute=3, outcome="refused", reason="no such\x1b[2J connector")
    console = Console(file=io.StringIO())
    print_ranking(rank(tmp_path), tmp_path / "ranking.md", console)
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "kv_connector=x: refused: no such [2J connector" in told
    assert "Set this: better than every other candidate." in told
    assert "kv_connector: mooncake-store\nlmcache_overrides:\n  chunk_size: 128\n" in told


def test_a_value_that_is_no_text_is_told_as_json() -> None:
    assert label({"a": {"b": {"c": 1}}, "d": [1, "x"], "e": {}}) == 'a.b.c=1, d=[1, "x"], e={}'


def test_a_result_is_never_replaced_by_the_report(tmp_path: Path) -> None:
    write_sweep(tmp_path, STORE)
    result = next(tmp_path.glob("*/candidate.json"))
    with pytest.raises(ReportError, match="are not replaced"):
        write_ranking(rank(tmp_path), result)


def test_the_command_writes_the_report_into_the_sweep(tmp_path: Path) -> None:
    write_sweep(tmp_path, STORE)
    assert call("rank", "--sweep", str(tmp_path)) == 0
    assert (tmp_path / "ranking.md").read_text() == render(rank(tmp_path))


def test_the_command_ends_with_2_where_no_candidate_has_a_result(tmp_path: Path) -> None:
    write_attempt(tmp_path, STORE, outcome="refused", reason="why")
    assert call("rank", "--sweep", str(tmp_path)) == 2


def test_the_command_refuses_a_folder_that_is_no_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("rank", "--sweep", str(tmp_path)) == 1
    assert "holds no */candidate.json" in capsys.readouterr().err
