"""The engine's way to the external tier: look-ups, loads and saves over HTTP at the store's RPC port.

A load or a save takes bytes / bandwidth. One transfer at a time uses each direction of the link, as vLLM's connector
has one thread for receiving and one for sending.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from kvkit.emulator.engine.clock import sleep_until
from kvkit.emulator.engine.request import EngineRequest
from kvkit.emulator.errors import EmulatorError
from kvkit.emulator.settings import EmulatorSettings

logger = logging.getLogger(__name__)

OperationName = Literal["lookup_exists", "load_get", "save_exists", "save_put"]

STORE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class StoreOperation:
    """One call of the store, as vLLM's connector reports it."""

    name: OperationName
    keys: int
    failed_keys: int = 0
    moved_bytes: int = 0
    seconds: float = 0.0
    unanswered: bool = False

    @property
    def status(self) -> Literal["ok", "partial_failure", "error"]:
        if self.unanswered:
            return "error"
        return "partial_failure" if self.failed_keys else "ok"


class StoreConnector:
    """Keys are chunks of `external_chunk_tokens`, each with the hash of its last block."""

    def __init__(self, settings: EmulatorSettings, record: Callable[[StoreOperation], None]) -> None:
        self._address = settings.store_address
        self._chunk_tokens = settings.external_chunk_tokens
        self._blocks_per_chunk = settings.external_chunk_tokens // settings.block_size
        self._chunk_bytes = settings.external_chunk_tokens * settings.kv_bytes_per_token
        self._bandwidth = settings.external_bandwidth
        # The key of vLLM's MooncakeStoreConnector: the model's name, the rank in each kind of parallelism, the hash.
        self._key_prefix = f"{settings.model.rpartition('/')[2]}@tp_rank:0@pcp0@dcp0@pp_rank:0@group:0@"
        self._record = record
        self._receiving = asyncio.Lock()
        self._receiving_free_at = 0.0
        self._sending = asyncio.Lock()
        self._client = httpx.AsyncClient(
            base_url=f"http://{settings.store_address}",
            timeout=STORE_TIMEOUT_S,
            trust_env=False,
            verify=False,  # noqa: S501  plain HTTP; reading the certificates would cost every start a tenth of a second
        )

    async def connect(self) -> None:
        """See that a store answers.

        Raises:
            EmulatorError: none does.
        """
        try:
            await self._call("/batch_exist", keys=[])
        except httpx.HTTPError as error:
            raise EmulatorError(
                f"No store answers at {self._address} ({error}). Start one with role store at that address, "
                f"or start the engine with connector none."
            ) from error

    async def close(self) -> None:
        await self._client.aclose()

    async def matched_tokens(self, request: EngineRequest, device_tokens: int) -> int:
        """Tokens behind those on the device that the store has; the prompt's last token is never among them."""
        exist = await self._exist("lookup_exists", self._keys(request.hashes))
        found = exist.index(False) if False in exist else len(exist)
        usable = min(found, (request.prompt_tokens - 1) // self._chunk_tokens)
        return max(0, usable * self._chunk_tokens - device_tokens)

    async def load(self, request: EngineRequest) -> bool:
        """Bring the tokens that a request is to load; False when a part of them could not be had."""
        first = request.computed // self._chunk_tokens
        end = (request.computed + request.to_load) // self._chunk_tokens
        keys = self._keys(request.hashes)[first:end]
        with self._recorded("load_get", len(keys)) as operation:
            sizes = (await self._call("/batch_get", keys=keys))["sizes"]
            operation.failed_keys = len(keys) if request.load_fails else sizes.count(None)
            operation.moved_bytes = sum(size or 0 for size in sizes)
            async with self._receiving:
                begin = max(request.times.due, self._receiving_free_at)
                self._receiving_free_at = begin + operation.moved_bytes / self._bandwidth * request.pace
                request.times.due = self._receiving_free_at
                await sleep_until(request.times.due)
            return not operation.failed_keys
        return False

    async def save(self, hashes: Sequence[str]) -> None:
        """Store the chunks of a prompt that the store does not have yet."""
        keys = self._keys(hashes)
        exist = await self._exist("save_exists", keys)
        missing = [key for key, stored in zip(keys, exist, strict=True) if not stored]
        if not missing:
            return
        with self._recorded("save_put", len(missing)) as operation:
            operation.moved_bytes = len(missing) * self._chunk_bytes
            async with self._sending:
                await asyncio.sleep(operation.moved_bytes / self._bandwidth)
            answer = await self._call("/batch_put", sizes=dict.fromkeys(missing, self._chunk_bytes))
            operation.failed_keys = sum(code != 0 for code in answer["codes"])

    async def remove_all(self) -> bool:
        """Empty the whole store, whoever filled it."""
        try:
            await self._call("/remove_all")
        except httpx.HTTPError as error:
            logger.warning("The store at %s was not emptied: %s", self._address, error)
            return False
        return True

    async def _exist(self, name: OperationName, keys: list[str]) -> list[bool]:
        """Which keys the store has; none, when it does not answer."""
        if keys:
            with self._recorded(name, len(keys)):
                answer: list[bool] = (await self._call("/batch_exist", keys=keys))["exist"]
                return answer
        return [False] * len(keys)

    @contextmanager
    def _recorded(self, name: OperationName, keys: int) -> Iterator[StoreOperation]:
        """Time and record a call. A store that does not answer is recorded and ends the block, and no more."""
        operation = StoreOperation(name, keys)
        started = time.perf_counter()
        try:
            yield operation
        except httpx.HTTPError as error:
            operation.unanswered = True
            operation.failed_keys = keys
            logger.warning("The store at %s did not answer %s: %s", self._address, name, error)
        operation.seconds = time.perf_counter() - started
        self._record(operation)

    async def _call(self, path: str, **body: Any) -> Any:
        response = await self._client.post(path, json=body)
        response.raise_for_status()
        return response.json()

    def _keys(self, hashes: Sequence[str]) -> list[str]:
        last_of_chunk = hashes[self._blocks_per_chunk - 1 :: self._blocks_per_chunk]
        return [self._key_prefix + block_hash for block_hash in last_of_chunk]
