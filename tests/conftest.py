"""Counts the corpus (planted faults that were caught, healthy hosts that were left alone); and what many tests use."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from kvkit.observe import quiet
from tests.real_stack import RealStack, installed

PLANTED: dict[str, str] = {}
HEALTHY: dict[str, str] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None] | pytest.TestReport:
    report: pytest.TestReport = yield  # type: ignore[assignment, misc]
    if call.when == "call" and report.passed:
        for name, caught in (("planted", PLANTED), ("healthy", HEALTHY)):
            if marker := item.get_closest_marker(name):
                caught[item.nodeid] = marker.args[0]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if PLANTED or HEALTHY:
        terminalreporter.section("preflight corpus")
        terminalreporter.line(
            f"planted faults caught by their own check: {len(PLANTED)}, by {len(set(PLANTED.values()))} ids"
        )
        terminalreporter.line(
            f"healthy hosts without fail or warn: {len(HEALTHY)} ({', '.join(sorted(HEALTHY.values()))})"
        )


@pytest.fixture
def short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers come to rest within moments: an emulated one needs no second to write its counters."""
    monkeypatch.setattr("kvkit.observe.servers.wait_quiet", functools.partial(quiet.wait_quiet, poll_s=0.02))


@pytest.fixture(scope="session")
def real_stack(tmp_path_factory: pytest.TempPathFactory) -> RealStack:
    return installed(tmp_path_factory.mktemp("stack"))
