"""Quiet is two looks in a row that show nothing going on and nothing changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from kvkit.observe.quiet import Activity, wait_quiet


def wait(*looks: Activity, limit_s: float = 60.0) -> tuple[str | None, int]:
    """Returns what `wait_quiet` says, and how often it looked. The last look repeats for ever."""
    taken: list[Activity] = []

    def stream() -> Iterable[Activity]:
        yield from looks
        while True:
            yield looks[-1]

    source = iter(stream())

    async def look() -> Activity:
        taken.append(next(source))
        return taken[-1]

    return asyncio.run(wait_quiet(look, poll_s=0, limit_s=limit_s)), len(taken)


def idle(keys: int) -> Activity:
    return Activity(busy=None, marks=keys)


def busy(keys: int) -> Activity:
    return Activity(busy="1 request running", marks=keys)


@pytest.mark.parametrize(
    ("looks", "needed"),
    [
        ([idle(5)], 2),
        ([idle(5), idle(6), idle(6)], 3),
        ([busy(5), busy(5), idle(5), idle(5)], 4),
        ([idle(5), busy(5), idle(5), idle(5)], 4),
    ],
)
def test_it_takes_two_equal_idle_looks(looks: list[Activity], needed: int) -> None:
    assert wait(*looks) == (None, needed)


def test_it_gives_up_and_says_what_still_went_on() -> None:
    assert wait(busy(5), limit_s=0)[0] == "not quiet after 0 s: 1 request running"


def test_it_gives_up_on_a_store_that_never_rests() -> None:
    assert wait(idle(1), idle(2), limit_s=0)[0] == "not quiet after 0 s: stored keys or served tokens still change"
