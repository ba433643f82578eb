"""The engine's `/metrics`, with the names, labels and buckets of vLLM 0.32 (`v1/metrics/loggers.py`).

What is counted when is vLLM's, too: cache queries and hits at admission, tokens by source with the first token, times
when a request ends. Left out are families that say nothing here: multi-modal cache, sleep state, LoRA, the parameters
of a request.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from kvkit.emulator.engine.connector import StoreOperation
from kvkit.emulator.engine.device_cache import DeviceCache
from kvkit.emulator.engine.families import ENGINE, LABELS, Families
from kvkit.emulator.engine.request import EngineRequest, FinishReason
from kvkit.emulator.engine.scheduler import Scheduler, Step
from kvkit.emulator.settings import EmulatorSettings

SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
CACHE_TIERS = ("device", "host", "p2p", "disk", "external_unspecified")
FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")

LATENCY = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
STEP_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
PREEMPTIONS = (1, 2, 3, 4, 5, 10, 20)
STORE_TIME = (0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 4)


def token_buckets(limit: int) -> list[float]:
    """1, 2, 5, 10, 20, 50, ... up to a limit."""
    series = (mantissa * 10.0**exponent for exponent in range(len(str(limit))) for mantissa in (1, 2, 5))
    return [bucket for bucket in series if bucket <= limit]


class EngineMetrics:
    """One engine's metrics, in a registry of its own."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._registry = CollectorRegistry()
        self._settings = settings
        self._families = Families(self._registry, settings.model)
        self._declare_cache_counters()
        self._declare_token_counters()
        self._declare_request_histograms()
        if settings.connector == "mooncake-store":
            self._store_operations = StoreOperationMetrics(self._registry, settings.model)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)

    def watch(self, scheduler: Scheduler, device: DeviceCache) -> None:
        """Read the gauges from these at each scrape."""
        gauge, gauges = self._families.gauge, self._families.gauges
        gauge("num_requests_running", "Requests in execution batches.", lambda: len(scheduler.running))
        gauge(
            "num_requests_waiting",
            "Requests waiting to be processed.",
            lambda: len(scheduler.waiting) + len(scheduler.loading),
        )
        gauges(
            "num_requests_waiting_by_reason",
            "Waiting requests by reason.",
            "reason",
            {"capacity": lambda: len(scheduler.waiting), "deferred": lambda: len(scheduler.loading)},
        )
        gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", lambda: device.usage)
        if self._settings.connector != "none":
            gauges(
                "num_requests_kv_fetch_by_stage",
                "Waiting requests by async KV load stage.",
                "stage",
                {
                    "waiting_to_start": lambda: 0,
                    "in_progress": lambda: len(scheduler.loading),
                    "completed_waiting": lambda: sum(bool(r.computed) for r in scheduler.waiting),
                },
            )

    def step(self, step: Step, sampled: int) -> None:
        self._step_tokens.observe(step.prefill_tokens + step.decodes)
        self._generation_tokens.inc(sampled)
        self._preempted.inc(len(step.preempted))

    def admitted(self, request: EngineRequest) -> None:
        """Look-ups of a request, counted before anything is loaded."""
        self._device_queries.inc(request.prompt_tokens)
        self._device_hits.inc(request.device_tokens)
        self._cached_by_tier["device"].inc(request.device_tokens)
        if self._settings.connector != "none":
            self._external_queries.inc(request.prompt_tokens - request.device_tokens)
            self._external_hits.inc(request.external_tokens)
            self._cached_by_tier["external_unspecified"].inc(request.external_tokens)

    def first_token(self, request: EngineRequest) -> None:
        self._prompt_tokens.inc(request.prompt_tokens)
        self._prompt_tokens_cached.inc(request.cached_tokens)
        self._by_source["local_compute"].inc(request.prompt_tokens - request.cached_tokens)
        self._by_source["local_cache_hit"].inc(request.device_tokens)
        self._by_source["external_kv_transfer"].inc(request.external_tokens)
        self._ttft.observe(request.times.first_token - request.times.arrived)

    def next_token(self, seconds: float) -> None:
        self._itl.observe(seconds)

    def finished(self, request: EngineRequest, reason: FinishReason, now: float) -> None:
        """An end of any kind. Phases that a request did not reach took no time."""
        self._finished[reason].inc()
        times = request.times
        scheduled = times.scheduled or now
        first = times.first_token or now
        last = times.last_token or now
        self._e2e.observe(now - times.arrived)
        self._queue.observe(scheduled - times.arrived)
        self._prefill.observe(first - scheduled)
        self._decode.observe(last - first)
        self._inference.observe(last - scheduled)
        self._tpot.observe((last - first) / max(1, request.generated - 1))
        self._request_prompt.observe(request.prompt_tokens)
        self._request_computed.observe(request.prompt_tokens - request.cached_tokens)
        self._request_generation.observe(request.generated)
        self._request_preemptions.observe(request.preemptions)

    def store_operation(self, operation: StoreOperation) -> None:
        """A call of the store; only vLLM's own connector reports it."""
        if self._settings.connector == "mooncake-store":
            self._store_operations.observe(operation)

    def _declare_cache_counters(self) -> None:
        counter, counters = self._families.counter, self._families.counters
        self._device_queries = counter("prefix_cache_queries", "Prefix cache queries, in tokens.")
        self._device_hits = counter("prefix_cache_hits", "Prefix cache hits, in tokens.")
        self._external_queries = counter("external_prefix_cache_queries", "KV connector queries, in tokens.")
        self._external_hits = counter("external_prefix_cache_hits", "KV connector hits, in tokens.")
        self._cached_by_tier = counters(
            "prompt_tokens_cached_by_source", "Prefix-cache hit tokens by tier.", "source", CACHE_TIERS
        )
        settings = self._settings
        self._families.info(
            "cache_config_info",
            "Information of the LLMEngine CacheConfig",
            {
                "block_size": str(settings.block_size),
                "num_gpu_blocks": str(settings.device_blocks),
                "enable_prefix_caching": "True",
                "cache_dtype": "auto",
            },
        )

    def _declare_token_counters(self) -> None:
        counter, counters = self._families.counter, self._families.counters
        self._preempted = counter("num_preemptions", "Cumulative number of preemptions.")
        self._prompt_tokens = counter("prompt_tokens", "Number of prefill tokens processed.")
        self._prompt_tokens_cached = counter("prompt_tokens_cached", "Cached prompt tokens (local + external).")
        self._by_source = counters("prompt_tokens_by_source", "Prompt tokens by source.", "source", SOURCES)
        self._generation_tokens = counter("generation_tokens", "Number of generation tokens processed.")
        self._finished = counters("request_success", "Count of processed requests.", "finished_reason", FINISH_REASONS)

    def _declare_request_histograms(self) -> None:
        histogram = self._families.histogram
        tokens = token_buckets(self._settings.max_model_len)
        self._step_tokens = histogram("iteration_tokens_total", "Tokens per engine step.", STEP_TOKENS)
        self._ttft = histogram("time_to_first_token_seconds", "Time to first token.", TTFT)
        self._itl = histogram("inter_token_latency_seconds", "Inter-token latency.", ITL)
        self._tpot = histogram("request_time_per_output_token_seconds", "Time per output token.", ITL)
        self._e2e = histogram("e2e_request_latency_seconds", "End to end latency.", LATENCY)
        self._queue = histogram("request_queue_time_seconds", "Time in WAITING phase.", LATENCY)
        self._prefill = histogram("request_prefill_time_seconds", "Time in PREFILL phase.", LATENCY)
        self._decode = histogram("request_decode_time_seconds", "Time in DECODE phase.", LATENCY)
        self._inference = histogram("request_inference_time_seconds", "Time in RUNNING phase.", LATENCY)
        self._request_prompt = histogram("request_prompt_tokens", "Prefill tokens of a request.", tokens)
        self._request_generation = histogram("request_generation_tokens", "Generated tokens.", tokens)
        self._request_computed = histogram(
            "request_prefill_kv_computed_tokens", "KV tokens computed in prefill, without cached ones.", tokens
        )
        self._request_preemptions = histogram("request_num_preemptions", "Preemptions of a request.", PREEMPTIONS)


class StoreOperationMetrics:
    """What vLLM's MooncakeStoreConnector reports of its calls; series appear with the first call of their kind."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        labels = (*LABELS, "operation", "status")
        self._model = model
        prefix = "vllm:mooncake_store_operation"
        self._time = Histogram(
            f"{prefix}_time_seconds", "Time of store operations.", labels, registry=registry, buckets=STORE_TIME
        )
        self._calls = Counter(prefix, "Store operations.", labels, registry=registry)
        self._keys = Counter(f"{prefix}_keys", "Keys touched.", labels, registry=registry)
        self._bytes = Counter(f"{prefix}_bytes", "Bytes transferred.", labels, registry=registry)
        self._failed = Counter(f"{prefix}_failed_keys", "Keys that failed.", labels, registry=registry)

    def observe(self, operation: StoreOperation) -> None:
        values = (self._model, ENGINE, operation.name, operation.status)
        self._time.labels(*values).observe(operation.seconds)
        self._calls.labels(*values).inc()
        self._keys.labels(*values).inc(operation.keys)
        self._bytes.labels(*values).inc(operation.moved_bytes)
        self._failed.labels(*values).inc(operation.failed_keys)
