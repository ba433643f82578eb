"""A host on this machine: a network namespace, an overlay over this machine's files, systemd as process 1, and sshd."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.hosts.login import Login
from tests.playbooks import PROJECT

BOOT = Path(__file__).with_name("boot.sh")
CGROUPS = Path("/sys/fs/cgroup/systemd")
SSH_UNIT = Path("/lib/systemd/system/ssh.service")
READY_WITHIN_S = 60
"""It takes two seconds; a machine that does much else may take ten times as long."""

PARTS = {PROJECT, Path(sys.prefix), Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvkit"}
LONGEST_INTERFACE = 15
"""Linux allows no more letters (IFNAMSIZ with its end)."""
SEEN_THERE = [part for part in PARTS if part.is_relative_to("/tmp") and not {*part.parents} & PARTS]
"""Of what this machine keeps below /tmp, a host sees nothing but these."""


@dataclass
class Host(Login):
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def boot(self) -> None:
        """Start it, and return when it can be logged into.

        Raises:
            AssertionError: it does not come up; with what was seen.
        """
        command = [
            *("setpriv", "--pdeathsig", "KILL"),
            *("ip", "netns", "exec", self.name),
            *("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--uts", "--ipc", "--cgroup"),
            *("bash", str(BOOT), str(self.root), *map(str, filter(Path.exists, SEEN_THERE))),
        ]
        # In a cgroup of its own before the namespace is made: else the systemds of all hosts fight over one tree.
        enter = f'echo $$ > {CGROUPS / self.name}/cgroup.procs; exec "$@"'
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", enter, "boot", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.await_login(READY_WITHIN_S)

    def cut_power(self) -> None:
        """End all that runs on it at once. Its files stay."""
        if self._process is None:
            return
        pid = self._process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            subprocess.run(["kill", "-KILL", child], check=False)
        self._process.wait()
        self._process = None

    def set_link(self, state: Literal["up", "down"]) -> None:
        subprocess.run(["ip", "-n", self.name, "link", "set", "eth0", state], check=True)

    @contextmanager
    def hearing_nothing_of(self, address: str) -> Iterator[None]:
        """Packets from there are dropped without a word, as by a firewall."""
        filtered = (
            f"table inet kvtest {{ chain in {{ type filter hook input priority 0; ip saddr {address} drop; }}; }}"
        )
        self._within("nft", filtered)
        try:
            yield
        finally:
            self._within("nft", "delete table inet kvtest")

    @contextmanager
    def sending_at(self, rate: str) -> Iterator[None]:
        """No faster than this, as `tc` writes it: `50mbit`."""
        self._within("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "32kb", "latency", "1s")
        try:
            yield
        finally:
            self._within("tc", "qdisc", "delete", "dev", "eth0", "root")

    def _within(self, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.name, *command], check=True)


@contextmanager
def made(name: str, address: str, bridge: str, folder: Path) -> Iterator[Host]:
    """A host that is switched off, at this bridge; nothing of it is left after the block."""
    host = Host(name, address, folder)
    with ExitStack() as undo:
        make_files(host, undo)
        _make_network(host, bridge, undo)
        (CGROUPS / name).mkdir()
        undo.callback(_remove_cgroup, CGROUPS / name)
        undo.callback(host.cut_power)
        yield host


def make_files(host: Login, undo: ExitStack) -> None:
    """Those of this machine, with what makes them a host's own on top."""
    place = host.folder / host.name
    place.mkdir()
    # Not on the disk of the lower files, which would contain the upper ones.
    _mount(place, "-t", "tmpfs", "tmpfs", undo=undo)
    for part in ("upper", "work", "root"):
        (place / part).mkdir()
    layers = f"lowerdir=/,upperdir={place / 'upper'},workdir={place / 'work'}"
    _mount(host.root, "-t", "overlay", "-o", layers, "overlay", undo=undo)

    etc = host.root / "etc"
    (etc / "hostname").write_text(f"{host.name}\n")
    (etc / "machine-id").write_text("")
    (etc / "fstab").write_text("")
    # Nothing of what this machine would start.
    for wanted in (etc / "systemd/system").glob("*.wants"):
        shutil.rmtree(wanted)
    wants = etc / "systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "ssh.service").symlink_to(SSH_UNIT)
    for key in (etc / "ssh").glob("ssh_host_*"):
        key.unlink()
    for kind in ("", ".pub"):
        shutil.copy(host.folder / f"host{kind}", etc / "ssh" / f"ssh_host_ed25519_key{kind}")
    home = host.root / "root"
    shutil.rmtree(home / ".ssh", ignore_errors=True)
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(host.folder / "user.pub", home / ".ssh/authorized_keys")


def _make_network(host: Host, bridge: str, undo: ExitStack) -> None:
    outside = f"{host.name}-0"[-LONGEST_INTERFACE:]
    _ip("netns", "add", host.name)
    undo.callback(_ip, "netns", "delete", host.name)
    _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _ip("link", "set", outside, "master", bridge, "up")
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.name, "link", "set", "eth0", "up")


def _mount(place: Path, *what: str, undo: ExitStack) -> None:
    subprocess.run(["mount", *what, str(place)], check=True)
    undo.callback(subprocess.run, ["umount", "--lazy", str(place)], check=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _remove_cgroup(folder: Path) -> None:
    """The kernel lets a group go when its last process has been reaped."""
    end = time.monotonic() + 10
    while folder.exists():
        for group in sorted(folder.glob("**/"), reverse=True):
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise
        time.sleep(0.02)
