"""A sweep over settings of the emulated engine, killed on its way and run again. It takes three measurements."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cycle.deployment import Deployment, deployed
from tests.playbooks import Played

pytestmark = pytest.mark.cycle

AS_IT_IS: dict[str, Any] = {}
REFUSED = {"kv_connector": "lmcache-inprocess"}
BROKEN = {"local_engine_args": ["--no-such-option"]}
SWEEP = {
    "bench_scenarios": ["cold_start"],
    "bench_prove": False,
    "tune_candidates": [AS_IT_IS, REFUSED, BROKEN],
}
BY_HAND = '{"written": "by hand"}\n'


@dataclass(frozen=True)
class Attempts:
    folder: Path

    def read(self) -> list[dict[str, Any]]:
        """Oldest first."""
        files = self.folder.glob("results/tune_*/*/candidate.json")
        return sorted((json.loads(file.read_text()) for file in files), key=lambda attempt: attempt["started"])

    def outcomes(self, mode: str, settings: dict[str, Any]) -> list[str]:
        return [one["outcome"] for one in self.read() if (one["mode"], one["settings"]) == (mode, settings)]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed("local", tmp_path_factory.mktemp("tune")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def attempts(deployment: Deployment) -> Attempts:
    return Attempts(deployment.folder)


def is_begun(attempts: Attempts) -> bool:
    with suppress(ValueError):
        return bool(attempts.outcomes("with-cache", AS_IT_IS))
    return False


@pytest.fixture(scope="module")
def interrupted(deployment: Deployment, attempts: Attempts) -> None:
    """A sweep that dies as its first candidate begins, on a host that served without the cache, set up by hand."""
    for played in (deployment.play("provision"), deployment.play("serve", kv_mode="baseline")):
        assert played.exit_code == 0, played.output
    # As if the operator had started it so: the kit knows of no earlier change.
    (deployment.state / "found.json").unlink()
    (deployment.state / "config" / "mooncake_store.json").write_text(BY_HAND)
    sweep = threading.Thread(target=deployment.play, args=("tune",), kwargs=SWEEP)
    sweep.start()
    while sweep.is_alive() and not is_begun(attempts):
        time.sleep(0.2)
    for child in psutil.Process().children():
        for process in [child, *child.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    sweep.join()
    assert attempts.outcomes("with-cache", AS_IT_IS) == ["unfinished"]


@pytest.fixture(scope="module")
def resumed(interrupted: None, deployment: Deployment) -> Played:
    # The sweep that was killed could not give the host up.
    played = deployment.play("tune", **SWEEP, kv_break_lock=True)
    assert played.exit_code == 0, played.output
    return played


def test_what_was_measured_is_not_measured_again(resumed: Played, attempts: Attempts) -> None:
    """The baseline of before the kill, and the one that ends a sweep."""
    assert attempts.outcomes("baseline", {}) == ["measured", "measured"]


def test_what_was_broken_off_is_measured(resumed: Played, attempts: Attempts) -> None:
    assert attempts.outcomes("with-cache", AS_IT_IS) == ["unfinished", "measured"]


def test_a_candidate_that_is_refused_or_fails_does_not_stop_the_sweep(resumed: Played, attempts: Attempts) -> None:
    assert attempts.outcomes("with-cache", REFUSED) == ["refused"]
    assert attempts.outcomes("with-cache", BROKEN) == ["failed"]
    assert attempts.read()[-1]["mode"] == "baseline"


def test_the_reasons_are_kept(resumed: Played, attempts: Attempts) -> None:
    reasons = {json.dumps(one["settings"]): one["reason"] for one in attempts.read()}
    assert "No supported cpu connector found" in reasons[json.dumps(REFUSED)]
    assert "vllm" in reasons[json.dumps(BROKEN)]


def test_the_report_ranks_what_was_measured_and_lists_the_rest(resumed: Played, deployment: Deployment) -> None:
    (report,) = deployment.folder.glob("results/tune_*/ranking.md")
    told = report.read_text()
    assert "| `as the inventory has it` |" in told
    assert "| `kv_connector=lmcache-inprocess` | refused |" in told
    assert '| `local_engine_args=["--no-such-option"]` | failed |' in told
    assert "Keep the inventory as it is" in resumed.text


def test_the_service_is_as_it_was_found_with_its_files(resumed: Played, deployment: Deployment) -> None:
    (engine,) = [process for process in deployment.processes() if "--role=engine" in process.cmdline()]
    assert "--connector=none" in engine.cmdline()
    assert (deployment.state / "config" / "mooncake_store.json").read_text() == BY_HAND
    assert not (deployment.state / "found.json").exists()
