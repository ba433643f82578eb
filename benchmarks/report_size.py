"""How large the HTML report of a large test is, and how long it takes to make.

    python benchmarks/report_size.py [--requests 10000] [--scenarios 1]

Makes up two modes of each scenario, two rounds each, with 32 tokens an answer and a look at the store each second, and
writes the report of them with `kvkit compare`, as a user does. Prints the size of the page and the seconds of the whole
command, of reading and comparing in it, and of making the page. Ends with 1 above 3 MB or 10 s for making the page.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from kvkit.report import html
from kvkit.report.files import write_reports
from kvkit.results.comparison import compare
from kvkit.results.record import Record
from kvkit.results.stats import (
    Counters,
    Engine,
    Figure,
    Mode,
    PhysicalLimit,
    Provenance,
    RoundSummary,
    RunStats,
    TokensBySource,
    Traffic,
    WorkloadFacts,
)
from kvkit.results.store import open_run
from kvkit.results.summary import run_validity, summarise_round
from kvkit.results.tally import Tally

MOST_MB = 3.0
MOST_S = 10.0

TOKENS = 32
PER_S = 20.0
TTFT_S = 1.2
HIT_TTFT_S = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description="Size and making of a large HTML report.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--scenarios", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for scenario in range(1, asked.scenarios + 1):
            for mode in ("with-cache", "baseline"):
                _write(folder, f"scenario_{scenario}", mode, asked.requests)
        began_s = time.monotonic()
        comparison = compare([f"{name}/with_cache_*_stats_*.json"], [f"{name}/baseline_*_stats_*.json"])
        compared_s = time.monotonic() - began_s
        page = folder / "report.html"
        began_s = time.monotonic()
        write_reports(comparison, [page], charts=False)
        page_s = time.monotonic() - began_s
        size_mb = page.stat().st_size / 1e6
    library_mb = len(html.library()) / 1e6
    print(f"{asked.requests:,} requests in each of two rounds and modes of {asked.scenarios} scenarios")
    print(f"page: {size_mb:.2f} MB, of which {library_mb:.2f} MB are the library that draws")
    print(f"reading and comparing: {compared_s:.1f} s, making the page: {page_s:.1f} s")
    sys.exit(int(size_mb > MOST_MB or page_s > MOST_S))


def _write(folder: Path, scenario: str, mode: Mode, requests: int) -> None:
    rng = random.Random(f"{scenario} {mode}")
    records = {number: list(_records(rng, mode, number, requests)) for number in (1, 2)}
    rounds = [_summary(mode, number, of_round) for number, of_round in records.items()]
    valid, reasons = run_validity(rounds)
    started = datetime.now(UTC)
    engine = Engine(version="0.32.0", model="made-up", connector="MooncakeStoreConnector", flags={"block_size": 128})
    with open_run(folder, mode, scenario, started) as files:
        for record in (record for of_round in records.values() for record in of_round):
            files.add(record)
        files.write_stats(
            RunStats(
                run_id="made-up",
                mode=mode,
                scenario=scenario,
                valid=valid,
                invalid_reasons=reasons,
                config={"test": {"concurrency": 32}},
                provenance=Provenance(
                    kvkit_version="0", python="3", host="loadgen", started=started, seed=0, engine=engine
                ),
                workload=WorkloadFacts(
                    fingerprint=f"sha256:{scenario}",
                    scenario=scenario,
                    parameters={"prefix_tokens": 2000},
                    ideal_hit_ratio=0.0,
                    requests=requests,
                ),
                records=files.requests_path.name,
                rounds=tuple(rounds),
            )
        )


def _records(rng: random.Random, mode: Mode, number: int, requests: int) -> Iterator[Record]:
    hit = mode == "with-cache" and number == 2
    for place in range(requests):
        prompt = rng.randint(1000, 4000)
        ttft_s = (HIT_TTFT_S if hit else TTFT_S) * rng.lognormvariate(0.0, 0.4) * prompt / 2000
        gaps = tuple(rng.uniform(0.01, 0.02) for _ in range(TOKENS - 1))
        yield Record(
            request_id=f"request-{place:05d}",
            round=number,
            group=f"document-{place // 10}",
            scheduled_s=place / PER_S,
            start_s=place / PER_S,
            ttft_s=ttft_s,
            first_text_s=ttft_s,
            e2e_s=ttft_s + sum(gaps),
            itl_s=gaps,
            expected_prompt_tokens=prompt,
            prompt_tokens=prompt,
            cached_tokens=prompt - 100 if hit else 0,
            completion_tokens=TOKENS,
            finish_reason="length",
            ok=True,
            http_status=200,
        )


def _summary(mode: Mode, number: int, records: list[Record]) -> RoundSummary:
    hit = mode == "with-cache" and number == 2
    prompt = sum(record.prompt_tokens or 0 for record in records)
    external = prompt - 100 * len(records) if hit else 0
    seconds = round(len(records) / PER_S) + 1
    read = [external * 8192 * second // seconds for second in range(seconds + 1)]
    summary = summarise_round(
        Tally.of(records),
        number=number,
        isolation="device",
        by_source=TokensBySource(computed=prompt - external, device=0, external=external),
        counters=Counters(mooncake={"mem_cache_hit_bytes_total": float(read[-1])}),
        valid=True,
        invalid_reasons=(),
        max_failed_ratio=0.0,
        ideal_hit_ratio=0.0,
        traffic=Traffic(times_s=tuple(map(float, range(seconds + 1))), read_bytes=tuple(read), stored_bytes=None),
    )
    return summary.model_copy(update={"limit": _limit()}) if hit else summary


def _limit() -> PhysicalLimit:
    return PhysicalLimit(
        kv_bytes_per_token=Figure(value=8192, source="made up"),
        store_bandwidth_gb_s=Figure(value=1.0, source="made up"),
        compute_ms_per_token=Figure(value=0.5, source="made up"),
        store_tokens_per_request=2400,
        load_ms=20,
        compute_ms=50,
        ttft_bound_ms=Figure(value=70, source="made up"),
        share_reached=0.4,
        break_even_tokens=Figure(value=300, source="made up"),
        remarks=(),
    )


if __name__ == "__main__":
    main()
