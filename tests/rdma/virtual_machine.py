"""A machine in QEMU with Debian's kernel, which, unlike most that tests run on, has RDMA over any network card.

It needs no KVM: everything is emulated, which takes the time of a core. Its files are this machine's, with its own on
top.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hosts.host import LONGEST_INTERFACE, make_files
from tests.hosts.login import Login

KERNEL = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvkit" / "kernel"
"""Where `make test-rdma` unpacks it: no machine has to boot it otherwise."""

MODULES = ("virtio_pci", "virtio_net", "9p", "9pnet_virtio", "ib_uverbs", "rdma_ucm", "rdma_rxe")
MTU = 4200
"""Bytes: what soft-RoCE needs for RDMA's largest MTU, 4096."""
READY_WITHIN_S = 300
"""It takes half a minute; a machine that does much else may take ten times as long."""

INIT = """\
#!/bin/busybox sh
{loads}
/bin/busybox ip address add {address}/24 dev eth0
/bin/busybox ip link set eth0 up
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose root /new
exec /bin/busybox switch_root /new /lib/systemd/systemd --unit=multi-user.target
"""


@dataclass
class VirtualMachine(Login):
    tap: str
    """The end of its network card on this machine."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def mac(self) -> str:
        return f"52:54:00:00:00:{int(self.address.rpartition('.')[2]):02x}"

    def boot(self) -> None:
        """Start it; it is not ready yet."""
        start = self.folder / f"{self.name}.initramfs"
        start.write_bytes(initramfs(self.folder / f"{self.name}-start", self.address))
        command = [
            *("setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-m", "3G", "-smp", "1", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"),
            *("-kernel", str(next((KERNEL / "boot").glob("vmlinuz-*"))), "-initrd", str(start)),
            *("-append", "console=ttyS0 net.ifnames=0 panic=-1 mitigations=off systemd.show_status=0"),
            *("-fsdev", f"local,id=root,path={self.root},security_model=passthrough,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=root,mount_tag=root"),
            *("-netdev", f"tap,id=net,ifname={self.tap},script=no,downscript=no"),
            *(
                "-device",
                f"virtio-net-pci,netdev=net,host_mtu={MTU},mac=52:54:00:00:00:{self.address.split('.')[-1]:>02}",
            ),
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def await_boot(self) -> None:
        self.await_login(READY_WITHIN_S)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def made(name: str, address: str, bridge: str, folder: Path) -> Iterator[VirtualMachine]:
    """A machine that is switched off, at this bridge; nothing of it is left after the block."""
    machine = VirtualMachine(name, address, folder, tap=f"{name}-0"[-LONGEST_INTERFACE:])
    with ExitStack() as undo:
        make_files(machine, undo)
        (version,) = (KERNEL / "lib/modules").iterdir()
        modules = machine.root / "lib/modules" / version.name
        modules.parent.mkdir(exist_ok=True)
        modules.symlink_to(version)
        # At boot a machine removes what lies in /tmp, which here is all that this one keeps there.
        (machine.root / "etc/tmpfiles.d/tmp.conf").symlink_to("/dev/null")
        subprocess.run(["ip", "tuntap", "add", machine.tap, "mode", "tap"], check=True)
        undo.callback(subprocess.run, ["ip", "link", "delete", machine.tap], check=True)
        subprocess.run(["ip", "link", "set", machine.tap, "mtu", str(MTU), "master", bridge, "up"], check=True)
        subprocess.run(["ip", "link", "set", bridge, "mtu", str(MTU)], check=True)
        undo.callback(machine.end)
        yield machine


def initramfs(folder: Path, address: str) -> bytes:
    """What the kernel starts with: the modules for its disk, its network and RDMA, and how to come to its files."""
    for part in ("bin", "dev", "modules", "new"):
        (folder / part).mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin")
    loads = []
    for module in modules_in_order():
        shutil.copy(module, folder / "modules")
        loads.append(f"/bin/busybox insmod /modules/{module.name}")
    (folder / "init").write_text(INIT.format(loads="\n".join(loads), address=address))
    (folder / "init").chmod(0o755)
    archive = ["sh", "-c", "find . | cpio --create --format=newc --quiet"]
    return subprocess.run(archive, cwd=folder, check=True, stdout=subprocess.PIPE).stdout


def modules_in_order() -> list[Path]:
    """Each after those that it needs."""
    (version,) = (KERNEL / "lib/modules").iterdir()
    found: dict[Path, None] = {}
    for module in MODULES:
        asked = ["modprobe", f"--dirname={KERNEL}", f"--set-version={version.name}", "--show-depends", module]
        told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        found |= {Path(line.split()[1]): None for line in told.splitlines() if line.startswith("insmod ")}
    return list(found)


PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "cpio": "cpio", "modprobe": "kmod"}


def missing() -> str:
    """Why no such machine can be made here; nothing, when it can."""
    absent = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if absent or not KERNEL.exists():
        return f"run `make test-rdma` as root, which installs {', '.join([*absent, 'a kernel'])}"
    return ""
