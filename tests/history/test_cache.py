"""The cache: never needed, made anew from the files at any time, and never believed against them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from kvkit.history import folder
from kvkit.history.cache import NAME
from kvkit.history.folder import read_history
from tests.history.runs import reasons, run_id, write_past_run


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for day in (1, 2):
        write_past_run(tmp_path, day)
    (tmp_path / "foreign.json").write_text("{}")
    return tmp_path


def ids(results: Path) -> list[str]:
    return [run.run_id for run in read_history(results).runs]


def test_a_second_look_reads_no_results(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_history(results)
    monkeypatch.setattr(folder, "read_past_run", lambda path: pytest.fail(f"{path} was read again"))
    assert read_history(results) == first


def test_without_the_cache_all_is_as_before(results: Path) -> None:
    first = read_history(results)
    (results / NAME).unlink()
    assert read_history(results) == first


def test_a_run_that_vanished_is_noticed_once(results: Path) -> None:
    read_history(results)
    path = next(results.glob("*_stats_20261123*"))
    path.unlink()
    history = read_history(results)
    assert [run.run_id for run in history.runs] == [run_id(2)]
    assert history.notices == (f"gone since the last look: {path.name}",)
    assert read_history(results).notices == ()


def test_a_run_that_changed_is_read_anew_and_noticed(results: Path) -> None:
    read_history(results)
    path = next(results.glob("*_stats_20261123*"))
    path.write_text(path.read_text().replace(run_id(1), run_id(7)))
    history = read_history(results)
    assert [run.run_id for run in history.runs] == [run_id(7), run_id(2)]
    assert history.notices == (f"changed since the last look, and read anew: {path.name}",)


def test_a_change_that_keeps_size_and_date_is_noticed(results: Path) -> None:
    read_history(results)
    path = next(results.glob("*_stats_20261123*"))
    date = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace(run_id(1), run_id(7)))
    os.utime(path, ns=(date, date))
    assert ids(results) == [run_id(7), run_id(2)]


def test_requests_that_vanished_take_the_interval_with_them(results: Path) -> None:
    read_history(results)
    next(results.glob("*_requests_20261123*")).unlink()
    assert [run.rounds[0].ttft_interval is None for run in read_history(results).runs] == [True, False]


@pytest.mark.parametrize(
    "damage", [b"no database at all, but longer than its header would be " * 9, b"SQLite format 3\0"]
)
def test_a_damaged_cache_is_made_anew_and_said(results: Path, damage: bytes) -> None:
    first = read_history(results)
    (results / NAME).write_bytes(damage)
    history = read_history(results)
    assert history.runs == first.runs
    assert "made anew from the results; the old one is history.sqlite.damaged" in history.notices[0]
    assert (results / f"{NAME}.damaged").read_bytes() == damage
    assert read_history(results) == first


def test_a_page_that_was_overwritten_is_told(results: Path) -> None:
    first = read_history(results)
    content = bytearray((results / NAME).read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    (results / NAME).write_bytes(content)
    assert read_history(results).runs == first.runs
    assert read_history(results) == first


def test_a_cache_that_was_cut_off_is_told(results: Path) -> None:
    first = read_history(results)
    os.truncate(results / NAME, (results / NAME).stat().st_size // 2)
    assert read_history(results).runs == first.runs
    assert read_history(results) == first


def test_a_value_that_no_run_has_is_told(results: Path) -> None:
    first = read_history(results)
    with sqlite3.connect(results / NAME) as database:
        database.execute("UPDATE runs SET started = 'yesterday'")
    database.close()
    history = read_history(results)
    assert history.runs == first.runs
    assert "made anew" in history.notices[0]


def test_tables_of_another_version_are_made_anew(results: Path) -> None:
    first = read_history(results)
    with sqlite3.connect(results / NAME) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    history = read_history(results)
    assert history.runs == first.runs
    assert "has tables of version 99, this kvkit makes 1" in history.notices[0]


def test_another_programs_database_is_left_alone(results: Path) -> None:
    with sqlite3.connect(results / NAME) as database:
        database.execute("CREATE TABLE theirs (a)")
    database.close()
    content = (results / NAME).read_bytes()
    history = read_history(results)
    assert len(history.runs) == 2
    assert "is another program's database, which is left alone" in history.notices[0]
    assert (results / NAME).read_bytes() == content


def test_where_no_cache_can_be_made_all_is_read_each_time(results: Path) -> None:
    (results / NAME).mkdir()
    history = read_history(results)
    assert len(history.runs) == 2
    assert history.notices[0].startswith("every file is read anew: ")


def test_what_is_no_run_is_known_too(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_history(results)
    monkeypatch.setattr(folder, "read_past_run", lambda path: pytest.fail(f"{path} was read again"))
    assert reasons(read_history(results).not_read)["foreign.json"].startswith("key schema is missing")
