"""How long the preflight of a fleet takes: one module, the same looks as separate tasks, and a mere ping.

    python benchmarks/preflight_fleet.py [--hosts 50]

The hosts are ports of SSH servers on the loopback of this machine, reached as Ansible reaches real ones. Prints the
three times and their ratios; wanted are module / tasks <= 0.20 and module / ping <= 2.00. Needs sshd, and the right to
run it (Debian: openssh-server).
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[1]
PORTS_OF_ONE_SERVER = 13
"""sshd listens on at most 16."""

TARGET = {
    "parts": ["vllm"],
    "device": "cpu",
    "connector": "mooncake-store",
    "mooncake_host": "127.0.0.1",
    "mooncake_rpc_port": 1,
    "mooncake_metrics_port": 1,
    "mooncake_metadata_port": 1,
    "vllm_port": 1,
    "local_hostname": "localhost",
    "results_dir": "/tmp",
}

Tasks = list[dict[str, Any]]

MODULE: Tasks = [{"kv_preflight": {"target": TARGET}}]
PING: Tasks = [{"ansible.builtin.ping": None}]


def command(*argv: str) -> dict[str, Any]:
    return {"ansible.builtin.command": {"argv": list(argv)}, "changed_when": False, "failed_when": False}


def port(number: int) -> dict[str, Any]:
    wait = {"host": "127.0.0.1", "port": number, "timeout": 1, "state": "stopped"}
    return {"ansible.builtin.wait_for": wait, "failed_when": False}


SEPARATE: Tasks = [
    {"ansible.builtin.slurp": {"src": "/proc/meminfo"}},
    {"ansible.builtin.slurp": {"src": "/proc/sys/vm/max_map_count"}},
    {"ansible.builtin.slurp": {"src": "/proc/sys/net/ipv4/ip_local_port_range"}},
    {"ansible.builtin.slurp": {"src": "/proc/net/sockstat"}},
    {"ansible.builtin.slurp": {"src": "/proc/net/tcp"}},
    {"ansible.builtin.find": {"paths": ["/dev/shm"], "patterns": ["psm_*", "lmcache_*"]}},
    command("df", "--output=avail", "/tmp", "/dev/shm"),
    command("chronyc", "-c", "tracking"),
    command("ps", "-eo", "pid,ppid,args"),
    command("getent", "hosts", "localhost"),
    command("ip", "-j", "route", "get", "127.0.0.1"),
    port(1),
    {"ansible.builtin.uri": {"url": "http://127.0.0.1:1/metrics", "timeout": 1}, "failed_when": False},
    {"ansible.builtin.uri": {"url": "http://127.0.0.1:1/health", "timeout": 1}, "failed_when": False},
]
"""A part of what the module looks at, with the modules that come with Ansible."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def ssh_servers(folder: Path, ports: list[int]) -> Iterator[Path]:
    """Servers on these ports that let in the key which is yielded; they end with the block."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "user.pub").rename(folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    servers = []
    for start in range(0, len(ports), PORTS_OF_ONE_SERVER):
        options = [
            "ListenAddress=127.0.0.1",
            f"HostKey={folder / 'host'}",
            f"AuthorizedKeysFile={folder / 'authorized'}",
            "PidFile=none",
            "StrictModes=no",
            "UsePAM=no",
            "MaxStartups=100",
        ]
        argv = ["/usr/sbin/sshd", "-D", "-f", "/dev/null"]
        argv += [f"-o{option}" for option in options]
        argv += [f"-p{number}" for number in ports[start : start + PORTS_OF_ONE_SERVER]]
        if not Path(argv[0]).exists():
            raise SystemExit(f"{argv[0]} is missing: install openssh-server")
        servers.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    try:
        yield folder / "user"
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


def write_inventory(folder: Path, ports: list[int], key: Path) -> Path:
    common = {
        "ansible_host": "127.0.0.1",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    hosts = {f"host{number:02d}": {"ansible_port": port} for number, port in enumerate(ports)}
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({"all": {"vars": common, "hosts": hosts}}))
    return path


def seconds(folder: Path, inventory: Path, tasks: Tasks) -> float:
    """How long one play of these tasks takes.

    Raises:
        SystemExit: a host failed, with what Ansible said.
    """
    book = folder / "play.yml"
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_LIBRARY": str(PROJECT / "playbooks/library"),
        "ANSIBLE_MODULE_UTILS": str(PROJECT / "playbooks/module_utils"),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=30s",
    }
    start = time.monotonic()
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [playbook, "-i", str(inventory), str(book)],
        env=environment,
        # Not the project's folder, whose ansible.cfg sets the forks.
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-1000:])
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=50)
    hosts: int = parser.parse_args().hosts
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        ports = free_ports(hosts)
        with ssh_servers(folder, ports) as key:
            inventory = write_inventory(folder, ports, key)
            # The first connections cost more than all that follows, and every play would share them alike.
            seconds(folder, inventory, PING)
            ping = seconds(folder, inventory, PING)
            module = seconds(folder, inventory, MODULE)
            separate = seconds(folder, inventory, SEPARATE)
    print(f"{hosts} hosts over SSH, forks at the default")
    print(f"ping {ping:.1f} s, kv_preflight {module:.1f} s, {len(SEPARATE)} separate tasks {separate:.1f} s")
    print(f"module / tasks {module / separate:.2f} (wanted: at most 0.20)")
    print(f"module / ping  {module / ping:.2f} (wanted: at most 2.00)")


if __name__ == "__main__":
    main()
