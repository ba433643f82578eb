"""An OpenAI-compatible engine with a tiered KV cache, and a Mooncake store, emulated: for tests and the quick start.

The interfaces are those of vLLM 0.32 and of a Mooncake master 0.3.13; the time that work takes is made up from the
settings, and no KV is computed, kept or sent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kvkit.emulator.errors import EmulatorError
from kvkit.emulator.settings import Connector, EmulatorSettings, FaultKind, Role

if TYPE_CHECKING:
    from kvkit.emulator.serving import Addresses, running, serve

__all__ = [
    "Addresses",
    "Connector",
    "EmulatorError",
    "EmulatorSettings",
    "FaultKind",
    "Role",
    "running",
    "serve",
]


def __getattr__(name: str) -> object:
    # The command line wants the settings alone; web servers are imported (half a second) when one is started.
    if name in {"Addresses", "running", "serve"}:
        return getattr(import_module("kvkit.emulator.serving"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
