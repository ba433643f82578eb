"""Lint of the file that LMCache reads: what its version knows, ignores, and takes for something else.

LMCache drops an unknown key with a warning, an unknown key of extra_config without a word, and makes None of a value
that it cannot convert.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..check import Check, check
from ..finding import Verdict, failed, passed, skipped, unknown, warned
from ..lmcache_schema import EXTRA_KEYS, KEYS, NEWEST, RENAMED, SETUP_BY_NAME, TWINS, Key, ordered
from ..target import Target

BYTES = ("global_segment_size", "local_buffer_size")
"""Bytes; the positional setup makes 0 of "64MB"."""

GIBIBYTES = ("max_local_cpu_size", "max_local_disk_size", "reserve_local_cpu_size")
WITH_UNIT = re.compile(r"\s*[\d.]+\s*([kKMGT]i?[bB]?|s|ms|sec|seconds)\s*")

MEND_FILE = (
    "Correct the named line; with the playbooks: the profile in templates/profiles, then playbooks/provision.yml."
)


class File:
    """LMCache's file, with the words that name a place in it."""

    def __init__(self, config: Mapping[str, Any], version: str) -> None:
        self.path: str = config["path"]
        self.top: Mapping[str, Any] = config["document"] if isinstance(config["document"], Mapping) else {}
        extra = self.top.get("extra_config")
        self.extra: Mapping[str, Any] = extra if isinstance(extra, Mapping) else {}
        self.version = version
        self._lines: Mapping[str, int] = config["lines"]

    def place(self, key: str) -> str:
        return f"{self.path}:{self._lines.get(key, 1)}: {key}"

    def entries(self) -> Iterator[tuple[str, str, Any, Mapping[str, Key]]]:
        """(dotted key, key, value, the schema of its mapping)."""
        for key, value in self.top.items():
            yield key, key, value, KEYS
        for key, value in self.extra.items():
            yield f"extra_config.{key}", key, value, EXTRA_KEYS


def file_of(stack: Any, target: Target) -> File | None:
    """The file where there is one that can be read; what stands in the way is told by lmcache.file.readable."""
    config = stack["lmcache_config"]
    if target.connector != "lmcache-inprocess" or config is None or config["error"]:
        return None
    return File(config, stack["packages"].get("lmcache", NEWEST))


@check(
    "lmcache.file.readable",
    looks_at="Whether the file that LMCache reads (lmcache_config.yaml) is there, is YAML, and is a mapping.",
    why="Without its file LMCache takes its defaults: no remote store at all, and it says 'LMCache initialized'.",
    mend="Run playbooks/provision.yml, or correct LMCACHE_CONFIG_FILE and the YAML at the named line.",
    needs=("stack",),
)
def readable(stack: Any, target: Target) -> Iterator[Verdict]:
    if target.connector != "lmcache-inprocess" or not target.lmcache_config:
        return
    config = stack["lmcache_config"]
    if config is None:
        yield unknown(f"{target.lmcache_config}: {stack['problem'] or 'not read'}", subject=target.lmcache_config)
    elif config["error"] and "No such file" in config["error"] and target.stage == "before":
        yield skipped("not rendered yet: playbooks/provision.yml does it", target.lmcache_config)
    elif config["error"]:
        yield failed(config["error"], "a YAML file", "", target.lmcache_config)
    elif not isinstance(config["document"], Mapping):
        yield failed(f"a {type(config['document']).__name__}", "a mapping of keys", "", target.lmcache_config)
    else:
        yield passed(f"{len(config['document'])} keys", target.lmcache_config)


@check(
    "lmcache.key.unknown",
    looks_at="Every key of the file, against those that the installed LMCache reads.",
    why="An unknown key is dropped: at the top with a warning, in extra_config without a word. What it was to set "
    "keeps its default.",
    mend=MEND_FILE,
    needs=("stack",),
)
def key_unknown(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    if file is None:
        return
    for dotted, key, _value, schema in file.entries():
        if key not in schema and key not in RENAMED and not _near(key, schema):
            verdict = failed if schema is KEYS else warned
            yield verdict("unknown", f"a key that LMCache {file.version} reads", "", file.place(dotted))
    yield passed(f"held against LMCache {file.version}", file.path)


@check(
    "lmcache.key.misspelt",
    looks_at="Keys that are almost one that LMCache reads.",
    why="A misspelt key is dropped like an unknown one: 'mooncacke_prefer_local_alloc' was found in a bug report.",
    mend=MEND_FILE,
    needs=("stack",),
)
def key_misspelt(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    for dotted, key, _value, schema in file.entries() if file else ():
        near = _near(key, schema) if key not in schema and key not in RENAMED else ""
        if file and near:
            yield failed("unknown", f"did you mean {near}?", f"Write {near}.", file.place(dotted))


def _near(key: str, schema: Mapping[str, Key]) -> str:
    return next(iter(difflib.get_close_matches(key, schema, n=1, cutoff=0.85)), "")


@check(
    "lmcache.key.renamed",
    looks_at="Keys that have another name in the installed LMCache, or that it gave up or does not have yet.",
    why="LMCache knows the old names and drops most of them all the same ('Unknown configuration key').",
    mend=MEND_FILE,
    needs=("stack",),
)
def key_renamed(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    for dotted, key, _value, schema in file.entries() if file else ():
        if file is None:
            return
        known = schema.get(key)
        if known is not None and known.read_by(file.version):
            continue
        if schema is KEYS and key in RENAMED:
            yield failed("an older name", RENAMED[key], f"Write {RENAMED[key]}.", file.place(dotted))
        elif known is not None:
            spell = f"since {known.since}" if known.since else f"until {known.until}"
            yield failed(
                f"LMCache {file.version} does not read it", f"LMCache reads it {spell}", "", file.place(dotted)
            )


@check(
    "lmcache.key.ignored",
    looks_at="Known keys that do not reach Mooncake in the installed version.",
    why="From 0.4.5 on LMCache hands Mooncake names that it does not know: master_server_address and device_name "
    "are dropped, the client dials 127.0.0.1:50051 and takes whatever device or TCP, setup fails with -1, and "
    "LMCache logs success; every lookup then counts as a hit that cannot be loaded.",
    mend="Write both spellings: mooncake_master_server_addr beside master_server_address, mooncake_rdma_devices "
    "beside device_name.",
    needs=("stack",),
)
def key_ignored(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    if file is None or ordered(file.version) < ordered(SETUP_BY_NAME):
        return
    for key, twin in TWINS.items():
        if file.extra.get(key) and not file.extra.get(twin):
            seen = f"LMCache {file.version} does not hand it on"
            yield failed(seen, f"the same value in {twin} too", "", file.place(f"extra_config.{key}"))
        elif file.extra.get(twin):
            yield passed(str(file.extra[twin]), file.place(f"extra_config.{twin}"))


@check(
    "lmcache.value.type",
    looks_at="The type of every value.",
    why="'Failed to convert value', and the value becomes None: the engine then fails far from the cause, or does "
    "without.",
    mend=MEND_FILE,
    needs=("stack",),
)
def value_type(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    for dotted, key, value, schema in file.entries() if file else ():
        known = schema.get(key)
        if file is None or known is None or value is None or _fits(value, known.type):
            continue
        # A unit and a quoted boolean have checks of their own.
        if not _has_unit(value) and not (known.type == "bool" and isinstance(value, str)):
            yield failed(f"{value!r}", known.type, "", file.place(dotted))


def _fits(value: Any, type_name: str) -> bool:
    if type_name in ("int", "float"):
        if isinstance(value, str):
            return bool(re.fullmatch(r"\d+" if type_name == "int" else r"[\d.]+", value))
        return isinstance(value, int if type_name == "int" else (int, float)) and not isinstance(value, bool)
    types: dict[str, tuple[type, ...]] = {
        "bool": (bool, int),
        "str": (str,),
        "list": (list, str, int, float),
        "dict": (dict, str),
    }
    return isinstance(value, types[type_name])


def _has_unit(value: Any) -> bool:
    return isinstance(value, str) and WITH_UNIT.fullmatch(value) is not None


@check(
    "lmcache.value.unit",
    looks_at="Sizes and times with a unit in them, or of a magnitude that another unit would have.",
    why="global_segment_size: '64MB' becomes 0 bytes, max_local_cpu_size: '20 GB' becomes None, both without an "
    "error; a number of bytes where GiB are wanted asks for more than any host has.",
    mend="global_segment_size and local_buffer_size in whole bytes, max_local_cpu_size in GiB, transfer_timeout in "
    "seconds, lookup_timeout_ms in milliseconds; numbers alone.",
    needs=("stack",),
)
def value_unit(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    for dotted, key, value, _schema in file.entries() if file else ():
        name = key.replace("mooncake_", "", 1)
        allowed = _unit_fault(name, value)
        if file and allowed:
            yield failed(f"{value!r}", allowed, "", file.place(dotted))


def _unit_fault(key: str, value: Any) -> str:
    """What is allowed, where the value is of another unit; else empty."""
    in_bytes, in_gib = key in BYTES, key in GIBIBYTES
    if _has_unit(value) and (in_bytes or in_gib or key in ("transfer_timeout", "lookup_timeout_ms", "chunk_size")):
        return "bytes, a whole number" if in_bytes else "GiB, a number" if in_gib else "a number alone"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    suspicions = (
        (in_bytes and 0 < value < 1024, "bytes: this looks like GiB"),
        (in_gib and value > 100_000, "GiB: this looks like bytes"),
        (key == "transfer_timeout" and value >= 1000, "seconds: this looks like milliseconds"),
        (key == "lookup_timeout_ms" and 0 < value < 50, "milliseconds: this looks like seconds"),
    )
    return next((allowed for suspicious, allowed in suspicions if suspicious), "")


@check(
    "lmcache.value.boolean",
    looks_at="Booleans that are written as strings.",
    why="Of strings only 'true' and '1' are true: local_cpu: 'yes' is false, without a word.",
    mend="Write true or false, without quotes.",
    needs=("stack",),
)
def value_boolean(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    for dotted, key, value, schema in file.entries() if file else ():
        known = schema.get(key)
        if file and known and known.type == "bool" and isinstance(value, str):
            if value.lower() in ("true", "1"):
                yield warned(f"the string {value!r}", "true or false, without quotes", "", file.place(dotted))
            else:
                yield failed(
                    f"the string {value!r}, taken as false", "true or false, without quotes", "", file.place(dotted)
                )


@check(
    "lmcache.size.zero",
    looks_at="Sizes that may not be 0.",
    why="max_local_cpu_size is the pinned staging buffer also where local_cpu is false: with 0 nothing can be loaded.",
    mend=MEND_FILE,
    needs=("stack",),
)
def size_zero(stack: Any, target: Target) -> Iterator[Verdict]:
    file = file_of(stack, target)
    for key in ("max_local_cpu_size", "chunk_size") if file else ():
        if file and file.top.get(key) == 0:
            yield failed("0", "above 0", "", file.place(key))


CHECKS: tuple[Check, ...] = (
    readable,
    key_unknown,
    key_misspelt,
    key_renamed,
    key_ignored,
    value_type,
    value_unit,
    value_boolean,
    size_zero,
)
