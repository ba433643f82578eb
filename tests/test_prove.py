"""Whole proofs against the emulated engine: what each fault makes of the verdict, and how the command ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from kvkit.config import Config
from kvkit.emulator import Addresses
from kvkit.ending import Ending
from kvkit.observe.engine import EngineFacts
from kvkit.observe.proof import ArmFacts, ArmName, Proof
from kvkit.prove import run
from kvkit.report.proof import proof_as_json, proof_reporter
from tests.benching import config_for, emulated, plain_openai_server, served
from tests.restarting import Deployment, deployed

pytestmark = pytest.mark.usefixtures("short_polls")


class Told:
    """A reporter that remembers, and lets a test act between two arms."""

    def __init__(self, after: dict[ArmName, Callable[[], object]] | None = None) -> None:
        self._after = after or {}
        self.arms: list[str] = []
        self.proof: Proof | None = None
        self.notices: list[str] = []
        self.failure = ""

    def started(self, engine: EngineFacts) -> None:
        self.arms.append(f"engine {engine.version}")

    def arm_started(self, name: ArmName) -> None:
        self.arms.append(f"{name} started")

    def arm_ended(self, facts: ArmFacts) -> None:
        self.arms.append(f"{facts.name} {'skipped' if facts.skipped else 'ended'}")
        self._after.get(facts.name, lambda: None)()

    def proved(self, proof: Proof) -> None:
        self.proof = proof

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def failed(self, message: str) -> None:
        self.failure = message


@pytest.fixture(scope="module")
def with_cache() -> Iterator[Addresses]:
    with emulated() as addresses:
        yield addresses


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with deployed() as deployment:
        yield deployment


def prove(config: Config, **after: Callable[[], object]) -> tuple[Ending, Proof]:
    """The ending and the proof; `device_hit=...` is called when that arm has ended."""
    ending, told = tell(config, **after)
    assert told.proof is not None, told.failure
    return ending, told.proof


def tell(config: Config, **after: Callable[[], object]) -> tuple[Ending, Told]:
    names: dict[str, ArmName] = {"cold": "cold", "device_hit": "device hit"}
    told = Told({names[name]: call for name, call in after.items()})
    return run(config, reporter=told), told


def test_a_store_in_use_is_proven_arm_by_arm(with_cache: Addresses) -> None:
    ending, proof = prove(config_for(with_cache))
    assert (ending, proof.verdict) == (Ending.DONE, "PROVEN")
    cold, device, external = proof.arms
    total = sum(cold.facts.prompt_tokens)
    assert cold.facts.sources.computed == total
    assert (cold.facts.sources.device, cold.facts.sources.external) == (0, 0)
    assert device.facts.sources.external == 0
    assert external.facts.sources.device == 0
    assert external.facts.sources.external == external.expected_external == device.facts.sources.device
    assert external.facts.traffic.read_bytes is not None
    assert (
        external.facts.traffic.read_bytes.value == external.expected_bytes == 1000 * (external.expected_external or 0)
    )
    assert (device.text, external.text) == ("as cold", "as cold")


def test_prompts_end_just_behind_a_chunk_so_that_both_hits_are_the_same_computation(with_cache: Addresses) -> None:
    """With LMCache's chunks of 256 tokens the device cache has more of other prompts: whole blocks of 16."""
    with emulated(connector="lmcache-mp") as addresses:
        _, proof = prove(config_for(addresses))
    _, device, external = proof.arms
    assert (proof.verdict, proof.setup.chunk_tokens) == ("PROVEN", 256)
    assert external.facts.sources.external == device.facts.sources.device
    assert external.facts.traffic.read_bytes is not None
    assert external.facts.traffic.read_bytes.counter == "mem_cache_hit_bytes_total"


def test_every_proof_sends_prompts_of_its_own(with_cache: Addresses) -> None:
    first, second = (prove(config_for(with_cache, test={"seed": 0}))[1] for _ in range(2))
    assert first.verdict == second.verdict == "PROVEN"


def test_the_arms_are_told_in_their_order(with_cache: Addresses) -> None:
    _, told = tell(config_for(with_cache))
    assert told.arms == [
        "engine 0.32.0+emulated",
        *("cold started", "cold ended"),
        *("device hit started", "device hit ended"),
        *("external hit started", "external hit ended"),
    ]
    assert told.notices == []


def test_an_engine_without_a_connector_is_not_engaged_although_its_repeat_is_fast() -> None:
    with emulated(connector="none", prefill_tokens_per_s=20_000) as addresses:
        ending, proof = prove(config_for(addresses))
    assert (ending, proof.verdict) == (Ending.INVALID, "NOT ENGAGED")
    assert "the engine has no KV connector; the repeat was fast all the same" in proof.reasons[0]
    cold, device, _ = proof.arms
    assert device.facts.sources.computed is not None
    assert device.facts.sources.computed < sum(device.facts.prompt_tokens) / 10
    assert cold.facts.sources.computed == sum(cold.facts.prompt_tokens)


def test_a_degraded_connector_is_not_engaged() -> None:
    with emulated(degraded_delay_s=0.0) as addresses:
        set_fault(addresses, "degraded")
        _, proof = prove(config_for(addresses))
    assert proof.verdict == "NOT ENGAGED"
    assert "MooncakeStoreConnector delivered nothing, and it stored nothing either" in proof.reasons[0]


def set_fault(addresses: Addresses, kind: str) -> None:
    httpx.post(f"{addresses.engine}/emulator/fault", json={"kind": kind}).raise_for_status()


def test_a_store_that_stops_between_the_arms_is_broken(deployment: Deployment) -> None:
    ending, proof = prove(config_for(deployment.addresses), device_hit=deployment.stop_store)
    assert (ending, proof.verdict) == (Ending.INVALID, "BROKEN")
    assert "and nothing came back; it does not answer: " in proof.reasons[0]


def test_a_store_that_is_emptied_between_the_arms_is_broken(with_cache: Addresses) -> None:
    def empty() -> None:
        httpx.post(f"{with_cache.store_metrics}/api/v1/remove_all").raise_for_status()

    _, proof = prove(config_for(with_cache), device_hit=empty)
    assert proof.verdict == "BROKEN"
    assert proof.reasons[0].endswith("and nothing came back")


def test_loads_that_fail_are_broken() -> None:
    with emulated() as addresses:
        _, proof = prove(config_for(addresses), device_hit=lambda: set_fault(addresses, "load_failure"))
    assert proof.verdict == "BROKEN"
    assert "3 of 3 requests failed, 3 loads of KV from the store too: error_event" in proof.reasons[0]


def test_kv_that_comes_back_as_other_bytes_is_broken() -> None:
    """No counter and no status tells it: only the answer's text is another."""
    with emulated() as addresses:
        _, proof = prove(config_for(addresses), device_hit=lambda: set_fault(addresses, "corrupted_kv"))
    assert (proof.verdict, proof.arms[2].text) == ("BROKEN", "differs")
    assert proof.arms[2].facts.failures == ()
    assert proof.arms[2].facts.sources.external == proof.arms[2].expected_external


def test_requests_that_fail_in_the_cold_arm_are_broken() -> None:
    with emulated() as addresses:
        set_fault(addresses, "http_429")
        _, told = tell(config_for(addresses))
    assert told.proof is not None
    assert told.proof.verdict == "BROKEN"
    assert told.proof.reasons[0] == "cold: 3 of 3 requests failed: http_error: Too many requests."
    assert told.notices == ["the warm-up request failed: http_error: Too many requests."]


def test_an_engine_without_counters_is_unknown() -> None:
    with served(plain_openai_server()) as address:
        ending, proof = prove(config_for(Addresses(engine=address)))
    assert (ending, proof.verdict) == (Ending.INVALID, "UNKNOWN")
    assert "where the prompt tokens came from is not known" in proof.reasons[0]


def test_a_device_cache_that_can_not_be_cleared_is_unknown() -> None:
    with emulated(dev_mode=False) as addresses:
        _, proof = prove(config_for(addresses))
    assert proof.verdict == "UNKNOWN"
    assert "VLLM_SERVER_DEV_MODE=1" in proof.reasons[0]


def test_hits_outlive_a_restart_of_the_engine(deployment: Deployment) -> None:
    service = {"restart_command": list(deployment.restart_command), "ready_timeout_s": 20}
    ending, proof = prove(config_for(deployment.addresses, service=service))
    assert (ending, proof.verdict) == (Ending.DONE, "PROVEN")
    restarted = proof.arms[3]
    assert restarted.facts.name == "restart hit"
    assert restarted.facts.sources.external == restarted.expected_external


def test_another_instance_finds_what_this_one_stored(deployment: Deployment) -> None:
    with deployment.second_engine() as url:
        _, proof = prove(config_for(deployment.addresses, service={"second_url": url}))
    assert proof.verdict == "PROVEN"
    second = proof.arms[3]
    assert second.facts.name == "cross-instance hit"
    assert second.facts.sources.external == second.expected_external


def test_a_restart_that_fails_ends_the_proof_with_its_last_words(with_cache: Addresses) -> None:
    command = [sys.executable, "-c", "import sys; print('no such unit'); sys.exit(5)"]
    ending, told = tell(config_for(with_cache, service={"restart_command": command}))
    assert ending == Ending.NOT_FINISHED
    assert told.failure.endswith("ended with 5: no such unit")


def test_prompts_that_are_too_long_for_the_engine_are_refused() -> None:
    with emulated(max_model_len=600) as addresses:
        ending, told = tell(config_for(addresses))
    assert ending == Ending.WRONG_INPUT
    assert "prompts of 640 tokens are needed" in told.failure


def test_a_chunk_that_no_server_tells_is_configured(with_cache: Addresses) -> None:
    _, proof = prove(config_for(with_cache, service={"chunk_tokens": 64}))
    assert (proof.setup.chunk_tokens, proof.setup.chunk_told_by) == (64, "service.chunk_tokens")


def test_the_document_holds_what_the_table_shows(with_cache: Addresses, capsys: pytest.CaptureFixture[str]) -> None:
    ending = run(config_for(with_cache), reporter=proof_reporter(json=True))
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert (ending, document["schema"], document["verdict"]) == (Ending.DONE, 1, "PROVEN")
    assert [arm["name"] for arm in document["arms"]] == ["cold", "device hit", "external hit"]
    external = document["arms"][2]
    assert external["by_source"]["external"] == external["expected_external"]
    assert external["store"]["read_bytes"]["value"] == external["store"]["expected_bytes"]
    assert "PROVEN: " in printed.err


def test_the_key_is_in_no_output(with_cache: Addresses) -> None:
    _, proof = prove(config_for(with_cache))
    assert "sk-very-secret" not in proof_as_json(proof)
