"""The full cycle on the real stack: vLLM, LMCache and a Mooncake store on this machine's CPUs.

Where the stack is missing, the cycle installs it (minutes, 3.7 GB, kept in the user's cache folder).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.browser.opening import chromium, opened
from tests.cycle.deployment import (
    Deployment,
    abandoned_shared_memory,
    deployed,
    external_tokens,
    vllm_workers,
)

pytestmark = [pytest.mark.cycle, pytest.mark.real]

SCENARIOS = ("long_context_high_reuse", "multi_turn_conversation", "cold_start")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed("rehearsal", tmp_path_factory.mktemp("rehearsal")) as deployment:
        yield deployment


@dataclass(frozen=True)
class Cycle:
    abandoned_before: set[str]
    abandoned_after: set[str]


@pytest.fixture(scope="module")
def cycle(deployment: Deployment) -> Cycle:
    """With the inventory's connector, `lmcache-mp`."""
    before = abandoned_shared_memory()
    played = deployment.play("site", kv_cycle="whole")
    assert played.exit_code == 0, played.output
    return Cycle(before, abandoned_shared_memory())


def test_every_run_is_valid(cycle: Cycle, deployment: Deployment) -> None:
    stats = deployment.stats("whole")
    assert {key: run["valid"] for key, run in stats.items()} == {
        (mode, scenario): True for mode in ("with-cache", "baseline") for scenario in SCENARIOS
    }


def test_the_store_was_proved_to_be_in_use(cycle: Cycle, deployment: Deployment) -> None:
    assert [proof["verdict"] for proof in deployment.proofs("whole")] == ["PROVEN"]


def test_only_the_cache_brings_external_tokens(cycle: Cycle, deployment: Deployment) -> None:
    stats = deployment.stats("whole")
    for scenario in SCENARIOS:
        assert external_tokens(stats["with-cache", scenario])[1] > 0, scenario
        assert external_tokens(stats["baseline", scenario]) == [0, 0], scenario


def test_a_prompt_never_seen_finds_nothing_in_the_store(cycle: Cycle, deployment: Deployment) -> None:
    """Only where no two prompts share a chunk: elsewhere a cold round reads what it stored itself a moment before."""
    assert external_tokens(deployment.stats("whole")["with-cache", "cold_start"])[0] == 0


def test_the_store_was_read(cycle: Cycle, deployment: Deployment) -> None:
    for scenario in SCENARIOS:
        hit = deployment.stats("whole")["with-cache", scenario]["rounds"][1]
        assert hit["counters"]["mooncake"]["mem_cache_hit_nums_"] > 0, scenario


def test_a_hit_takes_less_than_half_of_computing(cycle: Cycle, deployment: Deployment) -> None:
    """The device cache is cleared in both modes, so the baseline computes what the other mode loads."""
    stats = deployment.stats("whole")
    for scenario in SCENARIOS:
        hit, computed = (stats[mode, scenario]["rounds"][1] for mode in ("with-cache", "baseline"))
        assert hit["isolation"] == computed["isolation"] == "device", scenario
        assert hit["ttft_ms"]["mean"] < computed["ttft_ms"]["mean"] / 2, scenario


@pytest.mark.browser
def test_its_report_opens_in_a_browser_without_a_network(cycle: Cycle, deployment: Deployment) -> None:
    report = deployment.folder / "results" / "whole" / "comparison.html"
    with chromium() as browser, opened(browser, report) as seen:
        assert seen.said == []
        assert seen.not_drawn() == []
        assert seen.charts >= 4 * len(SCENARIOS)
        assert seen.grave_faults() == []


def test_nothing_is_left_running(cycle: Cycle, deployment: Deployment) -> None:
    assert deployment.processes() == []
    assert vllm_workers() == []
    assert deployment.listening() == set()
    assert cycle.abandoned_after - cycle.abandoned_before == set()


def test_a_second_provision_changes_nothing(cycle: Cycle, deployment: Deployment) -> None:
    played = deployment.play("provision")
    assert played.exit_code == 0, played.output
    assert played.changed("this_machine") == 0


def test_another_connector_is_one_variable_away(cycle: Cycle, deployment: Deployment) -> None:
    played = deployment.play("site", kv_cycle="store", kv_connector="mooncake-store", bench_scenarios=["cold_start"])
    assert played.exit_code == 0, played.output
    assert external_tokens(deployment.stats("store")["with-cache", "cold_start"])[1] > 0
    assert deployment.processes() == []


def test_without_a_connector_only_the_baseline_is_measured(cycle: Cycle, deployment: Deployment) -> None:
    played = deployment.play("site", kv_cycle="none", kv_connector="none", bench_scenarios=["cold_start"])
    assert played.exit_code == 0, played.output
    assert deployment.stats("none").keys() == {("baseline", "cold_start")}
    assert "No comparison" in played.text


def test_the_connector_that_degrades_on_cpus_is_refused_before_anything_starts(
    cycle: Cycle, deployment: Deployment
) -> None:
    played = deployment.play("site", kv_connector="lmcache-inprocess")
    assert played.exit_code == 2
    assert "No supported cpu connector found" in played.text
    assert deployment.processes() == []
