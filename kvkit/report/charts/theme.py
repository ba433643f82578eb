"""How every chart looks. Colours are names that a page gives meaning to, so that charts follow it into the dark."""

from __future__ import annotations

from typing import Any

from kvkit.results.stats import Mode

LIGHT = {
    "surface": "#ffffff",
    "ink": "#1f2328",
    "muted": "#59636e",
    "line": "#d1d9e0",
    "faint": "#eaeef2",
    "with-cache": "#0072b2",
    "baseline": "#d55e00",
    "computed": "#b7bec6",
    "device": "#f0e442",
    "external": "#009e73",
    "unknown": "#eaeef2",
}
"""On white. Modes and sources are of Okabe & Ito's palette (and grey), told apart with every kind of colour blindness;
lines and marks of modes have a contrast of at least 3 to 1, sources have an outline, and their greys lie apart. Dashes,
shapes and patterns say the same without colour."""

DARK = {
    "surface": "#161b22",
    "ink": "#e6edf3",
    "muted": "#9ea7b3",
    "line": "#3d444d",
    "faint": "#262c36",
    "with-cache": "#56b4e9",
    "baseline": "#e69f00",
    "computed": "#8c959f",
    "device": "#f0e442",
    "external": "#00b383",
    "unknown": "#262c36",
}

MODES: tuple[Mode, ...] = ("with-cache", "baseline")
SOURCES = ("computed", "device", "external", "unknown")

DASHES = {"with-cache": [1, 0], "baseline": [6, 4]}
SHAPES = {"with-cache": "circle", "baseline": "triangle-up"}

FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "padding": 4,
    # The page describes each chart as a whole: thousands of named marks would drown a listener.
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "gridColor": "var(--faint)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelOverlap": "greedy",
    },
    "title": {"color": "var(--ink)", "fontSize": 13, "anchor": "start", "offset": 8},
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "symbolStrokeWidth": 2,
        "symbolSize": 90,
        "orient": "top",
        "title": None,
        "offset": 4,
    },
    "text": {"color": "var(--ink)", "fontSize": 12},
}


def colour(name: str) -> str:
    return f"var(--{name})"


def pattern(source: str) -> str:
    """The fill of a source: a pattern of the page, so that it is told without colour too."""
    return f"url(#source-{source})"


def printed(text: str) -> str:
    """A specification for a file, where there is no page that gives colours and patterns their meaning."""
    for name, value in LIGHT.items():
        text = text.replace(colour(name), value).replace(pattern(name), value)
    return text
