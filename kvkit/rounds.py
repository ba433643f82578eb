"""What is made of a round after it: the facts that it is judged by, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from kvkit.config import Config, Isolation
from kvkit.load.lag import LoopLag, summarise_lag
from kvkit.observe import lmcache, vllm
from kvkit.observe.servers import Changes
from kvkit.observe.traffic import store_traffic
from kvkit.observe.validity import RoundFacts, judge
from kvkit.results.stats import Counters, GeneratorClock, RoundSummary, TokensBySource, Traffic
from kvkit.results.summary import summarise_round
from kvkit.results.tally import Tally
from kvkit.workload import Workload


@dataclass(frozen=True, slots=True)
class RoundSeen:
    """What was seen around the requests of a round, or of the rest of one that was cut off."""

    number: int
    with_cache: bool
    """The service was started with the cache under test."""
    isolation: Isolation
    changes: Changes
    incidents: Sequence[str | None]
    """What went wrong around it, if something did."""
    lags: Sequence[LoopLag]
    """Of the event loops that sent the requests; empty where nothing was left to send."""
    generators: Sequence[GeneratorClock]
    """Processes on other hosts that sent a share of them."""
    traffic: Traffic | None
    """The store's, looked at while they were sent."""
    held_to_schedule: bool
    requests_before: int
    """Requests of the round that had ended when it was cut off; 0: it was not."""


def summarise(seen: RoundSeen, config: Config, workload: Workload, *, part: Tally, whole: Tally) -> RoundSummary:
    """Judge a round by what the servers counted, and summarise it.

    Args:
        seen: what was seen around it.
        config: says when requests start, and how many may fail.
        workload: what was meant to be sent.
        part: of the records since the servers were looked at.
        whole: of all records of the round.
    """
    cut_off = _cut_off(seen, workload)
    changes = seen.changes if cut_off is None else Changes.not_known(cut_off)
    verdict = judge(_facts(seen, workload, part, cut_off))
    return summarise_round(
        whole,
        number=seen.number,
        isolation=seen.isolation,
        by_source=TokensBySource(**asdict(vllm.attribute(changes.vllm))),
        counters=Counters(
            vllm=dict(changes.vllm.values),
            lmcache=dict(changes.lmcache.values),
            mooncake=dict(changes.mooncake.values),
        ),
        valid=verdict.valid,
        invalid_reasons=verdict.reasons,
        max_failed_ratio=config.test.max_failed_ratio,
        client=summarise_lag(seen.lags, part, held_to_schedule=seen.held_to_schedule, generators=seen.generators)
        if seen.lags
        else None,
        traffic=seen.traffic,
        ideal_hit_ratio=workload.ideal_hit_ratio_of(seen.number),
        open_loop=config.load.process != "closed",
    )


def _cut_off(seen: RoundSeen, workload: Workload) -> str | None:
    """What is not known of a round that was cut off."""
    if not seen.requests_before:
        return None
    return (
        f"the round was cut off after {seen.requests_before} of {len(workload.requests)} requests and resumed: what "
        "the servers counted until then and the throughput are not known, and caches may have changed meanwhile"
    )


def _facts(seen: RoundSeen, workload: Workload, tally: Tally, cut_off: str | None) -> RoundFacts:
    changes = seen.changes
    return RoundFacts(
        with_cache=seen.with_cache,
        number=seen.number,
        device_cleared=seen.isolation != "none",
        requests=tally.total,
        failed=tally.failed,
        ideal_hit_ratio=workload.ideal_hit_ratio,
        stated_prompt_tokens=tally.expected_prompt_tokens,
        usage_prompt_tokens=tally.prompt_tokens,
        cached_tokens=tally.cached_tokens,
        sources=vllm.attribute(changes.vllm),
        preemptions=vllm.preemptions(changes.vllm),
        failed_by_engine=vllm.failed_requests(changes.vllm),
        failed_loads=vllm.failed_loads(changes.vllm) + lmcache.failed_loads(changes.lmcache),
        store_read=store_traffic(changes).read_something,
        incidents=tuple(dict.fromkeys(incident for incident in seen.incidents if incident is not None)),
        unknown=changes.vllm.problem,
        cut_off=cut_off,
    )
