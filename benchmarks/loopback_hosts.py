"""Hosts that are ports of SSH servers on the loopback of this machine, reached as Ansible reaches real ones."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

SSHD = Path("/usr/sbin/sshd")
PORTS_OF_ONE_SERVER = 13
"""sshd listens on at most 16."""


@contextmanager
def loopback_hosts(folder: Path, count: int) -> Iterator[dict[str, dict[str, Any]]]:
    """So many hosts, by name, with the variables by which Ansible reaches them; their servers end with the block.

    Raises:
        SystemExit: sshd is missing.
    """
    if not SSHD.exists():
        raise SystemExit(f"{SSHD} is missing: install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "user.pub").rename(folder / "authorized")
    ports = _free_ports(count)
    host_key = (folder / "host.pub").read_text()
    known = folder / "known_hosts"
    known.write_text("".join(f"[127.0.0.1]:{port} {host_key}" for port in ports))
    reached = {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_ssh_private_key_file": str(folder / "user"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    with ExitStack() as servers:
        for start in range(0, count, PORTS_OF_ONE_SERVER):
            servers.enter_context(_server(folder, ports[start : start + PORTS_OF_ONE_SERVER]))
        yield {f"host{number:03d}": {**reached, "ansible_port": port} for number, port in enumerate(ports)}


@contextmanager
def _server(folder: Path, ports: list[int]) -> Iterator[None]:
    Path("/run/sshd").mkdir(exist_ok=True)
    options = [
        "ListenAddress=127.0.0.1",
        f"HostKey={folder / 'host'}",
        f"AuthorizedKeysFile={folder / 'authorized'}",
        "PidFile=none",
        "StrictModes=no",
        "UsePAM=no",
        "MaxStartups=100",
    ]
    argv = [
        str(SSHD),
        "-D",
        "-f",
        "/dev/null",
        *(f"-o{option}" for option in options),
        *(f"-p{port}" for port in ports),
    ]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
