"""When each request ran, and what the store gave meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def timeline(this: ScenarioComparison) -> Figure | None:
    """Of the newest pair of runs. `None`: it kept no records."""
    newest = this.run_pairs[-1]
    rounds = [
        (each, run.stats.mode, summary, _records(run, each.number))
        for each in newest.rounds
        for run, summary in zip(newest.runs, (each.with_cache, each.baseline), strict=True)
    ]
    rounds = [each for each in rounds if each[3]]
    if not rounds:
        return None
    ends = {
        number: max(_end_s(record) for each, _, _, found in rounds if each.number == number for record in found)
        for number in {each.number for each, *_ in rounds}
    }
    rates = [rate for *_, summary, _ in rounds for rate in _rates(summary)]
    most_mb_s = max((max(rate.read, rate.stored or 0.0) / _MB for rate in rates), default=0.0) or 1.0
    return Figure(
        subject="timeline",
        title="Requests over time, and what the store gave",
        told="; ".join(_told(each, mode, summary, found) for each, mode, summary, found in rounds) + ".",
        panels=tuple(
            Panel(
                f"{wording.round_title(each)}, {mode}",
                tuple(_charts(found, mode, _rates(summary), ends[each.number], most_mb_s)),
            )
            for each, mode, summary, found in rounds
        ),
        table=_table(rounds),
        reading="A request a line, in the order of their start: the thick part lasts to its first token, the thin part "
        "to its last; a cross is a request that failed. Below it, what was read from the store (filled) and by how "
        "much it grew (dashed), as its master counted about once a second.",
        notes=tuple(_notes(this, rounds)),
    )


def _records(run: Run, number: int) -> list[Record]:
    return sorted((record for record in run.records if record.round == number), key=lambda record: record.start_s)


def _end_s(record: Record) -> float:
    return record.start_s + (record.e2e_s or record.ttft_s or 0.0)


def _rates(summary: RoundSummary) -> list[StoreRate]:
    return store_rates(summary.traffic, _RATES) if summary.traffic else []


def _told(each: RoundPair, mode: Mode, summary: RoundSummary, found: Sequence[Record]) -> str:
    read = wording.number(summary.traffic.read_bytes[-1] / _MB) if summary.traffic else wording.UNKNOWN
    end_s = wording.number(max(map(_end_s, found)))
    return (
        f"{wording.round_title(each)}, {mode}: {len(found)} requests within {end_s} s, "
        f"MB read from the store meanwhile: {read}"
    )


def _notes(
    this: ScenarioComparison, rounds: Sequence[tuple[RoundPair, Mode, RoundSummary, list[Record]]]
) -> Iterator[str]:
    if any(summary.traffic is None for _, _, summary, _ in rounds):
        yield "Where there is no such chart, the store did not tell, or the results are older than the looks at it."
    if len(this.run_pairs) > 1:
        yield "Of the newest pair of runs."
    most = max(len(found) for *_, found in rounds)
    if most > _REQUESTS:
        yield f"Of {most:,} requests {_REQUESTS} are drawn, evenly in the order of their start."


def _charts(
    found: Sequence[Record], mode: Mode, rates: Sequence[StoreRate], end_s: float, most_mb_s: float
) -> Iterator[alt.LayerChart]:
    yield _requests(found, mode, _x(end_s, told=not rates))
    if rates:
        yield _store(rates, end_s, most_mb_s)


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


def _table(rounds: Sequence[tuple[RoundPair, Mode, RoundSummary, list[Record]]]) -> Table:
    return Table(
        ("Round", "Mode", "What", "From, s", "First token, s", "To, s", "Read, MB/s", "Growth, MB/s"),
        tuple(row for each in rounds for row in _table_rows(*each)),
        text_columns=3,
    )


def _table_rows(
    each: RoundPair, mode: Mode, summary: RoundSummary, found: Sequence[Record]
) -> Iterator[tuple[str, ...]]:
    for record in thinned(found, _REQUESTS):
        first = record.start_s + record.ttft_s if record.ttft_s is not None else None
        times = (wording.number(value, 3) for value in (record.start_s, first, _end_s(record)))
        yield wording.round_title(each), mode, record.request_id + ("" if record.ok else " (failed)"), *times, "", ""
    for rate in _rates(summary):
        grown = None if rate.stored is None else rate.stored / _MB
        amounts = wording.number(rate.read / _MB), wording.number(grown)
        yield (
            wording.round_title(each),
            mode,
            "store",
            wording.number(rate.from_s, 3),
            "",
            wording.number(rate.to_s, 3),
            *amounts,
        )
