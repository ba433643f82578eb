"""Results of any content: read and compared, or refused by the one error; what is written is read back as it was."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from kvkit.report.files import write_reports
from kvkit.report.terminal import print_comparison
from kvkit.results import table
from kvkit.results.comparison import compare
from kvkit.results.errors import ResultsError
from kvkit.results.export import export
from kvkit.results.imported import read_runs
from kvkit.results.reader import read_records, read_stats
from kvkit.results.record import Record
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import mutated
from tests.results.making import failure, run_stats, success, summary, write_pair_of_runs

RECORDS = [success("a"), success("b"), failure("c"), success("a", 2, ttft_s=0.1), success("b", 2, ttft_s=0.2)]
STATS = run_stats("with-cache", [summary(RECORDS[:3]), summary(RECORDS[3:], 2)])
STATS_FILE = STATS.model_dump_json(by_alias=True).encode()
REQUESTS_FILE = "".join(record.to_line() + "\n" for record in RECORDS).encode()
TABLE = table.as_table([(STATS, RECORDS)]).encode()
SERVED = (Path(__file__).parents[1] / "results" / "vllm_bench_0_32_with_cache.json").read_bytes()
SERVED_SMALL = json.dumps(
    {
        key: value[:2] if isinstance(value, list) else 2 if key in ("num_prompts", "completed") else value
        for key, value in json.loads(SERVED.split(b"\n")[0]).items()
    }
).encode()

records = st.builds(
    Record,
    request_id=st.text(min_size=1, max_size=8),
    round=st.integers(1, 3),
    group=st.text(min_size=1, max_size=8),
    scheduled_s=st.floats(0, 1e6),
    start_s=st.floats(0, 1e6),
    ttft_s=st.one_of(st.none(), st.floats(0, 1e6)),
    itl_s=st.lists(st.floats(0, 1e6), max_size=3).map(tuple),
    prompt_tokens=st.one_of(st.none(), st.integers(0, 10**9)),
    ok=st.booleans(),
    error=st.one_of(st.none(), st.text(min_size=1, max_size=20)),
)


@functools.cache
def exported(folder: Path) -> bytes:
    """What `kvkit export --format vllm-bench` writes."""
    write_pair_of_runs(folder / "exported")
    export([str(folder / "exported" / "*_stats_*.json")], "vllm-bench", folder / "exported.jsonl")
    return (folder / "exported.jsonl").read_bytes()


def kept(folder: Path, name: str, document: bytes) -> Path:
    path = folder / name
    path.write_bytes(document)
    return path


@given(document=mutated((STATS_FILE,)))
def test_any_stats_file_is_read_or_refused(folder: Path, document: bytes) -> None:
    path = kept(folder, "x_stats_1.json", document)
    with bounded():
        try:
            assert read_stats(path).model_dump_json(by_alias=True)
        except ResultsError as error:
            assert str(path) in str(error)


@given(document=mutated((REQUESTS_FILE,)))
def test_any_requests_file_is_read_or_refused(folder: Path, document: bytes) -> None:
    path = kept(folder, STATS.records, document)
    with bounded():
        try:
            for record in read_records(folder / "x_stats_1.json", STATS):
                assert Record.from_line(record.to_line()) == record
        except ResultsError as error:
            assert str(path) in str(error)


@given(document=mutated((TABLE, SERVED_SMALL, SERVED_SMALL + b"\n" + SERVED_SMALL)))
def test_any_file_of_another_tool_is_read_or_refused(folder: Path, document: bytes) -> None:
    path = kept(folder, "foreign.json", document)
    with bounded():
        try:
            for stats, imported in read_runs(path, "baseline"):
                stats.model_dump_json()
                for record in imported or ():
                    record.to_line()
        except ResultsError as error:
            assert str(path) in str(error)


@given(stats=mutated((STATS_FILE,)), requests=mutated((REQUESTS_FILE,)))
def test_any_pair_of_files_is_compared_and_reported_or_refused(folder: Path, stats: bytes, requests: bytes) -> None:
    pair = folder / "pair"
    pair.mkdir(exist_ok=True)
    baseline = STATS.model_copy(update={"mode": "baseline"})
    kept(pair, "base_stats_1.json", baseline.model_dump_json(by_alias=True).encode())
    kept(pair, STATS.records, requests)
    kept(pair, "cache_stats_1.json", stats)
    with bounded():
        _compare(pair, "cache_stats_1.json", "base_stats_1.json")


@given(document=mutated((SERVED_SMALL,)))
def test_any_file_of_vllm_bench_is_compared_and_reported_or_refused(folder: Path, document: bytes) -> None:
    kept(folder, "served.json", document)
    kept(folder, "good.json", SERVED_SMALL)
    with bounded():
        _compare(folder, "served.json", "good.json")


def _compare(folder: Path, with_cache: str, baseline: str) -> None:
    try:
        comparison = compare([str(folder / with_cache)], [str(folder / baseline)])
    except ResultsError as error:
        assert any(word in str(error) for word in (str(folder), "the two runs", "with-cache", "baseline")), error
        return
    report = folder / "report.md"
    write_reports(comparison, [report], charts=False)
    print_comparison(comparison, [report], pictures=0)


@given(document=st.data())
def test_any_export_is_read_or_refused(folder: Path, document: st.DataObject) -> None:
    path = kept(folder, "export.jsonl", document.draw(mutated((exported(folder),))))
    with bounded():
        try:
            read_runs(path, "baseline")
        except ResultsError as error:
            assert str(path) in str(error)


@given(record=records)
def test_a_record_is_read_back_as_it_was_written(record: Record) -> None:
    assume("\ud800" not in f"{record}")
    assert Record.from_line(record.to_line()) == record


@given(some=st.lists(records, min_size=1, max_size=4))
def test_a_table_is_read_back_as_it_was_written(folder: Path, some: list[Record]) -> None:
    path = kept(folder, "table.csv", (text := table.as_table([(STATS, some)])).encode())
    (run,) = table.runs_in_table(path, text)
    assert run.records == tuple(some)
