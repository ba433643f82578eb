"""One line of a requests file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydantic import ValidationError

from kvkit.results.record import Record
from tests.results.making import failure, success


def test_a_line_read_back_is_the_same_record() -> None:
    assert Record.from_line(success().to_line()) == success()


def test_a_record_is_one_line_whatever_the_server_said() -> None:
    assert "\n" not in replace(failure(), error="first\nsecond\r\u2028third").to_line()


def test_what_was_not_told_is_null() -> None:
    assert json.loads(failure().to_line())["ttft_s"] is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "json_invalid"),
        ('{"request_id": "a", "round": 1', "json_invalid"),
        ('{"request_id": "a", "round": 1, "group": "g", "scheduled_s": 0.0}', "missing"),
        ('{"request_id": "a", "round": "1", "group": "g", "scheduled_s": 0.0, "start_s": 0.0}', "int_type"),
        ('{"request_id": "a", "round": 1, "group": "g", "scheduled_s": 0.0, "start_s": "0"}', "float_type"),
    ],
)
def test_a_line_that_is_no_record_is_refused(line: str, problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Record.from_line(line)
    assert [error["type"] for error in caught.value.errors()] == [problem]


def test_tpot_leaves_the_first_token_out() -> None:
    # E2E 1.04 s, TTFT 1.0 s, 3 tokens: 0.04 / 2.
    assert success().tpot_s == pytest.approx(0.02)


@pytest.mark.parametrize("tokens", [None, 0, 1])
def test_tpot_needs_two_tokens(tokens: int | None) -> None:
    assert replace(success(), completion_tokens=tokens).tpot_s is None


def test_a_failed_status_is_its_own_kind() -> None:
    assert failure(status=429).failure == "http_429"


def test_other_failures_are_counted_under_their_kind() -> None:
    assert replace(failure(), error_kind="broken_stream").failure == "broken_stream"


def test_a_success_is_no_failure() -> None:
    assert success().failure is None
