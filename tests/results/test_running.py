"""The figures of a round while it runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvkit.results.record import Record
from kvkit.results.running import RunningRound
from tests.results.making import failure, success, summary


def after(*records: Record, total: int = 10) -> RunningRound:
    running = RunningRound(total)
    for record in records:
        running.add(record)
    return running


RECORDS = [
    replace(success("a", ttft_s=0.2), start_s=0.0),
    replace(success("b", ttft_s=0.9), start_s=0.5),
    failure("c"),
    replace(success("d", ttft_s=0.1), start_s=1.5),
]


def test_at_its_end_they_are_those_of_its_summary() -> None:
    figures, kept = after(*RECORDS, total=4).figures(), summary(RECORDS)
    assert figures.ttft_mean_ms == pytest.approx(kept.ttft_ms.mean)
    assert figures.ttft_p95_ms == pytest.approx(kept.ttft_ms.p95)
    assert figures.requests_per_s == pytest.approx(kept.throughput.requests_per_s)
    assert (figures.ended, figures.failed) == (kept.requests.total, kept.requests.failed)


def test_before_the_first_request_nothing_is_known() -> None:
    figures = after().figures()
    assert (figures.ttft_mean_ms, figures.ttft_p95_ms, figures.requests_per_s) == (None, None, None)
    assert (figures.cached_tokens, figures.cached_ratio, figures.left_s(5.0)) == (None, None, None)


def test_cached_tokens_are_held_against_the_prompts_of_those_who_told_them() -> None:
    told = replace(success("a"), prompt_tokens=1000, cached_tokens=250)
    silent = replace(success("b"), prompt_tokens=1000, cached_tokens=None)
    figures = after(told, silent).figures()
    assert (figures.cached_tokens, figures.prompt_tokens, figures.cached_ratio) == (250, 1000, 0.25)


def test_cached_tokens_that_nobody_tells_are_unknown() -> None:
    figures = after(replace(success("a"), cached_tokens=None)).figures()
    assert (figures.cached_tokens, figures.cached_ratio) == (None, None)


def test_failed_requests_count_for_the_time_that_is_left() -> None:
    assert after(success("a"), failure("b"), total=8).figures().left_s(4.0) == 12.0
