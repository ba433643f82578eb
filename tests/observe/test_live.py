"""Servers looked at again and again."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from kvkit.observe import live
from kvkit.observe.live import FIGURES, Group, Look, Rate, Seen, ServerKind, Share, WatchedServer
from kvkit.observe.prometheus import Reading, parse

MASTER = Reading(
    counters={
        "master_batch_put_start_items_total": 100.0,
        "mem_cache_hit_nums_": 10.0,
        "valid_get_nums_": 10.0,
        "total_get_nums_": 20.0,
        "master_evicted_key_count": 0.0,
    },
    levels={"master_key_count": 100.0},
)


def later(**rises: float) -> Reading:
    return replace(MASTER, counters={name: value + rises.get(name, 0.0) for name, value in MASTER.counters.items()})


def seen(look: Look, name: str, kind: ServerKind = "Mooncake master") -> Seen:
    (group,) = [group for group in look.groups if group.kind == kind]
    return next(one for one in group.seen if one.figure.name == name)


def looks(*readings: Reading, every_s: float = 2.0, kind: ServerKind | None = "Mooncake master") -> list[Look]:
    server = WatchedServer("http://here:9003/metrics", kind)
    return [server.look(reading, number * every_s) for number, reading in enumerate(readings)]


def test_a_rate_is_the_rise_over_the_time_between_two_looks() -> None:
    (_, second) = looks(MASTER, later(master_batch_put_start_items_total=30.0))
    assert seen(second, "keys put").value == 15.0
    assert seen(second, "keys got").value == 0.0


def test_the_first_look_knows_levels_and_no_rates() -> None:
    (first,) = looks(MASTER)
    assert seen(first, "keys").value == 100.0
    assert seen(first, "keys put") == Seen(seen(first, "keys put").figure, told=True, value=None)


def test_a_share_is_of_what_was_asked_for_in_between() -> None:
    (_, second) = looks(MASTER, later(valid_get_nums_=3.0, total_get_nums_=4.0))
    assert seen(second, "hit share of gets").value == 0.75


def test_a_share_of_nothing_is_none() -> None:
    (_, second) = looks(MASTER, MASTER)
    assert seen(second, "hit share of gets").value is None


def test_what_is_not_told_is_unknown_and_not_0() -> None:
    (_, second) = looks(MASTER, MASTER)
    assert seen(second, "puts without room").told is False
    assert seen(second, "puts without room").value is None


def test_a_restart_gives_no_rate_and_the_next_look_does_again() -> None:
    fresh = replace(MASTER, counters=dict.fromkeys(MASTER.counters, 0.0), levels={"master_key_count": 0.0})
    risen = replace(fresh, counters={**fresh.counters, "master_batch_put_start_items_total": 4.0})
    (_, restarted, after) = looks(MASTER, fresh, risen)
    assert "restarted" in (restarted.problem or "")
    assert (seen(restarted, "keys put").value, seen(restarted, "keys").value) == (None, 0.0)
    assert (after.problem, seen(after, "keys put").value) == (None, 2.0)


def test_a_silent_server_is_shown_as_such_and_its_figures_are_unknown() -> None:
    (_, silent) = looks(MASTER, Reading(problem="http://here:9003/metrics: no answer"))
    assert silent.problem == "http://here:9003/metrics: no answer"
    assert not any(one.told for group in silent.groups for one in group.seen)


def test_after_a_silence_the_rate_is_over_the_whole_of_it() -> None:
    (*_, last) = looks(MASTER, Reading(problem="no answer"), later(master_batch_put_start_items_total=40.0))
    assert seen(last, "keys put").value == 10.0


def kinds(reading: Reading, kind: ServerKind | None = None) -> list[str]:
    (look,) = looks(reading, kind=kind)
    return [group.kind for group in look.groups]


def test_what_a_server_tells_says_what_it_is() -> None:
    assert kinds(MASTER) == ["Mooncake master"]
    assert kinds(Reading(counters={"vllm:num_preemptions_total": 0.0})) == ["vLLM"]


def test_lmcache_inside_vllm_is_shown_beside_it() -> None:
    both = Reading(counters={"vllm:num_preemptions_total": 0.0, "lmcache:num_remote_read_bytes_total": 5.0})
    assert kinds(both, "vLLM") == ["vLLM", "LMCache in vLLM"]


def test_a_server_of_another_kind_is_named() -> None:
    (look,) = looks(Reading(), kind=None)
    assert look.groups == ()
    assert (look.problem or "").startswith("http://here:9003/metrics: tells no counter of vLLM, LMCache or Mooncake")


def test_counters_that_few_have_are_left_out_where_they_are_not_told() -> None:
    (look,) = looks(Reading(counters={"vllm:num_preemptions_total": 0.0}), kind="vLLM")
    (group,) = look.groups
    assert isinstance(group, Group)
    assert "failed keys" not in [one.figure.name for one in group.seen]


def declared(kind: ServerKind) -> set[str]:
    """Names that a real server of this kind declares."""
    if kind == "Mooncake master":
        text = resources.files("kvkit.emulator.store").joinpath("master_metrics.txt").read_text()
        return {line.split()[0] for line in text.splitlines() if not line.startswith("#")}
    tests = Path(__file__).parents[1]
    recorded = {"vLLM": "emulator/vllm_0_32_metrics.txt", "LMCache server": "observe/lmcache_0_5_6_metrics.txt"}
    lines = (tests / recorded[kind]).read_text().splitlines()
    names = [line.split()[1] for line in lines if not line.startswith("#")]
    return {*names, *(f"{name}_total" for name in names)}


@pytest.mark.parametrize("kind", ["Mooncake master", "LMCache server", "vLLM"])
def test_every_figure_is_one_that_the_real_server_has(kind: ServerKind) -> None:
    wanted: set[str] = set()
    for figure in FIGURES[kind]:
        if isinstance(figure, Share):
            wanted |= {figure.part, figure.whole}
        else:
            wanted.add(figure.counter if isinstance(figure, Rate) else figure.gauge)
    assert wanted - declared(kind) == set()


def test_what_is_watched_is_read() -> None:
    page = "# TYPE master_evicted_key_count counter\nmaster_evicted_key_count 7\n# TYPE x counter\nx 1\n"
    assert parse(page, live.NAMES).counters == {"master_evicted_key_count": 7.0}
