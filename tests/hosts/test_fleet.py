"""Store, engines and load generators on hosts of their own: the full cycle, and what an engine gets of the other."""

from __future__ import annotations

import json

import pytest

from tests.hosts.deployment import Deployment
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
    left = {
        name: host.run("systemctl", "list-units", "--no-legend", "'kvkit*'")
        for name, host in fleet.cluster.hosts.items()
    }
    assert left == dict.fromkeys(fleet.cluster.hosts, "")


def test_an_engine_finds_what_the_other_one_stored(cycle: Played, fleet: Deployment[Host]) -> None:
    (proof,) = fleet.results.glob("*/prove_*.json")
    arm = json.loads(proof.read_text())["arms"][-1]
    assert arm["name"] == "cross-instance hit"
    assert arm["by_source"]["external"] == arm["expected_external"] > 0
