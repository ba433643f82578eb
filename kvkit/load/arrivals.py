"""When requests want to start: the arrival processes of an open loop, as offsets from the round's start. Pure.

The mean gap is exactly the stated one: random gaps are scaled to it, as `vllm bench serve` does, because few requests
would else offer a rate that nobody asked for (30 Poisson gaps scatter by 18 %). The first request arrives at 0.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

from kvkit.config import Load
from kvkit.workload.request import Request


class ArrivalError(Exception):
    """The workload can't arrive like that. The message is complete: print it as it is."""


def start_offsets(load: Load, requests: Sequence[Request], seed: int) -> tuple[float, ...] | None:
    """Seconds after the round's start at which each request wants to start; `None` is a closed loop.

    The same settings, requests and seed give the same offsets: both modes and all rounds of a run share them.

    Raises:
        ArrivalError: `trace`, but the workload has no times of its own.
    """
    if load.process == "closed":
        return None
    if load.process == "trace":
        return _recorded(requests)
    return tuple(accumulate(_gaps(load, len(requests) - 1, seed), initial=0.0))


def rate_of(instants: Sequence[float]) -> float | None:
    """Requests per second that start at these instants: gaps over the time that they span; `None` if they span none."""
    span = max(instants) - min(instants)
    return (len(instants) - 1) / span if span > 0 else None


def _gaps(load: Load, count: int, seed: int) -> Iterator[float]:
    if load.process == "ramp":
        yield from _ramp_gaps(load, count)
        return
    assert load.rate is not None
    if load.process == "constant":
        yield from (1 / load.rate for _ in range(count))
        return
    # The gamma distribution with shape 1 is the exponential one: a Poisson process.
    shape = load.burstiness or 1.0
    source = random.Random(f"{seed}/arrivals")  # noqa: S311 - repeatable is what is wanted, not secret
    gaps = [source.gammavariate(shape, 1.0) for _ in range(count)]
    total = sum(gaps)
    yield from (gap * count / (load.rate * total) for gap in gaps)


def _ramp_gaps(load: Load, count: int) -> Iterator[float]:
    """Each gap is that of the rate between `ramp_from` and `ramp_to` which the request has reached."""
    assert load.ramp_from is not None
    assert load.ramp_to is not None
    for i in range(count):
        yield 1 / (load.ramp_from + (load.ramp_to - load.ramp_from) * i / max(1, count - 1))


def _recorded(requests: Sequence[Request]) -> tuple[float, ...]:
    times = [request.arrival_s for request in requests if request.arrival_s is not None]
    if len(times) < len(requests):
        raise ArrivalError(
            "load.arrival: found 'trace', but this scenario's requests have no times of their own: "
            "use it with the scenario trace alone, or choose closed, constant, poisson, gamma or ramp"
        )
    return tuple(times)
