"""Does a round show what it was meant to show? Decided by tokens and counts, never by time."""

from __future__ import annotations

from dataclasses import dataclass

from kvkit.observe.vllm import Sources

SHARED_HEAD_TOKENS = 64
"""Per request: what a chat template puts before every prompt is cached after the first request (Qwen2.5's own system
prompt has about 20 tokens, GPU blocks have 16). So many cached tokens are no sign that a prompt was sent before."""

LENGTH_TOLERANCE = 0.01
"""How far the prompts may be from their stated length, as a share of it."""


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What is known of one round after it."""

    with_cache: bool
    """The service was started with the cache under test."""
    number: int
    """1 is the cold start."""
    device_cleared: bool
    """The engine's own prefix cache was to be cleared before the round, or the engine restarted before a later one."""
    requests: int
    failed: int
    """Requests that failed, as the client saw them."""
    ideal_hit_ratio: float
    """Prompt tokens of round 1 that an infinite cache would serve, over all prompt tokens."""
    stated_prompt_tokens: int | None
    """Sum of the prompt tokens that the workload states, over the successful requests; `None`: it could not."""
    usage_prompt_tokens: int
    """Sum of `usage.prompt_tokens` over the successful requests."""
    cached_tokens: int | None
    """Sum of `usage.prompt_tokens_details.cached_tokens`: device plus external."""
    sources: Sources
    """By the engine's counters."""
    preemptions: int
    failed_by_engine: int
    failed_loads: int
    store_read: bool | None
    """Whether the store gave anything during the round; `None`: neither it nor LMCache tells."""
    incidents: tuple[str, ...]
    """What went wrong around the round: a reset that failed, a store that did not come to rest."""
    unknown: str | None
    """Why the engine's counters are not known, where they are not."""
    cut_off: str | None = None
    """What is not known of the rest of the round, where it was cut off and this is only its last part."""


@dataclass(frozen=True, slots=True)
class Verdict:
    valid: bool | None
    """`None`: the servers tell too little to say."""
    reasons: tuple[str, ...]


def judge(facts: RoundFacts) -> Verdict:
    """Hold a round against what its arm promises."""
    found = [
        *facts.incidents,
        *_disturbances(facts),
        *_stated_lengths(facts),
        *_foreign_traffic(facts),
        *(_cold(facts) if facts.number == 1 else _hit(facts)),
        *_reset_kept_its_word(facts),
        *_by_the_store(facts),
        *_baseline(facts),
    ]
    cut_off = () if facts.cut_off is None else (facts.cut_off,)
    if found:
        return Verdict(False, (*found, *cut_off))
    if cut_off:
        return Verdict(None, cut_off)
    if facts.sources.total is None:
        why = facts.unknown or "the engine has no such counters"
        return Verdict(None, (f"where the prompt tokens came from is not known: {why}",))
    return Verdict(True, ())


def _disturbances(facts: RoundFacts) -> list[str]:
    counts = (
        (facts.preemptions, "preemptions in the engine: it ran out of KV blocks, lower the concurrency"),
        (facts.failed_by_engine, "requests that the engine counts as failed"),
        (facts.failed_loads, "failed loads of KV from the external store"),
    )
    return [f"{count} {words}" for count, words in counts if count > 0]


def _stated_lengths(facts: RoundFacts) -> list[str]:
    stated, used = facts.stated_prompt_tokens, facts.usage_prompt_tokens
    if stated is None or abs(used - stated) <= LENGTH_TOLERANCE * stated:
        return []
    return [
        f"the prompts have {used} tokens, the workload states {stated}: the engine counted differently when it was "
        "asked before the run; does something between kvkit and the engine change the prompts?"
    ]


def _foreign_traffic(facts: RoundFacts) -> list[str]:
    counted = facts.sources.total
    # A failed request may or may not have been counted before it failed.
    if counted is None or facts.failed or counted == facts.usage_prompt_tokens:
        return []
    return [
        f"the engine counted {counted} prompt tokens, the answers {facts.usage_prompt_tokens}: "
        "others use the engine, or openai_api.instances does not list every vLLM behind the address"
    ]


def _cold(facts: RoundFacts) -> list[str]:
    cached, total = _cached_and_total(facts)
    # The parts before may have stored what this one shares with them.
    if facts.cut_off is not None or cached is None or cached <= _expected_sharing(facts, total):
        return []
    return [
        f"not cold: {cached} of {total} prompt tokens were cached, {facts.ideal_hit_ratio:.0%} are the most that "
        "this workload shares: prompts were sent before, use another --seed"
    ]


def _hit(facts: RoundFacts) -> list[str]:
    device, total = facts.sources.device or 0, facts.sources.total
    if not facts.with_cache or not total or facts.sources.external:
        return []
    words = f"no cache hit: 0 of {total} prompt tokens came from the external store"
    if device and not facts.device_cleared:
        return [f"{words}; the engine's own prefix cache served {device}: clear it with --isolation device"]
    return [
        f"{words}: is the connector loaded, did round 1 store anything, are prompts longer than a chunk of the cache?"
    ]


def _reset_kept_its_word(facts: RoundFacts) -> list[str]:
    device, total = facts.sources.device, facts.sources.total
    if not facts.device_cleared or facts.number == 1 or device is None or total is None:
        return []
    if device <= _expected_sharing(facts, total):
        return []
    return [
        f"the engine's own prefix cache served {device} of {total} prompt tokens although it was cleared: "
        "clearing did not reach all of it"
    ]


def _by_the_store(facts: RoundFacts) -> list[str]:
    """After clearing, the store is all that is left to hit, unless a tier that was not cleared lies before it."""
    external = facts.sources.external
    judged = facts.with_cache and facts.number > 1 and facts.device_cleared
    if not judged or not external or facts.store_read is not False:
        return []
    return [
        f"{external} prompt tokens came from the connector, and the store gave nothing: another tier served them, "
        "turn LMCache's own memory off (local_cpu: false) or name its server in lmcache.url"
    ]


def _baseline(facts: RoundFacts) -> list[str]:
    if facts.with_cache or not facts.sources.external:
        return []
    return [
        f"{facts.sources.external} prompt tokens came from an external store in the baseline: "
        "start the engine without the connector"
    ]


def _cached_and_total(facts: RoundFacts) -> tuple[int | None, int]:
    """Device plus external and all prompt tokens: by the engine's counters, else as the answers told."""
    total = facts.sources.total
    if total is None:
        return facts.cached_tokens, facts.usage_prompt_tokens
    return total - (facts.sources.computed or 0), total


def _expected_sharing(facts: RoundFacts, total: int) -> float:
    return facts.ideal_hit_ratio * total + SHARED_HEAD_TOKENS * facts.requests
