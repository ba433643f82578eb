"""The published schemas say what the files hold."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from kvkit.results.schema import schemas
from tests.results.making import failure, run_stats, success, summary, write_run


def published(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(files("kvkit.results").joinpath(name).read_text(encoding="utf-8"))
    return data


def problems(schema: str, document: Any) -> list[str]:
    return [error.json_path for error in Draft202012Validator(published(schema)).iter_errors(document)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A run with a success, a failure, and a round that nothing was told of."""
    records = [success("a"), failure("b"), failure("a", 2)]
    rounds = [summary(records[:2]), summary(records[2:], 2, valid=None, invalid_reasons=["no counters"])]
    return write_run(tmp_path, run_stats("with-cache", rounds), records)


@pytest.mark.parametrize("name", ["stats_schema.json", "record_schema.json"])
def test_what_is_published_is_what_the_models_say(name: str) -> None:
    assert published(name) == schemas()[name], "run: python -m kvkit.results.schema"


@pytest.mark.parametrize("name", ["stats_schema.json", "record_schema.json"])
def test_what_is_published_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(published(name))


def test_a_written_stats_file_holds_against_its_schema(written: Path) -> None:
    assert problems("stats_schema.json", json.loads(written.read_text())) == []


def test_every_written_record_holds_against_its_schema(written: Path) -> None:
    lines = written.with_name(written.name.replace("stats", "requests") + "l").read_text().splitlines()
    assert [problems("record_schema.json", json.loads(line)) for line in lines] == [[], [], []]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"schema": 2}, "$.schema"),
        ({"mode": "fast"}, "$.mode"),
        ({"valid": "yes"}, "$.valid"),
        ({"rounds": [{}]}, "$.rounds[0]"),
        ({"provenance": {"started": 5}}, "$.provenance"),
    ],
)
def test_the_schema_refuses(written: Path, change: dict[str, Any], where: str) -> None:
    assert where in problems("stats_schema.json", json.loads(written.read_text()) | change)


def test_the_core_that_others_build_on_is_required() -> None:
    required = {"schema", "run_id", "mode", "scenario", "valid", "invalid_reasons", "config", "provenance", "workload"}
    assert required | {"records", "rounds"} == set(published("stats_schema.json")["required"])
