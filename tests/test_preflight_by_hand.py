"""`kvkit preflight` on this host: what files and flags make of the target, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvkit.checks.finding import ERROR, FAIL, PASS, SKIP, WARN, Finding
from kvkit.checks.registry import CHECKS
from kvkit.cli import app
from kvkit.config_file import load_config
from kvkit.ending import Ending
from kvkit.preflight import Described, PreflightError, ending, target_of
from tests.ports import free_ports

LMCACHE = """\
chunk_size: 256
local_cpu: false
max_local_cpu_size: 2
extra_config:
  local_hostname: 10.0.0.5
  protocol: rdma
  mooncake_rdma_devices: mlx5_0, mlx5_1
  global_segment_size: 1073741824
  local_buffer_size: 16777216
"""


def lmcache_file(folder: Path, text: str = LMCACHE) -> Path:
    path = folder / "lmcache_config.yaml"
    path.write_text(text)
    return path


def configuration(folder: Path, mooncake: str = "") -> Path:
    """Of an endpoint that nobody serves."""
    (port,) = free_ports(1)
    path = folder / "test_config_simple.yaml"
    path.write_text(
        f"openai_api: {{base_url: 'http://127.0.0.1:{port}/v1', model_name: served}}\n"
        f"model: {{name: served}}\n{mooncake}"
    )
    return path


def finding(status: str) -> Finding:
    return Finding("a.b.c", status, "seen", "expected", "mend", "docs/checks/a.b.c.md")


class TestTarget:
    def test_a_test_configuration_makes_the_host_a_load_generator(self, tmp_path: Path) -> None:
        target = target_of(load_config(configuration(tmp_path)), None, Described())
        assert target.parts == ("loadgen",)
        assert target.connector == "none"

    def test_a_named_store_is_one_that_the_deployment_uses(self, tmp_path: Path) -> None:
        store = "mooncake: {master_ip: 10.0.0.1, master_port: 50052}\n"
        target = target_of(load_config(configuration(tmp_path, store)), None, Described())
        assert (target.mooncake_host, target.mooncake_rpc_port, target.connector) == (
            "10.0.0.1",
            50052,
            "lmcache-inprocess",
        )

    def test_lmcaches_file_tells_sizes_protocol_and_devices(self, tmp_path: Path) -> None:
        target = target_of(None, lmcache_file(tmp_path), Described())
        assert target.parts == ("vllm",)
        assert target.rdma_devices == ("mlx5_0", "mlx5_1")
        assert target.protocol == "rdma"
        assert (target.global_segment_size, target.local_buffer_size, target.cpu_tier_size) == (2**30, 2**24, 2**31)

    def test_a_broken_lmcache_file_is_left_to_its_check(self, tmp_path: Path) -> None:
        target = target_of(None, lmcache_file(tmp_path, "chunk_size: [\n"), Described())
        assert target.lmcache_config.endswith("lmcache_config.yaml")

    def test_a_missing_lmcache_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(PreflightError, match=r"nowhere\.yaml: cannot be read \(No such file"):
            target_of(None, tmp_path / "nowhere.yaml", Described())


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((PASS, SKIP, WARN), Ending.DONE),
        ((PASS, ERROR), Ending.NOT_FINISHED),
        ((ERROR, FAIL), Ending.INVALID),
    ],
)
def test_a_fail_outranks_what_could_not_be_looked_at(statuses: tuple[str, ...], expected: Ending) -> None:
    assert ending(finding(status) for status in statuses) == expected


class TestCommand:
    def test_an_endpoint_that_refuses_is_a_fail(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        code = app(["preflight", "--config", str(configuration(tmp_path)), "--json"], result_action="return_value")
        document = json.loads(capsys.readouterr().out)
        (found,) = document["hosts"].values()
        assert code == Ending.INVALID
        assert "network.port.refused" in {one["id"] for one in found if one["status"] == FAIL}

    def test_a_wrong_configuration_looks_at_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text("openai_api: 3\n")
        assert app(["preflight", "--config", str(wrong)], result_action="return_value") == Ending.WRONG_INPUT
        assert "openai_api" in capsys.readouterr().err

    def test_the_list_has_every_check(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert app(["preflight", "--list"], result_action="return_value") == Ending.DONE
        shown = capsys.readouterr().out.splitlines()
        assert {check.id for check in CHECKS} <= set(shown)
