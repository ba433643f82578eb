"""A results folder: what can be read is read, the rest is named with the reason, and nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from kvkit.history.cache import NAME
from kvkit.history.folder import NO_STATS, read_history
from kvkit.results.errors import ResultsError
from tests.history.runs import reasons, run_id, write_past_run

CORPUS = Path(__file__).with_name("corpus")

WHY_NOT = {
    "truncated_stats_20261125_072106.json": "line 64: no JSON document",
    "older_schema_stats_20250101_000000.json": "key schema: found 0, this kvkit reads 1",
    "newer_schema_stats_20301231_235959.json": "key schema: found 2, this kvkit reads 1",
    "package.json": "key schema is missing: not a stats file",
    "list.json": "key schema is missing: not a stats file",
    "vllm_bench.json": "key schema is missing: not a stats file",
    "empty_stats_20261125_072200.json": "empty: the run that made it did not finish",
    "not_text.json": "not text in UTF-8 (byte 0): not a file of kvkit",
    "cut_off_requests_20261125_072231.jsonl": NO_STATS,
    "with_cache_unfinished_20261125_072400.json": "a run that was cut off",
    "wrong_stats_20261125_072300.json": 'key mode: found "fast"',
}


def content(folder: Path) -> dict[str, str]:
    """Of every file but the cache."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NAME)
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two good runs, one in a folder of its own, among files of every bad kind."""
    shutil.copytree(CORPUS, tmp_path / "results")
    write_past_run(tmp_path / "results", 1)
    write_past_run(tmp_path / "results" / "cycle", 2)
    return tmp_path / "results"


def test_what_can_be_read_among_bad_files_is_read(mixed: Path) -> None:
    assert [run.run_id for run in read_history(mixed).runs] == [run_id(1), run_id(2)]


def test_every_file_of_the_corpus_is_named_with_its_reason(mixed: Path) -> None:
    found = reasons(read_history(mixed).not_read)
    assert found.keys() == WHY_NOT.keys() == {path.name for path in CORPUS.iterdir()}
    assert {name: reason for name, reason in found.items() if not reason.startswith(WHY_NOT[name])} == {}


def test_reading_changes_nothing(mixed: Path) -> None:
    before = content(mixed)
    read_history(mixed)
    read_history(mixed)
    assert content(mixed) == before


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "JSON that no run wrote"),
        ('{"schema": ' + "1" * 5_000 + "}", "JSON that no run wrote"),
        ('{"schema": "' + "x" * 100_000 + '"}', 'key schema: found "xxxxx'),
    ],
)
def test_json_that_is_made_to_break_readers_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    found = reasons(read_history(tmp_path).not_read)["bad.json"]
    assert found.startswith(reason)
    assert len(found) < 300


def changed_stats(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_scenario_of_half_a_character_is_spelt(tmp_path: Path) -> None:
    changed_stats(write_past_run(tmp_path, 1), scenario="half \ud800")
    assert [run.scenario for run in read_history(tmp_path).runs] == ["half \\ud800"]


def test_a_round_of_an_endless_number_is_refused(tmp_path: Path) -> None:
    path = write_past_run(tmp_path, 1)
    document = json.loads(path.read_text())
    document["rounds"][0]["round"] = 10**30
    path.write_text(json.dumps(document))
    assert reasons(read_history(tmp_path).not_read)[path.name] == "key rounds: holds a number that no run has"


def test_a_pipe_with_the_name_of_results_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "with_cache_cold_start_stats_1.json")
    assert [reason for _, reason in read_history(tmp_path).not_read] == ["no regular file"]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.json").symlink_to("nowhere")
    assert reasons(read_history(tmp_path).not_read) == {"gone.json": "cannot be read: No such file or directory"}


def test_a_copy_counts_once(tmp_path: Path) -> None:
    write_past_run(tmp_path / "a", 1)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    history = read_history(tmp_path)
    assert [run.path.parent.name for run in history.runs] == ["a"]
    assert [reason for _, reason in history.not_read] == [f"a copy of {history.runs[0].path}, which counts"]


def test_a_run_without_its_requests_is_listed_without_an_interval(tmp_path: Path) -> None:
    path = write_past_run(tmp_path, 1)
    (requests,) = tmp_path.glob("*_requests_*")
    requests.unlink()
    history = read_history(tmp_path)
    assert [(one.ttft_ms, one.ttft_interval) for one in history.runs[0].rounds] == [(1000, None), (250, None)]
    assert reasons(history.not_read)[path.name].startswith("its figures are read, but not its requests: ")


def test_candidates_of_a_sweep_over_settings_are_no_history(tmp_path: Path) -> None:
    write_past_run(tmp_path / "tune_x" / "key_1", 1)
    (tmp_path / "tune_x" / "key_1" / "candidate.json").write_text("{}")
    write_past_run(tmp_path, 2)
    history = read_history(tmp_path)
    assert [run.run_id for run in history.runs] == [run_id(2)]
    assert history.notices == ("left out are candidates of sweeps over settings, each with settings of its own: 1",)


def test_files_that_kvkit_writes_beside_runs_are_nothing_to_name(tmp_path: Path) -> None:
    for name in ("preflight_20261125_072148.json", "prove_20261125_072215.json", "comparison.md"):
        (tmp_path / name).write_text("{}")
    assert read_history(tmp_path).not_read == ()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="no such folder: give the one with the results as --results-dir"):
        read_history(tmp_path / "none")
