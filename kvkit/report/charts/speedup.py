"""How many times lower TTFT is with the cache, with its interval, beside the noise floor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from kvkit.report import wording
from kvkit.report.charts.figure import Figure, Panel, Table, layered, rows_of, words
from kvkit.report.charts.theme import colour
from kvkit.results.comparison import Comparison, HitVerdict, ScenarioComparison

_ROW_HEIGHT = 44
_TITLE = "times lower with cache"


def speedup(comparison: Comparison) -> Figure | None:
    """Of the cache-hit rounds of all scenarios. `None`: nothing is known of any."""
    hits = [(this, hit) for this in comparison.scenarios for hit in this.hits]
    rows = [row for this, hit in hits for row in _rows(this, hit)]
    if not rows:
        return None
    return Figure(
        subject="speedup",
        title="Median TTFT of the baseline over that with cache",
        told="; ".join(_told(this, hit) for this, hit in hits) + ".",
        panels=(Panel("", (_chart(rows),)),),
        table=Table(
            ("Scenario", "Round", "Pairs", "Ratio (95 % interval)", "Noise floor", "Verdict"),
            tuple(_table_row(this, hit) for this, hit in hits),
            text_columns=2,
        ),
        reading="Right of 1 the cache helped. The bar is the 95 % interval, the shaded band what two cold rounds of "
        "the baseline differ by chance; without a bar there are too few pairs for an interval.",
    )


def _told(this: ScenarioComparison, hit: HitVerdict) -> str:
    found = hit.round.speedups.ttft_median if hit.round.speedups else None
    effect = wording.EFFECTS[hit.verdict.effect]
    return f"{this.scenario}, round {hit.round.number}: {wording.speedup(found)} times, {effect}"


def _table_row(this: ScenarioComparison, hit: HitVerdict) -> tuple[str, ...]:
    found = hit.round.speedups.ttft_median if hit.round.speedups else None
    return (
        this.scenario,
        wording.round_title(hit.round),
        str(len(hit.round.pairs)),
        wording.speedup(found),
        wording.noise_floor(this.noise_floor),
        wording.EFFECTS[hit.verdict.effect],
    )


def _rows(this: ScenarioComparison, hit: HitVerdict) -> Iterator[dict[str, Any]]:
    found = hit.round.speedups.ttft_median if hit.round.speedups else None
    if found is None or found.ratio <= 0:
        return
    interval, floor = found.interval, this.noise_floor.factor
    yield {
        "row": f"{this.scenario}, round {hit.round.number}",
        "ratio": round(found.ratio, 3),
        "low": round(interval.low, 3) if interval else None,
        "high": round(interval.high, 3) if interval else None,
        "floor_low": round(1 / floor, 3) if floor else None,
        "floor_high": round(floor, 3) if floor else None,
        "text": f"{wording.ratio(found.ratio)}×" + (f" ({wording.interval(interval)})" if interval else ""),
    }


def _chart(rows: list[dict[str, Any]]) -> alt.LayerChart:
    told = [value for row in rows for value in row.values() if isinstance(value, float)]
    low, high = min(0.8, *told) * 0.9, max(1.25, *told) * 1.1
    for row in rows:
        row["align"] = "right" if row["ratio"] ** 2 > low * high else "left"
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(ticks=False, domain=False, labels=False)
    base = alt.Chart(rows_of(rows)).encode(y=alt.Y("row:N", title=None, sort=None, axis=axis))
    x = alt.X("ratio:Q", title=_TITLE, scale=scale, axis=alt.Axis(format=",~r", tickCount=6))
    band = base.mark_bar(height=_ROW_HEIGHT * 0.8, color=colour("line"), opacity=0.6).encode(
        x=alt.X("floor_low:Q", scale=scale, title=_TITLE), x2="floor_high:Q"
    )
    one = alt.Chart(rows_of([{"ratio": 1}])).mark_rule(color=colour("ink"), strokeDash=[3, 3]).encode(x=x)
    bar = base.mark_rule(strokeWidth=3, color=colour("with-cache")).encode(x=alt.X("low:Q", title=_TITLE), x2="high:Q")
    mark = base.mark_point(filled=True, shape="diamond", size=130, opacity=1, color=colour("with-cache")).encode(
        x=alt.X("ratio:Q", title=_TITLE)
    )
    names = words(base, "row:N", align="left", baseline="bottom", dy=-8, x=4, color=colour("ink"))
    return layered(band, one, bar, mark, *names, *_figures(base), height=_ROW_HEIGHT * len(rows))


def _figures(base: alt.Chart) -> Iterator[alt.Chart]:
    """Each towards the middle of the plot, where there is room for it."""
    for align in ("left", "right"):
        those = base.transform_filter(f"datum.align == '{align}'").encode(x=alt.X("ratio:Q", title=_TITLE))
        yield from words(those, "text:N", align=align, baseline="top", dy=9, fontWeight="bold", color=colour("ink"))
