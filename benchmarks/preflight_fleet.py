"""How long the preflight of a fleet takes: one module, the same looks as separate tasks, and a mere ping.

    python benchmarks/preflight_fleet.py [--hosts 50]

The hosts are ports of SSH servers on the loopback of this machine, reached as Ansible reaches real ones. Prints the
three times and their ratios; wanted are module / tasks <= 0.20 and module / ping <= 2.00. Needs sshd, and the right to
run it (Debian: openssh-server).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from loopback_hosts import loopback_hosts

PROJECT = Path(__file__).parents[1]
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
        with loopback_hosts(folder, hosts) as reached:
            inventory = folder / "hosts.yml"
            inventory.write_text(yaml.safe_dump({"all": {"hosts": reached}}))
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
