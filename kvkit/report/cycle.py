"""A cycle while it runs: a table of stages and hosts in a terminal, lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json as json_format
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvkit.ending import Ending
from kvkit.report.cycling import CycleReporter, Failed, Happening, HostAt, HostState, Said, StageStarted
from kvkit.report.escape import for_terminal

_REDRAW_S = 0.25

_STAGE_WIDTH, _TIME_WIDTH, _STATE_WIDTH = 20, 8, 11

_MOST_TASKS = 4
"""Running tasks below the table."""

_STATE_STYLES: dict[HostState, str] = {
    "running": "cyan",
    "ok": "green",
    "changed": "green",
    "skipped": "dim",
    "failed": "bold red",
    "unreachable": "bold red",
}

_ENDING_STYLES = {Ending.DONE: "bold green", Ending.INVALID: "bold red"}


_EVENTS: dict[type[Happening], str] = {StageStarted: "stage", HostAt: "host", Said: "said", Failed: "failed"}


@contextmanager
def cycle_reporter(*, json: bool) -> Iterator[CycleReporter]:
    """Shows a cycle on standard output."""
    console = Console(highlight=False)
    if json:
        yield JsonLines()
    elif console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield CycleTable(live)
    else:
        yield CycleLines(console)


class JsonLines:
    """An object a line: `time`, `event` and what the event has."""

    def happened(self, happening: Happening) -> None:
        self._write(_EVENTS[type(happening)], asdict(happening))

    def passed(self) -> None:
        """Nothing of note."""

    def notice(self, text: str) -> None:
        self._write("notice", {"text": text})

    def ended(self, ending: Ending, words: str) -> None:
        self._write("ended", {"exit_code": int(ending), "words": words})

    def _write(self, event: str, fields: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        print(json_format.dumps({"time": now, "event": event, **fields}, ensure_ascii=False), flush=True)


class _Printing:
    """What both forms for people print as lines."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._messages: list[str] = []
        """Of failures that were told."""

    def notice(self, text: str) -> None:
        self._say(f"Note: {text}.", "yellow")

    def _tell(self, happening: Said | Failed) -> None:
        if isinstance(happening, Said):
            # A row of a table that is too wide is cut off: wrapped, none of it could be read.
            cut = self._console.is_terminal and happening.line.startswith(("|", "+"))
            self._say(f"{happening.host} | {happening.line}", cut=cut)
            return
        self._say(f"FAILED on {happening.host}, {happening.stage}: {happening.task}", "bold red")
        # The playbook repeats at its end what broke it off.
        repeated = any(told in happening.message for told in self._messages)
        self._messages.append(happening.message)
        for line in ["as told above"] if repeated else happening.message.splitlines():
            self._say(f"  {line}", "red")

    def _say(self, line: str, style: str = "", *, cut: bool = False) -> None:
        """In a terminal wrapped at words; a log's lines stay whole."""
        text = Text(for_terminal(line), style, overflow="ellipsis" if cut else None)
        self._console.print(text, soft_wrap=not self._console.is_terminal, no_wrap=cut)


class CycleLines(_Printing):
    """A line where a stage begins and ends, and what was said between."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._stage: StageStarted | None = None
        self._began_s = 0.0
        self._states: defaultdict[HostState, list[str]] = defaultdict(list)

    def happened(self, happening: Happening) -> None:
        if isinstance(happening, StageStarted):
            self._end_stage()
            self._stage, self._began_s = happening, time.monotonic()
            self._say(f"{datetime.now():%H:%M:%S} {happening.stage}", "bold")
        elif not isinstance(happening, HostAt):
            self._tell(happening)
        elif happening.state != "running":
            self._states[happening.state].append(happening.host)

    def passed(self) -> None:
        """Nothing moves."""

    def ended(self, ending: Ending, words: str) -> None:
        self._end_stage()
        self._say(words, _ENDING_STYLES.get(ending, "red"))

    def _end_stage(self) -> None:
        if self._stage is not None:
            told = "; ".join(f"{state} {', '.join(hosts)}" for state, hosts in self._states.items())
            self._say(f"{datetime.now():%H:%M:%S} {self._stage.stage} took {_clock(self._began_s)}: {told}")
        self._stage, self._states = None, defaultdict(list)


@dataclass
class _Stage:
    name: str
    began_s: float
    lasted: str = ""
    hosts: dict[str, HostState] = field(default_factory=dict)


class CycleTable(_Printing):
    """A table of stages and hosts that stays at the bottom; what was said moves away above it."""

    def __init__(self, live: Live) -> None:
        super().__init__(live.console)
        self._live = live
        self._stages: list[_Stage] = []
        self._tasks: dict[str, tuple[str, float]] = {}
        """What runs on each host, and since when."""
        self._drawn_s = 0.0

    def happened(self, happening: Happening) -> None:
        if isinstance(happening, StageStarted):
            self._end_stage()
            self._stages.append(_Stage(happening.stage, time.monotonic()))
        elif isinstance(happening, HostAt):
            self._stages[-1].hosts[happening.host] = happening.state
            if happening.state == "running" and happening.task is not None:
                self._tasks[happening.host] = (happening.task, time.monotonic())
        else:
            self._tell(happening)

    def passed(self) -> None:
        if time.monotonic() - self._drawn_s >= _REDRAW_S:
            self._draw()

    def ended(self, ending: Ending, words: str) -> None:
        self._end_stage()
        self._draw()
        self._live.stop()
        self._say(words, _ENDING_STYLES.get(ending, "red"))

    def _end_stage(self) -> None:
        self._tasks.clear()
        if self._stages:
            self._stages[-1].lasted = _clock(self._stages[-1].began_s)

    def _draw(self) -> None:
        self._drawn_s = time.monotonic()
        tasks = [f"{host}: {task}, {_clock(since_s)}" for host, (task, since_s) in self._tasks.items()]
        more = [f"and {len(tasks) - _MOST_TASKS} more"] if len(tasks) > _MOST_TASKS else []
        lines = Text(for_terminal("\n".join([*tasks[:_MOST_TASKS], *more])), "dim", no_wrap=True, overflow="ellipsis")
        self._live.update(Group(self._table(), lines), refresh=True)

    def _table(self) -> Table:
        hosts = list(dict.fromkeys(host for stage in self._stages for host in stage.hosts))
        widths = [max(len(host), _STATE_WIDTH) for host in hosts]
        one_each = _STAGE_WIDTH + _TIME_WIDTH + sum(widths) + 2 * (len(hosts) + 2) <= self._console.width
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("Stage", min_width=_STAGE_WIDTH, no_wrap=True)
        table.add_column("Time", min_width=_TIME_WIDTH, no_wrap=True)
        for heading in hosts if one_each else ["Hosts"]:
            table.add_column(Text(for_terminal(heading)), min_width=_STATE_WIDTH)
        for stage in self._stages:
            if stage.lasted and set(stage.hosts.values()) <= {"skipped"}:
                continue  # nobody's
            cells = [_state(stage.hosts.get(host)) for host in hosts] if one_each else [_counted(stage.hosts)]
            table.add_row(Text(for_terminal(stage.name)), stage.lasted or _clock(stage.began_s), *cells)
        return table


def _state(state: HostState | None) -> Text:
    return Text("") if state is None else Text("-" if state == "skipped" else state, _STATE_STYLES[state])


def _counted(hosts: dict[str, HostState]) -> Text:
    """How many hosts stand where; those that failed by name."""
    parts = []
    for state, style in _STATE_STYLES.items():
        there = [host for host, at in hosts.items() if at == state]
        if there and state != "skipped":
            names = f": {', '.join(there)}" if state in ("failed", "unreachable") else ""
            parts.append(Text(for_terminal(f"{len(there)} {state}{names}"), style))
    return Text(", ").join(parts)


def _clock(since_s: float) -> str:
    return str(timedelta(seconds=round(time.monotonic() - since_s)))
