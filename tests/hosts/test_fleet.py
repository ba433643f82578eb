"""Store, engines and load generators on hosts of their own: the full cycle, and what an engine gets of the other."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.hosts.deployment import MODEL, Deployment
from tests.playbooks import Played

pytestmark = [pytest.mark.hosts, pytest.mark.cycle]

ENGINES = ("gpu1", "gpu2")
EXTERNAL_HITS = re.compile(r"^vllm:external_prefix_cache_hits_total\S* (\S+)$", re.MULTILINE)
PROMPT = "one two three four five six seven eight " * 100


@pytest.fixture(scope="module")
def cycle(fleet: Deployment) -> Played:
    played = fleet.play("site")
    assert played.exit_code == 0, played.output
    return played


def test_a_cycle_on_five_hosts_ends_in_a_report(cycle: Played, fleet: Deployment) -> None:
    (report,) = fleet.results.glob("*/comparison.html")
    assert "PROVEN" in report.read_text()


def test_nothing_of_a_cycle_is_left_on_any_host(cycle: Played, fleet: Deployment) -> None:
    left = {
        name: host.run("systemctl", "list-units", "--no-legend", "'kvkit*'")
        for name, host in fleet.cluster.hosts.items()
    }
    assert left == dict.fromkeys(fleet.cluster.hosts, "")


def test_an_engine_finds_what_the_other_one_stored(cycle: Played, fleet: Deployment) -> None:
    served = fleet.play("serve", kv_mode="with-cache", bench_prove=False)
    assert served.exit_code == 0, served.output
    first, second = (f"http://{fleet.cluster[name].address}:8000" for name in ENGINES)
    before = external_hits(second)
    for engine in (first, second):
        asked = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": PROMPT}]}
        httpx.post(f"{engine}/v1/chat/completions", json=asked, timeout=60).raise_for_status()
    assert external_hits(second) > before
    restored = fleet.play("restore")
    assert restored.exit_code == 0, restored.output


def external_hits(engine: str) -> float:
    """Tokens that this engine has taken from the store."""
    return sum(map(float, EXTERNAL_HITS.findall(httpx.get(f"{engine}/metrics").text)))
