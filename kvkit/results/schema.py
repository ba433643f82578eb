"""The published JSON Schemas (2020-12) of both files. `python -m kvkit.results.schema` writes them anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvkit.results.record import RECORD_FORMAT
from kvkit.results.stats import RunStats

_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def schemas() -> dict[str, dict[str, Any]]:
    """By the name of the file that publishes each."""
    return {
        "stats_schema.json": _DIALECT | RunStats.model_json_schema(mode="serialization"),
        "record_schema.json": _DIALECT | RECORD_FORMAT.json_schema(mode="serialization"),
    }


def as_text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, schema in schemas().items():
        Path(__file__).with_name(name).write_text(as_text(schema), encoding="utf-8")
