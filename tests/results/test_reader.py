"""Files that are cut off, foreign or contradict each other are refused with the reason, and left as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvkit.results.errors import ResultsError
from kvkit.results.reader import expand, read_records, read_stats
from kvkit.results.stats import RunStats
from tests.results.making import run_stats, success, summary, write_run

STATS_NAME = "baseline_cold_start_stats_20261122_200000.json"
REQUESTS_NAME = "baseline_cold_start_requests_20261122_200000.jsonl"
RECORDS = [success("a"), success("b")]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return write_run(tmp_path, run_stats("baseline", [summary(RECORDS)]), RECORDS)


def refusal(call: Callable[[], object], folder: Path) -> str:
    with pytest.raises(ResultsError) as caught:
        call()
    return str(caught.value).replace(f"{folder}/", "")


def test_a_run_is_read_back(kept: Path) -> None:
    assert read_records(kept, read_stats(kept)) == tuple(RECORDS)


def changed(**changes: Any) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


def without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != key})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda _: "", "empty: the run that made it did not finish"),
        (
            lambda text: text[: text.index('"seed"')],
            ":22: no JSON document (Expecting property name enclosed in double quotes, column 5): "
            "cut off, or not a stats file (theirs are named *_stats_*.json)",
        ),
        (lambda _: "[" * 100_000, "JSON that no run wrote (maximum recursion depth exceeded"),
        (lambda _: "1" * 5_000, "JSON that no run wrote (Exceeds the limit (4300 digits)"),
        (lambda _: "[]", "key schema is missing: not a stats file (theirs are named *_stats_*.json)"),
        (lambda _: '{"a": 1}', "key schema is missing: not a stats file (theirs are named *_stats_*.json)"),
        (
            changed(schema=2),
            "key schema: found 2, this kvkit reads 1: use the kvkit that wrote the file, or a newer one",
        ),
        (without("rounds"), "key rounds is missing"),
        (changed(mode="fast"), "key mode: found \"fast\": Input should be 'with-cache' or 'baseline'"),
        (changed(valid="perhaps"), 'key valid: found "perhaps": Input should be a valid boolean'),
        (changed(rounds=[7]), "key rounds.0: found 7: Input should be a valid dictionary or instance of RoundSummary"),
    ],
)
def test_a_damaged_stats_file_is_refused(
    kept: Path, tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    kept.write_text(damage(kept.read_text()))
    assert message in refusal(lambda: read_stats(kept), tmp_path)


def test_many_problems_are_not_all_told(kept: Path, tmp_path: Path) -> None:
    kept.write_text('{"schema": 1}')
    message = refusal(lambda: read_stats(kept), tmp_path)
    assert message == f"{STATS_NAME}: key run_id is missing; key mode is missing; key scenario is missing; and 7 more"


def test_a_file_that_is_no_text_is_refused(kept: Path, tmp_path: Path) -> None:
    kept.write_bytes(b"\x89PNG\r\n")
    assert (
        refusal(lambda: read_stats(kept), tmp_path) == f"{STATS_NAME}: not text in UTF-8 (byte 0): not a file of kvkit"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:40]], ":2: no JSON (EOF while parsing"),
        (lambda lines: lines[:-1], ": 1 records of round 1, but " + STATS_NAME + " counted 2: one of the two was"),
        (lambda lines: [], ": 0 records of round 1, but " + STATS_NAME + " counted 2: one of the two was"),
        (lambda lines: [*lines, lines[0].replace('"a"', '"c"')], ": 3 records of round 1, but " + STATS_NAME),
        (lambda lines: [*lines, lines[0]], ":3: request 'a' was recorded before in round 1"),
        (lambda lines: [lines[0], lines[1].replace('"round": 1', '"round": 9')], ": 1 records of round 1, but "),
        (lambda lines: [lines[0].replace('"start_s": 0.0, ', ""), lines[1]], ":1: key start_s is missing"),
        (lambda lines: [lines[0], lines[1].replace('"ok": true', '"ok": "yes"')], ':2: key ok: found "yes"'),
        (lambda lines: [lines[0], "", lines[1]], ":2: no JSON"),
        (
            lambda lines: [lines[0].replace('"start_s": 0.0', '"start_s": 1e999'), lines[1]],
            ":1: key start_s: found Infinity",
        ),
        (
            lambda lines: [lines[0].replace('_tokens": 1000', '_tokens": -1'), lines[1]],
            ":1: key expected_prompt_tokens: found -1",
        ),
    ],
)
def test_a_damaged_requests_file_is_refused(
    kept: Path, tmp_path: Path, damage: Callable[[list[str]], list[str]], message: str
) -> None:
    requests = tmp_path / REQUESTS_NAME
    requests.write_text("\n".join(damage(requests.read_text().splitlines())))
    stats = read_stats(kept)
    assert refusal(lambda: read_records(kept, stats), tmp_path).startswith(REQUESTS_NAME + message)


def test_a_missing_requests_file_is_named(kept: Path, tmp_path: Path) -> None:
    (tmp_path / REQUESTS_NAME).unlink()
    stats = read_stats(kept)
    assert refusal(lambda: read_records(kept, stats), tmp_path) == (
        f"{REQUESTS_NAME}: cannot be read: No such file or directory"
    )


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", "a\0b"])
def test_a_stats_file_may_only_name_its_neighbour(kept: Path, tmp_path: Path, name: str) -> None:
    stats: RunStats = read_stats(kept).model_copy(update={"records": name})
    assert "expected the plain name of a file beside it" in refusal(lambda: read_records(kept, stats), tmp_path)


def test_a_glob_finds_files_once_whatever_matches_them_twice(kept: Path, tmp_path: Path) -> None:
    assert expand([str(kept), str(tmp_path / "*_stats_*")]) == [kept]


def test_a_glob_does_not_find_folders(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "baseline_stats_folder").mkdir()
    assert expand([str(tmp_path / "baseline*stats*")]) == [kept]


def test_brackets_in_a_folders_name_are_no_glob(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run [1]", run_stats("baseline", [summary(RECORDS)]), RECORDS)
    assert expand([str(path)]) == [path]


def test_a_glob_that_matches_nothing_is_named(kept: Path, tmp_path: Path) -> None:
    message = refusal(lambda: expand([str(kept), str(tmp_path / "with_cache_*")]), tmp_path)
    assert message.startswith("with_cache_*: no file matches")
