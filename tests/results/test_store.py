"""What is kept is on disk at once, whole, and never replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from kvkit.results.errors import ResultsError
from kvkit.results.reader import read_stats
from kvkit.results.store import open_run
from tests.results.making import STARTED, failure, run_stats, success, summary, write_run

STATS = run_stats("with-cache", [summary([success()])])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_record_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    with open_run(tmp_path, "baseline", "cold_start", STARTED) as files:
        files.add(success("a"))
        assert files.requests_path.read_text().count("\n") == 1
        files.add(success("b"))
        assert files.requests_path.read_text().count("\n") == 2


def test_files_are_named_after_mode_scenario_and_time_in_utc(tmp_path: Path) -> None:
    in_shanghai = datetime(2026, 11, 23, 4, 0, 0, tzinfo=timezone(timedelta(hours=8)))
    with open_run(tmp_path, "with-cache", "cold_start", in_shanghai) as files:
        files.write_stats(STATS)
    assert names(tmp_path) == [
        "with_cache_cold_start_requests_20261122_200000.jsonl",
        "with_cache_cold_start_stats_20261122_200000.json",
    ]


def test_runs_of_the_same_second_get_names_of_their_own(tmp_path: Path) -> None:
    for _ in range(3):
        write_run(tmp_path, STATS, [success()])
    assert [name for name in names(tmp_path) if name.endswith(".json")] == [
        "with_cache_cold_start_stats_20261122_200000.json",
        "with_cache_cold_start_stats_20261122_200000_2.json",
        "with_cache_cold_start_stats_20261122_200000_3.json",
    ]


def test_a_name_that_only_the_stats_file_took_is_not_used_for_requests(tmp_path: Path) -> None:
    (tmp_path / "baseline_cold_start_stats_20261122_200000.json").write_text("kept")
    with open_run(tmp_path, "baseline", "cold_start", STARTED) as files:
        assert files.requests_path.name == "baseline_cold_start_requests_20261122_200000_2.jsonl"


def test_a_stats_file_that_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with open_run(tmp_path, "baseline", "cold_start", STARTED) as files:
        files.stats_path.write_text("somebody else's")
        with pytest.raises(ResultsError, match=r"stats_20261122_200000\.json: cannot write the summary: File exists"):
            files.write_stats(STATS)
        assert files.stats_path.read_text() == "somebody else's"


def test_nothing_but_the_two_files_is_left(tmp_path: Path) -> None:
    write_run(tmp_path, STATS, [success()])
    assert len(names(tmp_path)) == 2


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, STATS, [success()])
    assert read_stats(path) == STATS.model_copy(update={"records": path.name.replace("stats", "requests") + "l"})


def test_a_half_emoji_from_a_server_does_not_stop_the_run(tmp_path: Path) -> None:
    with open_run(tmp_path, "baseline", "cold_start", STARTED) as files:
        files.add(replace(failure(), error="broken \ud83d emoji"))
    assert json.loads(files.requests_path.read_text())["error"] == "broken ? emoji"


def test_the_folder_is_made(tmp_path: Path) -> None:
    write_run(tmp_path / "new" / "results", STATS, [success()])
    assert len(names(tmp_path / "new" / "results")) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ResultsError, match=r"file/results: cannot keep results here: Not a directory"),
        open_run(tmp_path / "file" / "results", "baseline", "cold_start", STARTED),
    ):
        raise AssertionError("must not be reached")
