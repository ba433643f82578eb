"""Rounds that other load generators send a share of: each request once, one instant, and who is lost has a name."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from kvkit.load import generators
from kvkit.load.client import ChatClient, ChatSettings
from kvkit.load.generators import Generator, GeneratorError, Lead, gathered, generate_with
from kvkit.load.share import Share
from kvkit.load.workers import send_round
from kvkit.results.record import Record
from kvkit.workload.request import Message, Request
from tests.load import chunks
from tests.load.scripted import STALL, ScriptedServer, serving
from tests.ports import free_ports

API_KEY = "sk-very-secret"
KEY = b"sesame"


def requests(count: int) -> list[Request]:
    names = [f"r{number}" for number in range(count)]
    return [Request(name, name, (Message("user", name),), prompt_tokens=1, max_tokens=3) for name in names]


@contextmanager
def generating(settings: ChatSettings, lead: Lead, name: str, *, key: bytes = KEY, processes: int = 1) -> Iterator[int]:
    """Another load generator; yields its process id."""
    process = multiprocessing.get_context("spawn").Process(
        target=generate_with,
        args=(settings, (lead.host, lead.port), key),
        kwargs={"name": name, "processes": processes},
    )
    process.start()
    assert process.pid is not None
    try:
        yield process.pid
    finally:
        for child in psutil.Process(process.pid).children() if process.is_alive() else ():
            child.kill()
        process.kill()
        process.join()


def lead_of(*names: str) -> Lead:
    (port,) = free_ports(1)
    return Lead("127.0.0.1", port, names, KEY)


def led(
    server: ScriptedServer,
    *,
    count: int,
    rounds: int = 1,
    processes: int = 1,
    then: Callable[[int], object] = lambda _pid: None,
) -> tuple[list[Record], list[Generator]]:
    """Send rounds of `count` requests with one other load generator; `then` gets its process id during the first."""
    records: list[Record] = []
    met: list[Generator] = []

    async def story() -> None:
        async with serving(server), ChatClient(ChatSettings(server.url, "m", 0.0, 20.0, API_KEY)) as client:
            lead = lead_of("client2")
            with generating(client.settings, lead, "client2", processes=processes) as pid, gathered(lead) as others:
                met.extend(others)
                for number in range(1, rounds + 1):
                    whole = Share(round_number=number, requests=requests(count), concurrency=None)
                    sending = asyncio.create_task(
                        send_round(client, whole, workers=1, on_record=records.append, others=others)
                    )
                    await server.asked.wait()
                    then(pid)
                    await sending

    asyncio.run(story())
    return records, met


def test_each_request_of_each_round_is_sent_once() -> None:
    records, _ = led(ScriptedServer(chunks.good("a", "b")), count=7, rounds=2, processes=2)
    told = sorted((record.round, record.request_id) for record in records)
    assert told == [(number, f"r{request}") for number in (1, 2) for request in range(7)]
    assert all(record.ok for record in records)


def test_none_begins_before_the_agreed_instant() -> None:
    records, _ = led(ScriptedServer(chunks.good("a")), count=4)
    assert all(0 <= record.scheduled_s <= record.start_s for record in records)


def test_clocks_of_one_machine_agree_within_what_is_said_of_them() -> None:
    _, (other,) = led(ScriptedServer(chunks.good("a")), count=2)
    assert other.clock is not None
    assert abs(other.clock.offset_s) <= other.clock.uncertainty_s


def test_a_lost_load_generator_is_named_with_what_is_missing() -> None:
    def kill(pid: int) -> None:
        for child in psutil.Process(pid).children():
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(GeneratorError, match=r"load generator client2 was lost \(.*\): 2 of the requests of its share"):
        led(ScriptedServer([STALL]), count=4, then=kill)


def test_one_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "CONNECT_WITHIN_S", 0.1)
    with (
        pytest.raises(GeneratorError, match="client2, client3: has not connected"),
        gathered(lead_of("client2", "client3")),
    ):
        pass


def test_one_without_the_key_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "CONNECT_WITHIN_S", 5)
    lead = lead_of("client2")
    settings = ChatSettings("http://127.0.0.1:1/v1", "m", 0.0, 1.0, API_KEY)
    with generating(settings, lead, "client2", key=b"guess"), pytest.raises(GeneratorError, match="has not connected"):  # noqa: SIM117
        with gathered(lead):
            pass


def test_without_others_nothing_is_waited_for() -> None:
    with gathered(None) as others:
        assert others == []
    assert threading.active_count() == 1
