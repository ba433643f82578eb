"""The preflight's findings and the proof, read from beside results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvkit.results.beside import read_beside

FINDING = {"id": "a.b", "status": "pass", "seen": "", "expected": "", "mend": "", "doc": "", "subject": ""}
PREFLIGHT = {"schema": 1, "hosts": {"h": [FINDING]}, "fleet": []}
PROOF = {"schema": 1, "verdict": "PROVEN", "reasons": ["it is"], "added": "later"}


def test_both_are_found_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    for time in ("2", "1"):
        (tmp_path / f"preflight_{time}.json").write_text(json.dumps(PREFLIGHT))
        (tmp_path / f"prove_{time}.json").write_text(json.dumps(PROOF))
    found = read_beside([tmp_path, tmp_path])
    assert list(found.preflights) == ["preflight_1.json", "preflight_2.json"]
    assert list(found.proofs) == ["prove_1.json", "prove_2.json"]
    assert found.preflights["preflight_1.json"].hosts["h"][0].id == "a.b"
    assert found.not_read == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON"),
        ('{"schema": 2, "hosts": {}}', "key schema: "),
        ('{"schema": 1}', "key hosts: Field required"),
        (json.dumps(PREFLIGHT | {"hosts": {"h": [FINDING | {"status": "fine"}]}}), "key hosts.h.0.status: "),
    ],
    ids=["cut off", "another schema", "foreign", "unknown status"],
)
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "preflight_1.json"
    path.write_text(content)
    found = read_beside([tmp_path])
    assert found.preflights == {}
    ((named, why),) = found.not_read
    assert named == path
    assert why.startswith(reason)
