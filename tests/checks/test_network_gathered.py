"""What is gathered of names, ports and proxies, and what is judged from it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kvkit.checks.fleet import judge_fleet
from kvkit.checks.gather import network
from kvkit.checks.gather.processes import environment_of
from kvkit.checks.host import Host
from kvkit.checks.target import Target
from tests.checks import healthy
from tests.checks.judging import bad

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3456 1
"""


class Processes:
    """A procfs with one listener, on 127.0.0.1:8000 and with inode 3456."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "net").mkdir()
        (folder / "net/tcp").write_text(TABLE)

    def add(self, pid: int, opened: str, *argv: str) -> None:
        (self.folder / str(pid) / "fd").mkdir(parents=True)
        (self.folder / str(pid) / "fd/3").symlink_to(opened)
        (self.folder / str(pid) / "cmdline").write_text("".join(f"{argument}\0" for argument in argv))

    def listening(self) -> tuple[int, str]:
        (found,) = network.gather(Host(procfs=self.folder), Target())["listening"]
        return found["pid"], found["command"]


@pytest.fixture
def processes(tmp_path: Path) -> Processes:
    return Processes(tmp_path)


def test_a_listener_is_named_by_its_process(processes: Processes) -> None:
    processes.add(9, "socket:[3456]", "nginx")
    assert processes.listening() == (9, "nginx")


def test_a_pipe_whose_number_ends_alike_is_no_listener(processes: Processes) -> None:
    processes.add(7, "pipe:[123456]", "innocent")
    processes.add(9, "socket:[3456]", "nginx")
    assert processes.listening() == (9, "nginx")


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (("vllm", "serve", "model", "--api-key", "sk-secret"), "vllm serve model"),
        (("python", "-m", "vllm.entrypoints.openai.api_server", "--api-key=sk-secret"), "python -m vllm.entrypoints"),
        (("redis-cli", "redis://user:secret@cache:6379"), "redis-cli redis://***@cache:6379"),
    ],
)
def test_a_listeners_command_tells_no_secret(processes: Processes, argv: tuple[str, ...], command: str) -> None:
    processes.add(9, "socket:[3456]", *argv)
    told = processes.listening()[1]
    assert told.startswith(command)
    assert "secret" not in told


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://user:secret@proxy:3128", "http://***@proxy:3128"),
        ("user:secret@proxy:3128", "***@proxy:3128"),
        ("http://user:sec/ret@proxy:3128", "http://***@proxy:3128"),
        ("http://user:sec@ret@proxy:3128", "http://***@proxy:3128"),
    ],
)
def test_credentials_of_a_proxy_are_cut_out(address: str, told: str) -> None:
    assert network.without_credentials(address) == told
    assert environment_of(f"http_proxy={address}\0") == {"http_proxy": told}


@pytest.mark.planted("network.name.resolves")
def test_an_unknown_name_is_no_filtered_port_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    settings = {"parts": ["vllm"], "connector": "mooncake-store", "mooncake_host": "store", "mooncake_rpc_port": 50051}
    target = Target.from_dict(settings)
    assert bad({"network": network.gather(Host(), target)}, target) == {"network.name.resolves": "fail"}


@pytest.mark.planted("network.port.filtered")
def test_a_firewall_that_rejects_is_named() -> None:
    facts = healthy.facts()
    facts["network"]["ports"][0]["state"] = "unreachable"
    assert bad(facts, healthy.target()) == {"network.port.filtered": "fail"}


def test_exemptions_alone_are_no_proxy() -> None:
    facts = healthy.facts()
    facts["processes"]["vllm"][0]["environ"] |= {"no_proxy": "localhost", "NO_PROXY": "localhost"}
    assert bad(facts, healthy.target()) == {}


@pytest.mark.parametrize("filtered", [12300, 15000])
def test_a_peer_is_as_bad_as_its_worst_data_port(monkeypatch: pytest.MonkeyPatch, filtered: int) -> None:
    def connect(host: str, port: int, limit_s: float) -> dict[str, object]:
        return {"state": "filtered" if port == filtered else "refused", "ms": 1.0}

    monkeypatch.setattr(network, "_connect", connect)
    target = Target.from_dict({"peers": ["127.0.0.1"]})
    assert network.gather(Host(), target)["peers"] == {"127.0.0.1": "filtered"}


def test_a_peer_that_answers_late_is_a_warning() -> None:
    hosts = {"gpu1": healthy.facts(), "gpu2": healthy.facts()}
    hosts["gpu1"]["network"]["peers"] = {"10.0.0.12": "slow"}
    (found,) = [one for one in judge_fleet(hosts) if one.status not in ("pass", "skip")]
    assert (found.status, found.subject) == ("warn", "gpu1 to 10.0.0.12")
