"""What a run holds in memory does not grow with the requests that have ended."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvkit.bench import run
from kvkit.ending import Ending
from kvkit.load import share as sharing
from kvkit.load.client import ChatClient
from kvkit.results import values
from kvkit.results.record import Record
from kvkit.results.stats import RoundSummary
from kvkit.results.store import open_run
from kvkit.results.tally import Tally
from kvkit.workload.request import Message, Request
from tests.benching import Story, config_for, emulated
from tests.results.making import STARTED, success

pytestmark = pytest.mark.usefixtures("short_polls")

GAPS = (0.01,) * 100


def records(count: int) -> Iterator[Record]:
    return (replace(success(f"request-{number}"), itl_s=GAPS) for number in range(count))


def peak_bytes(folder: Path, requests: int) -> int:
    """Most memory that was taken while so many records were kept, read back and described."""
    tracemalloc.start()
    with open_run(folder, "baseline", "cold_start", STARTED) as files:
        for record in records(requests):
            files.add(record)
        tally = Tally(folder)
        for record in files.since(0):
            tally.add(record)
    assert len(tally.itl_ms) == requests * len(GAPS)
    assert tally.itl_ms.distribution().p50 == pytest.approx(10)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_ten_times_the_records_take_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "IN_MEMORY", 1024)
    few, many = peak_bytes(tmp_path, 100), peak_bytes(tmp_path, 1000)
    # The 900 records more hold 90,000 gaps: 720 kB as bare floats, three times that in records.
    assert many < few + 100_000


def test_a_run_holds_no_record_when_its_round_has_ended(tmp_path: Path) -> None:
    class Counts(Story):
        def request_ended(self, record: Record) -> None:
            """Unlike its parent's, keeps nothing."""

        def round_ended(self, summary: RoundSummary) -> None:
            super().round_ended(summary)
            held.append(sum(isinstance(each, Record) for each in gc.get_objects()))

    held: list[int] = []
    before = sum(isinstance(each, Record) for each in gc.get_objects())
    with emulated() as addresses:
        ending = run(config_for(addresses), mode="with-cache", results_dir=tmp_path, reporter=Counts())
    assert ending == Ending.DONE
    assert held == [before, before]


class Encodes(ChatClient):
    """Encodes by counting."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, request: Request) -> str:  # type: ignore[override]
        self.encoded.append(request.request_id)
        return f"encoded {request.request_id}"


def test_no_more_than_a_window_of_requests_is_encoded_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "ENCODED_AHEAD", 2)
    requests = [Request(name, name, (Message("user", "text"),), None, 1) for name in "abcd"]
    client = Encodes()
    encoded = sharing._Encoded(client, requests)
    assert client.encoded == ["a", "b"]
    # The third starts before its turn, as a session's second turn may.
    taken: list[object] = [encoded.take(requests[position]) for position in (0, 3, 1, 2)]
    assert taken == ["encoded a", "encoded d", "encoded b", "encoded c"]
    assert sorted(client.encoded) == ["a", "b", "c", "d"]
