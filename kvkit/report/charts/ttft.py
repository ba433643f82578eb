"""Times to first token: their distributions, and request by request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import altair as alt

from kvkit.report import wording
from kvkit.report.charts.figure import (
    Figure,
    Panel,
    Table,
    layered,
    mode_colour,
    mode_dash,
    rows_of,
    time_scale,
)
from kvkit.report.charts.theme import MODES, SHAPES, colour
from kvkit.results.comparison import Pair, RoundComparison, ScenarioComparison
from kvkit.results.curves import ecdf, thinned
from kvkit.results.record import Record

_POINTS_OF_A_CURVE = 100
_PAIRS = 200
_HEIGHT = 240


def ttft(this: ScenarioComparison) -> Figure:
    rounds = [(compared, _timed(compared.pairs)) for compared in this.rounds]
    scale = time_scale([_ms(record) for _, pairs in rounds for pair in pairs for record in _sides(pair)])
    curves = {compared.number: list(_curves(pairs)) for compared, pairs in rounds}
    shown = {compared.number: _spread(pairs) for compared, pairs in rounds}
    return Figure(
        subject="ttft",
        title="Time to first token",
        told="; ".join(_told(compared) for compared in this.rounds) + ".",
        panels=tuple(
            panel
            for compared, _ in rounds
            for panel in (
                Panel(f"{wording.round_title(compared)}: distribution", (_ecdf(curves[compared.number], scale),)),
                Panel(f"{wording.round_title(compared)}: request by request", (_pairs(shown[compared.number], scale),)),
            )
        ),
        table=_table(rounds, curves, shown),
        reading="Distribution: the share of requests whose first token came within this time; the further left a "
        "curve, the faster. Request by request: each mark is one request in both modes; below the line it was faster "
        "with the cache.",
        notes=tuple(_notes(rounds)),
    )


def _timed(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.with_cache.ttft_s is not None and pair.baseline.ttft_s is not None]


def _sides(pair: Pair) -> tuple[Record, Record]:
    return pair.with_cache, pair.baseline


def _ms(record: Record) -> float:
    assert record.ttft_s is not None
    return round(record.ttft_s * 1000, 2)


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs to draw: evenly by rank of TTFT with cache, so that the fastest and the slowest are among them."""
    return thinned(sorted(pairs, key=lambda pair: _ms(pair.with_cache)), _PAIRS)


def _curves(pairs: Sequence[Pair]) -> Iterator[tuple[str, float, float]]:
    for position, mode in enumerate(MODES):
        for value, share in ecdf((_ms(_sides(pair)[position]) for pair in pairs), _POINTS_OF_A_CURVE):
            yield mode, value, share


def _told(compared: RoundComparison) -> str:
    ours, theirs = compared.with_cache.ttft_ms, compared.baseline.ttft_ms
    return (
        f"{wording.round_title(compared)}: median {wording.number(ours.p50)} ms with cache and "
        f"{wording.number(theirs.p50)} ms in the baseline, 99th percentile {wording.number(ours.p99)} ms and "
        f"{wording.number(theirs.p99)} ms, {len(compared.pairs)} pairs"
    )


def _notes(rounds: Sequence[tuple[RoundComparison, list[Pair]]]) -> Iterator[str]:
    most = max((len(pairs) for _, pairs in rounds), default=0)
    if most > _POINTS_OF_A_CURVE:
        yield (
            f"Of {most:,} requests a curve shows {_POINTS_OF_A_CURVE} evenly by rank"
            + (f", and {_PAIRS} pairs are drawn, evenly by rank of TTFT with cache" if most > _PAIRS else "")
            + "; the fastest and the slowest are always among them. All figures and intervals are of all requests."
        )


def _ecdf(curve: Sequence[tuple[str, float, float]], scale: alt.Scale) -> alt.LayerChart:
    rows = [{"mode": mode, "ttft": value, "share": round(share, 4)} for mode, value, share in curve]
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=300)
    base = alt.Chart(rows_of(rows))
    lines = base.mark_line(interpolate="step-after", strokeWidth=2.2).encode(
        x=_x(scale, "TTFT, ms"),
        y=alt.Y(
            "share:Q",
            title="share of requests",
            axis=alt.Axis(format="%", tickCount=5),
            scale=alt.Scale(domain=[0, 1]),
        ),
        color=mode_colour(legend),
        strokeDash=mode_dash(legend),
    )
    marks = base.mark_point(opacity=0, size=80).encode(
        x="ttft:Q",
        y="share:Q",
        tooltip=[
            "mode:N",
            alt.Tooltip("ttft:Q", title="TTFT, ms", format=",.1f"),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    half = alt.Chart(rows_of([{"share": 0.5}])).mark_rule(color=colour("line"), strokeDash=[2, 2]).encode(y="share:Q")
    return layered(half, lines, marks, height=_HEIGHT)


def _pairs(pairs: Sequence[Pair], scale: alt.Scale) -> alt.LayerChart:
    rows = [
        {"id": pair.with_cache.request_id, "ttft": _ms(pair.baseline), "ours": _ms(pair.with_cache)} for pair in pairs
    ]
    marks = (
        alt.Chart(rows_of(rows))
        .mark_point(
            shape=SHAPES["with-cache"], filled=True, size=42, color=colour("with-cache"), opacity=0.65, stroke=None
        )
        .encode(
            x=_x(scale, "TTFT in the baseline, ms"),
            y=alt.Y(
                "ours:Q",
                title="TTFT with cache, ms",
                scale=scale,
                axis=alt.Axis(format=",~r", tickCount=5),
            ),
            tooltip=[
                alt.Tooltip("id:N", title="request"),
                alt.Tooltip("ours:Q", title="with cache, ms", format=",.1f"),
                alt.Tooltip("ttft:Q", title="baseline, ms", format=",.1f"),
            ],
        )
    )
    low, high = scale["domain"]
    diagonal = (
        alt.Chart(rows_of([{"ttft": low, "ours": low}, {"ttft": high, "ours": high}]))
        .mark_line(color=colour("muted"), strokeDash=[3, 3], strokeWidth=1.2, clip=True)
        .encode(x="ttft:Q", y="ours:Q")
    )
    return layered(diagonal, marks, height=_HEIGHT)


def _x(scale: alt.Scale, title: str) -> alt.X:
    return alt.X("ttft:Q", title=title, scale=scale, axis=alt.Axis(format=",~r", tickCount=5))


def _table(
    rounds: Sequence[tuple[RoundComparison, list[Pair]]],
    curves: dict[int, list[tuple[str, float, float]]],
    shown: dict[int, list[Pair]],
) -> Table:
    rows: list[tuple[str, ...]] = []
    for compared, _ in rounds:
        name = wording.round_title(compared)
        by_mode = [[each for each in curves[compared.number] if each[0] == mode] for mode in MODES]
        rows += [
            (name, f"{wording.share(ours[2])} of requests", wording.number(ours[1]), wording.number(theirs[1]))
            for ours, theirs in zip(*by_mode, strict=True)
        ]
        rows += [
            (name, pair.with_cache.request_id, wording.number(_ms(pair.with_cache)), wording.number(_ms(pair.baseline)))
            for pair in shown[compared.number]
        ]
    return Table(
        ("Round", "Share within, or request", "TTFT with cache, ms", "TTFT in the baseline, ms"),
        tuple(rows),
        text_columns=2,
    )
