"""Small runs with figures that can be checked by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kvkit.results.record import Record
from kvkit.results.stats import (
    Counters,
    Engine,
    Mode,
    Provenance,
    RoundSummary,
    RunStats,
    TokensBySource,
    WorkloadFacts,
)
from kvkit.results.store import open_run
from kvkit.results.summary import run_validity, summarise_round
from kvkit.results.tally import Tally

STARTED = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)


def success(request_id: str = "a", number: int = 1, *, start_s: float = 0.0, ttft_s: float = 1.0) -> Record:
    """Three tokens in three events: TTFT, then gaps of 10 and 30 ms. TPOT is their mean, 20 ms; E2E = TTFT + 40 ms."""
    return Record(
        request_id=request_id,
        round=number,
        group="document-0",
        scheduled_s=start_s,
        start_s=start_s,
        ttft_s=ttft_s,
        first_text_s=ttft_s,
        e2e_s=ttft_s + 0.04,
        itl_s=(0.01, 0.03),
        expected_prompt_tokens=1000,
        prompt_tokens=1001,
        cached_tokens=0 if number == 1 else 768,
        completion_tokens=3,
        finish_reason="length",
        ok=True,
        http_status=200,
    )


def failure(request_id: str = "a", number: int = 1, *, status: int = 429, words: str = "slow down") -> Record:
    return Record(
        request_id=request_id,
        round=number,
        group="document-0",
        scheduled_s=0.0,
        start_s=0.0,
        expected_prompt_tokens=1000,
        error_kind="http_error",
        http_status=status,
        error=words,
    )


def summary(records: Sequence[Record], number: int = 1, **overrides: Any) -> RoundSummary:
    arguments: dict[str, Any] = {
        "isolation": "device",
        "by_source": TokensBySource(computed=1001 * len(records), device=0, external=0),
        "counters": Counters(),
        "valid": True,
        "invalid_reasons": (),
        "max_failed_ratio": 0.5,
        "ideal_hit_ratio": 0.0 if number == 1 else 0.999,
    }
    limit = overrides.pop("limit", None)
    tally = Tally(objectives=overrides.pop("objectives", None))
    for record in records:
        tally.add(record)
    made = summarise_round(tally, number=number, **(arguments | overrides))
    return made.model_copy(update={"limit": limit})


def run_stats(mode: Mode, rounds: Sequence[RoundSummary], **overrides: Any) -> RunStats:
    valid, reasons = run_validity(rounds)
    arguments: dict[str, Any] = {
        "run_id": "3f2a90cc",
        "scenario": "cold_start",
        "config": {"model": {"name": "tiny"}, "test": {"concurrency": None}},
        "provenance": provenance(),
        "workload": workload(),
        "records": "requests.jsonl",
    }
    return RunStats(mode=mode, valid=valid, invalid_reasons=reasons, rounds=tuple(rounds), **(arguments | overrides))


def provenance(started: datetime = STARTED, **engine: Any) -> Provenance:
    told = {"version": "0.32.0", "model": "tiny", "connector": "none", "flags": {"block_size": 128}}
    return Provenance(
        kvkit_version="0.1.0",
        python="3.11.7",
        host="loadgen-1",
        started=started,
        seed=7,
        engine=Engine(**(told | engine)),
    )


def workload(fingerprint: str = "sha256:11", **parameters: Any) -> WorkloadFacts:
    return WorkloadFacts(
        fingerprint=fingerprint,
        scenario="cold_start",
        parameters={"prefix_tokens": 1000, "seed": 7} | parameters,
        ideal_hit_ratio=0.0,
        requests=2,
    )


def write_run(folder: Path, stats: RunStats, records: Sequence[Record]) -> Path:
    """Keep a run as `kvkit run` does; the path of its stats file."""
    with open_run(folder, stats.mode, stats.scenario, stats.provenance.started) as files:
        for record in records:
            files.add(record)
        return files.write_stats(stats.model_copy(update={"records": files.requests_path.name}))


SPREAD = (0.93, 0.95, 0.97, 0.99, 1.01, 1.03, 1.05, 1.07)
"""Times of eight requests around their mean, which is their median too."""


def eight(number: int, ttft_s: float, *, turned: int = 0) -> list[Record]:
    """Eight requests, one after the other, of `ttft_s` in the mean; `turned` hands the spread to other requests."""
    records: list[Record] = []
    start_s = 0.0
    for name, share in zip("abcdefgh", SPREAD[turned:] + SPREAD[:turned], strict=True):
        records.append(success(name, number, start_s=start_s, ttft_s=ttft_s * share))
        start_s += ttft_s * share + 0.04
    return records


def write_pair_of_runs(
    folder: Path,
    *,
    hit_ttft_s: float = 0.25,
    hit: dict[str, Any] | None = None,
    seed: int = 7,
    started: datetime = STARTED,
    **overrides: Any,
) -> None:
    """Both modes of one scenario: eight requests, two rounds, one after the other.

    Everything takes 1 s to the first token in the mean but the with-cache hits, which take `hit_ttft_s`. `hit` changes
    the summary of the with-cache hit round, `overrides` the with-cache stats. Another `seed` is another workload.
    """
    sent = workload(f"sha256:{seed}", seed=seed)
    cold, computed = eight(1, 1.0), eight(2, 1.0, turned=3)
    rounds = [summary(cold), summary(computed, 2)]
    baseline = run_stats("baseline", rounds, workload=sent, provenance=provenance(started))
    write_run(folder, baseline, cold + computed)

    fast = eight(2, hit_ttft_s, turned=5)
    loaded = {
        "by_source": TokensBySource(computed=1864, device=0, external=6144),
        "counters": Counters(
            vllm={"vllm:external_prefix_cache_hits_total": 6144.0},
            lmcache={"lmcache_mp_lookup_hit_l2_tokens_total": 6144.0},
            mooncake={"mem_cache_hit_nums_": 24.0, "mem_cache_hit_bytes_total": 25165824.0},
        ),
    }
    rounds = [summary(cold), summary(fast, 2, **(loaded | (hit or {})))]
    told = {"workload": sent, "provenance": provenance(started, connector="LMCacheMPConnector")}
    write_run(folder, run_stats("with-cache", rounds, **(told | overrides)), cold + fast)


def write_pair_with_objectives(folder: Path, with_cache: dict[str, float], baseline: dict[str, float]) -> None:
    """Hits take 200 ms, all else a second, each ± 7 %."""
    for mode, objectives, hit_ttft_s in (("with-cache", with_cache, 0.2), ("baseline", baseline, 1.0)):
        records = eight(1, 1.0) + eight(2, hit_ttft_s)
        rounds = [summary(records[:8], objectives=objectives), summary(records[8:], 2, objectives=objectives)]
        write_run(folder, run_stats(mode, rounds), records)  # type: ignore[arg-type]


def write_attempt(
    sweep: Path,
    settings: dict[str, Any],
    *,
    mode: Mode = "with-cache",
    hit_ttft_s: float = 0.25,
    turned: int = 0,
    minute: int = 0,
    outcome: str = "measured",
    reason: str = "",
    scenarios: Sequence[str] = ("cold_start",),
    records: Sequence[Record] | None = None,
    **overrides: Any,
) -> Path:
    """One attempt at a candidate, begun `minute` minutes after `STARTED`; its folder.

    Where it was measured, it has eight requests a scenario, which take 1 s in round 1 and `hit_ttft_s` in round 2.
    `records` are others in their place, of rounds 1 and 2.
    """
    started = STARTED + timedelta(minutes=minute)
    key = hashlib.sha256(json.dumps([mode, settings]).encode()).hexdigest()[:12]
    folder = sweep / f"{key}_{minute}"
    folder.mkdir(parents=True)
    told = {"schema": 1, "key": key, "mode": mode, "settings": settings, "outcome": outcome, "reason": reason}
    (folder / "candidate.json").write_text(json.dumps(told | {"started": started.isoformat()}))
    if outcome not in {"measured", "invalid"}:
        return folder
    sent = list(records or eight(1, 1.0) + eight(2, hit_ttft_s, turned=turned))
    numbers = sorted({record.round for record in sent})
    judged = {"valid": outcome == "measured", "invalid_reasons": (reason,) if reason else ()}
    rounds = [summary([record for record in sent if record.round == number], number, **judged) for number in numbers]
    for scenario in scenarios:
        facts = {"scenario": scenario, "workload": workload(f"sha256:{minute}", seed=minute)}
        stats = run_stats(mode, rounds, **({"provenance": provenance(started)} | facts | overrides))
        write_run(folder, stats, sent)
    return folder
