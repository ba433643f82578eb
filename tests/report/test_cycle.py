"""What `kvkit cycle` shows."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from rich.live import Live

from kvkit.ending import Ending
from kvkit.report.cycle import CycleLines, CycleTable, JsonLines
from kvkit.report.cycling import CycleReporter, Failed, Happening, HostAt, Said, StageStarted

CONTROL = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")
TIME = re.compile(r"\d\d:\d\d:\d\d ")

STORY: tuple[Happening, ...] = (
    StageStarted("preflight"),
    HostAt("preflight", "gpu-1", "running", "Look"),
    HostAt("preflight", "gpu-1", "ok"),
    HostAt("preflight", "gen", "skipped"),
    StageStarted("measure with-cache"),
    HostAt("measure with-cache", "gen", "running", "bench : Follow kvkit to its end"),
    Said("gen", "  Progress 3/25"),
    Failed("measure with-cache", "gen", "bench : The run reached its end", "gen: ended with 3\nread on"),
    HostAt("measure with-cache", "gen", "failed"),
)


@pytest.fixture(autouse=True)
def every_moment_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvkit.report.cycle._REDRAW_S", 0.0)


def tell(reporter: CycleReporter, story: tuple[Happening, ...] = STORY) -> None:
    for happening in story:
        reporter.happened(happening)
        reporter.passed()
    reporter.ended(Ending.NOT_FINISHED, "The cycle could not finish.")


def lines(story: tuple[Happening, ...] = STORY) -> list[str]:
    out = io.StringIO()
    tell(CycleLines(Console(file=out, width=80, highlight=False)), story)
    return [TIME.sub("", line) for line in out.getvalue().splitlines()]


def screen(story: tuple[Happening, ...] = STORY, *, width: int = 80) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, height=40, highlight=False, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        tell(CycleTable(live), story)
    return CONTROL.sub("", out.getvalue())


def test_a_log_tells_stages_hosts_progress_and_failures_in_clear() -> None:
    assert lines() == [
        "preflight",
        "preflight took 0:00:00: ok gpu-1; skipped gen",
        "measure with-cache",
        "gen |   Progress 3/25",
        "FAILED on gen, measure with-cache: bench : The run reached its end",
        "  gen: ended with 3",
        "  read on",
        "measure with-cache took 0:00:00: failed gen",
        "The cycle could not finish.",
    ]


def test_a_terminal_gets_a_table_of_stages_and_hosts() -> None:
    table = screen()[screen().rfind("Stage") :].splitlines()
    assert [line.split() for line in table[:3]] == [
        ["Stage", "Time", "gpu-1", "gen"],
        ["preflight", "0:00:00", "ok", "-"],
        ["measure", "with-cache", "0:00:00", "failed"],
    ]


def test_what_runs_on_a_host_stands_below_the_table() -> None:
    assert "gen: bench : Follow kvkit to its end, 0:00:0" in screen(STORY[:7])


def test_what_was_said_stays_above_it() -> None:
    shown = screen()
    assert "gen |   Progress 3/25" in shown
    assert "FAILED on gen, measure with-cache" in shown


def test_what_the_playbook_repeats_at_its_end_is_not_told_twice() -> None:
    again = Failed("verdict", "gen", "Nothing broke the cycle off", "gen: broken off: gen: ended with 3\nread on")
    assert lines((*STORY[:8], again))[-4:-2] == [
        "FAILED on gen, verdict: Nothing broke the cycle off",
        "  as told above",
    ]


def test_a_terminal_wraps_at_words() -> None:
    shown = screen((StageStarted("report"), Said("gen", "word " * 20)))
    assert all(part in ("gen", "|", "word") for part in shown[: shown.index("Stage")].split())


def test_many_hosts_are_counted_and_those_that_failed_are_named() -> None:
    hosts = [f"gpu-node-{number:02}" for number in range(20)]
    story: list[Happening] = [StageStarted("provision")]
    story += [HostAt("provision", host, "failed" if host == hosts[7] else "ok") for host in hosts]
    shown = screen(tuple(story))
    assert "19 ok, 1 failed: gpu-node-07" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_programs_get_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(JsonLines())
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(each.pop("time").endswith("+00:00") for each in told)
    assert told[0] == {"event": "stage", "stage": "preflight"}
    assert told[1] == {"event": "host", "stage": "preflight", "host": "gpu-1", "state": "running", "task": "Look"}
    assert told[6] == {"event": "said", "host": "gen", "line": "  Progress 3/25"}
    assert told[7]["event"] == "failed"
    assert told[-1] == {"event": "ended", "exit_code": 3, "words": "The cycle could not finish."}


def test_words_of_a_host_are_no_markup_and_no_commands() -> None:
    assert "gen | [bold]loud[/bold]  [31mred" in lines((Said("gen", "[bold]loud[/bold] \x1b[31mred"),))
