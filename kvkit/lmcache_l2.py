"""LMCache's second tier over a Mooncake store: a plugin that `lmcache server` loads.

LMCache's own adapter for Mooncake needs a C++ extension that no wheel on PyPI has, so that from wheels alone this
plugin is what joins the two. It runs inside `lmcache server`, in LMCache's environment: it needs `lmcache` and
`mooncake` and nothing else of kvkit. Seen with LMCache 0.5.6 and Mooncake 0.3.13.

    lmcache server ... --l2-adapter '{"type": "plugin", "module_path": "kvkit.lmcache_l2",
        "class_name": "MooncakeL2Adapter", "adapter_params": {"local_hostname": "10.0.0.1",
        "metadata_server": "P2PHANDSHAKE", "master_server_addr": "10.0.0.9:50051", "protocol": "tcp"}}'

Bytes move between Mooncake and LMCache's first tier without a copy: the whole arena of the first tier is registered
once, and the batch calls read and write at the objects' own addresses. Whatever fails is one line in LMCache's log
and a miss; an object that comes back shorter than asked for is a miss too, never data.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lmcache.lmcache_native import Bitmap
from lmcache.logging import init_logger
from lmcache.v1.distributed.internal_api import L2StoreResult
from lmcache.v1.distributed.l2_adapters.base import L2AdapterInterface
from lmcache.v1.platform import create_event_notifier
from mooncake.store import MooncakeDistributedStore

if TYPE_CHECKING:
    from lmcache.v1.distributed.api import MemoryLayoutDesc, ObjectKey
    from lmcache.v1.distributed.internal_api import L1MemoryDesc
    from lmcache.v1.memory_management import MemoryObj

logger = init_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class MooncakeL2Parameters:
    """`adapter_params` of the plugin: Mooncake's own names (the ones that its dictionary set-up really reads)."""

    local_hostname: str
    """How other hosts reach this one; never loopback when there are several."""
    metadata_server: str
    """`P2PHANDSHAKE`, or `http://HOST:8080/metadata`."""
    master_server_addr: str
    """HOST:PORT of the master's RPC."""
    protocol: str
    """`rdma` or `tcp`."""
    rdma_devices: str = ""
    """Comma-separated; empty only with `tcp`, as Mooncake falls back to TCP in silence when it is left to choose."""
    global_segment_size: int = 0
    """Bytes that this process gives to the store. 0: it only reads and writes, so a restart of it loses nothing."""
    local_buffer_size: int = 16 * 1024 * 1024
    """Bytes of Mooncake's own staging buffer, which the zero-copy calls do not use."""
    key_prefix: str = ""
    """Before every key: keeps apart what must not be shared (another dtype or revision of the same model)."""

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> MooncakeL2Parameters:
        """Check and take `adapter_params`.

        Raises:
            ValueError: a key is unknown or missing, has the wrong type, or `rdma` comes without devices.
        """
        known = {f.name for f in fields(cls)}
        required = {f.name for f in fields(cls) if f.default is MISSING}
        if unknown := sorted(given.keys() - known):
            raise ValueError(f"adapter_params: unknown {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
        if missing := sorted(required - given.keys()):
            raise ValueError(f"adapter_params: {', '.join(missing)} missing")
        for key, value in given.items():
            expected = int if key.endswith("_size") else str
            if type(value) is not expected:
                raise ValueError(f"adapter_params.{key}: found {value!r}, expected {expected.__name__}")
        parameters = cls(**given)
        if parameters.protocol not in ("rdma", "tcp"):
            raise ValueError(f"adapter_params.protocol: found {parameters.protocol!r}, allowed: rdma, tcp")
        if parameters.protocol == "rdma" and not parameters.rdma_devices:
            raise ValueError("adapter_params.rdma_devices: name them with protocol rdma (Mooncake else takes TCP)")
        return parameters

    def setup(self) -> dict[str, str]:
        """For Mooncake's `setup(dict)`, which takes text and ignores keys that it does not know."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self) if f.name != "key_prefix"}


class _Lane(Generic[Result]):
    """One kind of task: threads that do it, the results that wait to be asked for, and the event that says so."""

    def __init__(self, name: str, threads: int) -> None:
        self.event = create_event_notifier()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"mooncake-{name}")
        self._name = name
        self._lock = threading.Lock()
        self._next_id = 0
        self._results: dict[int, Result] = {}

    def submit(self, work: Callable[[], Result], on_error: Result) -> int:
        with self._lock:
            task_id = self._next_id
            self._next_id += 1
        self._pool.submit(self._run, task_id, work, on_error)
        return task_id

    def _run(self, task_id: int, work: Callable[[], Result], on_error: Result) -> None:
        try:
            result = work()
        except Exception:
            logger.exception("Mooncake %s failed; it counts as a miss", self._name)
            result = on_error
        with self._lock:
            self._results[task_id] = result
        self.event.notify()

    def pop(self, task_id: int) -> Result | None:
        with self._lock:
            return self._results.pop(task_id, None)

    def pop_all(self) -> dict[int, Result]:
        with self._lock:
            results, self._results = self._results, {}
            return results

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.event.close()


class MooncakeL2Adapter(L2AdapterInterface):
    """Stores, looks up and loads LMCache's objects in a Mooncake store.

    Keys are `[prefix]model@rank@group@chunk hash[@salt]`, the form of LMCache's own native connectors.
    A found object is not locked here: Mooncake's lookup grants a lease (10 s by default), which outlives the load
    that follows it; should it not, the load is a miss.
    """

    def __init__(self, params: dict[str, Any], l1_memory_desc: L1MemoryDesc | None = None) -> None:
        """Connect to the store and register the first tier's memory.

        Args:
            params: see `MooncakeL2Parameters`.
            l1_memory_desc: the first tier's arena, given by LMCache.

        Raises:
            ValueError: a parameter is wrong.
            RuntimeError: the store can't be reached, or the memory can't be registered.
        """
        super().__init__()
        self._parameters = MooncakeL2Parameters.from_dict(params)
        if l1_memory_desc is None or not l1_memory_desc.ptr:
            raise RuntimeError("LMCache gave no first-tier memory to register; this plugin needs a DRAM first tier")
        self._store = _connect(self._parameters)
        self._arena = l1_memory_desc.ptr
        _must_be_zero(
            self._store.register_buffer(l1_memory_desc.ptr, l1_memory_desc.size),
            f"register {l1_memory_desc.size} bytes of the first tier with Mooncake "
            "(with rdma: is the service's memlock limit large enough?)",
        )
        self._stores: _Lane[L2StoreResult] = _Lane("store", threads=1)
        self._lookups: _Lane[Bitmap] = _Lane("lookup", threads=1)
        self._loads: _Lane[Bitmap] = _Lane("load", threads=2)

    def get_store_event_fd(self) -> int:
        return int(self._stores.event.fileno())

    def get_lookup_and_lock_event_fd(self) -> int:
        return int(self._lookups.event.fileno())

    def get_load_event_fd(self) -> int:
        return int(self._loads.event.fileno())

    def submit_store_task(self, keys: list[ObjectKey], objects: list[MemoryObj]) -> int:
        work = functools.partial(self._put, keys, objects)
        return self._stores.submit(work, L2StoreResult(False, 0))

    def pop_completed_store_tasks(self) -> dict[int, L2StoreResult]:
        return self._stores.pop_all()

    def submit_lookup_and_lock_task(
        self, keys: list[ObjectKey], group_layout_descs: dict[int, MemoryLayoutDesc]
    ) -> int:
        return self._lookups.submit(functools.partial(self._find, keys), Bitmap(len(keys)))

    def query_lookup_and_lock_result(self, task_id: int) -> Bitmap | None:
        return self._lookups.pop(task_id)

    def submit_unlock(self, keys: list[ObjectKey]) -> None:
        """Nothing to do: a lease ends by itself."""

    def submit_load_task(self, keys: list[ObjectKey], objects: list[MemoryObj]) -> int:
        return self._loads.submit(functools.partial(self._get, keys, objects), Bitmap(len(keys)))

    def query_load_result(self, task_id: int) -> Bitmap | None:
        return self._loads.pop(task_id)

    def report_status(self) -> dict[str, Any]:
        """For LMCache's `/status`: healthy only while the master answers."""
        return {
            # Asked of the master: the client's own health_check() stays 0 when the master is gone (seen, 0.3.13).
            "is_healthy": self._store.is_exist("kvkit-health") in (0, 1),
            "type": type(self).__name__,
            "master_server_addr": self._parameters.master_server_addr,
            "protocol": self._parameters.protocol,
        }

    def close(self) -> None:
        for lane in (self._stores, self._lookups, self._loads):
            lane.close()
        self._store.unregister_buffer(self._arena)
        self._store.close()

    def _put(self, keys: Sequence[ObjectKey], objects: Sequence[MemoryObj]) -> L2StoreResult:
        sizes = [obj.get_size() for obj in objects]
        codes = self._store.batch_put_from(self._names(keys), [obj.data_ptr for obj in objects], sizes)
        stored = [i for i, code in enumerate(codes) if code == 0]
        self._log_failures("store", codes, set(range(len(keys))) - set(stored))
        if stored:
            self._notify_keys_stored([keys[i] for i in stored], [sizes[i] for i in stored])
        return L2StoreResult(len(stored) == len(keys), sum(sizes[i] for i in stored))

    def _find(self, keys: Sequence[ObjectKey]) -> Bitmap:
        codes = self._store.batch_is_exist(self._names(keys))
        # Only 1 is a hit: the error codes are truthy.
        self._log_failures("look up", codes, {i for i, code in enumerate(codes) if code not in (0, 1)})
        return _bitmap(len(keys), (i for i, code in enumerate(codes) if code == 1))

    def _get(self, keys: Sequence[ObjectKey], objects: Sequence[MemoryObj]) -> Bitmap:
        sizes = [obj.get_size() for obj in objects]
        read = self._store.batch_get_into(self._names(keys), [obj.data_ptr for obj in objects], sizes)
        whole = [i for i, (got, size) in enumerate(zip(read, sizes, strict=True)) if got == size]
        self._log_failures("load", read, set(range(len(keys))) - set(whole))
        if whole:
            self._notify_keys_accessed([keys[i] for i in whole])
        return _bitmap(len(keys), whole)

    def _names(self, keys: Sequence[ObjectKey]) -> list[str]:
        return [self._parameters.key_prefix + _name(key) for key in keys]

    def _log_failures(self, verb: str, codes: Sequence[int], failed: set[int]) -> None:
        if failed:
            counts = collections.Counter(codes[i] for i in failed)
            told = ", ".join(f"{code} ({_meaning(code)}) × {n}" for code, n in sorted(counts.items()))
            logger.error(
                "Mooncake could not %s %d of %d objects: %s; they count as misses (master %s)",
                verb,
                len(failed),
                len(codes),
                told,
                self._parameters.master_server_addr,
            )


def _connect(parameters: MooncakeL2Parameters) -> MooncakeDistributedStore:
    store = MooncakeDistributedStore()
    _must_be_zero(
        store.setup(parameters.setup()),
        f"reach the Mooncake master at {parameters.master_server_addr} over {parameters.protocol} "
        f"as {parameters.local_hostname} (metadata: {parameters.metadata_server}); its own lines stand above",
    )
    return store


def _must_be_zero(code: int, what: str) -> None:
    """Mooncake returns its errors and never raises them."""
    if code != 0:
        raise RuntimeError(f"could not {what}: code {code} ({_meaning(code)})")


def _meaning(code: int) -> str:
    """Mooncake's error codes (mooncake-store, types.h), as far as these calls give them."""
    if code >= 0:
        return f"{code} bytes instead of the whole object"
    return {
        -200: "the store is full or no segment is mounted",
        -600: "invalid parameters, or not connected",
        -704: "object not found",
        -800: "transfer failed",
        -900: "the master does not answer",
    }.get(code, "Mooncake error")


def _name(key: ObjectKey) -> str:
    name = f"{key.model_name}@{key.kv_rank:08x}@{key.object_group_id:x}@{key.chunk_hash.hex()}"
    return f"{name}@{key.cache_salt}" if key.cache_salt else name


def _bitmap(size: int, indexes: Iterable[int]) -> Bitmap:
    bitmap = Bitmap(size)
    for i in indexes:
        bitmap.set(i)
    return bitmap
