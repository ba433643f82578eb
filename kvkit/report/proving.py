"""What a proof tells while it runs: the calls that `kvkit.prove` makes, in this order."""

from __future__ import annotations

from typing import Protocol

from kvkit.observe.engine import EngineFacts
from kvkit.observe.proof import ArmFacts, ArmName, Proof


class ProofReporter(Protocol):
    """Shows a proof to a person. Between two arms nothing is in flight."""

    def started(self, engine: EngineFacts) -> None:
        """The engine was looked at and nothing was sent yet."""

    def arm_started(self, name: ArmName) -> None:
        """Caches are cleared as the arm wants it, and its first request follows."""

    def arm_ended(self, facts: ArmFacts) -> None:
        """All requests of the arm have ended and the servers were looked at; or it was skipped, without a start."""

    def proved(self, proof: Proof) -> None:
        """The verdict."""

    def notice(self, text: str) -> None:
        """Something worth a line, at any time."""

    def failed(self, message: str) -> None:
        """The proof ends here, without a verdict. The message is complete: what was seen, and what to do."""
