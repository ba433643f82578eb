"""What the emulated store cannot show: an LMCache server that is killed, and a memory owner apart from its master."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest
import yaml

from tests.cycle.deployment import Deployment, deployed, vllm_workers
from tests.playbooks import PROJECT, Played

pytestmark = [pytest.mark.cycle, pytest.mark.real]

PATIENCE_S = 600
"""Far above what vLLM takes to start on a busy machine."""
SETTINGS = yaml.safe_load((PROJECT / "inventory/rehearsal/group_vars/all.yml").read_text())
SHORT = {
    # When its LMCache server is gone, vLLM 0.32 hangs, by itself for five minutes (docs/findings.md).
    "vllm_environment": SETTINGS["vllm_environment"] | {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "30"},
    "kv_modes": ["with-cache"],
    "bench_prove": False,
    "bench_scenarios": ["cold_start"],
    "bench_requests_per_scenario": 3,
    "bench_request_timeout_s": 15,
    "vllm_poll_s": 1,
}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed("rehearsal", tmp_path_factory.mktemp("faults")) as deployment:
        provisioned = deployment.play("provision")
        assert provisioned.exit_code == 0, provisioned.output
        yield deployment


@dataclass
class Measuring:
    """A cycle that is hit in its first round."""

    deployment: Deployment
    cycle: str
    played: list[Played] = field(default_factory=list)

    def hit(self, *words: str) -> Played:
        """Kill the process of which all of these are words, once a request has ended."""
        thread = threading.Thread(target=self._play)
        thread.start()
        try:
            self._until_a_request_has_ended(thread)
            for process in self.deployment.processes():
                if set(words) <= {word.rpartition("/")[2] for word in line_of(process)}:
                    process.kill()
                    break
            else:
                raise AssertionError(f"no process of {words}")
        finally:
            thread.join()
        return self.played[0]

    def _play(self) -> None:
        options = "--skip-tags=preflight,provision,report"
        self.played.append(self.deployment.play("site", options, kv_cycle=self.cycle, **SHORT))

    def _until_a_request_has_ended(self, thread: threading.Thread) -> None:
        end = time.monotonic() + PATIENCE_S
        results = self.deployment.state / "bench/results" / self.cycle
        while not any(file.stat().st_size for file in results.glob("*_requests_*")):
            assert thread.is_alive(), self.played[0].output
            assert time.monotonic() < end, f"no request within {PATIENCE_S} s"
            time.sleep(0.1)


def line_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.parametrize(
    ("cycle", "words", "reason"),
    [
        ("lmcache", ("lmcache", "server"), "LMCache's server was lost in this round"),
        ("owner", ("mooncake_client",), "no cache hit: 0 of"),
    ],
    ids=["LMCache server", "memory owner"],
)
def test_a_cycle_whose_cache_is_killed_is_invalid_says_why_and_leaves_nothing(
    deployment: Deployment, cycle: str, words: tuple[str, ...], reason: str
) -> None:
    played = Measuring(deployment, cycle).hit(*words)
    assert played.exit_code == 2, played.output
    assert "this_machine: with-cache: done, but the result is INVALID" in played.text
    stats = deployment.stats(cycle)["with-cache", "cold_start"]
    assert any(reason in told for told in stats["invalid_reasons"]), stats["invalid_reasons"]
    assert deployment.processes() == []
    assert deployment.listening() == set()
    assert vllm_workers() == []
