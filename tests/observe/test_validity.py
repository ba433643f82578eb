"""The gates of a round. Each case below differs from a good round in what it names, and breaks one promise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvkit.observe.validity import RoundFacts, Verdict, judge
from kvkit.observe.vllm import Sources

UNKNOWN = Sources()
COLD = RoundFacts(
    with_cache=True,
    number=1,
    device_cleared=True,
    requests=10,
    failed=0,
    ideal_hit_ratio=0.5,
    stated_prompt_tokens=100_000,
    usage_prompt_tokens=100_000,
    cached_tokens=None,
    sources=Sources(computed=50_000, device=50_000, external=0),
    preemptions=0,
    failed_by_engine=0,
    failed_loads=0,
    store_read=None,
    incidents=(),
    unknown=None,
)
HIT = replace(COLD, number=2, sources=Sources(computed=1_000, device=50_000, external=49_000))
BASELINE_COLD = replace(COLD, with_cache=False)
BASELINE_REPEAT = replace(BASELINE_COLD, number=2)


@pytest.mark.parametrize(
    "good",
    [
        COLD,
        HIT,
        BASELINE_COLD,
        BASELINE_REPEAT,
        # The template's head is shared by all prompts: 64 tokens a request are no sign of earlier prompts.
        replace(COLD, sources=Sources(49_360, 50_640, 0)),
        # Without clearing, the baseline's own prefix cache may serve all of round 2.
        replace(BASELINE_REPEAT, device_cleared=False, sources=Sources(1_000, 99_000, 0)),
        # Both sources at once is a hit, if external rose at all.
        replace(HIT, device_cleared=False, sources=Sources(1_000, 98_000, 1_000)),
        # Requests that failed may or may not have been counted.
        replace(HIT, failed=1, stated_prompt_tokens=90_000, usage_prompt_tokens=90_000),
        # The store says that it gave something.
        replace(HIT, store_read=True),
        # Nothing was to be read: in a cold round, without the cache, or where nothing was cleared.
        replace(COLD, store_read=False, sources=Sources(50_000, 49_000, 1_000)),
        replace(BASELINE_REPEAT, store_read=False),
        replace(HIT, store_read=False, device_cleared=False, sources=Sources(1_000, 98_000, 1_000)),
        # Prompts may miss their stated length by 1 %.
        replace(HIT, stated_prompt_tokens=101_010),
        # No request succeeded: nothing to say here, the failures are counted elsewhere.
        replace(HIT, failed=10, stated_prompt_tokens=0, usage_prompt_tokens=0, sources=Sources(0, 0, 0)),
    ],
)
def test_a_round_that_keeps_its_promises_is_valid(good: RoundFacts) -> None:
    assert judge(good) == Verdict(True, ())


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            replace(HIT, device_cleared=False, sources=Sources(1_000, 99_000, 0)),
            "no cache hit: 0 of 100000 prompt tokens came from the external store; "
            "the engine's own prefix cache served 99000: clear it with --isolation device",
        ),
        (
            replace(HIT, sources=Sources(100_000, 0, 0)),
            "no cache hit: 0 of 100000 prompt tokens came from the external store: is the connector loaded, "
            "did round 1 store anything, are prompts longer than a chunk of the cache?",
        ),
        (
            replace(BASELINE_REPEAT, sources=Sources(50_000, 49_999, 1)),
            "1 prompt tokens came from an external store in the baseline: start the engine without the connector",
        ),
        (
            replace(COLD, sources=Sources(49_359, 50_000, 641)),
            "not cold: 50641 of 100000 prompt tokens were cached, 50% are the most that this workload shares: "
            "prompts were sent before, use another --seed",
        ),
        (
            replace(HIT, sources=Sources(1_000, 50_641, 48_359)),
            "the engine's own prefix cache served 50641 of 100000 prompt tokens although it was cleared: "
            "clearing did not reach all of it",
        ),
        (
            replace(HIT, usage_prompt_tokens=99_999),
            "the engine counted 100000 prompt tokens, the answers 99999: "
            "others use the engine, or openai_api.instances does not list every vLLM behind the address",
        ),
        (
            replace(HIT, stated_prompt_tokens=98_000),
            "the prompts have 100000 tokens, the workload states 98000: the engine counted differently when it was "
            "asked before the run; does something between kvkit and the engine change the prompts?",
        ),
        (
            replace(HIT, preemptions=3),
            "3 preemptions in the engine: it ran out of KV blocks, lower the concurrency",
        ),
        (replace(HIT, failed_by_engine=2), "2 requests that the engine counts as failed"),
        (replace(HIT, failed_loads=1), "1 failed loads of KV from the external store"),
        (
            replace(HIT, store_read=False),
            "49000 prompt tokens came from the connector, and the store gave nothing: another tier served them, "
            "turn LMCache's own memory off (local_cpu: false) or name its server in lmcache.url",
        ),
        (
            replace(HIT, incidents=("isolation device: not cleared: HTTP 500",)),
            "isolation device: not cleared: HTTP 500",
        ),
    ],
)
def test_a_broken_promise_makes_the_round_invalid_with_its_numbers(broken: RoundFacts, reason: str) -> None:
    assert judge(broken) == Verdict(False, (reason,))


def test_every_broken_promise_is_named() -> None:
    verdict = judge(replace(HIT, preemptions=1, failed_loads=2, incidents=("not quiet",)))
    assert verdict.valid is False
    assert len(verdict.reasons) == 3


def test_without_counters_a_round_is_neither_valid_nor_invalid() -> None:
    assert judge(replace(HIT, sources=UNKNOWN, unknown="http://h/metrics: HTTP 404")) == Verdict(
        None, ("where the prompt tokens came from is not known: http://h/metrics: HTTP 404",)
    )


def test_counters_that_do_not_split_sources_leave_a_round_unknown() -> None:
    assert judge(replace(HIT, sources=UNKNOWN)) == Verdict(
        None, ("where the prompt tokens came from is not known: the engine has no such counters",)
    )


def test_without_counters_the_answers_still_tell_that_a_round_was_not_cold() -> None:
    verdict = judge(replace(COLD, sources=UNKNOWN, cached_tokens=99_000))
    assert verdict.valid is False
    assert verdict.reasons[0].startswith("not cold: 99000 of 100000 prompt tokens were cached")
