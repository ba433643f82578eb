"""What a person sees of a proof, and the document that a program reads."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kvkit.observe.engine import EngineFacts
from kvkit.observe.proof import Arm, ArmFacts, ArmName, Proof, Verdict
from kvkit.observe.traffic import Told
from kvkit.report import wording
from kvkit.report.escape import for_terminal
from kvkit.report.proving import ProofReporter

_PLAIN_WIDTH = 160

_HEADINGS = (
    "Arm",
    "Requests",
    "TTFT, ms",
    "Computed",
    "Device",
    "External",
    "expected",
    "Bytes from the store",
    "expected",
    "Text",
)

_STYLES: dict[Verdict, str] = {
    "PROVEN": "bold green",
    "NOT ENGAGED": "bold red",
    "BROKEN": "bold red",
    "UNKNOWN": "bold yellow",
}


def proof_reporter(*, json: bool) -> ProofReporter:
    """Shows a proof on standard output; with `json`, that gets the document and standard error what people read."""
    return TerminalProofReporter(Console(stderr=json, highlight=False), document=json)


class TerminalProofReporter:
    def __init__(self, console: Console, *, document: bool) -> None:
        self._console = console
        if not console.is_terminal:
            console.width = _PLAIN_WIDTH
        self._document = document

    def started(self, engine: EngineFacts) -> None:
        told = (("version", engine.version), ("connector", engine.connector))
        self._say("Engine: " + ", ".join(f"{name} {value or wording.UNKNOWN}" for name, value in told))

    def arm_started(self, name: ArmName) -> None:
        self._say(f"Arm: {name}")

    def arm_ended(self, facts: ArmFacts) -> None:
        if facts.skipped is not None:
            self._say(f"Arm: {facts.name}, not run: {facts.skipped}", "yellow")

    def notice(self, text: str) -> None:
        self._say(f"Note: {text}", "yellow")

    def failed(self, message: str) -> None:
        Console(stderr=True, highlight=False).print(Text(for_terminal(message), "red"), soft_wrap=True)

    def proved(self, proof: Proof) -> None:
        self._console.print(_table(proof, plain=not self._console.is_terminal))
        for arm in proof.arms:
            for finding in arm.findings:
                if finding.verdict is None:
                    self._say(f"Note: {finding.reason}", "yellow")
        self._say(f"{proof.verdict}: {proof.reasons[0]}.", _STYLES[proof.verdict])
        for reason in proof.reasons[1:]:
            self._say(f"  also {reason}")
        if proof.mend:
            self._say(f"What to do: {proof.mend}.")
        if self._document:
            print(proof_as_json(proof))

    def _say(self, line: str, style: str = "") -> None:
        self._console.print(Text(for_terminal(line), style), soft_wrap=True)


def _table(proof: Proof, *, plain: bool) -> Table:
    chunk = proof.setup.chunk_tokens
    told = f"chunks of {chunk} tokens ({proof.setup.chunk_told_by})" if chunk else "chunk unknown"
    table = Table(
        title=f"Where the prompt tokens came from; {told}",
        title_justify="left",
        box=box.ASCII if plain else box.HEAVY_HEAD,
    )
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in {"Arm", "Text"} else "right")
    for arm in proof.arms:
        table.add_row(*(Text(for_terminal(cell)) for cell in _cells(arm)))
    return table


def _cells(arm: Arm) -> tuple[str, ...]:
    facts, sources = arm.facts, arm.facts.sources
    if facts.skipped is not None:
        return (facts.name, "not run")
    ok = facts.requests - len(facts.failures)
    read = facts.traffic.read_bytes
    return (
        facts.name,
        f"{ok}/{facts.requests}",
        wording.number(_ms(facts.mean_ttft_s)),
        wording.count(sources.computed),
        wording.count(sources.device),
        wording.count(sources.external),
        "-" if facts.name in ("cold", "device hit") else wording.count(arm.expected_external),
        wording.count(read.value if read else None),
        "-" if facts.name in ("cold", "device hit") else wording.count(arm.expected_bytes),
        arm.text or "-",
    )


def proof_as_json(proof: Proof) -> str:
    """The document that the playbooks keep as `prove_<time>.json`; `docs/results-format.md` describes it."""
    document = {
        "schema": 1,
        "verdict": proof.verdict,
        "reasons": list(proof.reasons),
        "mend": proof.mend,
        "connector": proof.setup.connector,
        "chunk_tokens": proof.setup.chunk_tokens,
        "chunk_told_by": proof.setup.chunk_told_by,
        "arms": [_arm(arm) for arm in proof.arms],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def _arm(arm: Arm) -> dict[str, Any]:
    facts = arm.facts
    return {
        "name": facts.name,
        "skipped": facts.skipped,
        "requests": facts.requests,
        "failures": list(facts.failures),
        "prompt_tokens": sum(facts.prompt_tokens),
        "by_source": {
            "computed": facts.sources.computed,
            "device": facts.sources.device,
            "external": facts.sources.external,
        },
        "expected_external": arm.expected_external,
        "store": {
            "read_bytes": _told(facts.traffic.read_bytes),
            "expected_bytes": arm.expected_bytes,
            "written_bytes": _told(facts.traffic.written_bytes),
            "hit_tokens": _told(facts.traffic.hit_tokens),
        },
        "failed_loads": facts.failed_loads,
        "unknown": facts.unknown,
        "store_problem": facts.store_problem,
        "incidents": list(facts.incidents),
        "ttft_ms": _ms(facts.mean_ttft_s),
        "text": arm.text,
        "findings": [{"verdict": found.verdict, "reason": found.reason, "mend": found.mend} for found in arm.findings],
    }


def _told(told: Told | None) -> dict[str, Any] | None:
    return None if told is None else {"value": told.value, "counter": told.counter}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
