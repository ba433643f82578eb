"""The report role around a stand-in for `python -m kvkit compare` that ends as it is told to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.playbooks import Played, play

pytestmark = pytest.mark.playbook


@dataclass(frozen=True)
class Reports:
    """A results folder with cycles of empty stats files, and the playbook that compares them."""

    folder: Path

    def cycle(self, name: str, *modes: str, made: int = 1) -> Path:
        """Stats files of a cycle, written `made` seconds after the epoch."""
        folder = self.folder / "results" / name
        folder.mkdir(parents=True)
        for mode in modes:
            stats = folder / f"{mode}_cold_start_stats_20260101_000000.json"
            stats.write_text("{}")
            os.utime(stats, (made, made))
        return folder

    def play(self, *, ends_with: int = 0, **variables: Any) -> Played:
        stand_in = self.folder / "python"
        stand_in.write_text(f'#!/bin/sh\necho "$@" > asked\necho "the verdict of kvkit"\nexit {ends_with}\n')
        stand_in.chmod(0o755)
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {"here": {}}}}))
        told = {"kv_results_dir": str(self.folder / "results"), "report_python": str(stand_in)}
        return play("report", self.folder / "hosts.json", variables={**told, **variables})


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    (tmp_path / "results").mkdir()
    return Reports(tmp_path)


def test_the_newest_cycle_is_compared_and_its_verdict_shown(reports: Reports) -> None:
    reports.cycle("old", "with_cache", "baseline", made=1)
    newest = reports.cycle("new", "with_cache", "baseline", made=2)
    played = reports.play()
    assert played.exit_code == 0, played.output
    assert "the verdict of kvkit" in played.text
    assert f"The report is {newest}/comparison.html" in played.text
    assert (newest / "asked").read_text().split() == [
        *["-m", "kvkit", "compare"],
        *["--with-cache-stats", f"{newest}/with_cache_cold_start_stats_20260101_000000.json"],
        *["--baseline-stats", f"{newest}/baseline_cold_start_stats_20260101_000000.json"],
        *["--output", f"{newest}/comparison.md", f"{newest}/comparison.html", "--generate-charts"],
    ]


def test_a_named_cycle_is_compared_although_a_newer_one_exists(reports: Reports) -> None:
    named = reports.cycle("named", "with_cache", "baseline", made=1)
    reports.cycle("new", "with_cache", "baseline", made=2)
    assert reports.play(kv_cycle="named").exit_code == 0
    assert (named / "asked").exists()


def test_an_invalid_comparison_fails_and_names_the_report(reports: Reports) -> None:
    cycle = reports.cycle("one", "with_cache", "baseline")
    played = reports.play(ends_with=2)
    assert played.exit_code == 2
    assert f"INVALID: the comparison does not hold; the reasons stand in {cycle}/comparison.html" in played.text


def test_one_mode_alone_is_no_failure_and_no_comparison(reports: Reports) -> None:
    cycle = reports.cycle("one", "baseline")
    played = reports.play()
    assert played.exit_code == 0, played.output
    assert "No comparison" in played.text
    assert not (cycle / "asked").exists()


def test_without_results_it_says_what_makes_them(reports: Reports) -> None:
    played = reports.play()
    assert played.exit_code == 2
    assert "Run playbooks/site.yml" in played.text
