"""What an emulated deployment looks like: its addresses, sizes, speeds and faults."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from kvkit.emulator.errors import EmulatorError

Role = Literal["all", "engine", "store"]
Connector = Literal["none", "mooncake-store", "lmcache-mp"]

LMCACHE_CHUNK_TOKENS = 256
"""LMCache's default `chunk_size`: the grain at which it stores and finds KV."""


class FaultKind(StrEnum):
    """What the engine does wrong. The last four need a stream, the three before them a request that is served."""

    NONE = "none"
    REFUSE = "refuse"
    """503, as a proxy without a ready engine answers."""
    HTTP_401 = "http_401"
    HTTP_429 = "http_429"
    HTTP_500 = "http_500"
    DEGRADED = "degraded"
    """The connector is broken and says nothing: each request waits out a lookup, nothing is stored or found."""
    LOAD_FAILURE = "load_failure"
    """External KV is found but cannot be loaded: HTTP 200, then an `error` event (policy `fail`)."""
    CORRUPTED_KV = "corrupted_kv"
    """External KV is loaded and is not what was stored: nothing fails, and the answer is another."""
    BROKEN_STREAM = "broken_stream"
    """The connection is cut after the first token."""
    ERROR_EVENT = "error_event"
    """HTTP 200, a token, then an `error` event and `[DONE]`."""
    NO_USAGE = "no_usage"
    """The usage chunk is left out although it was asked for."""
    STALL = "stall"
    """Nothing comes after the first token, and the connection stays open."""


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """One emulated deployment. Ports may be 0: the system then chooses, and `Addresses` tells which.

    The defaults resemble Qwen2.5-72B on one node of eight GPUs, with a 200 Gb/s link to the store.

    Raises:
        EmulatorError: a number is not positive, the address has no port, or two settings contradict each other.
    """

    role: Role = "all"
    """`store` is the Mooncake store alone, `engine` the engine alone, `all` both in one process."""
    host: str = "127.0.0.1"
    """Where the engine listens."""
    port: int = 8000
    """The engine's port; 0 for any free one, as with the ports below."""
    model: str = "emulated"
    """The served model name; also the salt of every block hash."""
    connector: Connector = "mooncake-store"
    """How the engine reaches the store; `none` leaves it with its device cache only."""
    store_address: str = "127.0.0.1:50051"
    """`host:rpc_port` of the store: where it listens, and where the engine looks for it."""
    metrics_port: int = 9003
    """The store's port with `/metrics`, on the store's host."""
    metadata_port: int = 8080
    """The store's port with `/metadata`, on the store's host."""
    api_key: str | None = None
    """When set, paths under `/v1` answer 401 without `Authorization: Bearer <key>`.

    Else the environment's `VLLM_API_KEY` is taken, which other users do not see among the processes."""
    dev_mode: bool = True
    """Serves `/reset_prefix_cache` and `/server_info`, as vLLM does with `VLLM_SERVER_DEV_MODE=1`; else 404."""

    max_model_len: int = 32_768
    """Tokens of prompt and answer together."""
    block_size: int = 16
    """Tokens per KV block; vLLM's default on GPUs (128 on CPUs)."""
    device_blocks: int = 8_192
    """Blocks of the device's KV cache."""
    max_batched_tokens: int = 2_048
    """Token budget of one step."""
    max_num_seqs: int = 256
    """Requests that run at once."""
    prefill_tokens_per_s: float = 8_000.0
    """Prompt tokens that are computed in a second, over all requests of a step."""
    decode_ms_per_token: float = 10.0
    """Milliseconds of a decode step, in which every decoding request gets one token; 0 for no wait."""
    kv_bytes_per_token: int = 327_680
    """Bytes of KV per token: 2 x layers x kv heads x head dim x bytes per element."""
    external_bandwidth: float = 25e9
    """Bytes per second between engine and store, in each direction."""
    external_capacity_bytes: int = 100 * 2**30
    """Bytes that the store holds before it evicts."""
    jitter: float = 0.0
    """Spread of a request's own pace: its prefill and its loads take exp(jitter x normal) times as long; 0 for none.
    The median is 1 in every mode, so ratios of two modes stay what the speeds say."""
    jitter_seed: int = 0

    fault: FaultKind = FaultKind.NONE
    """The fault that chat completions meet; `POST /emulator/fault` changes it at run time."""
    fault_every: int = 1
    """Every how many chat completions it strikes; 1 is each."""
    degraded_delay_s: float = 3.0
    """Seconds that a degraded connector adds to a request: LMCache's lookup timeout."""

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_store_address()
        if self.max_model_len > self.device_blocks * self.block_size:
            raise EmulatorError(
                f"max_model_len={self.max_model_len} does not fit the device cache of "
                f"device_blocks={self.device_blocks} x block_size={self.block_size} = "
                f"{self.device_blocks * self.block_size} tokens. Raise device_blocks or lower max_model_len."
            )
        if self.connector == "lmcache-mp" and LMCACHE_CHUNK_TOKENS % self.block_size:
            raise EmulatorError(
                f"block_size={self.block_size} does not divide LMCache's chunk of {LMCACHE_CHUNK_TOKENS} tokens, "
                f"which connector=lmcache-mp needs. Use 16, 32, 64, 128 or 256."
            )

    def _check_numbers(self) -> None:
        for name in (
            "max_model_len",
            "block_size",
            "device_blocks",
            "max_batched_tokens",
            "max_num_seqs",
            "prefill_tokens_per_s",
            "kv_bytes_per_token",
            "external_bandwidth",
            "external_capacity_bytes",
            "fault_every",
        ):
            if getattr(self, name) <= 0:
                raise EmulatorError(f"{name}={getattr(self, name)} is not allowed: it must be above 0.")
        for name in ("decode_ms_per_token", "jitter", "degraded_delay_s", "port", "metrics_port", "metadata_port"):
            if getattr(self, name) < 0:
                raise EmulatorError(f"{name}={getattr(self, name)} is not allowed: it must be 0 or above.")

    def _check_store_address(self) -> None:
        host, _, port = self.store_address.rpartition(":")
        if not host or not port.isdigit():
            raise EmulatorError(
                f"store_address={self.store_address!r} is not an address: give host:port, as 127.0.0.1:50051."
            )

    @property
    def store_host(self) -> str:
        return self.store_address.rpartition(":")[0]

    @property
    def store_rpc_port(self) -> int:
        return int(self.store_address.rpartition(":")[2])

    @property
    def external_chunk_tokens(self) -> int:
        """Tokens under one key of the store: a block, or one of LMCache's chunks."""
        return LMCACHE_CHUNK_TOKENS if self.connector == "lmcache-mp" else self.block_size
