"""One server's counters at one moment, and how much they rose between two.

"Not told" is never 0: a server that can't be read gives a reading without numbers and with the reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

READ_TIMEOUT_S = 30.0
MERGED_LABELS = frozenset({"engine", "model_name", "cache_salt"})
"""Labels over which samples are summed: the figures are of a server as a whole."""


@dataclass(frozen=True, slots=True)
class Names:
    """Which samples of a server are read."""

    counters: tuple[str, ...]
    """Names as exposed; one that ends in `*` stands for every counter that begins so."""
    levels: tuple[str, ...] = ()
    """Gauges of an amount that rises and falls: how it moved during a round tells something."""
    states: tuple[str, ...] = ()
    """Gauges that matter only at the moment: is somebody at work?"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one server told at one moment.

    Keys are names as exposed with the labels that tell samples apart: `name{label="value"}`.
    """

    counters: Mapping[str, float] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)
    states: Mapping[str, float] = field(default_factory=dict)
    process_started_s: float | None = None
    """`process_start_time_seconds`: another value means another process, whose counters began at 0."""
    problem: str | None = None
    """Why nothing could be read."""


@dataclass(frozen=True, slots=True)
class Change:
    """How much one server's counters rose, and its levels moved, between two readings."""

    values: Mapping[str, float] = field(default_factory=dict)
    problem: str | None = None
    """Why it is not known."""

    def total(self, name: str, **labels: str) -> float | None:
        """Sum over the samples of this name that carry these labels; `None` when the server has no such name."""
        told = [key for key in self.values if key == name or key.startswith(name + "{")]
        if not told:
            return None
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(self.values[key] for key in told if all(label in key for label in wanted))


async def read(http: httpx.AsyncClient, url: str, names: Names, *, timeout_s: float = READ_TIMEOUT_S) -> Reading:
    """Read a `/metrics` page. Never raises for what a server does: the reading says it."""
    try:
        response = await http.get(url, timeout=timeout_s)
    except (httpx.HTTPError, ValueError) as error:  # ValueError: no such host name can exist
        return Reading(problem=f"{url}: no answer ({error or type(error).__name__})")
    if response.status_code != 200:
        return Reading(problem=f"{url}: HTTP {response.status_code}")
    try:
        return parse(response.text, names)
    except ValueError as error:
        return Reading(problem=f"{url}: not in Prometheus' text format ({str(error)[:100]})")


def parse(text: str, names: Names) -> Reading:
    """Pick the named samples out of Prometheus' text format.

    Raises:
        ValueError: the text is in another format.
    """
    counters: dict[str, float] = {}
    levels: dict[str, float] = {}
    states: dict[str, float] = {}
    started: float | None = None
    # Histogram buckets are most of a page, slow to parse, and none is read.
    lines = "\n".join(line for line in text.split("\n") if "_bucket{" not in line)
    for family in _families(lines):
        for sample in family.samples:
            if sample.name == "process_start_time_seconds":
                started = sample.value
            elif name := _counter_name(sample.name, family.type, names.counters):
                _add(counters, name, sample)
            elif sample.name in names.levels:
                _add(levels, sample.name, sample)
            elif sample.name in names.states:
                _add(states, sample.name, sample)
    return Reading(counters, levels, states, started)


def _families(text: str) -> Iterator[Metric]:
    try:
        yield from text_string_to_metric_families(text)
    except IndexError as error:  # prometheus_client 0.26 looks for the first letter of a label that has no name
        raise ValueError("a label without a name") from error


def change(before: Reading, after: Reading) -> Change:
    """How far a server got from one reading to the next.

    A counter that is only in the later reading began at 0: many appear with their first event. One that fell or
    vanished belongs to a process that was started in between, and then nothing is known. The sum of a histogram may
    fall without that: vLLM 0.32 adds a negative time for a request that fails before it is scheduled. It is left out.
    """
    if problem := before.problem or after.problem:
        return Change(problem=problem)
    if before.process_started_s != after.process_started_s:
        return Change(problem="the server was restarted in between")
    for key, earlier in before.counters.items():
        later = after.counters.get(key)
        if later is None or (later < earlier and not _is_sum(key)):
            seen = "is gone" if later is None else f"fell to {later:g}"
            return Change(problem=f"the server was restarted in between: {key} was {earlier:g} and {seen}")
    return Change(_rise(before.counters, after.counters) | _rise(before.levels, after.levels))


def add(changes: Sequence[Change]) -> Change:
    """The sum over several servers of a kind, or over one server's stretches of time: unknown when one of them is."""
    if problem := next((each.problem for each in changes if each.problem is not None), None):
        return Change(problem=problem)
    total: Counter[str] = Counter()
    for each in changes:
        total.update(each.values)
    return Change(dict(total))


def _rise(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {
        key: later - before.get(key, 0.0)
        for key, later in after.items()
        if not (_is_sum(key) and later < before.get(key, 0.0))
    }


def _is_sum(key: str) -> bool:
    return key.partition("{")[0].endswith("_sum")


def _counter_name(name: str, kind: str, wanted: Iterable[str]) -> str | None:
    for candidate in wanted:
        # The parser adds `_total` to a counter that was exposed without it.
        if name in (candidate, candidate + "_total"):
            return candidate
        if candidate.endswith("*") and kind == "counter" and name.startswith(candidate[:-1]):
            return name
    return None


def _add(values: dict[str, float], name: str, sample: Sample) -> None:
    if not math.isfinite(sample.value):
        return
    labels = [f'{key}="{value}"' for key, value in sorted(sample.labels.items()) if key not in MERGED_LABELS]
    key = f"{name}{{{','.join(labels)}}}" if labels else name
    values[key] = values.get(key, 0.0) + sample.value
