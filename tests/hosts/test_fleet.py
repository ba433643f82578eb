"""Store, engines and load generators on hosts of their own: the full cycle, and what an engine gets of the other."""

from __future__ import annotations

import json
import sys

import pytest

from tests.hosts.deployment import STATE, Deployment
from tests.hosts.host import Host
from tests.playbooks import Played

pytestmark = [pytest.mark.hosts, pytest.mark.cycle]


@pytest.fixture(scope="module")
def cycle(fleet: Deployment[Host]) -> Played:
    played = fleet.play("site")
    assert played.exit_code == 0, played.output
    return played


def test_a_cycle_on_five_hosts_ends_in_a_report(cycle: Played, fleet: Deployment[Host]) -> None:
    (report,) = fleet.results.glob("*/comparison.html")
    assert "PROVEN" in report.read_text()


def test_nothing_of_a_cycle_is_left_on_any_host(cycle: Played, fleet: Deployment[Host]) -> None:
    hosts = fleet.cluster.hosts
    left = {name: host.run("systemctl", "list-units", "--no-legend", "'kvkit*'") for name, host in hosts.items()}
    why = [host.run("journalctl", "--no-pager", "--unit='kvkit*'") for name, host in hosts.items() if left[name]]
    assert left == dict.fromkeys(hosts, ""), "\n".join(why)


def test_a_second_cycle_on_the_same_load_generator_is_refused(cycle: Played, fleet: Deployment[Host]) -> None:
    client, guard = fleet.cluster["client2"], f"{STATE}/tools/guard.py"
    client.run(sys.executable, guard, "hold", str(STATE), "--owner=other", "--told='the cycle of alice'", "--for=600")
    try:
        played = fleet.play("site", "--skip-tags=preflight,provision,report")
    finally:
        restored = fleet.play("restore", kv_break_lock=True)
    assert restored.exit_code == 0, restored.output
    assert {"hold.json", "found.json"}.isdisjoint(client.run("ls", str(STATE)).split())
    assert played.exit_code != 0
    assert "client2: it is held by the cycle of alice since" in played.text
    assert [fleet.mode(name) for name in ("gpu1", "gpu2")] == ["stopped", "stopped"]


def test_an_engine_finds_what_the_other_one_stored(cycle: Played, fleet: Deployment[Host]) -> None:
    (proof,) = fleet.results.glob("*/prove_*.json")
    arm = json.loads(proof.read_text())["arms"][-1]
    assert arm["name"] == "cross-instance hit"
    assert arm["by_source"]["external"] == arm["expected_external"] > 0
