"""Hosts of any kind: every gatherer tells JSON, every check judges it, and none breaks on the way."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kvkit.checks.gather import accelerators, inside, network, processes, rdma, system
from kvkit.checks.host import Host, Ran
from kvkit.checks.judge import lmcache_file
from kvkit.checks.registry import CHECKS
from kvkit.checks.run import gather, judge
from kvkit.checks.target import Target
from tests.checks import healthy
from tests.fuzz.bounds import bounded
from tests.fuzz.mutation import NASTY, mutated

DEVICE = "sys/class/infiniband/mlx5_0"
FILES: dict[str, bytes] = {
    f"{DEVICE}/fw_ver": b"28.41.1000",
    f"{DEVICE}/node_type": b"1: CA",
    f"{DEVICE}/device/numa_node": b"0",
    f"{DEVICE}/device/infiniband_verbs/uverbs0": b"",
    f"{DEVICE}/device/net/ens4": b"",
    f"{DEVICE}/ports/1/state": b"4: ACTIVE",
    f"{DEVICE}/ports/1/phys_state": b"5: LinkUp",
    f"{DEVICE}/ports/1/link_layer": b"InfiniBand",
    f"{DEVICE}/ports/1/rate": b"400 Gb/sec (4X NDR)",
    f"{DEVICE}/ports/1/pkeys/0": b"0xffff",
    f"{DEVICE}/ports/1/gids/0": b"fe80:0000:0000:0000:a288:c2ff:fe00:0001",
    f"{DEVICE}/ports/1/gids/3": b"0000:0000:0000:0000:0000:ffff:0a00:000b",
    f"{DEVICE}/ports/1/gid_attrs/types/3": b"RoCE v2",
    f"{DEVICE}/ports/1/gid_attrs/ndevs/3": b"ens4",
    f"{DEVICE}/ports/1/hw_counters/packet_seq_err": b"0",
    "sys/class/net/ens4/mtu": b"9000",
    "sys/class/net/ens4/carrier_down_count": b"1",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": b"performance",
    "proc/meminfo": b"MemTotal: 1000 kB\nMemAvailable: 900 kB\nHugePages_Free: 0\nHugepagesize: 2048 kB\n",
    "proc/sys/vm/max_map_count": b"65530",
    "proc/sys/kernel/osrelease": b"6.1.0-18-amd64",
    "proc/sys/net/ipv4/ip_local_port_range": b"32768\t60999",
    "proc/net/tcp": b"head\n 0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1 0\n",
    "proc/net/sockstat": b"TCP: inuse 5 orphan 0 tw 3 alloc 9 mem 1",
    "proc/driver/nvidia/version": b"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15\n",
    "proc/42/cmdline": b'/opt/bin/vllm\0serve\0m\0--host\x000.0.0.0\0--kv-transfer-config\0{"kv_role": "kv_both"}\0',
    "proc/42/environ": b"PYTHONHASHSEED=0\0VLLM_API_KEY=sk-secret\0http_proxy=http://u:sk-secret@p:1\0",
    "proc/42/limits": b"Max locked memory  65536  unlimited  bytes\nMax open files  1024  1048576  files\n",
    "proc/42/stat": b"42 (vllm serve) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0\n",
    "proc/42/smaps_rollup": b"Pss: 100 kB\n",
    "state/services/vllm/processes.json": b'{"main": [42, 12345], "processes": [[42, 12345]]}',
    "state/engine.json": b'{"schema": 1, "mode": "with-cache"}',
}
COMMANDS: dict[str, bytes] = {
    "rdma": json.dumps(
        [{"ifname": "mlx5_0", "port": 1, "state": "ACTIVE", "physical_state": "LINK_UP", "qp": 3, "mr": 4}]
    ).encode(),
    "ibv_devinfo": b"hca_id: mlx5_0\n\tport: 1\n\t\tactive_mtu: 4096 (5)\n",
    "nvidia-smi": b"0, NVIDIA H100, 00000000:19:00.0, 81559, 4, 0\n",
    "journalctl": b"kernel: NVRM: Xid (PCI:0000:19:00): 79, GPU has fallen off the bus.\n",
    "ip": b'[{"dst": "10.0.0.1", "dev": "ens4", "metrics": [{"mtu": 9000}]}]',
    "chronyc": b"A29FC801,host,3,1700000000.0,0.000001,0,0,0,0,0,0,0,64.0,Normal\n",
    "systemctl": b"LimitMEMLOCK=infinity\nRestart=no\n",
}
SEEN = {"rdma": rdma, "accelerators": accelerators, "network": network, "processes": processes, "system": system}
GATHERERS = {section: module.gather for section, module in SEEN.items()}


@dataclasses.dataclass(frozen=True)
class Pretended(Host):
    """A host whose commands are not run."""

    answers: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def run(self, argv: list[str], limit_s: float = 1, stdin: str = "") -> Ran:
        answer = self.answers.get(argv[0])
        return Ran(problem="missing") if answer is None else Ran(0, answer.decode(errors="replace"))


def target(state: Path) -> Target:
    settings: dict[str, Any] = {
        "rdma_devices": [],
        "timeout_s": 0.01,
        "peers": [],
        "mooncake_host": "",
        "local_hostname": "",
    }
    return healthy.target(
        "mooncake-store", **{**settings, "state_dir": str(state), "results_dir": "", "local_hostname": ""}
    )


def facts_of(folder: Path, files: dict[str, bytes], commands: dict[str, bytes]) -> dict[str, Any]:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    host = Pretended(sysfs=folder / "sys", procfs=folder / "proc", root=folder, answers=commands)
    return gather(host, target(folder / "state"), GATHERERS)


KERNEL_ALONE = ("proc/net/", "proc/sys/", "proc/meminfo", "proc/42/stat", "proc/42/limits", "proc/42/smaps_rollup")
"""Files whose form no driver, program or full disk can change."""

changeable = sorted(name for name in FILES if not name.startswith(KERNEL_ALONE))
changed_files = st.dictionaries(st.sampled_from(changeable), mutated(tuple(FILES.values())), max_size=4)
changed_commands = st.dictionaries(st.sampled_from(sorted(COMMANDS)), mutated(tuple(COMMANDS.values())), max_size=3)


@given(files=changed_files, commands=changed_commands)
@example(files={}, commands={})
@example(files={f"{DEVICE}/ports/\u00b2/state": b"4: ACTIVE"}, commands={})
def test_any_host_is_gathered_and_judged(folder: Path, files: dict[str, bytes], commands: dict[str, bytes]) -> None:
    with bounded():
        facts = facts_of(folder / "host", {**FILES, **files}, {**COMMANDS, **commands})
        assert {section: told["error"] for section, told in facts.items() if "error" in told} == {}
        judged(json.loads(json.dumps(facts)))
        assert "sk-secret" not in json.dumps(facts) or files or commands


@given(document=mutated((json.dumps(healthy.DOCUMENT, indent=1).encode(), b"chunk_size: 256\nextra_config: {a: b}\n")))
@example(document=b"a: &a [*a]")
@example(document=b"a: " + b"[" * 20_000)
@example(document=b"a: 2026-99-99")
@example(document=b"? [a]\n: b")
def test_any_file_of_lmcache_is_read_and_judged(folder: Path, document: bytes) -> None:
    path = folder / "lmcache_config.yaml"
    path.write_bytes(document)
    with bounded():
        told = json.loads(json.dumps(inside.lmcache_file(str(path)), default=str))
        stack = {"python": "", "problem": "", "packages": {"lmcache": "0.5.6"}, "lmcache_config": told}
        for finding in judge({"stack": stack}, healthy.target(), lmcache_file.CHECKS):
            assert "the check broke" not in finding.seen


def judged(facts: dict[str, Any]) -> None:
    for finding in judge(
        facts, target(Path("/nowhere")), [check for check in CHECKS if set(check.needs) <= set(facts)]
    ):
        assert "the check broke" not in finding.seen, finding
        json.dumps(finding.as_dict())


@given(value=st.one_of(st.sampled_from([each.decode("latin-1") for each in NASTY]), st.text()), place=st.data())
def test_whatever_a_server_says_is_judged(value: str, place: st.DataObject) -> None:
    facts = healthy.facts("mooncake-store")
    name = place.draw(st.sampled_from(["health", "version", "metadata"]))
    facts["mooncake"][name] = {"status": place.draw(st.sampled_from([0, 200, 404])), "body": value, "error": value}
    facts["mooncake"]["canary"] = {**facts["mooncake"]["canary"], "queue_pairs": None, "problem": value}
    with bounded():
        for finding in judge(facts, healthy.target("mooncake-store")):
            assert "the check broke" not in finding.seen, finding
