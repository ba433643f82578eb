"""Live counters of vLLM, an LMCache server or a Mooncake master, as one look tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kvkit.checks.finding import FAIL, PASS, WARN, Finding
from kvkit.checks.gather.web import get, samples

LIMIT_S = 10.0

EXTERNAL_QUERIES = "vllm:external_prefix_cache_queries_total"
EXTERNAL_HITS = "vllm:external_prefix_cache_hits_total"
FAILED_KEYS = "vllm:mooncake_store_operation_failed_keys_total"
PREEMPTIONS = "vllm:num_preemptions_total"
L2_HITS = "lmcache_mp_lookup_hit_l2_tokens_total"
LOOKUPS = "lmcache_mp_lookup_requested_tokens_total"
ALLOCATION_FAILURES = "master_put_start_alloc_failures_total"
CAPACITY = "master_total_capacity_bytes"

NAMES = (EXTERNAL_QUERIES, EXTERNAL_HITS, FAILED_KEYS, PREEMPTIONS, L2_HITS, LOOKUPS, ALLOCATION_FAILURES, CAPACITY)
KNOWN = ("vllm:", "lmcache", "master_")


class CountersError(Exception):
    """Counters cannot be read. The message is complete: print it as it is."""


@dataclass(frozen=True)
class CounterSymptom:
    """A known failure that counters tell; the attributes are those of a check."""

    id: str
    looks_at: str
    why: str
    mend: str
    status: str
    holds: Callable[[dict[str, float]], bool]


COUNTER_SYMPTOMS: tuple[CounterSymptom, ...] = (
    CounterSymptom(
        "counters.external.never_hit",
        f"{EXTERNAL_QUERIES} and {EXTERNAL_HITS} of vLLM.",
        "Tokens were looked up in the shared cache, and none was ever found there.",
        "kvkit preflight; then kvkit run, whose second round repeats the prompts of the first.",
        WARN,
        lambda told: told.get(EXTERNAL_QUERIES, 0) > 0 and told.get(EXTERNAL_HITS, 0) == 0,
    ),
    CounterSymptom(
        "counters.store.failed_keys",
        f"{FAILED_KEYS} of vLLM.",
        "Keys could not be stored or loaded; loads that fail were counted as hits before.",
        "Read the lines of Mooncake in vLLM's log: kvkit doctor --log FILE.",
        FAIL,
        lambda told: told.get(FAILED_KEYS, 0) > 0,
    ),
    CounterSymptom(
        "counters.preemptions",
        f"{PREEMPTIONS} of vLLM.",
        "Requests were thrown out for want of KV blocks and computed again: their TTFT says nothing about the cache.",
        "Fewer requests at once, shorter prompts, or more memory for KV.",
        WARN,
        lambda told: told.get(PREEMPTIONS, 0) > 0,
    ),
    CounterSymptom(
        "counters.lmcache.second_tier_never_hit",
        f"{LOOKUPS} and {L2_HITS} of an LMCache server.",
        "What hits, hits in the server's own memory: the store behind it was never of use.",
        "Clear the first tier between rounds (POST /cache/clear), or restart the server; look at /status.",
        WARN,
        lambda told: told.get(LOOKUPS, 0) > 0 and told.get(L2_HITS, 0) == 0,
    ),
    CounterSymptom(
        "counters.mooncake.store_full",
        f"{ALLOCATION_FAILURES} of a Mooncake master.",
        "The store had no room for keys: they were computed and not stored.",
        "Raise global_segment_size or add owners.",
        WARN,
        lambda told: told.get(ALLOCATION_FAILURES, 0) > 0,
    ),
    CounterSymptom(
        "counters.mooncake.no_segment",
        f"{CAPACITY} of a Mooncake master.",
        "Nobody gives memory to the store: every put fails.",
        "Start an owner (mooncake_client), or an engine that brings a segment.",
        FAIL,
        lambda told: told.get(CAPACITY, -1) == 0,
    ),
)


def look(url: str) -> Iterator[Finding]:
    """The findings of one metrics address.

    Raises:
        CountersError: nobody answers there, or with something that is no server of the stack.
    """
    answer = get(url, LIMIT_S)
    if answer["status"] != 200:
        reason = answer.get("error") or f"HTTP {answer['status']}"
        raise CountersError(f"{url}: no counters ({reason}); give the address of /metrics")
    if not any(prefix in answer["body"] for prefix in KNOWN):
        raise CountersError(f"{url}: answers, and not as vLLM, LMCache or Mooncake do; give the address of /metrics")
    told = samples(answer["body"], NAMES)
    found = False
    for symptom in COUNTER_SYMPTOMS:
        if symptom.holds(told):
            found = True
            values = ", ".join(f"{name} {told[name]:g}" for name in NAMES if name in told and name in symptom.looks_at)
            page = f"docs/checks/{symptom.id}.md"
            seen = f"{values}: {symptom.why}"
            yield Finding(symptom.id, symptom.status, seen, symptom.looks_at, symptom.mend, page, url)
    if not found:
        values = ", ".join(f"{name} {value:g}" for name, value in told.items())
        yield Finding("counters.evidence", PASS, values or "no counter of a failure", "", "", "", url)
