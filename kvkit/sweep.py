"""One run a level of concurrency or rate, until the service is saturated. Judged is the last round of each level."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from kvkit import bench
from kvkit.config import Config, Isolation
from kvkit.ending import Ending
from kvkit.load.arrivals import rate_of
from kvkit.report.progress import RunReporter
from kvkit.results.errors import ResultsError
from kvkit.results.reader import read_records
from kvkit.results.record import Record
from kvkit.results.stats import Engine, Mode, RoundSummary, RunStats

LEAST_GAIN = 0.05
"""Closed loop: a throughput that rises by less over the level before has stopped rising. Two runs of the same level lie
within a few percent of each other, so less could not be told from chance."""

LEAST_SHARE = 0.95
"""Open loop: a service that completes a smaller share of the offered rate falls behind, and its queue grows as long as
the round lasts. The last request is given the time that a request usually takes (the median E2E of the first level);
it decides less, the more often that time goes into the round."""

Variable = Literal["concurrency", "rate"]
_KEYS: Mapping[Variable, str] = {"concurrency": "test.concurrency", "rate": "load.rate"}


class SweepError(Exception):
    """The sweep can't be made. The message is complete: print it as it is."""


@dataclass(frozen=True, slots=True)
class Level:
    variable: Variable
    value: float
    config: Config

    @property
    def label(self) -> str:
        return f"{self.variable} {self.value:g}"


@dataclass(frozen=True, slots=True)
class LevelFigures:
    """What a level's last round came to."""

    level: Level
    summary: RoundSummary
    offered_per_s: float | None
    """Requests per second by their scheduled starts; `None` where they span no time."""
    served_s: float | None
    """From the first scheduled start to the last token; `None` where no request succeeded."""
    in_flight: int
    """Most requests that were in flight at once."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep that has ended."""

    levels: tuple[LevelFigures, ...]
    stopped: str
    """Why it ended, as a sentence."""
    ending: Ending


Configure = Callable[[Mapping[str, tuple[str, Any]]], Config]
"""Loads the configuration with these values over it, as `kvkit.config_file.load_config` takes them."""


def plan(asked: str, configure: Configure) -> tuple[Level, ...]:
    """The levels of `concurrency=1,2,4` or `rate=0.5,1`, each with a configuration and a seed of its own.

    A level's seed comes from the configured one and the level, so both modes send the same prompts at the same level
    and no level sends what another has sent.

    Raises:
        SweepError: there is no such sweep, or it has no meaning with this configuration.
        ConfigError: the configuration can't be used.
    """
    variable, values = _parse(asked)
    seed = configure({}).test.seed
    levels = tuple(
        Level(
            variable,
            value,
            configure(
                {
                    _KEYS[variable]: ("--sweep", value),
                    "test.seed": ("--sweep", _seed(seed, f"{variable}={value:g}")),
                }
            ),
        )
        for value in values
    )
    config = levels[0].config
    if len(config.scenarios) > 1:
        raise SweepError(
            f"--sweep: found the scenarios {', '.join(config.scenarios)}; saturation is told of one: choose with "
            "--scenarios"
        )
    if variable == "rate" and config.workload.think_time_s:
        raise SweepError(
            f"--sweep: found rate with workload.think_time_s {config.workload.think_time_s:g}: turns that think follow "
            "the server, so no rate is offered; allowed is 0, or --sweep concurrency"
        )
    if variable == "concurrency" and config.load.process != "closed":
        raise SweepError(
            f"--sweep: found concurrency with arrival {config.load.process}; allowed is arrival closed, or --sweep rate"
        )
    return levels


def run(levels: Sequence[Level], *, mode: Mode, results_dir: Path, reporter: RunReporter) -> Sweep:
    """Measure one level after the other, until one saturates the service, is INVALID or does not finish."""
    measured: list[LevelFigures] = []
    ending = Ending.DONE
    for level in levels:
        reporter.notice(f"sweep: {level.label}, seed {level.config.test.seed}")
        watching = _Watching(reporter)
        ending = bench.run(level.config, mode=mode, results_dir=results_dir, reporter=watching)
        if watching.kept is None:
            return Sweep(tuple(measured), f"{level.label} was not measured to its end", ending)
        try:
            measured.append(_figures(level, *watching.kept))
        except ResultsError as error:
            return Sweep(tuple(measured), str(error), Ending.NOT_FINISHED)
        if (reason := why_to_stop(measured)) is not None:
            return Sweep(tuple(measured), reason, ending)
    return Sweep(tuple(measured), f"the service was not saturated at {levels[-1].label}, the last level", ending)


def why_to_stop(measured: Sequence[LevelFigures]) -> str | None:
    """Why a higher level than the last one measured would show nothing; `None` where it might."""
    this = measured[-1]
    if this.summary.valid is False:
        return f"{this.level.label} is INVALID: {this.summary.invalid_reasons[0]}"
    return _behind(measured) if this.level.variable == "rate" else _no_longer_rising(measured)


def _behind(measured: Sequence[LevelFigures]) -> str | None:
    this, usual_ms = measured[-1], measured[0].summary.e2e_ms.p50
    if not this.offered_per_s or this.served_s is None or usual_ms is None or this.served_s <= usual_ms / 1000:
        return None
    completed_per_s = (this.summary.requests.succeeded - 1) / (this.served_s - usual_ms / 1000)
    if (share := completed_per_s / this.offered_per_s) >= LEAST_SHARE:
        return None
    return (
        f"the service is saturated at {this.level.label}: it completed {share:.0%} of the offered rate "
        f"(below {LEAST_SHARE:.0%} it falls behind)"
    )


def _no_longer_rising(measured: Sequence[LevelFigures]) -> str | None:
    this = measured[-1]
    if this.in_flight < this.level.value:
        return (
            f"{this.level.label} was not reached: at most {this.in_flight} requests were in flight at once, "
            "raise --requests (or the number of sessions)"
        )
    for before, after in pairwise(measured[-2:]):
        ours, theirs = after.summary.throughput.requests_per_s, before.summary.throughput.requests_per_s
        if ours is not None and theirs and (gain := ours / theirs - 1) < LEAST_GAIN:
            return (
                f"the service is saturated at {after.level.label}: throughput changed by {gain:+.1%} over "
                f"{before.level.label} (a rise is at least {LEAST_GAIN:.0%})"
            )
    return None


def _figures(level: Level, stats: RunStats, path: Path) -> LevelFigures:
    summary = stats.rounds[-1]
    records = [record for record in read_records(path, stats) if record.round == summary.round]
    scheduled = [record.scheduled_s for record in records]
    ends = [record.start_s + record.e2e_s for record in records if record.ok and record.e2e_s is not None]
    return LevelFigures(
        level=level,
        summary=summary,
        offered_per_s=rate_of(scheduled),
        served_s=max(ends) - min(scheduled) if ends else None,
        in_flight=_most_in_flight(records),
    )


def _most_in_flight(records: Sequence[Record]) -> int:
    """By starts and last tokens; a failed request without a token counts for no time."""
    changes = [(record.start_s, 1) for record in records]
    changes += [(record.start_s + (record.e2e_s or 0.0), -1) for record in records]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _parse(asked: str) -> tuple[Variable, list[float]]:
    name, _, listed = asked.partition("=")
    try:
        values = [float(value) for value in listed.split(",")]
    except ValueError:
        values = []
    rising = bool(values) and values[0] > 0 and all(one < other for one, other in pairwise(values))
    if name == "rate" and rising:
        return "rate", values
    if name == "concurrency" and rising and all(value == int(value) for value in values):
        return "concurrency", [int(value) for value in values]
    raise SweepError(
        f"--sweep: found {asked!r}, allowed is concurrency=1,2,4 (whole numbers) or rate=0.5,1,2 (requests/s), rising"
    )


def _seed(seed: int, level: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{level}".encode()).digest()[:4])


class _Watching:
    """Passes a run's story on, and keeps its end."""

    def __init__(self, reporter: RunReporter) -> None:
        self._reporter = reporter
        self.kept: tuple[RunStats, Path] | None = None

    def run_started(self, mode: Mode, engine: Engine, isolation: Isolation) -> None:
        self._reporter.run_started(mode, engine, isolation)

    def scenario_started(self, scenario: str, requests: int, rounds: int) -> None:
        self._reporter.scenario_started(scenario, requests, rounds)

    def round_started(self, number: int, rounds: int, requests: int) -> None:
        self._reporter.round_started(number, rounds, requests)

    def request_ended(self, record: Record) -> None:
        self._reporter.request_ended(record)

    def round_ended(self, summary: RoundSummary) -> None:
        self._reporter.round_ended(summary)

    def scenario_ended(self, stats: RunStats, stats_path: Path) -> None:
        self.kept = (stats, stats_path)
        self._reporter.scenario_ended(stats, stats_path)

    def notice(self, text: str) -> None:
        self._reporter.notice(text)

    def run_failed(self, message: str) -> None:
        self._reporter.run_failed(message)
