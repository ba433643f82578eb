"""The guide's targets at their bounds."""

from __future__ import annotations

import pytest

from kvkit.results.targets import (
    Outcome,
    change_percent,
    reduction_percent,
    throughput_target,
    tpot_target,
    ttft_target,
    worst,
)


@pytest.mark.parametrize(
    ("reduction", "outcome"), [(59.9, "not_met"), (60.0, "met"), (85.0, "met"), (-5.0, "not_met"), (None, "unknown")]
)
def test_ttft_has_to_fall_by_60_percent(reduction: float | None, outcome: Outcome) -> None:
    assert ttft_target(2, reduction).outcome == outcome


@pytest.mark.parametrize(("gain", "outcome"), [(149.9, "not_met"), (150.0, "met"), (None, "unknown")])
def test_throughput_has_to_rise_by_150_percent(gain: float | None, outcome: Outcome) -> None:
    assert throughput_target(2, gain).outcome == outcome


@pytest.mark.parametrize(
    ("rise", "outcome"), [(-40.0, "met"), (0.0, "met"), (10.0, "met"), (10.1, "not_met"), (None, "unknown")]
)
def test_tpot_may_rise_by_10_percent_and_fall_freely(rise: float | None, outcome: Outcome) -> None:
    assert tpot_target(2, "the baseline", rise).outcome == outcome


def test_percentages_of_a_reference() -> None:
    # 30 against 20: 10/20 = 50 % more, which is a reduction of -50 %.
    assert (change_percent(30, 20), reduction_percent(30, 20)) == (50, -50)


@pytest.mark.parametrize(("value", "reference"), [(None, 20.0), (30.0, None), (30.0, 0.0)])
def test_what_cannot_be_divided_is_unknown(value: float | None, reference: float | None) -> None:
    assert change_percent(value, reference) is None
    assert reduction_percent(value, reference) is None


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((), "unknown"),
        (("met", "met"), "met"),
        (("met", "unknown"), "unknown"),
        (("unknown", "not_met"), "not_met"),
        (("not_met", "invalid", "met"), "invalid"),
    ],
)
def test_a_whole_is_as_good_as_its_worst_part(outcomes: tuple[Outcome, ...], expected: Outcome) -> None:
    assert worst(outcomes) == expected
