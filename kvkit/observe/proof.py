"""Is the shared KV cache in use? What the arms of a proof saw, held against what each must show. Pure.

The arms and what must hold in them are described in `docs/proof.md`. Tokens, bytes and texts decide, never times: a
repeat is fast without any store, because the engine's own prefix cache serves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Literal

from kvkit.observe.traffic import StoreTraffic
from kvkit.observe.validity import SHARED_HEAD_TOKENS
from kvkit.observe.vllm import Sources

ArmName = Literal["cold", "device hit", "external hit", "restart hit", "cross-instance hit"]
Verdict = Literal["PROVEN", "NOT ENGAGED", "BROKEN", "UNKNOWN"]
TextMatch = Literal["as cold", "as device hit", "differs"]

FROM_THE_STORE: tuple[ArmName, ...] = ("external hit", "restart hit", "cross-instance hit")
"""Arms whose hits only the store can have served."""

BYTES_TOLERANCE = 0.05
"""Bytes read may be so much fewer than expected, as a share. Expected bytes come from what the cold arm wrote, and a
connector may have written a block of the answer too. Tokens have no tolerance."""

_SEVERITY: tuple[Verdict, ...] = ("BROKEN", "NOT ENGAGED", "UNKNOWN")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is known of the deployment. `None`: not told."""

    connector: str | None
    """The connector's class, `none` where the engine says that it has none."""
    chunk_tokens: int | None
    """Tokens under one key of the store: only whole chunks are stored and found."""
    chunk_told_by: str
    """Who told it, or why it is not known."""


@dataclass(frozen=True, slots=True)
class ArmFacts:
    """What was seen of one arm: the same requests, one after the other."""

    name: ArmName
    requests: int = 0
    failures: tuple[str, ...] = ()
    """How requests failed, in words."""
    prompt_tokens: tuple[int, ...] = ()
    """`usage.prompt_tokens` of each successful request."""
    ttft_s: tuple[float, ...] = ()
    texts: tuple[str | None, ...] = ()
    """The answers in the order of the prompts; `None` for a failed request."""
    sources: Sources = field(default_factory=Sources)
    first_device: int | None = None
    """Tokens that the device cache served of the first request: 0 proves that it was empty."""
    traffic: StoreTraffic = field(default_factory=StoreTraffic)
    failed_loads: int = 0
    incidents: tuple[str, ...] = ()
    """What went wrong around the arm: a cache that was not cleared, a store that did not come to rest."""
    unknown: str | None = None
    """Why the engine's counters are not known, where they are not."""
    store_problem: str | None = None
    """Why the counters of a store or an LMCache server that is configured are not known."""
    skipped: str | None = None
    """Why the arm could not be run."""

    @property
    def mean_ttft_s(self) -> float | None:
        return sum(self.ttft_s) / len(self.ttft_s) if self.ttft_s else None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an arm showed."""

    verdict: Verdict | None
    """What it makes of the proof; `None`: worth saying, and no more."""
    reason: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """An arm and what is made of it."""

    facts: ArmFacts
    expected_external: int | None
    """Tokens that the store should have served; `None` where the arm is not about the store or the chunk is unknown."""
    expected_bytes: int | None
    """Bytes that should have been read from the store, at the cold arm's bytes per token."""
    text: TextMatch | None
    """`None`: there is nothing to compare."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    setup: Setup
    arms: tuple[Arm, ...]
    verdict: Verdict
    reasons: tuple[str, ...]
    """The first one decided."""
    mend: str
    """What to do; empty when it is proven."""


def judge(setup: Setup, arms: Sequence[ArmFacts]) -> Proof:
    """Come to a verdict. `arms` begin with the cold one and the device hit."""
    cold, device, *_ = arms
    judged = tuple(_judge_arm(setup, facts, cold, device) for facts in arms)
    weighing = [finding for arm in judged for finding in arm.findings if finding.verdict is not None]
    if not any(arm.facts.name in FROM_THE_STORE and arm.facts.skipped is None for arm in judged):
        weighing.append(_nothing_cleared(arms))
    if not weighing:
        return Proof(setup, judged, "PROVEN", (_proven(judged),), "")
    worst = min(weighing, key=lambda finding: _SEVERITY.index(finding.verdict or "UNKNOWN"))
    others = [finding.reason for finding in weighing if finding is not worst]
    assert worst.verdict is not None
    return Proof(setup, judged, worst.verdict, (worst.reason, *dict.fromkeys(others)), worst.mend)


def _judge_arm(setup: Setup, facts: ArmFacts, cold: ArmFacts, device: ArmFacts) -> Arm:
    expected = _expected_external(setup, facts)
    expected_bytes = _expected_bytes(setup, facts, cold)
    text = _compare_texts(facts, cold, device)
    if facts.skipped is not None:
        findings = [Finding(None, f"{facts.name}: not run: {facts.skipped}")]
    elif common := _disturbed(facts):
        findings = [common]
    elif facts.name == "cold":
        findings = _cold(facts)
    elif facts.name == "device hit":
        findings = _device_hit(facts)
    else:
        findings = _from_the_store(setup, facts, (cold, device), expected, expected_bytes)
        if text == "differs":
            findings = [*findings, _other_text(facts)]
    return Arm(facts, expected, expected_bytes, text, tuple(findings))


def _disturbed(facts: ArmFacts) -> Finding | None:
    """What makes an arm say nothing about the cache, or everything."""
    if facts.failures:
        loads = f", {facts.failed_loads} loads of KV from the store too" if facts.failed_loads else ""
        return Finding(
            "BROKEN",
            f"{facts.name}: {len(facts.failures)} of {facts.requests} requests failed{loads}: {facts.failures[0]}",
            "read the logs of vLLM and the store with kvkit doctor --log FILE",
        )
    if facts.failed_loads:
        return Finding(
            "BROKEN",
            f"{facts.name}: {facts.failed_loads} loads of KV from the store failed",
            "read the logs of vLLM and the store with kvkit doctor --log FILE; look at the store with kvkit preflight",
        )
    if facts.sources.total is None:
        why = facts.unknown or "it has no counters that tell"
        return Finding(
            "UNKNOWN",
            f"{facts.name}: where the prompt tokens came from is not known: {why}",
            "name the engine's own address in openai_api.instances if base_url is a proxy's; vLLM tells since 0.12",
        )
    if facts.sources.total != sum(facts.prompt_tokens):
        return Finding(
            "UNKNOWN",
            f"{facts.name}: the engine counted {facts.sources.total} prompt tokens, the answers "
            f"{sum(facts.prompt_tokens)}: others use the engine, or not all of it is listed",
            "prove it while nobody else uses the engine; list every vLLM behind base_url in openai_api.instances",
        )
    if facts.incidents:
        return Finding("UNKNOWN", f"{facts.name}: {facts.incidents[0]}", "mend what stood in the way, and run it again")
    return None


def _cold(facts: ArmFacts) -> list[Finding]:
    cached = (facts.sources.device or 0) + (facts.sources.external or 0)
    if cached <= SHARED_HEAD_TOKENS * facts.requests:
        return []
    return [
        Finding(
            "UNKNOWN",
            f"cold: {cached} of {facts.sources.total} prompt tokens were cached, of prompts that nobody ever sent",
            "is there something between kvkit and the engine that changes prompts, or a cache that ignores their text?",
        )
    ]


def _device_hit(facts: ArmFacts) -> list[Finding]:
    if facts.sources.device and not facts.sources.external:
        return []
    return [
        Finding(
            None,
            f"device hit: the engine's own prefix cache served {facts.sources.device} tokens and the store "
            f"{facts.sources.external}: it is off, too small for the prompts, or the repeat went to another instance",
        )
    ]


def _from_the_store(
    setup: Setup,
    facts: ArmFacts,
    before: tuple[ArmFacts, ArmFacts],
    expected: int | None,
    expected_bytes: int | None,
) -> list[Finding]:
    name, external, device = facts.name, facts.sources.external or 0, facts.sources.device or 0
    if facts.first_device or device > SHARED_HEAD_TOKENS * facts.requests:
        return [
            Finding(
                "UNKNOWN",
                f"{name}: the device cache was not empty: it served {device} of {facts.sources.total} prompt tokens",
                "clearing it did not reach every instance: list them all in openai_api.instances",
            )
        ]
    if external == 0:
        return [_nothing_came(setup, facts, *before)]
    if expected is None:
        return [
            Finding(
                "UNKNOWN",
                f"{name}: {external} tokens came from the connector, and how many should have is not known: "
                f"{setup.chunk_told_by}",
                "set service.chunk_tokens",
            )
        ]
    if external + device < expected:
        return [
            Finding(
                "BROKEN",
                f"{name}: {external} of {expected} stored prompt tokens came back{_store_silent(facts)}",
                "was the store full (kvkit doctor --metrics of its master), or did a part of it go away?",
            )
        ]
    return _not_by_the_store(facts, expected_bytes)


def _not_by_the_store(facts: ArmFacts, expected_bytes: int | None) -> list[Finding]:
    name, external, read = facts.name, facts.sources.external, facts.traffic.read_bytes
    if facts.traffic.read_something is None:
        return [
            Finding(
                "UNKNOWN",
                f"{name}: {external} tokens came from the connector, and nobody tells whether the store gave them"
                f"{_store_silent(facts)}",
                "give the address of the store's counters (mooncake) or of LMCache's server (lmcache.url)",
            )
        ]
    if not facts.traffic.read_something:
        return [
            Finding(
                "BROKEN",
                f"{name}: {external} tokens came from the connector, and the store gave nothing: "
                "another tier served them",
                "turn off LMCache's own memory as a tier (local_cpu: false), or name its server in lmcache.url, "
                "so that it is cleared",
            )
        ]
    if read is not None and expected_bytes is not None and read.value < expected_bytes * (1 - BYTES_TOLERANCE):
        return [
            Finding(
                "BROKEN",
                f"{name}: {read.value} bytes were read from the store ({read.counter}), {expected_bytes} were expected",
                "another tier served the rest: turn off LMCache's own memory as a tier (local_cpu: false), or name its "
                "server in lmcache.url, so that it is cleared",
            )
        ]
    return []


def _nothing_came(setup: Setup, facts: ArmFacts, cold: ArmFacts, device: ArmFacts) -> Finding:
    written, name = cold.traffic.written_bytes, facts.name
    if setup.connector == "none":
        return Finding(
            "NOT ENGAGED",
            f"{name}: the engine has no KV connector{_fast_all_the_same(cold, device)}",
            "start vLLM with --kv-transfer-config (the playbooks: -e kv_mode=with-cache)",
        )
    if written is not None and written.value > 0:
        return Finding(
            "BROKEN",
            f"{name}: the cold arm stored {written.value} bytes ({written.counter}), and nothing came back"
            f"{_store_silent(facts)}",
            "is the store still there, has its memory an owner that outlives the engine, and do all processes have the "
            "same PYTHONHASHSEED and hash algorithm? kvkit preflight looks",
        )
    connector = setup.connector or "whatever connector there is"
    stored = "whether it stored anything is not told" if written is None else "it stored nothing either"
    return Finding(
        "NOT ENGAGED",
        f"{name}: {connector} delivered nothing, and {stored}{_fast_all_the_same(cold, device)}",
        "read vLLM's log with kvkit doctor --log FILE (a degraded connector serves and says nothing); check its "
        "configuration with kvkit preflight --lmcache-config FILE",
    )


def _fast_all_the_same(cold: ArmFacts, device: ArmFacts) -> str:
    """The trap that this command exists for, said where it was met."""
    before, after = cold.mean_ttft_s, device.mean_ttft_s
    if not device.sources.device or before is None or after is None or after >= before:
        return ""
    return (
        f"; the repeat was fast all the same (TTFT {after * 1000:.0f} ms after {before * 1000:.0f} ms), "
        "by the engine's own prefix cache"
    )


def _other_text(facts: ArmFacts) -> Finding:
    return Finding(
        "BROKEN",
        f"{facts.name}: the answer's text is neither the cold arm's nor the device hit's: the KV that came back is not "
        "the KV that was stored",
        "do not use this store: look for another model, dtype or revision under the same keys, and for errors of the "
        "network or memory (MOONCAKE_STORE_CHECKSUM=1)",
    )


def _nothing_cleared(arms: Iterable[ArmFacts]) -> Finding:
    why = next((arm.skipped for arm in arms if arm.skipped is not None), "no such arm was run")
    return Finding(
        "UNKNOWN",
        f"no arm could show that the store serves: {why}",
        "start vLLM with VLLM_SERVER_DEV_MODE=1, or set service.restart_command or service.second_url",
    )


def _store_silent(facts: ArmFacts) -> str:
    return f"; it does not answer: {facts.store_problem}" if facts.store_problem else ""


def _proven(arms: Iterable[Arm]) -> str:
    shown = [arm.facts for arm in arms if arm.facts.name in FROM_THE_STORE and arm.facts.skipped is None]
    each = ", ".join(f"{facts.name} {facts.sources.external} of {facts.sources.total}" for facts in shown)
    return f"the store served what it should ({each} prompt tokens), and the answers' texts are the same"


def _expected_external(setup: Setup, facts: ArmFacts) -> int | None:
    """Whole chunks below each prompt's last token, which is always computed."""
    chunk = setup.chunk_tokens
    if chunk is None or facts.name not in FROM_THE_STORE or not facts.prompt_tokens:
        return None
    return sum((tokens - 1) // chunk * chunk for tokens in facts.prompt_tokens)


def _expected_bytes(setup: Setup, facts: ArmFacts, cold: ArmFacts) -> int | None:
    expected, written, chunk = _expected_external(setup, facts), cold.traffic.written_bytes, setup.chunk_tokens
    if expected is None or chunk is None or written is None or written.value <= 0:
        return None
    stored = sum(tokens // chunk * chunk for tokens in cold.prompt_tokens)
    from_the_store = expected - (facts.sources.device or 0)
    return round(written.value / stored * from_the_store) if stored else None


def _compare_texts(facts: ArmFacts, cold: ArmFacts, device: ArmFacts) -> TextMatch | None:
    """The numerics of a prefill and of a cached prefix may differ, those of the same cached prefix may not."""
    if facts.name == "cold":
        return None
    matches: set[TextMatch] = set()
    for text, computed, repeated in zip_longest(facts.texts, cold.texts, device.texts):
        if text is None or computed is None:
            continue
        if text == computed:
            matches.add("as cold")
        elif text == repeated and facts.name != "device hit":
            matches.add("as device hit")
        else:
            matches.add("differs")
    return next((match for match in ("differs", "as device hit", "as cold") if match in matches), None)
