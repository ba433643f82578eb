"""The stats file: one scenario, run in one mode. These models are its format; `stats_schema.json` is made from them."""

from __future__ import annotations

import json
from math import isfinite
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from kvkit.config import Isolation
from kvkit.results.distribution import Distribution
from kvkit.results.units import Count

Mode = Literal["with-cache", "baseline"]
RoundName = Literal["cold_start", "cache_hit", "unknown"]
"""`unknown`: a round that another tool sent, and that may be either."""


class _Part(BaseModel):
    """Readers ignore keys that they do not know, so that a later kvkit can add some."""

    model_config = ConfigDict(
        frozen=True, use_attribute_docstrings=True, json_schema_serialization_defaults_required=True
    )


class Engine(_Part):
    """What the engine told about itself. `null`: it did not."""

    version: str | None = None
    model: str | None = None
    """The served model that answered."""
    system_fingerprint: str | None = None
    connector: str | None = None
    """The KV connector that the engine was started with, `none` where it told that it has none."""
    flags: dict[str, Any] | None = None
    """The engine's configuration in its own words, for telling what differs between two modes."""


class Provenance(_Part):
    """Who measured what, where and when."""

    kvkit_version: str
    python: str
    host: str
    """The load generator."""
    started: AwareDatetime
    """When the scenario's first round began (UTC)."""
    resumed: tuple[AwareDatetime, ...] = ()
    """When it went on after it had been cut off."""
    seed: int | None
    """Of the prompts; `null` where another tool made them."""
    engine: Engine


class WorkloadFacts(_Part):
    """What was sent. Runs are compared only if their fingerprints are equal."""

    fingerprint: str
    scenario: str
    parameters: dict[str, Any]
    """Everything that shaped the prompts; named when the fingerprints of two runs differ."""
    ideal_hit_ratio: float | None
    """Prompt tokens of round 1 that an infinite, instant cache would serve, over all of them. `null`: not told."""
    requests: int
    """Requests of one round."""


class RequestCounts(_Part):
    total: int
    succeeded: int
    failed: int
    failed_by_kind: dict[str, int]


class Throughput(_Part):
    """Per second between the first start and the last token event of the round's successful requests."""

    requests_per_s: float | None
    output_tokens_per_s: float | None


class Goodput(_Part):
    """Successful requests that met every stated objective (Zhong et al., DistServe, OSDI 2024)."""

    objectives: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    """Most milliseconds, by `ttft_ms`, `tpot_ms`, `e2e_ms`."""
    requests: Count
    requests_per_s: float | None
    """As `throughput`. `null` in a round of several parts."""


class TokensBySource(_Part):
    """Where the KV of the round's prompt tokens came from, by the engine's counters. `null`: it does not tell."""

    computed: int | None = None
    device: int | None = None
    external: int | None = None


class Tokens(_Part):
    """Sums over the round's successful requests."""

    prompt: int
    """As `usage` states it."""
    completion: int
    cached: int | None
    """`usage.prompt_tokens_details.cached_tokens` of the requests that told it; `null` when none did."""
    expected_prompt: int | None
    """What the workload stated; `null` when it could not."""
    by_source: TokensBySource
    hit_ratio: float | None = None
    """Device and external over all prompt tokens, by the engine's counters. `null`: they do not tell."""
    ideal_hit_ratio: float | None = None
    """What an infinite, instant cache would have made of this round. `null`: the prompts' tokens are not known."""


class Counters(_Part):
    """How much each server's counters rose during the round.

    The key is the sample's name as exposed, with the labels that tell samples apart:
    `vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}`. A counter that is absent was not told.
    """

    vllm: dict[str, float] = {}
    lmcache: dict[str, float] = {}
    mooncake: dict[str, float] = {}

    @field_validator("vllm", "lmcache", "mooncake")
    @classmethod
    def _drop_what_is_no_number(cls, deltas: dict[str, float]) -> dict[str, float]:
        """A counter that a server exposes as NaN was not told."""
        return {name: delta for name, delta in deltas.items() if isfinite(delta)}


class LoopDelay(_Part):
    """How late the client's event loops ran what was due, in milliseconds. Their timers count whole milliseconds."""

    p50: float | None
    """`null` in a round too short to tell: a tenth of a second."""
    p99: float | None
    """`null` in a round in which a single hiccup would be it: five seconds."""
    max: float | None


class ScheduleLag(_Part):
    """Start minus scheduled minus the setting up of a connection, in milliseconds, over all requests."""

    p50: float
    p99: float | None
    """`null` with fewer than 100 requests, where a single hiccup would be it."""


class GeneratorClock(_Part):
    """How the clock of another load generator stood to the clock of the one that led the run, before a round."""

    name: str
    wall_offset_ms: float
    """By how much its time of day was ahead. Nothing was sent by it: each round begins at one instant of all clocks."""
    uncertainty_ms: float
    """Half of the fastest round trip: so far may the beginnings of a round lie apart."""


class ClientLag(_Part):
    """Did the load generator keep up? Where it did not, latencies hold its own delays and the round is invalid."""

    workers: int
    """Processes that sent the requests."""
    held_to_schedule: bool
    """Requests had instants of their own to start at, and nothing but the client could keep them from it: they were not
    limited in number, and waited for no turn before them. In a closed loop, nothing is late."""
    loop_delay_ms: LoopDelay
    cpu_share: tuple[float, ...]
    """Of each worker's event loop: CPU time over the round's time. At 1 it does nothing but run behind."""
    schedule_lag_ms: ScheduleLag
    events_per_s: float | None
    """Token events of all requests over the time from the first start to the last token event."""
    generators: tuple[GeneratorClock, ...] = ()
    """Processes on other hosts, which are among the workers."""


class Traffic(_Part):
    """The store while the round went on, as its master counted. Bytes are counted from the first sample on."""

    times_s: tuple[float, ...]
    """Since the round's start; the first sample may be shortly before it."""
    read_bytes: tuple[int, ...]
    stored_bytes: tuple[int, ...] | None
    """How far what the store holds has grown; it falls where keys are evicted. `null`: not told."""


class Figure(_Part):
    """One figure with where it comes from; where it is unknown, why."""

    value: float | None
    source: str


class PhysicalLimit(_Part):
    """How fast a with-cache hit round could have been. Formulas: `kvkit/results/limit.py`."""

    kv_bytes_per_token: Figure
    store_bandwidth_gb_s: Figure
    """Of loads from the store, in 10⁹ bytes per second."""
    compute_ms_per_token: Figure
    """Of prompt tokens in the cold round."""
    store_tokens_per_request: float | None
    """External tokens, without those that an LMCache server had in its own memory."""
    load_ms: float | None
    """Loading them at that bandwidth."""
    compute_ms: float | None
    """Computing the rest of the prompt at the cold round's rate."""
    ttft_bound_ms: Figure
    """Both together: no hit of this round can have a lower mean TTFT."""
    share_reached: float | None
    """The bound over the measured mean TTFT; 1 is the limit itself."""
    break_even_tokens: Figure
    """Prompts of more cached tokens than this are served sooner from the store than by computing them."""
    remarks: tuple[str, ...]
    """What the figures contradict."""


class RoundSummary(_Part):
    """One pass over the scenario's requests. Latencies are of successful requests only."""

    round: int
    name: RoundName
    isolation: Isolation | None
    """What was cleared before the round: nothing, the engine's own (device) prefix cache, or the engine was restarted
    before each round after the first. `null`: it is not told."""
    requests: RequestCounts
    ttft_ms: Distribution
    ttft_from_scheduled_ms: Distribution | None = None
    """First token minus scheduled, in an open loop: the waiting of a late start included. `null` in a closed loop."""
    tpot_ms: Distribution
    itl_ms: Distribution
    """Over all gaps of all requests, pooled."""
    e2e_ms: Distribution
    throughput: Throughput
    goodput: Goodput | None = None
    """`null`: no objective was stated."""
    duration_s: float | None
    """First start to last token event of the successful requests. `null` in a round of several parts."""
    parts: int = 1
    """Above 1: the round was cut off and resumed. Latencies are of all parts; what only the whole round can tell is
    `null`."""
    tokens: Tokens
    counters: Counters
    client: ClientLag | None = None
    """`null`: not measured."""
    traffic: Traffic | None = None
    """`null`: the store did not tell, or was restarted."""
    valid: bool | None
    """`false`: the figures do not show what the round was meant to show. `null`: the servers tell too little."""
    invalid_reasons: tuple[str, ...]
    """Why it is invalid or unknown; empty when it is valid."""
    limit: PhysicalLimit | None = None
    """Of with-cache hit rounds."""

    @property
    def open_loop(self) -> bool:
        """Requests arrived at a rate of their own, which throughput then follows, whatever the cache does."""
        return self.ttft_from_scheduled_ms is not None


class RunStats(_Part):
    """The whole stats file of one scenario in one mode."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    run_id: str
    mode: Mode
    scenario: str
    valid: bool | None
    """`false` when a round is; else `null` when a round is; else `true`."""
    invalid_reasons: tuple[str, ...]
    """Those of all rounds, each with its round."""
    config: dict[str, Any]
    """The test configuration, secrets removed."""
    provenance: Provenance
    workload: WorkloadFacts
    records: str
    """Name of the requests file beside this file: one record a line."""
    rounds: tuple[RoundSummary, ...]

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, ensure_ascii=False, allow_nan=False)
