"""Several hosts at one bridge, and the control node, which is this machine, beside them."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.hosts.host import CGROUPS, SSH_UNIT, Host, made
from tests.hosts.login import Login

PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
}


AnyHost = TypeVar("AnyHost", bound=Login)


@dataclass(frozen=True)
class Cluster(Generic[AnyHost]):
    hosts: Mapping[str, AnyHost]
    """By the name in the inventory."""
    folder: Path

    def __getitem__(self, name: str) -> AnyHost:
        return self.hosts[name]

    @property
    def reached(self) -> dict[str, dict[str, str]]:
        """The variables by which Ansible reaches each host, over SSH and with its key checked."""
        common = {
            "ansible_connection": "ssh",
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.folder / "user"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self.folder / 'known_hosts'}",
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        return {name: {**common, "ansible_host": host.address} for name, host in self.hosts.items()}

    @property
    def control_paths(self) -> Path:
        """Where Ansible's connections are, which live on after it."""
        return self.folder / "cp"


def missing() -> str:
    """Why no host can be made here; nothing, when they can."""
    packages = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not SSH_UNIT.exists():
        packages.add("openssh-server")
    if not Path("/lib/systemd/systemd").exists():
        packages.add("systemd")
    if packages:
        return f"hosts are made with {', '.join(sorted(packages))}: apt-get install {' '.join(sorted(packages))}"
    if not CGROUPS.is_dir():
        return f"hosts are made with the cgroup hierarchy of systemd, which is not mounted at {CGROUPS}"
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return "hosts are made by root"
    return ""


@contextmanager
def cluster(folder: Path, names: Sequence[str]) -> Iterator[Cluster[Host]]:
    """Hosts that have booted; nothing of them is left after the block."""
    with switched_off(folder, names, made) as hosts:
        for host in hosts.hosts.values():
            host.boot()
        yield hosts


@contextmanager
def switched_off(
    folder: Path, names: Sequence[str], make: Callable[[str, str, str, Path], AbstractContextManager[AnyHost]]
) -> Iterator[Cluster[AnyHost]]:
    """Hosts at one bridge, each made of its name, its address, the bridge's name and the folder."""
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    token = secrets.token_hex(2)
    with ExitStack() as undo:
        network = _bridge(f"kv{token}", undo)
        hosts = {
            name: undo.enter_context(make(f"kv{token}-{name}", f"{network}.{number}", f"kv{token}", folder))
            for number, name in enumerate(names, 2)
        }
        key_of_all = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text("".join(f"{host.address} {key_of_all}" for host in hosts.values()))
        made_here = Cluster(hosts, folder)
        undo.callback(_end_connections, made_here.control_paths)
        yield made_here


def _bridge(name: str, undo: ExitStack) -> str:
    """Make a bridge with an address in a network that is new to this machine. Returns its first three numbers."""
    known = subprocess.run(["ip", "-json", "address"], check=True, capture_output=True, text=True).stdout
    taken = {
        one["local"].rpartition(".")[0]
        for link in json.loads(known)
        for one in link["addr_info"]
        if one["family"] == "inet"
    }
    network = next(candidate for number in range(256) if (candidate := f"10.213.{number}") not in taken)
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    undo.callback(subprocess.run, ["ip", "link", "delete", name], check=True)
    subprocess.run(["ip", "address", "add", f"{network}.1/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    return network


def _end_connections(sockets: Path) -> None:
    for socket in sockets.glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-o", f"ControlPath={socket}", "-"], check=False, capture_output=True)
