"""How many requests a change takes, as a person reads it."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from kvkit.report.power import print_powers
from kvkit.results.noise import NoiseFloor
from kvkit.results.power import Power
from kvkit.results.speedup import Interval, Speedup

STATS = Path("test_results/baseline_cold_start_stats_1.json")


def printed(ratio: float, low: float, high: float, smallest: float | None, requests: int | None) -> str:
    floor = NoiseFloor(Speedup(ratio, Interval(low, high), 30))
    console = Console(file=(out := io.StringIO()))
    print_powers([Power("cold_start", STATS, floor, smallest, requests)], 5.0, console)
    return " ".join(out.getvalue().replace("|", " ").split())


def test_a_line_tells_what_the_requests_show_and_how_many_it_takes() -> None:
    text = printed(1.0, 0.95, 1.05, 0.12, 1234)
    assert "Requests for 5 %" in text
    assert "cold_start 30 5.3 % 12.0 % 1,234" in text


def test_a_drift_is_named() -> None:
    text = printed(1.2, 1.1, 1.3, 0.6, None)
    assert "cold_start: no number of requests shows 5 %" in text
    assert "(1.20 (1.10 to 1.30)), whatever their number (test_results/baseline_cold_start_stats_1.json)" in text


def test_what_is_not_known_is_said_with_its_reason() -> None:
    console = Console(file=(out := io.StringIO()))
    print_powers([Power("cold_start", STATS, NoiseFloor(None), None, None)], 5.0, console)
    assert "cold_start: unknown: no baseline with two cold rounds" in " ".join(out.getvalue().split())
