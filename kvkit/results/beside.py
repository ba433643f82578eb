"""What lies beside results: the preflight's findings and the proof that the store was in use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvkit.results.pairing import NotUsed
from kvkit.results.stats import TokensBySource


class _Document(BaseModel):
    """Keys that are not known are ignored: a later kvkit can add some."""

    model_config = ConfigDict(frozen=True)


class CheckFinding(_Document):
    """What one check said; `kvkit.checks.finding.Finding` as it was written."""

    id: str
    status: Literal["pass", "warn", "fail", "skip", "error"]
    seen: str
    expected: str
    mend: str
    doc: str = ""
    subject: str = ""


class Preflight(_Document):
    """`preflight_<time>.json`."""

    schema_version: Literal[1] = Field(alias="schema")
    hosts: dict[str, tuple[CheckFinding, ...]]
    fleet: tuple[CheckFinding, ...] = ()
    """What is wrong between hosts."""


class ProofArm(_Document):
    name: str
    skipped: str | None = None
    by_source: TokensBySource | None = None
    expected_external: int | None = None
    ttft_ms: float | None = None
    text: str | None = None
    """How the answers' texts compare with those of the cold arm."""


class Proof(_Document):
    """`prove_<time>.json`."""

    schema_version: Literal[1] = Field(alias="schema")
    verdict: str
    reasons: tuple[str, ...]
    mend: str = ""
    connector: str | None = None
    arms: tuple[ProofArm, ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """By file name, in the order in which they were written."""

    preflights: dict[str, Preflight]
    proofs: dict[str, Proof]
    not_read: tuple[NotUsed, ...]


def read_beside(folders: Iterable[Path]) -> Beside:
    """Read what lies in the folders of results; what cannot be read is named with the reason."""
    distinct = dict.fromkeys(folders)
    not_read: list[NotUsed] = []
    return Beside(
        preflights=_read_all(distinct, "preflight_*.json", Preflight, not_read),
        proofs=_read_all(distinct, "prove_*.json", Proof, not_read),
        not_read=tuple(not_read),
    )


Document = TypeVar("Document", bound=_Document)


def _read_all(
    folders: Iterable[Path], pattern: str, model: type[Document], not_read: list[NotUsed]
) -> dict[str, Document]:
    found: dict[str, Document] = {}
    for path in sorted((path for folder in folders for path in folder.glob(pattern)), key=lambda path: path.name):
        try:
            found[path.name] = model.model_validate_json(path.read_bytes())
        except OSError as error:
            not_read.append(NotUsed(path, f"cannot be read: {error.strerror}"))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            not_read.append(NotUsed(path, f"key {where}: {first['msg']}" if where else first["msg"]))
    return found
