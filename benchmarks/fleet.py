"""What preflight and provision of a fleet cost: seconds and the control node's memory, against the number of hosts.

    python benchmarks/fleet.py [--hosts 10 50 100 200]

The hosts are ports of SSH servers on the loopback of this machine, with a state directory each, and run the project's
own playbooks with its ansible.cfg, as a user does: `preflight.yml`, which also makes the connections, and then
`provision.yml`. The engine is the emulated one, so that nothing is installed from elsewhere.

Prints for each size the seconds, their slope (the exponent of hosts between this size and the smallest: 1 is linear)
and the largest memory that Ansible and its children held together. The smallest is measured before and after each
other size, and a slope is told against both: a virtual machine's own speed moves by a third within an hour. Ends with
1 where a slope is above 1.1 against their mean, or memory is 1 GiB or more. Loopback hosts share this machine's cores
with the control node: on real ones the times are shorter.
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
LIMIT_MIB = 1024
LIMIT_SLOPE = 1.1
"""Linear, and what two measurements of the same differ by."""

STEPS = ("preflight", "provision")
NOT_IN_THE_WAY = {"preflight_fail_on": "never"}
"""Two hundred hosts that are one machine have things to be said about."""


@dataclass(frozen=True, slots=True)
class Played:
    seconds: float
    memory_mib: float
    """The most that Ansible and its workers held; pages that they share are counted once (PSS)."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How seconds grow with hosts: the exponent, against the smallest fleet as it was before and after."""

    times_hosts: float
    before: Played
    large: Played
    after: Played

    def against(self, small_s: float) -> float:
        return math.log(self.large.seconds / small_s) / math.log(self.times_hosts)

    @property
    def mean(self) -> float:
        return self.against((self.before.seconds + self.after.seconds) / 2)

    def __str__(self) -> str:
        ends = sorted(self.against(small.seconds) for small in (self.before, self.after))
        return f"{self.mean:.2f} ({ends[0]:.2f} to {ends[1]:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 50, 100, 200])
    smallest, *larger = sorted(parser.parse_args().hosts)
    print(f"{'hosts':>5}  {'step':<16} {'seconds':>8} {'memory':>9}  slope")
    before = measured(smallest)
    missed = told(smallest, before, {})
    for size in larger:
        played = measured(size)
        after = measured(smallest)
        slopes = {step: Slope(size / smallest, before[step], played[step], after[step]) for step in STEPS}
        missed += told(size, played, slopes) + told(smallest, after, {})
        before = after
    for one in missed:
        print(f"not as wanted: {one}")
    sys.exit(1 if missed else 0)


def told(size: int, played: dict[str, Played], slopes: dict[str, Slope]) -> list[str]:
    """Print what was measured; returns what is not as wanted."""
    missed = []
    for step, one in played.items():
        slope = slopes.get(step)
        print(f"{size:>5}  {step:<16} {one.seconds:>8.1f} {one.memory_mib:>5,.0f} MiB  {slope or '-'}", flush=True)
        if one.memory_mib >= LIMIT_MIB:
            missed.append(f"{size} hosts, {step}: {one.memory_mib:,.0f} MiB on the control node")
        if slope is not None and slope.mean > LIMIT_SLOPE:
            missed.append(f"{size} hosts, {step}: grows faster than the number of hosts, {slope}")
    return missed


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
        SystemExit: it failed, with all that Ansible said.
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
        raise SystemExit(output.read_text())
    return Played(time.monotonic() - start, memory / 2**20)


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
