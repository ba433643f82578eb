"""What the network between the hosts does to them, and what preflight says of it."""

from __future__ import annotations

import pytest

from tests.hosts.deployment import Deployment
from tests.hosts.host import Host

pytestmark = [pytest.mark.hosts, pytest.mark.cycle]


@pytest.mark.planted("network.port.filtered")
def test_a_host_that_is_cut_off_from_the_store_is_told_from_one_that_is_refused(fleet: Deployment[Host]) -> None:
    """No store runs: it refuses the first host, and the other one never hears of it."""
    store, cut_off = fleet.cluster["store"], fleet.cluster["gpu2"]
    with cut_off.hearing_nothing_of(store.address):
        found = fleet.preflight()
    seen = {
        host: {id for (id, _), status in found[host].items() if id.startswith("network.port.") and status == "fail"}
        for host in ("gpu1", "gpu2")
    }
    assert seen == {"gpu1": {"network.port.refused"}, "gpu2": {"network.port.filtered"}}
