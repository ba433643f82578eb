"""What the network between the hosts does to them, and what preflight says of it."""

from __future__ import annotations

import pytest

from tests.hosts.deployment import Deployment, statuses
from tests.hosts.host import Host

pytestmark = [pytest.mark.hosts, pytest.mark.cycle]


@pytest.mark.planted("network.port.filtered")
def test_only_the_host_that_is_cut_off_from_the_store_is_said_to_be(fleet: Deployment[Host]) -> None:
    """No store runs: it refuses the others, which is another thing than silence."""
    store, cut_off = fleet.cluster["store"], fleet.cluster["gpu2"]
    with cut_off.hearing_nothing_of(store.address):
        found = fleet.preflight()
    filtered = {
        host
        for host, findings in found["hosts"].items()
        for (id, _), status in statuses(findings).items()
        if (id, status) == ("network.port.filtered", "fail")
    }
    assert filtered == {"gpu2"}
