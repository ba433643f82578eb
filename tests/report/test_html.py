"""The HTML report: what a person who has only it can answer, and what it must never do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from kvkit.report import html
from kvkit.results.comparison import compare
from tests.report.pages import Page, read_page
from tests.report.reports import HOSTILE, write_hostile, write_whole
from tests.results.making import write_pair_of_runs, write_pair_with_objectives


def rendered(folder: Path) -> str:
    return html.render(compare([str(folder / "with_cache_*_stats_*.json")], [str(folder / "baseline_*_stats_*.json")]))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One scenario, whose hits take a quarter of the baseline's time, with a failed check and a proof beside it."""
    folder = tmp_path_factory.mktemp("results")
    write_whole(folder)
    return rendered(folder)


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return read_page(source)


def test_it_begins_with_the_verdict_in_one_sentence(page: Page) -> None:
    assert page.all("h1")[0].text.strip() == "▲The shared cache helped"
    lead = next(element for element in page.all("p") if element.attributes.get("class") == "lead")
    assert lead.text.startswith("Better in the only cache-hit round compared: cold_start, round 2: median TTFT of ")
    assert " is 4.00 times lower (95 % interval " in lead.text


def test_goodput_has_a_table_where_objectives_were_stated(tmp_path: Path) -> None:
    write_pair_with_objectives(tmp_path, {"ttft_ms": 1000.0}, {"ttft_ms": 1000.0})
    rows = [row.text for row in read_page(rendered(tmp_path)).all("tr")]
    (hit,) = [row for row in rows if "TTFT 1000 ms" in row and "Cache Hit" in row]
    assert "8 / 4" in hit


def test_its_parts_stand_in_the_order_in_which_a_reader_asks(page: Page) -> None:
    assert [section.attributes["id"] for section in page.all("section")] == [
        "tokens",
        "ttft",
        "limit",
        "rates",
        "timeline",
        "preflight",
        "validity",
        "provenance",
    ]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("did it help", "The shared cache helped"),
        ("by how much and how sure", "4.00 times lower (95 % interval"),
        ("behind how many requests", "8 pairs; noise floor"),
        ("where did the hits come from", "6,144"),
        ("who says so", "lmcache_mp_lookup_hit_l2_tokens_total"),
        ("was the test valid", "Validity gates: cold_start"),
        ("could the client keep up", "Client late p50, ms"),
        ("were the hosts fit", "rdma.link.state mlx5_0/1 (gpu1) seen INIT expected ACTIVE mend start the subnet"),
        ("was nothing else found", "1 fail, 1 pass"),
        ("was the store in use", "Proof: PROVEN the store served what it should"),
        ("and in each arm", "external hit 249 0 11,520 11,520 212.3 as cold restart hit no restart command"),
        ("what exactly ran", "engine version 0.32.0 0.32.0"),
        ("with which connector", "connector LMCacheMPConnector none"),
        ("with which flags", "flags.block_size 128 128"),
        ("what differs", "What differs between the two runs besides the mode"),
        ("what was sent", "prefix_tokens 1000"),
    ],
)
def test_a_person_who_has_only_the_page_can_answer(page: Page, question: str, answer: str) -> None:
    assert answer in page.text, question


def test_it_asks_nothing_of_a_network(source: str, page: Page) -> None:
    without_library = source.replace(html.library(), "")
    assert re.findall(r"https?://", without_library) == []
    assert [element.tag for element in page.elements if {"src", "srcset", "action"} & element.attributes.keys()] == []
    assert all((link.attributes["href"] or "").startswith("#") for link in page.all("a"))


def test_its_policy_lets_no_script_run_but_the_two_that_it_names(page: Page) -> None:
    (policy,) = (
        element.attributes["content"] or ""
        for element in page.all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    scripts = [element.text for element in page.all("script") if "type" not in element.attributes]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    named = " ".join(f"'sha256-{each}'" for each in hashes)
    assert policy.startswith(f"default-src 'none'; script-src {named}; style-src 'sha256-")
    assert "unsafe" not in policy


def test_every_chart_has_a_place_a_text_and_a_table(page: Page) -> None:
    places = [element for element in page.elements if element.attributes.get("class") == "plot"]
    assert [place.attributes["id"] for place in places] == list(page.plots)
    texts = {element.attributes.get("id"): element.text for element in page.all("p")}
    assert all(texts[place.attributes["aria-describedby"]] for place in places)
    tables = [element.text for element in page.all("summary") if element.text == "The same figures as a table"]
    assert len(tables) == len(page.all("figure")) == 6


def test_the_store_stands_below_the_requests_of_the_round_that_looked_at_it(page: Page) -> None:
    labels = [element.attributes.get("aria-label") or "" for element in page.elements]
    assert [label for label in labels if label.endswith(", the store")] == [
        "cold_start: Round 2 - Cache Hit, with-cache, the store"
    ]


def test_every_table_has_a_caption_and_heads_with_a_scope(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(caption.text.strip() for caption in page.all("caption"))
    assert {head.attributes.get("scope") for head in page.all("th")} == {"col", "row"}


def test_what_can_be_scrolled_can_be_reached_by_keyboard_and_has_a_name(page: Page) -> None:
    scrolled = [each for each in page.all("div") if (each.attributes.get("class") or "").startswith("scroll")]
    assert scrolled
    assert all(each.attributes["tabindex"] == "0" and each.attributes["aria-label"] for each in scrolled)


SHOWN = HOSTILE.replace("\u202e", " ").strip()


@pytest.fixture(scope="module")
def hostile_source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Everything that a server, a file or a user names is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(folder)
    return rendered(folder)


def test_hostile_text_makes_no_element_and_no_attribute(hostile_source: str) -> None:
    page = read_page(hostile_source)
    assert len(page.all("script")) == 3
    assert page.all("img") == []
    assert [name for element in page.elements for name in element.attributes if name.startswith("on")] == []


def test_hostile_text_is_shown_as_it_is_but_for_what_turns_writing_round(hostile_source: str) -> None:
    page = read_page(hostile_source)
    assert page.text.count(SHOWN) > 20
    assert "\u202e" not in page.text


def test_hostile_text_reaches_the_charts_as_text(hostile_source: str) -> None:
    data = json.dumps(read_page(hostile_source).plots, ensure_ascii=False)
    assert json.dumps(f"{HOSTILE}0", ensure_ascii=False)[1:-1] in data


def test_a_file_beside_the_results_that_cannot_be_read_is_named(hostile_source: str) -> None:
    assert "not read: prove_2.json: Invalid JSON" in read_page(hostile_source).text


def test_an_invalid_test_says_so_and_shows_no_gain(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit={"valid": False, "invalid_reasons": ["no external tokens"]})
    page = read_page(rendered(tmp_path))
    assert page.all("h1")[0].text.strip() == "✕INVALID: this test shows nothing of the cache"
    assert "cold_start (INVALID)" in [element.text for element in page.all("h3")]
    assert "times lower (" not in page.text


def test_what_was_not_looked_at_is_said_to_be_missing(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path)
    text = read_page(rendered(tmp_path)).text
    assert "There is no proof (prove_*.json) beside the results." in text
    assert "There are no findings of a preflight (preflight_*.json) beside the results." in text
    assert "Where there is no such chart, the store did not tell" in text


def test_several_hit_rounds_are_told_by_their_range(tmp_path: Path) -> None:
    write_pair_of_runs(tmp_path, hit_ttft_s=0.25)
    second = tmp_path / "second"
    write_pair_of_runs(second, hit_ttft_s=0.1)
    for path in second.iterdir():
        text = path.read_text().replace("cold_start_requests", "other_requests")
        path.with_name(path.name.replace("cold_start", "other")).write_text(
            text.replace('"scenario": "cold_start"', '"scenario": "other"')
        )
    everywhere = [str(tmp_path / "with_cache_*_stats_*.json"), str(second / "with_cache_other_stats_*.json")]
    baselines = [path.replace("with_cache_", "baseline_") for path in everywhere]
    page = read_page(html.render(compare(everywhere, baselines)))
    assert "Better in all 2 cache-hit rounds: median TTFT of cache hits is 4.00 to 10.0 times lower." in page.text
