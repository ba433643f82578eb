"""The full cycle on the emulated engine: once through `kvkit cycle`, once as `make cycle` runs it, broken off."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from tests.cycle.deployment import Deployment, abandoned_shared_memory, deployed, external_tokens
from tests.playbooks import PROJECT, Played

pytestmark = pytest.mark.cycle


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed("local", tmp_path_factory.mktemp("local")) as deployment:
        yield deployment


@dataclass(frozen=True)
class Cycle:
    played: Played
    abandoned_before: set[str]
    abandoned_after: set[str]


@pytest.fixture(scope="module")
def cycle(deployment: Deployment) -> Cycle:
    before = abandoned_shared_memory()
    played = deployment.play_cycle(kv_cycle="whole")
    assert played.exit_code == 0, played.output
    return Cycle(played, before, abandoned_shared_memory())


def test_it_ends_in_a_report_with_charts(cycle: Cycle, deployment: Deployment) -> None:
    results = deployment.folder / "results" / "whole"
    assert (results / "comparison.md").read_text().startswith("# ")
    assert "<h1>" in (results / "comparison.html").read_text()
    assert f"The report is {results}/comparison.html" in cycle.played.text
    assert list(results.glob("*.png"))


def test_it_tells_its_stages_and_how_the_measurement_goes_on(cycle: Cycle) -> None:
    stages = re.findall(r"^\d\d:\d\d:\d\d ([a-z -]+)$", cycle.played.output, re.MULTILINE)
    assert stages == [
        *("begin", "preflight", "provision", "install kvkit"),
        *("serve with-cache", "preflight of servers", "prove", "measure with-cache"),
        *("serve baseline", "preflight of servers", "prove", "measure baseline"),
        *("restore", "report", "verdict"),
    ]
    assert "this_machine |   Progress 4/4" in cycle.played.output
    assert cycle.played.output.splitlines()[-1] == (
        "Done and valid. The service is back in the mode in which it was found."
    )


def test_every_run_is_valid(cycle: Cycle, deployment: Deployment) -> None:
    assert {key: stats["valid"] for key, stats in deployment.stats("whole").items()} == {
        (mode, scenario): True
        for mode in ("with-cache", "baseline")
        for scenario in ("long_context_high_reuse", "multi_turn_conversation", "cold_start")
    }


def test_the_cache_was_proved_to_be_in_use_and_the_baseline_was_not_asked(cycle: Cycle, deployment: Deployment) -> None:
    assert [proof["verdict"] for proof in deployment.proofs("whole")] == ["PROVEN"]
    assert "PROVEN: the store served what it should" in cycle.played.text


def test_only_the_cache_brings_external_tokens(cycle: Cycle, deployment: Deployment) -> None:
    for (mode, scenario), stats in deployment.stats("whole").items():
        first, second = external_tokens(stats)
        assert first == 0, (mode, scenario)
        assert (second > 0) == (mode == "with-cache"), (mode, scenario)


def test_both_modes_sent_the_same_prompts(cycle: Cycle, deployment: Deployment) -> None:
    stats = deployment.stats("whole")
    for scenario in ("long_context_high_reuse", "multi_turn_conversation", "cold_start"):
        fingerprints = {stats[mode, scenario]["workload"]["fingerprint"] for mode in ("with-cache", "baseline")}
        assert len(fingerprints) == 1, scenario


def test_nothing_is_left_running(cycle: Cycle, deployment: Deployment) -> None:
    assert deployment.processes() == []
    assert deployment.listening() == set()
    assert cycle.abandoned_after - cycle.abandoned_before == set()


def test_a_second_provision_changes_nothing(cycle: Cycle, deployment: Deployment) -> None:
    played = deployment.play("provision")
    assert played.exit_code == 0, played.output
    assert played.changed("this_machine") == 0


def test_the_report_can_be_made_again(cycle: Cycle, deployment: Deployment) -> None:
    report = deployment.folder / "results" / "whole" / "comparison.md"
    report.unlink()
    assert deployment.play("report").exit_code == 0
    assert report.exists()


@pytest.fixture(scope="module")
def broken_off(cycle: Cycle, deployment: Deployment) -> Played:
    """A cycle that fails in the middle, on a machine whose engine was found serving without the cache."""
    served = deployment.play("serve", kv_mode="baseline")
    assert served.exit_code == 0, served.output
    # As if the operator had started it so: the kit knows of no earlier change.
    (deployment.state / "found.json").unlink()
    settings = yaml.safe_load((PROJECT / "inventory/local/group_vars/all.yml").read_text())
    corrupting = [*settings["local_engine_command"], "--fault=corrupted-kv"]
    return deployment.play("site", kv_cycle="broken_off", local_engine_command=corrupting)


def test_a_cycle_that_breaks_off_fails_and_says_where(broken_off: Played) -> None:
    assert broken_off.exit_code == 2
    assert "the cycle was broken off" in broken_off.text
    assert "kvkit prove: BROKEN: external hit: the answer's text is neither" in broken_off.text


def test_the_proof_of_a_broken_store_is_kept(broken_off: Played, deployment: Deployment) -> None:
    assert [proof["verdict"] for proof in deployment.proofs("broken_off")] == ["BROKEN"]


def test_the_found_mode_is_back_after_a_failure(broken_off: Played, deployment: Deployment) -> None:
    (engine,) = [
        process
        for process in deployment.processes()
        if any(connection.laddr.port == deployment.ports["vllm_port"] for connection in listeners(process))
    ]
    assert "--connector=none" in engine.cmdline()
    assert not (deployment.state / "found.json").exists()


def test_restore_stops_what_was_found_stopped(broken_off: Played, deployment: Deployment) -> None:
    found = {"schema": 1, "mode_found": "stopped", "running_services": [], "time": "2026-01-01T00:00:00+00:00"}
    (deployment.state / "found.json").write_text(json.dumps(found))
    played = deployment.play("restore")
    assert played.exit_code == 0, played.output
    assert deployment.processes() == []
    assert deployment.listening() == set()


def listeners(process: psutil.Process) -> list[psutil._ntuples.pconn]:
    return [connection for connection in process.net_connections("tcp") if connection.status == psutil.CONN_LISTEN]


@pytest.fixture(scope="module")
def interleaved(broken_off: Played, deployment: Deployment) -> Path:
    """Results of a cycle of A B B A."""
    played = deployment.play(
        "site",
        "--skip-tags=preflight,provision",
        kv_cycle="interleaved",
        bench_interleave=True,
        bench_scenarios=["cold_start"],
    )
    assert played.exit_code == 0, played.output
    return deployment.folder / "results" / "interleaved"


def test_interleaved_modes_are_measured_there_and_back(interleaved: Path) -> None:
    stats = [json.loads(file.read_text()) for file in interleaved.glob("*_stats_*.json")]
    stats.sort(key=lambda run: run["provenance"]["started"])
    assert [run["mode"] for run in stats] == ["with-cache", "baseline", "baseline", "with-cache"]
    assert [run["valid"] for run in stats] == [True] * 4
    first, second, third, fourth = (run["workload"]["fingerprint"] for run in stats)
    assert (first, third) == (second, fourth)
    assert first != third


def test_the_comparison_is_over_both_halves(interleaved: Path) -> None:
    report = (interleaved / "comparison.md").read_text()
    assert "cold_start, run pair 2" in report
