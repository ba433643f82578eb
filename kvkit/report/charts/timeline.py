"""When each request ran, and what the store gave meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import altair as alt

from kvkit.report import wording
from kvkit.report.charts.figure import LEFT_AXIS, Figure, Panel, Table, layered, rows_of
from kvkit.report.charts.theme import colour
from kvkit.results.comparison import RoundPair, ScenarioComparison
from kvkit.results.curves import StoreRate, store_rates, thinned
from kvkit.results.record import Record
from kvkit.results.run import Run
from kvkit.results.stats import Mode, RoundSummary

_REQUESTS = 100
_RATES = 60
_HEIGHT = 170
_STORE_HEIGHT = 90
_MB = 1e6


@dataclass(frozen=True, slots=True)
class _Side:
    """One mode's part of a round."""

    of: RoundPair
    mode: Mode
    summary: RoundSummary
    records: list[Record]
    """In the order of their start; at least one."""

    @property
    def title(self) -> str:
        return f"{wording.round_title(self.of)}, {self.mode}"

    @property
    def end_s(self) -> float:
        return max(map(_end_s, self.records))

    @property
    def rates(self) -> list[StoreRate]:
        return store_rates(self.summary.traffic, _RATES) if self.summary.traffic else []

    @property
    def read_mb(self) -> float | None:
        return self.summary.traffic.read_bytes[-1] / _MB if self.summary.traffic else None


def timeline(this: ScenarioComparison) -> Figure | None:
    """Of the newest pair of runs. `None`: it kept no records."""
    newest = this.run_pairs[-1]
    sides = [
        _Side(each, run.stats.mode, summary, records)
        for each in newest.rounds
        for run, summary in zip(newest.runs, (each.with_cache, each.baseline), strict=True)
        if (records := _records(run, each.number))
    ]
    if not sides:
        return None
    return Figure(
        subject="timeline",
        title="Requests over time, and what the store gave",
        told="; ".join(map(_told, sides)) + ".",
        panels=tuple(_panels(sides)),
        table=_table(sides),
        reading="A request a line, in the order of their start: the thick part lasts to its first token, the thin part "
        "to its last; a cross is a request that failed. Below it, what was read from the store (filled) and by how "
        "much it grew (dashed), as its master counted about once a second.",
        notes=tuple(_notes(this, sides)),
    )


def _records(run: Run, number: int) -> list[Record]:
    return sorted((record for record in run.records if record.round == number), key=lambda record: record.start_s)


def _end_s(record: Record) -> float:
    return record.start_s + (record.e2e_s or record.ttft_s or 0.0)


def _told(side: _Side) -> str:
    return (
        f"{side.title}: {len(side.records)} requests within {wording.number(side.end_s)} s, "
        f"MB read from the store meanwhile: {wording.number(side.read_mb)}"
    )


def _notes(this: ScenarioComparison, sides: Sequence[_Side]) -> Iterator[str]:
    if any(side.summary.traffic is None for side in sides):
        yield "Where there is no such chart, the store did not tell, or the results are older than the looks at it."
    if len(this.run_pairs) > 1:
        yield "Of the newest pair of runs."
    most = max(len(side.records) for side in sides)
    if most > _REQUESTS:
        yield f"Of {most:,} requests {_REQUESTS} are drawn, evenly in the order of their start."


def _panels(sides: Sequence[_Side]) -> Iterator[Panel]:
    """Both modes of a round share their time, and all charts of the store their rate, so that they can be compared."""
    rates = [rate for side in sides for rate in side.rates]
    most_mb_s = max((max(rate.read, rate.stored or 0.0) / _MB for rate in rates), default=0.0) or 1.0
    for side in sides:
        end_s = max(other.end_s for other in sides if other.of is side.of) or 1.0
        requests = _requests(side.records, side.mode, _x(end_s, told=not side.rates))
        yield Panel(side.title, (requests, _store(side.rates, end_s, most_mb_s)) if side.rates else (requests,))


def _requests(found: Sequence[Record], mode: Mode, x: alt.X) -> alt.LayerChart:
    rows = [
        {
            "id": record.request_id,
            "place": place,
            "start": round(record.start_s, 3),
            "first": round(record.start_s + record.ttft_s, 3) if record.ttft_s is not None else None,
            "end": round(_end_s(record), 3),
            "ok": record.ok,
        }
        for place, record in thinned(list(enumerate(found, start=1)), _REQUESTS)
    ]
    size = max(2.0, min(7.0, _HEIGHT / len(rows) * 0.7))
    base = alt.Chart(rows_of(rows)).encode(
        y=alt.Y(
            "place:Q",
            title="request",
            scale=alt.Scale(domain=[0, len(found) + 1], nice=False, reverse=True),
            axis=alt.Axis(
                tickCount=4, format=",~r", tickMinStep=1, minExtent=LEFT_AXIS, maxExtent=LEFT_AXIS, grid=False
            ),
        ),
        tooltip=[
            alt.Tooltip("id:N", title="request"),
            alt.Tooltip("start:Q", title="start, s", format=",.3f"),
            alt.Tooltip("first:Q", title="first token, s", format=",.3f"),
            alt.Tooltip("end:Q", title="end, s", format=",.3f"),
        ],
    )
    answered = base.transform_filter("datum.first !== null")
    waiting = answered.mark_rule(strokeWidth=size, color=colour(mode)).encode(x=x, x2="first:Q")
    decoding = answered.mark_rule(strokeWidth=max(1.0, size * 0.3), color=colour("muted")).encode(
        x=alt.X("first:Q", title=x["title"]), x2="end:Q"
    )
    failed = (
        base.transform_filter("!datum.ok")
        .mark_point(shape="cross", angle=45, filled=True, size=70, color=colour("ink"))
        .encode(x=alt.X("start:Q", title=x["title"]))
    )
    return layered(decoding, waiting, failed, height=_HEIGHT)


def _x(end_s: float, *, told: bool) -> alt.X:
    """Time; `told`: with its figures, which stand below the last of the charts that share it."""
    return alt.X(
        "start:Q",
        title="s from the round's start" if told else None,
        scale=alt.Scale(domain=[0, end_s], nice=False),
        axis=alt.Axis(tickCount=6, format=",~r", labels=told, ticks=told),
    )


def _store(rates: Sequence[StoreRate], end_s: float, most_mb_s: float) -> alt.LayerChart:
    rows = [
        {
            "start": round(max(0.0, rate.from_s), 3),
            "to": round(min(rate.to_s, end_s), 3),
            "read": round(rate.read / _MB, 2),
            "stored": None if rate.stored is None else round(rate.stored / _MB, 2),
        }
        for rate in rates
        if rate.from_s < end_s
    ]
    tooltip = [
        alt.Tooltip("start:Q", title="from, s", format=",.1f"),
        alt.Tooltip("to:Q", title="to, s", format=",.1f"),
        alt.Tooltip("read:Q", title="read, MB/s", format=",.1f"),
        alt.Tooltip("stored:Q", title="growth, MB/s", format=",.1f"),
    ]
    base = alt.Chart(rows_of(rows))
    x = _x(end_s, told=True)
    y = alt.Y(
        "read:Q",
        title="store, MB/s",
        scale=alt.Scale(domain=[0, most_mb_s], nice=True, clamp=True),
        axis=alt.Axis(tickCount=3, format=",~r", minExtent=LEFT_AXIS, maxExtent=LEFT_AXIS),
    )
    read = base.mark_rect(color=colour("external"), stroke=None).encode(
        x=x, x2="to:Q", y=y, y2=alt.Y2Datum(0), tooltip=tooltip
    )
    grown = (
        base.transform_filter("datum.stored > 0")
        .mark_rule(color=colour("ink"), strokeDash=[4, 3], strokeWidth=1.8)
        .encode(x=alt.X("start:Q", title=x["title"]), x2="to:Q", y="stored:Q", tooltip=tooltip)
    )
    return layered(read, grown, height=_STORE_HEIGHT)


def _table(sides: Sequence[_Side]) -> Table:
    return Table(
        ("Round", "Mode", "What", "From, s", "First token, s", "To, s", "Read, MB/s", "Growth, MB/s"),
        tuple(row for side in sides for row in _table_rows(side)),
        text_columns=3,
    )


def _table_rows(side: _Side) -> Iterator[tuple[str, ...]]:
    name = wording.round_title(side.of), side.mode
    for record in thinned(side.records, _REQUESTS):
        first = record.start_s + record.ttft_s if record.ttft_s is not None else None
        times = (wording.number(value, 3) for value in (record.start_s, first, _end_s(record)))
        yield *name, record.request_id + ("" if record.ok else " (failed)"), *times, "", ""
    for rate in side.rates:
        grown = None if rate.stored is None else rate.stored / _MB
        amounts = wording.number(rate.read / _MB), wording.number(grown)
        yield *name, "store", wording.number(rate.from_s, 3), "", wording.number(rate.to_s, 3), *amounts
