"""What a run and a comparison print, in the order of the guide."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from kvkit.report import round_progress
from kvkit.report.terminal import TerminalReporter, print_comparison
from kvkit.results.comparison import compare
from kvkit.results.limit import Deployment, physical_limit
from kvkit.results.stats import Figure, Mode, RunStats, TokensBySource
from tests.results.making import failure, provenance, run_stats, success, summary, write_pair_of_runs

COLD = summary([success("a", 1)])
HIT = summary([success("a", 2, ttft_s=0.16)], 2)

HIT_FROM_STORE = summary(
    [success("a", 2, ttft_s=0.25095)], 2, by_source=TokensBySource(computed=101, device=0, external=900)
)


class Screen:
    def __init__(self, *, terminal: bool = False) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.reporter = TerminalReporter(
            Console(file=self.out, force_terminal=terminal, width=80, highlight=False, color_system=None),
            Console(file=self.err, width=80),
        )

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    def show(self, stats: RunStats) -> None:
        self.reporter.run_started(stats.mode, stats.provenance.engine, "device")
        self.reporter.scenario_started(stats.scenario, 1, len(stats.rounds))
        for made in stats.rounds:
            self.reporter.round_started(made.round, len(stats.rounds), 1)
            self.reporter.request_ended(success("a", made.round))
            self.reporter.round_ended(made)
        self.reporter.scenario_ended(stats, Path("test_results/stats.json"))


@dataclass
class Clock:
    """Seconds that pass only when a test lets them."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def screen_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(round_progress, "time", clock)
    return clock


def test_a_run_is_told_in_the_guides_order(screen_clock: Clock) -> None:
    screen = Screen()
    screen.show(run_stats("with-cache", [COLD, HIT], provenance=provenance(connector="LMCacheMPConnector")))
    # One request in 1.04 s and in 0.2 s: 0.96 and 5.00 a second. TTFT 1,000 and 160 ms: 84 % less.
    assert screen.lines == [
        "Mode: with-cache",
        "Engine: version 0.32.0, model tiny, connector LMCacheMPConnector",
        "Isolation: the device cache is cleared before each round",
        "",
        "Scenario: cold_start",
        "Requests: 1, rounds: 2",
        "",
        "Round 1/2 - Cold Start",
        "  Progress 1/1 after 0:00:00: TTFT mean 1,000.0 ms, p95 1,000.0 ms; 0.96 req/s; 0 failed; "
        "cached 0.0 % of 1,001 prompt tokens",
        "  Total requests: 1",
        "  Successful requests: 1",
        "  Mean TTFT: 1,000.0 ms",
        "  Throughput: 0.96 req/s",
        "  Prompt tokens: 1,001 computed, 0 device, 0 external",
        "  Hit ratio: 0.0 %, at best 0.0 %",
        "",
        "Round 2/2 - Cache Hit",
        "  Progress 1/1 after 0:00:00: TTFT mean 1,000.0 ms, p95 1,000.0 ms; 0.96 req/s; 0 failed; "
        "cached 76.7 % of 1,001 prompt tokens",
        "  Total requests: 1",
        "  Successful requests: 1",
        "  Mean TTFT: 160.0 ms",
        "  Throughput: 5.00 req/s",
        "  Prompt tokens: 1,001 computed, 0 device, 0 external",
        "  Hit ratio: 0.0 %, at best 99.9 %",
        "",
        "Cache effect: cache-hit rounds against the cold start",
        "  Round 2 TTFT reduction: 84.0 %",
        "  Round 2 throughput gain: 420.0 %",
        "  Round 2 TPOT rise over the cold round: 0.0 %",
        "  Verdict: the guide's targets are met",
        "  Kept in test_results/stats.json",
    ]


def test_a_hit_round_is_held_against_its_limit_on_one_line() -> None:
    limit = physical_limit(COLD, HIT_FROM_STORE, Deployment(Figure(value=1e6, source="config.json"), 10.0, 1))
    screen = Screen()
    screen.reporter.round_ended(HIT_FROM_STORE.model_copy(update={"limit": limit}))
    # 900 tokens in 90 ms, 101 tokens at 1,000 ms / 1,001 in 100.9 ms; 60 ms more, and 0.899 ms saved with each token.
    assert screen.lines[-1] == (
        "  Limit: TTFT at least 190.9 ms (loading 90.0, computing the rest 100.9), 76.1 % of it reached; "
        "pays from 67 cached tokens on"
    )


def test_a_limit_that_is_unknown_says_what_to_set() -> None:
    unknown = Deployment(Figure(value=None, source="set model.config_json"), 10.0, 1)
    screen = Screen()
    limit = physical_limit(COLD, HIT_FROM_STORE, unknown)
    screen.reporter.round_ended(HIT_FROM_STORE.model_copy(update={"limit": limit}))
    assert screen.lines[-1] == "  Limit: unknown: set model.config_json"


def verdict(stats: RunStats) -> str:
    screen = Screen()
    screen.show(stats)
    return next(line for line in screen.lines if line.startswith("  Verdict: "))


@pytest.mark.parametrize(
    ("mode", "valid", "words"),
    [
        ("baseline", True, "none for a baseline by itself; hold it against a with-cache run: kvkit compare"),
        ("with-cache", None, "unknown: with-cache, round 2: why"),
        ("with-cache", False, "INVALID, so no difference between its rounds is a gain: with-cache, round 2: why"),
        ("baseline", False, "INVALID, so no difference between its rounds is a gain: baseline, round 2: why"),
    ],
)
def test_the_verdict_on_a_run(mode: Mode, valid: bool | None, words: str) -> None:
    reasons = ["why"] if valid is not True else []
    hit = summary([success("a", 2, ttft_s=0.16)], 2, valid=valid, invalid_reasons=reasons)
    assert verdict(run_stats(mode, [COLD, hit])) == f"  Verdict: {words}"


def test_goodput_is_told_with_its_objectives() -> None:
    screen = Screen()
    records = [success("a", ttft_s=0.46), success("b", ttft_s=0.96)]
    screen.reporter.round_ended(summary(records, objectives={"ttft_ms": 500.0, "e2e_ms": 10000.0}))
    assert "  Goodput: 1.00 req/s (1 of 2 requests within TTFT 500 ms, E2E 10000 ms)" in screen.lines


def test_failures_and_reasons_are_shown_with_their_round() -> None:
    screen = Screen()
    records = [success("a"), failure("b"), failure("c", status=500)]
    screen.reporter.round_ended(summary(records, valid=None, invalid_reasons=["no counters"]))
    assert "  Failed requests: http_429: 1, http_500: 1" in screen.lines
    assert screen.lines[-2:] == ["  INVALID: no counters", "  INVALID: 2 of 3 requests failed (limit 50 %)"]


def test_a_log_gets_a_line_at_every_tenth() -> None:
    screen = Screen()
    screen.reporter.round_started(1, 2, 25)
    for _ in range(25):
        screen.reporter.request_ended(success())
    done = [line.split()[1] for line in screen.lines if "Progress" in line]
    assert done == [f"{done}/25" for done in (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)]


def test_a_terminal_gets_a_bar_that_ends_full_with_the_figures_so_far(screen_clock: Clock) -> None:
    screen = Screen(terminal=True)
    screen.reporter.round_started(1, 2, 4)
    for _ in range(3):
        screen_clock.now_s += 10
        screen.reporter.request_ended(success())
    shown = screen.out.getvalue()
    assert "3/4 after 0:00:30, about 0:00:10 left" in shown
    assert "TTFT mean 1,000.0 ms, p95 1,000.0 ms; 2.88 req/s; 0 failed" in shown
    screen.reporter.request_ended(failure())
    screen.reporter.round_ended(COLD)
    assert "4/4 after 0:00:30" in screen.out.getvalue()
    assert "2.88 req/s; 1 failed" in screen.out.getvalue()


def test_it_is_not_drawn_for_every_request(screen_clock: Clock) -> None:
    """Drawing keeps the event loop from stamping tokens."""
    screen = Screen(terminal=True)
    screen.reporter.round_started(1, 2, 1000)
    drawn = len(screen.out.getvalue())
    screen_clock.now_s += 0.19
    for _ in range(999):
        screen.reporter.request_ended(success())
    assert len(screen.out.getvalue()) == drawn
    screen_clock.now_s += 0.02
    screen.reporter.request_ended(success())
    assert "1000/1000" in screen.out.getvalue()


def test_words_of_a_server_are_no_markup_and_no_commands() -> None:
    screen = Screen()
    screen.reporter.notice("[bold]loud[/bold] [/] \x1b[31mred")
    assert screen.lines == ["Note: [bold]loud[/bold] [/]  [31mred"]


def test_a_run_that_fails_says_so_on_standard_error_in_its_own_lines() -> None:
    screen = Screen()
    screen.reporter.run_failed(
        "first, which is so long that it would not fit into the eighty columns of a screen\nsecond"
    )
    assert screen.err.getvalue().splitlines() == [
        "first, which is so long that it would not fit into the eighty columns of a screen",
        "second",
    ]


def test_a_run_can_fail_in_the_middle_of_a_round() -> None:
    screen = Screen(terminal=True)
    screen.reporter.round_started(1, 2, 25)
    screen.reporter.run_failed("the engine is gone")
    assert screen.err.getvalue() == "the engine is gone\n"


def test_a_comparison_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pair_of_runs(tmp_path)
    write_pair_of_runs(tmp_path)
    comparison = compare([str(tmp_path / "with_cache*stats*")], [str(tmp_path / "baseline*stats*")])
    print_comparison(comparison, [Path("comparison.md"), Path("comparison.html")], 2)
    out = capsys.readouterr().out
    assert "250.0 / 1,000.0" in out
    assert "Better in the only cache-hit round compared: cold_start, round 2: median TTFT of cache hits is 4.00 " in out
    assert "cold_start: the guide's targets are met" in out
    assert "with_cache_cold_start_stats_20261122_200000.json: a newer run of this mode and workload was given" in out
    assert out.splitlines()[-3:] == [
        "Report: comparison.md",
        "Report: comparison.html",
        "Charts: 2 files beside comparison.md",
    ]
