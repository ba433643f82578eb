"""Hosts that lose the control node, or are lost to it, while a mode is measured: each puts itself back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.hosts.deployment import STATE, Deployment
from tests.hosts.host import Host
from tests.playbooks import Played

pytestmark = [pytest.mark.hosts, pytest.mark.cycle]

ENGINES = ("gpu1", "gpu2")
PATIENCE_S = 180
"""Far above what a host takes on a busy machine."""
SHORT = {
    "bench_prove": False,
    "bench_requests_per_scenario": 20,
    "bench_max_tokens": 100,  # a second each, so that there is something to break off
    "bench_time_limit_s": 15,
    "service_silence_s": 5,
}


def until(what: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.2)


def serve_by_hand(fleet: Deployment[Host]) -> None:
    """Both engines run without the cache, as if started so by the operator: the kit knows of no earlier change."""
    served = fleet.play("serve", kv_mode="baseline")
    assert served.exit_code == 0, served.output
    for name in ENGINES:
        fleet.cluster[name].run("rm", str(STATE / "found.json"))


class Measuring:
    """A cycle, up to where it measures with the cache."""

    def __init__(self, fleet: Deployment[Host]) -> None:
        self.played: Played | None = None
        self._thread = threading.Thread(target=self._play, args=[fleet])
        self._thread.start()
        until(lambda: self.is_over or "kvkit run" in fleet.cluster["client1"].run("ps", "-eo", "args"))
        assert not self.is_over, self.played

    def _play(self, fleet: Deployment[Host]) -> None:
        self.played = fleet.play("site", "--skip-tags=preflight,provision,report", **SHORT)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def kill(self) -> None:
        """End the control node's part at once."""
        for child in psutil.Process().children():
            if "site.yml" in " ".join(child.cmdline()):
                for process in [child, *child.children(recursive=True)]:
                    process.kill()
        self._thread.join()

    def end(self) -> Played:
        self._thread.join()
        assert self.played is not None
        return self.played


def has_put_itself_back(fleet: Deployment[Host], name: str) -> bool:
    told = fleet.cluster[name].run("sh", "-c", f"'cat {STATE}/put_back.json 2>/dev/null || echo null'")
    return json.loads(told) is not None


def test_hosts_put_themselves_back_when_the_control_node_dies_and_one_is_rebooted(fleet: Deployment[Host]) -> None:
    serve_by_hand(fleet)
    measuring = Measuring(fleet)
    rebooted = fleet.cluster["gpu2"]
    rebooted.cut_power()
    measuring.kill()
    rebooted.boot()
    until(lambda: all(has_put_itself_back(fleet, name) for name in ENGINES))
    assert [fleet.mode(name) for name in ENGINES] == ["baseline", "baseline"]


def test_a_host_whose_link_is_down_puts_itself_back_and_the_others_are_put_back(fleet: Deployment[Host]) -> None:
    serve_by_hand(fleet)
    measuring = Measuring(fleet)
    lost = fleet.cluster["gpu2"]
    lost.set_link("down")
    played = measuring.end()
    assert played.exit_code != 0
    assert fleet.mode("gpu1") == "baseline"
    assert "gpu2" in played.text
    lost.set_link("up")
    until(lambda: has_put_itself_back(fleet, "gpu2"))
    assert fleet.mode("gpu2") == "baseline"
