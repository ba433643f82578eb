"""The verdict on constructed arms. Each case differs from a proof in what it names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvkit.observe.proof import Arm, ArmFacts, Proof, Setup, Verdict, judge
from kvkit.observe.traffic import StoreTraffic, Told
from kvkit.observe.vllm import Sources

SETUP = Setup(connector="MooncakeStoreConnector", chunk_tokens=128, chunk_told_by="vLLM's KV block")

# Three prompts of 641 tokens: 5 chunks each, and one token behind them. 1,000 bytes a token.
PROMPT_TOKENS = (641, 641, 641)
TEXTS = ("a", "b", "c")
STORED, READ = "vllm:save_put", "vllm:load_get"
COLD = ArmFacts(
    "cold",
    requests=3,
    prompt_tokens=PROMPT_TOKENS,
    ttft_s=(3.0, 3.0, 3.0),
    texts=TEXTS,
    sources=Sources(1923, 0, 0),
    first_device=0,
    traffic=StoreTraffic(read_bytes=Told(0, READ), written_bytes=Told(1_920_000, STORED)),
)
DEVICE = replace(
    COLD,
    name="device hit",
    ttft_s=(0.1, 0.1, 0.1),
    sources=Sources(3, 1920, 0),
    first_device=640,
    traffic=StoreTraffic(read_bytes=Told(0, READ), written_bytes=Told(0, STORED)),
)
EXTERNAL = replace(
    DEVICE,
    name="external hit",
    sources=Sources(3, 0, 1920),
    first_device=0,
    traffic=StoreTraffic(read_bytes=Told(1_920_000, READ), written_bytes=Told(0, STORED)),
)
NOTHING = Sources(1923, 0, 0)
SILENT = StoreTraffic()


def prove(
    *further: ArmFacts, setup: Setup = SETUP, cold: ArmFacts = COLD, device: ArmFacts = DEVICE, **external: Any
) -> Proof:
    """The verdict where the arms are as given and the external hit has `external` changed."""
    return judge(setup, [cold, device, replace(EXTERNAL, **external), *further])


def external(proof: Proof) -> Arm:
    return proof.arms[2]


def test_a_proof_says_what_came_from_the_store() -> None:
    proof = prove()
    assert (proof.verdict, proof.mend) == ("PROVEN", "")
    assert proof.reasons == (
        "the store served what it should (external hit 1920 of 1923 prompt tokens), and the answers' texts are the "
        "same",
    )


def test_what_the_store_should_have_served_is_whole_chunks_below_the_last_token() -> None:
    arm = external(prove(cold=replace(COLD, prompt_tokens=(640, 641, 700)), prompt_tokens=(640, 641, 700)))
    # The last token is always computed, so of 640 tokens only 4 chunks can be served.
    assert arm.expected_external == 512 + 640 + 640


def test_bytes_expected_are_those_that_the_cold_arm_wrote_for_the_tokens_served() -> None:
    assert external(prove()).expected_bytes == 1_920_000
    # A template's head that the prompts share stays on the device.
    assert external(prove(sources=Sources(3, 32, 1888))).expected_bytes == 1_888_000


@pytest.mark.parametrize(
    "good",
    [
        # A template's head of 32 tokens is shared by the prompts: the second and third find it on the device.
        {"sources": Sources(3, 32, 1888), "first_device": 0},
        # A connector that stores what is behind the last chunk too.
        {"sources": Sources(0, 0, 1923)},
        # Others read the store at the same time, and the master counts for all.
        {"traffic": StoreTraffic(read_bytes=Told(9_000_000, "mem_cache_hit_bytes_total"))},
        # LMCache's server counts tokens, and nobody counts bytes.
        {"traffic": StoreTraffic(hit_tokens=Told(1920, "lmcache_mp_lookup_hit_l2_tokens_total"))},
        # The numerics of a cached prefix differ from a cold prefill's, in the device hit too.
        {"texts": ("a", "b", "d")},
    ],
)
def test_what_may_differ_in_a_proof(good: dict[str, Any]) -> None:
    assert prove(device=replace(DEVICE, texts=("a", "b", "d")), **good).verdict == "PROVEN"


def test_a_device_hit_that_another_tier_served_weighs_nothing() -> None:
    """Prefix caching may be off, or the device cache smaller than the prompts."""
    proof = prove(device=replace(DEVICE, sources=Sources(3, 0, 1920)))
    assert proof.verdict == "PROVEN"
    assert proof.arms[1].findings[0].reason.startswith("device hit: the engine's own prefix cache served 0 tokens")


BROKEN: list[tuple[dict[str, Any], str]] = [
    (
        {"failures": ("error_event: Internal server error",), "failed_loads": 1},
        "external hit: 1 of 3 requests failed, 1 loads of KV from the store too: error_event: Internal server error",
    ),
    ({"failed_loads": 2}, "external hit: 2 loads of KV from the store failed"),
    (
        {"sources": NOTHING},
        "external hit: the cold arm stored 1920000 bytes (vllm:save_put), and nothing came back",
    ),
    (
        {"sources": NOTHING, "store_problem": "http://master/metrics: no answer"},
        "external hit: the cold arm stored 1920000 bytes (vllm:save_put), and nothing came back; "
        "it does not answer: http://master/metrics: no answer",
    ),
    ({"sources": Sources(131, 0, 1792)}, "external hit: 1792 of 1920 stored prompt tokens came back"),
    (
        {"traffic": StoreTraffic(read_bytes=Told(0, READ), hit_tokens=Told(0, "l2"))},
        "external hit: 1920 tokens came from the connector, and the store gave nothing: another tier served them",
    ),
    (
        {"traffic": StoreTraffic(read_bytes=Told(1_800_000, READ))},
        "external hit: 1800000 bytes were read from the store (vllm:load_get), 1920000 were expected",
    ),
    (
        {"texts": ("a", "b", "x")},
        "external hit: the answer's text is neither the cold arm's nor the device hit's: the KV that came back is "
        "not the KV that was stored",
    ),
]


@pytest.mark.parametrize(("broken", "reason"), BROKEN)
def test_broken_is_a_store_that_does_not_give_back_what_it_got(broken: dict[str, Any], reason: str) -> None:
    proof = prove(**broken)
    assert (proof.verdict, proof.reasons[0]) == ("BROKEN", reason)
    assert proof.mend


def test_an_engine_without_a_connector_is_not_engaged_however_fast_its_repeat_is() -> None:
    nothing_stored = replace(COLD, traffic=StoreTraffic(written_bytes=Told(0, "master_allocated_bytes")))
    proof = prove(setup=replace(SETUP, connector="none"), cold=nothing_stored, sources=NOTHING, traffic=SILENT)
    assert (proof.verdict, proof.reasons) == (
        "NOT ENGAGED",
        (
            "external hit: the engine has no KV connector; the repeat was fast all the same (TTFT 100 ms after "
            "3000 ms), by the engine's own prefix cache",
        ),
    )


@pytest.mark.parametrize(
    ("written", "words"),
    [(Told(0, STORED), "it stored nothing either"), (None, "whether it stored anything is not told")],
)
def test_a_connector_that_delivers_nothing_is_not_engaged(written: Told | None, words: str) -> None:
    proof = prove(cold=replace(COLD, traffic=StoreTraffic(written_bytes=written)), sources=NOTHING)
    assert proof.verdict == "NOT ENGAGED"
    assert f"MooncakeStoreConnector delivered nothing, and {words}" in proof.reasons[0]


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    (
        {"sources": Sources(), "unknown": "http://h/metrics: HTTP 404"},
        "external hit: where the prompt tokens came from is not known: http://h/metrics: HTTP 404",
    ),
    (
        {"sources": Sources(3, 0, 2920)},
        "external hit: the engine counted 2923 prompt tokens, the answers 1923: "
        "others use the engine, or not all of it is listed",
    ),
    ({"incidents": ("not quiet after 300 s",)}, "external hit: not quiet after 300 s"),
    (
        {"first_device": 16, "sources": Sources(3, 16, 1904)},
        "external hit: the device cache was not empty: it served 16 of 1923 prompt tokens",
    ),
    (
        {"traffic": SILENT},
        "external hit: 1920 tokens came from the connector, and nobody tells whether the store gave them",
    ),
    (
        {"setup": replace(SETUP, chunk_tokens=None, chunk_told_by="the engine does not name its connector")},
        "external hit: 1920 tokens came from the connector, and how many should have is not known: "
        "the engine does not name its connector",
    ),
    ({"skipped": "HTTP 404"}, "no arm could show that the store serves: HTTP 404"),
    (
        {"cold": replace(COLD, sources=Sources(1283, 640, 0))},
        "cold: 640 of 1923 prompt tokens were cached, of prompts that nobody ever sent",
    ),
]


@pytest.mark.parametrize(("unknown", "reason"), UNKNOWN)
def test_unknown_is_what_nobody_tells(unknown: dict[str, Any], reason: str) -> None:
    proof = prove(**unknown)
    assert (proof.verdict, proof.reasons[0]) == ("UNKNOWN", reason)
    assert proof.mend


def test_a_further_arm_proves_where_the_device_cache_can_not_be_cleared() -> None:
    proof = prove(replace(EXTERNAL, name="restart hit"), skipped="HTTP 404")
    assert proof.verdict == "PROVEN"
    assert "restart hit 1920 of 1923" in proof.reasons[0]


def test_a_store_that_loses_everything_with_the_engine_is_broken() -> None:
    proof = prove(replace(EXTERNAL, name="restart hit", sources=NOTHING, traffic=SILENT))
    assert proof.verdict == "BROKEN"
    assert proof.reasons[0].startswith("restart hit: the cold arm stored 1920000 bytes")


@pytest.mark.parametrize(
    ("also", "verdict"),
    [({"sources": NOTHING}, "BROKEN"), ({"traffic": SILENT}, "UNKNOWN"), ({}, "PROVEN")],
)
def test_the_worst_arm_decides(also: dict[str, Any], verdict: Verdict) -> None:
    assert prove(replace(EXTERNAL, name="cross-instance hit", **also)).verdict == verdict
