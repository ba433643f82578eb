"""What preflight and provision of a fleet cost: seconds and the control node's memory, against the number of hosts.

    python benchmarks/fleet.py [--hosts 10 50 100 200]

The hosts are ports of SSH servers on the loopback of this machine, with a state directory each, and run the project's
own playbooks with its ansible.cfg, as a user does: `preflight.yml`, which also makes the connections, and then
`provision.yml`. The engine is the emulated one, so that nothing is installed from elsewhere.

Prints for each size the seconds, their slope (the exponent of hosts between this size and the smallest: 1 is linear)
and the largest memory that Ansible and its children held together. Ends with 1 where a slope is above 1.1, or memory is
1 GiB or more. Loopback hosts share this machine's cores with the control node: on real ones the times are shorter.
Needs sshd, and the right to run it (Debian: openssh-server).
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from loopback_hosts import loopback_hosts

PROJECT = Path(__file__).parents[1]
LIMIT_BYTES = 2**30
LIMIT_SLOPE = 1.1
"""Linear, and what two measurements on a busy machine differ by."""

STEPS = ("preflight", "provision")
NOT_IN_THE_WAY = {"preflight_fail_on": "never"}
"""Two hundred hosts that are one machine have things to be said about."""


@dataclass(frozen=True, slots=True)
class Played:
    seconds: float
    memory_bytes: int
    """The most that Ansible and its workers held; pages that they share are counted once (PSS)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 50, 100, 200])
    sizes: list[int] = sorted(parser.parse_args().hosts)
    played = {}
    print(f"{'hosts':>5}  {'step':<16} {'seconds':>8} {'slope':>6} {'memory':>9}")
    for size in sizes:
        for step, result in measured(size).items():
            played[size, step] = result
            slope = f"{exponent(played, sizes[0], size, step):.2f}" if size > sizes[0] else "-"
            memory = f"{result.memory_bytes / 2**20:,.0f} MiB"
            print(f"{size:>5}  {step:<16} {result.seconds:>8.1f} {slope:>6} {memory:>9}", flush=True)
    sys.exit(1 if any(misses(played, sizes)) else 0)


def misses(played: dict[tuple[int, str], Played], sizes: list[int]) -> list[str]:
    """What is not as wanted."""
    missed = [
        f"{size} hosts, {step}: {one.memory_bytes / 2**20:,.0f} MiB on the control node"
        for (size, step), one in played.items()
        if one.memory_bytes >= LIMIT_BYTES
    ]
    missed += [
        f"{size} hosts, {step}: grows faster than the number of hosts"
        for size in sizes[1:]
        for step in STEPS
        if exponent(played, sizes[0], size, step) > LIMIT_SLOPE
    ]
    for one in missed:
        print(f"not as wanted: {one}")
    return missed


def exponent(played: dict[tuple[int, str], Played], small: int, large: int, step: str) -> float:
    return math.log(played[large, step].seconds / played[small, step].seconds) / math.log(large / small)


def measured(size: int) -> dict[str, Played]:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        with loopback_hosts(folder, size) as hosts:
            inventory = write_inventory(folder, hosts)
            return {step: play(folder, inventory, step) for step in STEPS}


def write_inventory(folder: Path, hosts: dict[str, dict[str, Any]]) -> Path:
    """Each is a vLLM host; the first has the store too, and sends the load."""
    inventory = folder / "inventory"
    shutil.copytree(PROJECT / "inventory" / "local" / "group_vars", inventory / "group_vars")
    hosts = {
        # Looked up by nobody: an emulated engine registers no segment.
        name: {**reached, "kv_state_dir": str(folder / "state" / name), "lmcache_local_hostname": name}
        for name, reached in hosts.items()
    }
    first = {next(iter(hosts)): None}
    groups = {"vllm": {"hosts": hosts}, "mooncake_master": {"hosts": first}, "loadgen": {"hosts": first}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    return inventory


def play(folder: Path, inventory: Path, playbook: str) -> Played:
    """Run one of the project's playbooks.

    Raises:
        SystemExit: it failed, with the end of what Ansible said.
    """
    variables = {**NOT_IN_THE_WAY, "kv_results_dir": str(folder / "results")}
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), f"--inventory={inventory}"]
    argv += [f"--extra-vars={yaml.safe_dump(variables, default_flow_style=True)}", f"playbooks/{playbook}.yml"]
    environment = {**os.environ, "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"), "ANSIBLE_NOCOLOR": "1"}
    output = folder / "output"
    start = time.monotonic()
    with output.open("w") as file:
        process = psutil.Popen(argv, cwd=PROJECT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        memory = 0
        while process.poll() is None:
            memory = max(memory, held_by(process))
            time.sleep(0.2)
    if process.returncode != 0:
        raise SystemExit(output.read_text()[-4000:])
    return Played(time.monotonic() - start, memory)


def held_by(process: psutil.Process) -> int:
    """PSS of a process and all that it started on the control node; what has ended meanwhile holds nothing."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_full_info().pss
        except psutil.Error:
            continue
    return total


if __name__ == "__main__":
    main()
