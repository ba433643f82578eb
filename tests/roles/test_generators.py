"""Two load generators of one play send one run; the real kvkit, and an emulated engine."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.benching import emulated
from tests.playbooks import Played, play
from tests.ports import free_ports

pytestmark = pytest.mark.playbook

SECRET = "sk-never-to-be-seen"


@dataclass(frozen=True)
class Together:
    played: Played
    stats: dict[str, Any]
    sent: Counter[tuple[int, str]]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("generators")
    (port,) = free_ports(1)
    with emulated(connector="none", api_key=SECRET, model="emulated") as engine:
        assert engine.engine is not None
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "bench_api_key": SECRET,
            "bench_base_url": f"{engine.engine}/v1",
            "bench_kvkit": str(Path(sys.executable).with_name("kvkit")),
            "bench_listen_host": "127.0.0.1",
            "bench_listen_port": port,
            "bench_model_name": "emulated",
            "bench_poll_s": 1,
            "bench_requests_per_scenario": 9,
            "bench_scenarios": ["cold_start"],
            "bench_workload": {"prefix_tokens": 256, "suffix_tokens": 16},
            "kv_connector": "none",
            "kv_engine": "emulated",
            "kv_results_dir": str(folder / "results"),
            "vllm_host": "127.0.0.1",
        }
        hosts = {name: {"kv_state_dir": str(folder / name)} for name in ("client1", "client2")}
        groups = {"vllm": {"hosts": {"client1": {}}}, "loadgen": {"hosts": hosts}}
        (folder / "hosts.json").write_text(json.dumps({"all": {"vars": variables, "children": groups}}))
        played = play("bench", folder / "hosts.json", variables={"kv_mode": "baseline", "kv_cycle": "one"})
    (stats,) = folder.glob("results/one/*_stats_*.json")
    (requests,) = folder.glob("results/one/*_requests_*.jsonl")
    records = map(json.loads, requests.read_text().splitlines())
    return Together(
        played, json.loads(stats.read_text()), Counter((one["round"], one["request_id"]) for one in records)
    )


def test_each_request_is_in_the_one_result_once(together: Together) -> None:
    assert set(together.sent.values()) == {1}
    assert len(together.sent) == 18


def test_the_result_tells_how_the_clocks_stood(together: Together) -> None:
    named = [clock["name"] for clock in together.stats["rounds"][0]["client"]["generators"]]
    assert named
    assert all("client2" in name for name in named)


def test_no_key_is_printed(together: Together) -> None:
    assert SECRET not in together.played.output
