"""Declares metric families as vLLM does: prefix `vllm:`, labels `model_name` and `engine`, present from the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LABELS = ("model_name", "engine")
ENGINE = "0"
"""The label of the only engine core."""


class Families:
    """Families in one registry; what is returned already carries the labels of this engine."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._registry = registry
        self._values = (model, ENGINE)

    def counter(self, name: str, documentation: str) -> Counter:
        family = Counter(f"vllm:{name}", documentation, LABELS, registry=self._registry)
        return family.labels(*self._values)

    def counters(self, name: str, documentation: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        """One counter per value of a further label."""
        family = Counter(f"vllm:{name}", documentation, (*LABELS, label), registry=self._registry)
        return {value: family.labels(*self._values, value) for value in values}

    def histogram(self, name: str, documentation: str, buckets: Sequence[float]) -> Histogram:
        family = Histogram(f"vllm:{name}", documentation, LABELS, registry=self._registry, buckets=buckets)
        return family.labels(*self._values)

    def gauge(self, name: str, documentation: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for at each scrape."""
        family = Gauge(f"vllm:{name}", documentation, LABELS, registry=self._registry)
        family.labels(*self._values).set_function(value)

    def gauges(self, name: str, documentation: str, label: str, values: Mapping[str, Callable[[], float]]) -> None:
        family = Gauge(f"vllm:{name}", documentation, (*LABELS, label), registry=self._registry)
        for key, value in values.items():
            family.labels(*self._values, key).set_function(value)

    def info(self, name: str, documentation: str, facts: Mapping[str, str]) -> None:
        """A gauge that is always 1 and tells facts as labels; as in vLLM, without the model's name."""
        family = Gauge(f"vllm:{name}", documentation, ("engine", *facts), registry=self._registry)
        family.labels(ENGINE, *facts.values()).set(1)
