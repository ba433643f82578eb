"""Watching an emulated engine and its store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kvkit.config import Config
from kvkit.observe.live import Look, ServerKind
from kvkit.watch import Address, WatchError, addresses_of, watch
from tests.emulator.driving import deployed, document, quick, until
from tests.observe.test_live import seen
from tests.ports import free_ports

CONFIG = Config.model_validate(
    {
        "openai_api": {
            "base_url": "http://lb:80/v1",
            "api_key": "key",
            "instances": ["http://a:8000", "http://b:8000"],
        },
        "model": {"name": "m"},
        "lmcache": {"url": "http://cache:8085"},
        "mooncake": {"master_ip": "master", "metrics_port": 9004},
    }
)


def test_a_configuration_names_every_server_and_the_key_is_for_the_engines_alone() -> None:
    assert addresses_of(CONFIG, ["http://further:1/metrics"]) == [
        Address("http://a:8000/metrics", "vLLM", "key"),
        Address("http://b:8000/metrics", "vLLM", "key"),
        Address("http://cache:8085/metrics", "LMCache server"),
        Address("http://master:9004/metrics", "Mooncake master"),
        Address("http://further:1/metrics"),
    ]


@pytest.mark.parametrize(("metrics", "words"), [([], "--config FILE, --metrics URL"), (["here:9003"], "'here:9003'")])
def test_nothing_to_watch_is_refused(metrics: list[str], words: str) -> None:
    with pytest.raises(WatchError, match=words):
        addresses_of(None, metrics)


def test_what_a_request_stores_and_a_repeat_gets_is_seen() -> None:
    """The emulated engine with its store, and an address at which nobody is."""
    shown: list[Sequence[Look]] = []

    async def seen_so_far(number: int, name: str, kind: ServerKind) -> bool:
        return any((seen(looks[number], name, kind).value or 0) > 0 for looks in shown)

    async def story() -> None:
        (nobody,) = free_ports(1)
        async with deployed(quick()) as deployment:
            addresses = [
                Address(f"{deployment.addresses.engine}/metrics", "vLLM"),
                Address(f"{deployment.addresses.store_metrics}/metrics"),
                Address(f"http://127.0.0.1:{nobody}/metrics"),
            ]
            watching = asyncio.create_task(watch(addresses, interval_s=0.02, show=shown.append))
            await until(lambda: seen_so_far(1, "clients", "Mooncake master"))
            text = document(256, "once")
            await deployment.chat(text)
            await until(lambda: seen_so_far(1, "keys put", "Mooncake master"))
            await deployment.quiet_and_reset()
            await deployment.chat(text)
            await until(lambda: seen_so_far(1, "keys got", "Mooncake master"))
            await until(lambda: seen_so_far(0, "prompt tokens from the connector", "vLLM"))
            watching.cancel()

    asyncio.run(story())
    _engine, store, silent = shown[-1]
    assert (seen(store, "keys").value or 0) > 0
    assert "no answer" in (silent.problem or "")
