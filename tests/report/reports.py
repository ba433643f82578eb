"""Results of which a report shows every part, and results in which everything that can be named is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvkit.results.stats import Mode, Traffic
from tests.results.making import (
    failure,
    provenance,
    run_stats,
    success,
    summary,
    workload,
    write_pair_of_runs,
    write_run,
)

FINDING = {
    "id": "rdma.link.state",
    "status": "fail",
    "seen": "INIT",
    "expected": "ACTIVE",
    "mend": "start the subnet manager",
    "doc": "docs/checks/rdma.link.state.md",
    "subject": "mlx5_0/1",
}
PROOF = {
    "schema": 1,
    "verdict": "PROVEN",
    "reasons": ["the store served what it should"],
    "mend": "",
    "connector": "LMCacheMPConnector",
    "arms": [
        {
            "name": "external hit",
            "skipped": None,
            "by_source": {"computed": 249, "device": 0, "external": 11520},
            "expected_external": 11520,
            "ttft_ms": 212.3,
            "text": "as cold",
        },
        {"name": "restart hit", "skipped": "no restart command", "by_source": None},
    ],
}
LOOKS = Traffic(times_s=(0.0, 1.0), read_bytes=(0, 5_000_000), stored_bytes=(0, 0))


def write_findings(folder: Path, *findings: dict[str, Any]) -> None:
    document = {"schema": 1, "hosts": {"gpu1": list(findings)}, "fleet": []}
    (folder / "preflight_20261122_195000.json").write_text(json.dumps(document))


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}\u202e"


def write_whole(folder: Path) -> None:
    """One scenario, whose hits take a quarter of the baseline's time, with a failed check and a proof beside it."""
    write_pair_of_runs(folder, hit_ttft_s=0.25, hit={"traffic": LOOKS})
    write_findings(folder, FINDING, FINDING | {"id": "host.swap", "status": "pass", "seen": "0.0 GiB in use"})
    (folder / "prove_20261122_195500.json").write_text(json.dumps(PROOF))


def write_hostile(folder: Path) -> None:
    records = [success(f"{HOSTILE}{place}", ttft_s=0.1 + place / 100) for place in range(8)]
    records.append(failure(f"{HOSTILE}x", words=HOSTILE))
    sent = workload(**{HOSTILE: HOSTILE})
    modes: tuple[Mode, ...] = ("with-cache", "baseline")
    for mode in modes:
        stats = run_stats(
            mode,
            [summary(records, invalid_reasons=[HOSTILE], valid=False)],
            workload=sent,
            config={HOSTILE: f"{HOSTILE}{mode}"},
            provenance=provenance(version=HOSTILE, model=HOSTILE, connector=HOSTILE, flags={HOSTILE: mode}),
        )
        path = write_run(folder, stats, records)
        # kvkit itself refuses such names.
        path.write_text(json.dumps(json.loads(path.read_text()) | {"scenario": HOSTILE, "run_id": HOSTILE}))
    write_findings(folder, dict.fromkeys(FINDING, HOSTILE) | {"status": "warn"})
    (folder / "prove_1.json").write_text(json.dumps(PROOF | {"verdict": HOSTILE, "reasons": [HOSTILE]}))
    (folder / "prove_2.json").write_text("{")
