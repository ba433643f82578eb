"""What is gathered of RDMA devices: from a tree like the kernel's, and from `rdma` of several ages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvkit.checks.gather import rdma
from kvkit.checks.gather.rdma import parse_links
from kvkit.checks.host import Host
from kvkit.checks.target import Target
from tests.checks.judging import bad

LINK = {"ifindex": 0, "ifname": "mlx5_0", "port": 1, "state": "ACTIVE", "physical_state": "LINK_UP", "netdev": "ens4"}
FILES = {
    "state": "4: ACTIVE",
    "phys_state": "5: LinkUp",
    "link_layer": "Ethernet",
    "rate": "400 Gb/sec (4X NDR)",
    "gids/0": "fe80:0000:0000:0000:a288:c2ff:fe00:0001",
    "gid_attrs/types/0": "RoCE v2",
    "gid_attrs/ndevs/0": "ens4",
    "gids/1": "0000:0000:0000:0000:0000:0000:0000:0000",
    "gids/3": "0000:0000:0000:0000:0000:ffff:0a00:000b",
    "gid_attrs/types/3": "RoCE v2",
    "gid_attrs/ndevs/3": "ens4",
    "hw_counters/packet_seq_err": "0",
}


class Tree:
    """A host's sysfs, /dev and commands, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for place in ("sys/module/ib_core", "bin", "proc/sys/kernel", "dev/infiniband"):
            (folder / place).mkdir(parents=True)
        self.write("sys/class/net/ens4/mtu", "9000")
        self.write("sys/class/net/ens4/carrier_down_count", "1")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def device(self, name: str = "mlx5_0", **changes: str) -> None:
        for file, text in {**FILES, **changes}.items():
            self.write(f"sys/class/infiniband/{name}/ports/1/{file}", text)
        self.write(f"sys/class/infiniband/{name}/fw_ver", "28.41.1000")
        self.write("sys/class/infiniband_verbs/uverbs0/ibdev", name)
        self.write("dev/infiniband/uverbs0", "")

    def command(self, name: str, output: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\n")
        path.chmod(0o755)

    def host(self) -> Host:
        place = self.folder
        return Host(sysfs=place / "sys", procfs=place / "proc", root=place, search_path=f"{place}/bin:/bin:/usr/bin")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


WANTED = Target.from_dict(
    {
        "parts": ["vllm"],
        "connector": "mooncake-store",
        "protocol": "rdma",
        "rdma_devices": ["mlx5_0"],
        "rdma_min_rate": 400,
    }
)


def faults(tree: Tree) -> dict[str, str]:
    return bad({"rdma": rdma.gather(tree.host(), WANTED)}, WANTED)


def test_a_healthy_roce_port_from_sysfs_and_rdma(tree: Tree) -> None:
    tree.device()
    tree.command("rdma", json.dumps([LINK]))
    assert faults(tree) == {}


def test_a_host_without_the_command_rdma(tree: Tree) -> None:
    tree.device()
    assert faults(tree) == {}


def test_the_active_mtu_is_ibv_devinfos(tree: Tree) -> None:
    tree.device()
    tree.command("ibv_devinfo", "hca_id: mlx5_0\n\tport: 1\n\t\tactive_mtu: 1024 (3)")
    assert faults(tree) == {"rdma.mtu.active": "warn"}


def test_an_unset_gid_is_left_out(tree: Tree) -> None:
    tree.device()
    (port,) = rdma.gather(tree.host(), WANTED)["devices"][0]["ports"]
    assert [gid["index"] for gid in port["gids"]] == [0, 3]


@pytest.mark.planted("rdma.device.present")
def test_a_kernel_without_rdma(tree: Tree) -> None:
    tree.command("rdma", "[]")
    assert faults(tree) == {"rdma.device.present": "fail"}


@pytest.mark.planted("rdma.link.state")
def test_a_port_that_is_down(tree: Tree) -> None:
    tree.device(state="1: DOWN", phys_state="3: Disabled")
    assert faults(tree) == {"rdma.link.state": "fail"}


@pytest.mark.planted("rdma.uverbs.access")
def test_a_device_without_its_node(tree: Tree) -> None:
    tree.device()
    (tree.folder / "dev/infiniband/uverbs0").unlink()
    assert faults(tree) == {"rdma.uverbs.access": "fail"}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(LINK, id="iproute2 of today"),
        pytest.param({**LINK, "ifname": "mlx5_0/1"}, id="before 5.5, the port in the name"),
    ],
)
def test_both_shapes_of_rdma_link_are_read(row: dict[str, object]) -> None:
    (link,) = parse_links(json.dumps([row]))
    assert (link["device"], link["port"], link["state"]) == ("mlx5_0", 1, "ACTIVE")


def test_what_is_no_json_is_no_link() -> None:
    assert parse_links("Failed to open NETLINK_RDMA socket") == []
